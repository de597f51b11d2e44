//! Restored shops, and a gateway that shows what others know of them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytesize::ByteSize;
use duka_config::{Config, DhtMode};
use libp2p::identity::Keypair;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::announce::{RECORD_TTL, check_publisher, wait_for_job};
use crate::keyring;
use crate::keys::{self, Kind, name_of};
use crate::manifest::record::JobId;
use crate::node::{self, keys_dir};
use crate::shop::settings::{self, Setting};
use crate::shop::{HeadInput, Past, build_head};
use crate::store::Store;

const PATIENCE: Duration = Duration::from_secs(90);

/// What a gateway shows: blocks, and records by their names.
#[derive(Clone)]
struct Gateway {
    url: String,
    store: Store,
    records: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

impl Gateway {
    /// One with the blocks and the records of this node.
    async fn of(creator: &Node) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            store: creator.store().clone(),
            records: Arc::default(),
        };
        for name in [
            creator.shop_name(),
            creator.keys().publishing.name().unwrap(),
        ] {
            let record = kept(creator, &name).unwrap().unwrap();
            gateway.show(&name, &record);
        }
        let serving = gateway.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().answer(stream));
            }
        });
        gateway
    }

    fn show(&self, name: &Name, record: &Record) {
        let mut records = self.records.lock();
        records.insert(name.to_string(), record.bytes.clone());
    }

    async fn answer(self, mut stream: TcpStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => return,
            }
        }
        let request = String::from_utf8_lossy(&request);
        let path = request.split(' ').nth(1).unwrap_or_default();
        let (status, body) = match self.body(path) {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", Vec::new()),
        };
        let len = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n");
        let answer = [head.as_bytes(), &body].concat();
        // Who asks may have given up.
        stream.write_all(&answer).await.ok();
    }

    fn body(&self, path: &str) -> Option<Vec<u8>> {
        let path = path.split('?').next()?;
        if let Some(name) = path.strip_prefix("/ipns/") {
            return self.records.lock().get(name).cloned();
        }
        let cid = path.strip_prefix("/ipfs/")?.parse().ok()?;
        let block = self.store.get(&cid).unwrap();
        block.map(|block| block.data().to_vec())
    }
}

fn config(gateway: Option<&Gateway>) -> Config {
    let mut config = Config::default();
    config.store.reserve = ByteSize::mib(1);
    config.network.offline = gateway.is_none();
    config.network.listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
    config.network.bootstrap = Vec::new();
    config.network.dht = DhtMode::Off;
    config.network.upnp = false;
    config.gateway.upstreams = gateway.iter().map(|gateway| gateway.url.clone()).collect();
    config
}

async fn open(dir: &Path, gateway: Option<&Gateway>) -> Node {
    node::init(dir).unwrap();
    Node::open(dir, &config(gateway)).await.unwrap()
}

/// A new data directory with these keys of another one.
fn with_keys(of: &Node, kinds: &[Kind]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for kind in kinds {
        let files = keys::read_one(&keys_dir(of.data_dir()), *kind).unwrap();
        keys::put(&keys_dir(dir.path()), &files).unwrap();
    }
    dir
}

async fn change_title(node: &Node, title: &str) -> JobId {
    let setting = Setting::Title(Some(title.to_owned()));
    settings::change(node, setting).await.unwrap()
}

/// The number of a head that has this title.
async fn titled(node: &Node, title: &str) -> u64 {
    let job = change_title(node, title).await;
    assert!(wait_for_job(node, job, PATIENCE).await.unwrap());
    node.manifest().head().unwrap().unwrap().seq
}

fn shop_sequence(node: &Node) -> u64 {
    kept(node, &node.shop_name()).unwrap().unwrap().sequence
}

fn is_refused(node: &Node) -> bool {
    matches!(check_publisher(node), Err(AnnounceError::OtherPublisher))
}

/// The record of a head that takes all numbers, signed by who stole the publishing key.
fn theft(creator: &Node) -> Record {
    let input = HeadInput {
        name: creator.shop_name().to_string(),
        title: "taken".to_owned(),
        description: String::new(),
        seq: MAX_SEQ,
        prev: None,
        past: Past::default(),
        issued: Timestamp::now(),
        lifetime: 1000,
        refresh: 100,
        gateways: Vec::new(),
        mirrors: Vec::new(),
    };
    let built = build_head(creator.store(), creator.manifest(), &input).unwrap();
    let keys = creator.keys();
    let value = format!("/ipfs/{}", built.root);
    let validity = Timestamp::now() + PATIENCE * 10;
    let key = keys.publishing.key().unwrap();
    ipns::sign(key, &value, MAX_SEQ, validity, RECORD_TTL)
}

#[tokio::test]
async fn a_shop_restored_after_a_theft_goes_on_and_its_new_key_takes_over_once() {
    let home = tempfile::tempdir().unwrap();
    let creator = open(home.path(), None).await;
    titled(&creator, "one").await;
    assert_eq!(titled(&creator, "two").await, 2);
    let gateway = Gateway::of(&creator).await;
    let stolen = creator.keys().publishing.name().unwrap();
    let honest = kept(&creator, &stolen).unwrap().unwrap();

    let dir = with_keys(&creator, &[Kind::Shop]);
    let restored = open(dir.path(), Some(&gateway)).await;
    gateway.show(&stolen, &theft(&creator));
    let limit = Duration::from_secs(5);
    assert!(shown(&restored, limit).await.unwrap().is_none());

    gateway.show(&stolen, &honest);
    let before = shown(&restored, PATIENCE).await.unwrap().unwrap();
    assert_eq!(before.seq, 2);
    let publishing = restored.keys().publishing.name().unwrap();
    assert_eq!(published_by(&restored).unwrap(), Some(stolen));
    assert_eq!(titled(&restored, "three").await, 3);
    assert_eq!(published_by(&restored).unwrap(), Some(publishing));
    assert_eq!(shop_sequence(&restored), shop_sequence(&creator) + 1);

    // The owner replaces this key, too, on another machine.
    let next = name_of(&Keypair::generate_ed25519());
    let (value, validity) = (format!("/ipns/{next}"), Timestamp::now() + PATIENCE * 10);
    let keys = restored.keys();
    let sequence = shop_sequence(&restored) + 1;
    let record = ipns::sign(
        keys.shop.key().unwrap(),
        &value,
        sequence,
        validity,
        RECORD_TTL,
    );
    name::keep_if_newer(&restored, &restored.shop_name(), Some(record))
        .await
        .unwrap();
    assert!(is_refused(&restored));
    let job = change_title(&restored, "four").await;
    let soon = Duration::from_secs(2);
    assert!(!wait_for_job(&restored, job, soon).await.unwrap());
    assert_eq!(published_by(&restored).unwrap(), Some(next));
    restored.shutdown().await;
    creator.shutdown().await;
}

#[tokio::test]
async fn a_key_that_was_replaced_does_not_come_back_with_a_restored_shop() {
    let home = tempfile::tempdir().unwrap();
    let creator = open(home.path(), None).await;
    titled(&creator, "one").await;
    let dir = with_keys(&creator, &[Kind::Shop, Kind::Publishing]);
    let old = creator.keys().publishing.name().unwrap();
    let rotated = keyring::rotate(&creator).await.unwrap();
    titled(&creator, "two").await;
    let gateway = Gateway::of(&creator).await;

    let restored = open(dir.path(), Some(&gateway)).await;
    assert_eq!(restored.keys().publishing.name(), Some(old));
    ask(&restored).await.unwrap();
    assert!(is_refused(&restored));
    let job = change_title(&restored, "three").await;
    let soon = Duration::from_secs(5);
    assert!(!wait_for_job(&restored, job, soon).await.unwrap());
    assert_eq!(published_by(&restored).unwrap(), Some(rotated));

    let new = keyring::rotate(&restored).await.unwrap();
    assert!(wait_for_job(&restored, job, PATIENCE).await.unwrap());
    assert_eq!(published_by(&restored).unwrap(), Some(new));
    assert_eq!(shop_sequence(&restored), shop_sequence(&creator) + 1);
    restored.shutdown().await;
    creator.shutdown().await;
}
