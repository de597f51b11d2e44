//! Names of a node that asks one gateway, which the test plays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytesize::ByteSize;
use duka_config::{Config, DhtMode};
use futures::future::join_all;
use jiff::ToSpan;
use libp2p::identity::Keypair;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;
use crate::keyring;
use crate::manifest::record::Head;
use crate::node;
use crate::shop::json::MAX_SEQ;
use crate::shop::settings::{self, Setting};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A gateway that has one record.
struct Gateway {
    url: String,
    record: Arc<Mutex<Vec<u8>>>,
    asked: Arc<AtomicUsize>,
    /// An answer takes a permit.
    answers: Arc<Semaphore>,
}

impl Gateway {
    async fn with(record: &Record) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            record: Arc::new(Mutex::new(record.bytes.clone())),
            asked: Arc::default(),
            answers: Arc::new(Semaphore::new(0)),
        };
        let (record, asked) = (gateway.record.clone(), gateway.asked.clone());
        let answers = gateway.answers.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                asked.fetch_add(1, Relaxed);
                answers.acquire().await.unwrap().forget();
                let body = record.lock().clone();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&body).await.unwrap();
            }
        });
        gateway
    }

    fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

async fn node(gateway: Option<&Gateway>) -> (Node, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.store.reserve = ByteSize::mib(1);
    config.network.offline = gateway.is_none();
    config.network.listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
    config.network.bootstrap = Vec::new();
    config.network.dht = DhtMode::Off;
    config.network.upnp = false;
    config.gateway.upstreams = gateway.iter().map(|gateway| gateway.url.clone()).collect();
    node::init(dir.path()).unwrap();
    (Node::open(dir.path(), &config).await.unwrap(), dir)
}

fn record(key: &Keypair, value: &str, sequence: u64, hours: i64) -> Record {
    let validity = Timestamp::now() + hours.hours();
    ipns::sign(key, value, sequence, validity, HOUR)
}

/// Keeps a record that was checked some time ago.
async fn keep_old(node: &Node, name: &Name, record: &Record, minutes: i64) {
    let kept = NameRecord {
        bytes: record.bytes.clone(),
        sequence: record.sequence,
        seen: Timestamp::now() - minutes.minutes(),
    };
    let change = Change {
        expect: Vec::new(),
        ops: vec![Op::PutName(name.to_bytes(), kept)],
    };
    node.manifest().commit(change).await.unwrap();
}

#[tokio::test]
async fn requests_that_wait_for_a_name_share_one_lookup() {
    let key = Keypair::generate_ed25519();
    let (name, record) = (name_of(&key), record(&key, "/ipfs/bafkqaaa", 1, 48));
    let gateway = Gateway::with(&record).await;
    let (node, _dir) = node(Some(&gateway)).await;
    gateway.answers.add_permits(8);
    let resolved = join_all((0..8).map(|_| resolve(&node, &name, None))).await;
    for one in resolved {
        assert_eq!(one.unwrap().path, "/ipfs/bafkqaaa");
    }
    assert_eq!(gateway.asked(), 1);
    node.shutdown().await;
}

#[tokio::test]
async fn a_record_that_was_confirmed_is_fresh_again() {
    let key = Keypair::generate_ed25519();
    let (name, record) = (name_of(&key), record(&key, "/ipfs/bafkqaaa", 1, 48));
    let gateway = Gateway::with(&record).await;
    let (node, _dir) = node(Some(&gateway)).await;
    gateway.answers.add_permits(8);
    keep_old(&node, &name, &record, 150).await;
    for _ in 0..3 {
        resolve(&node, &name, None).await.unwrap();
    }
    assert_eq!(gateway.asked(), 1);
    node.shutdown().await;
}

#[tokio::test]
async fn a_kept_record_resolves_without_asking_anybody_however_old_it_is() {
    let key = Keypair::generate_ed25519();
    let (name, record) = (name_of(&key), record(&key, "/ipfs/bafkqaaa", 1, 48));
    let gateway = Gateway::with(&record).await;
    let (node, _dir) = node(Some(&gateway)).await;
    let unknown = resolve_kept(&node, &name).await;
    assert!(matches!(unknown, Err(NameError::NotFound { .. })));
    keep_old(&node, &name, &record, 600).await;
    let resolved = resolve_kept(&node, &name).await.unwrap();
    assert_eq!(resolved.path, "/ipfs/bafkqaaa");
    assert_eq!(gateway.asked(), 0);
    node.shutdown().await;
}

#[tokio::test]
async fn a_record_past_its_ttl_is_served_while_it_is_asked_for() {
    let key = Keypair::generate_ed25519();
    let name = name_of(&key);
    let old = record(&key, "/ipfs/bafkqaaa", 1, 48);
    let new = record(&key, "/ipfs/bafkqaaa/new", 2, 48);
    let gateway = Gateway::with(&new).await;
    let (node, _dir) = node(Some(&gateway)).await;
    keep_old(&node, &name, &old, 90).await;
    // The gateway does not answer yet.
    for _ in 0..2 {
        assert_eq!(resolve(&node, &name, None).await.unwrap().path, old.value);
    }
    let mut lookup = look_up(&node, &name);
    gateway.answers.add_permits(8);
    lookup.wait_for(Option::is_some).await.unwrap();
    assert_eq!(resolve(&node, &name, None).await.unwrap().path, new.value);
    assert_eq!(gateway.asked(), 1);
    node.shutdown().await;
}

#[tokio::test]
async fn a_kept_record_is_replaced_by_newer_ones_only() {
    let key = Keypair::generate_ed25519();
    let name = name_of(&key);
    let (node, _dir) = node(None).await;
    let second = record(&key, "/ipfs/bafkqaaa/two", 2, 48);
    put(&node, &name, &second.bytes).await.unwrap();
    put(&node, &name, &second.bytes).await.unwrap();
    let older = [
        record(&key, "/ipfs/bafkqaaa/one", 1, 96),
        record(&key, "/ipfs/bafkqaaa/shorter", 2, 24),
    ];
    for older in &older {
        let refused = put(&node, &name, &older.bytes).await.unwrap_err();
        assert!(matches!(refused, NameError::Rollback { known: 2, .. }));
    }
    assert_eq!(
        resolve(&node, &name, None).await.unwrap().path,
        second.value
    );
    let longer = record(&key, "/ipfs/bafkqaaa/longer", 2, 96);
    put(&node, &name, &longer.bytes).await.unwrap();
    assert_eq!(
        resolve(&node, &name, None).await.unwrap().path,
        longer.value
    );
    node.shutdown().await;
}

#[tokio::test]
async fn records_that_come_at_once_leave_the_newest() {
    let key = Keypair::generate_ed25519();
    let name = name_of(&key);
    let (node, _dir) = node(None).await;
    let records: Vec<Record> = [3, 1, 4, 2]
        .map(|sequence| record(&key, "/ipfs/bafkqaaa", sequence, 48))
        .into();
    join_all(records.iter().map(|one| put(&node, &name, &one.bytes))).await;
    assert_eq!(
        resolve(&node, &name, None).await.unwrap().record.sequence,
        4
    );
    node.shutdown().await;
}

#[tokio::test]
async fn publishes_at_once_get_sequence_numbers_of_their_own() {
    let (node, _dir) = node(None).await;
    let path = ContentPath::parse("/ipfs/bafkqaaa").unwrap();
    let published = join_all((0..4).map(|_| publish(&node, &path, HOUR))).await;
    let mut sequences: Vec<u64> = published
        .into_iter()
        .map(|published| published.unwrap().1.sequence)
        .collect();
    sequences.sort_unstable();
    assert_eq!(sequences, [1, 2, 3, 4]);
    node.shutdown().await;
}

/// A gateway that nobody can connect to.
async fn dead() -> Gateway {
    let key = Keypair::generate_ed25519();
    let mut gateway = Gateway::with(&record(&key, "/ipfs/bafkqaaa", 1, 48)).await;
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    gateway.url = format!("http://{}", unused.local_addr().unwrap());
    gateway
}

fn source(gateways: &[&Gateway]) -> TrustlessSource {
    let urls = gateways.iter().map(|gateway| gateway.url.parse().unwrap());
    TrustlessSource::new(urls.collect(), HOUR)
}

#[tokio::test]
async fn gateways_of_a_request_are_asked_for_its_name() {
    let key = Keypair::generate_ed25519();
    let (name, record) = (name_of(&key), record(&key, "/ipfs/bafkqaaa", 1, 48));
    let given = Gateway::with(&record).await;
    given.answers.add_permits(8);
    let dead = dead().await;
    let (node, _dir) = node(Some(&dead)).await;
    let further = source(&[&dead, &given]);
    let resolved = resolve(&node, &name, Some(&further)).await.unwrap();
    assert_eq!(resolved.path, "/ipfs/bafkqaaa");
    // It is kept.
    assert_eq!(
        resolve(&node, &name, None).await.unwrap().path,
        resolved.path
    );
    assert_eq!(given.asked(), 1);
    node.shutdown().await;
}

#[tokio::test]
async fn a_gateway_that_cannot_be_asked_is_not_one_without_the_record() {
    let name = name_of(&Keypair::generate_ed25519());
    let dead = dead().await;
    let (configured, _dir) = node(Some(&dead)).await;
    let silent = resolve(&configured, &name, None).await.unwrap_err();
    assert!(
        matches!(&silent, NameError::Silent { gateway, silence: Silence::Failed, .. }
            if gateway.as_str().trim_end_matches('/') == dead.url),
        "{silent}"
    );
    configured.shutdown().await;
    let (node, _dir) = node(None).await;
    let silent = resolve(&node, &name, Some(&source(&[&dead]))).await;
    assert!(matches!(silent, Err(NameError::Silent { .. })));
    let asked_nobody = resolve(&node, &name, None).await;
    assert!(matches!(asked_nobody, Err(NameError::NotFound { .. })));
    node.shutdown().await;
}

/// A head of the shop, made by a change of its title.
async fn titled(node: &Node, title: &str) -> u64 {
    let setting = Setting::Title(Some(title.to_owned()));
    let job = settings::change(node, setting).await.unwrap();
    let is_done = announce::wait_for_job(node, job, HOUR).await.unwrap();
    assert!(is_done);
    node.manifest().head().unwrap().unwrap().seq
}

async fn assert_own_head(node: &Node) {
    let root = node.manifest().head().unwrap().unwrap().root;
    let resolved = resolve(node, &node.shop_name(), None).await.unwrap();
    assert_eq!(resolved.path, format!("/ipfs/{root}"));
}

#[tokio::test]
async fn what_others_sign_with_the_publishing_key_is_not_kept_and_the_owner_is_told() {
    let (node, _dir) = node(None).await;
    assert_eq!(titled(&node, "one").await, 1);
    assert_eq!(titled(&node, "two").await, 2);
    let stolen = node.keys().publishing.key().unwrap().clone();
    let name = name_of(&stolen);
    let hear = |record: Record| keep_if_newer(&node, &name, Some(record));
    // Its own heads, as others have them.
    let own = node.manifest().head().unwrap().unwrap();
    let same = format!("/ipfs/{}", own.root);
    for own in [
        record(&stolen, "/ipfs/bafkqaaa", 1, 48),
        record(&stolen, &same, 2, 48),
    ] {
        hear(own).await.unwrap();
        assert_eq!(announce::stranger(&node).unwrap(), None);
    }
    // A fork, and a jump.
    for (sequence, publishes) in [(2, 3), (u64::MAX, 4)] {
        let theft = record(&stolen, "/ipfs/bafkqaaa", sequence, 99 * 365 * 24);
        hear(theft.clone()).await.unwrap();
        let stranger = announce::stranger(&node).unwrap().unwrap();
        assert_eq!(
            (stranger.seq, stranger.value.as_str()),
            (2, "/ipfs/bafkqaaa")
        );
        let put = put(&node, &name, &theft.bytes).await;
        assert!(matches!(put, Err(NameError::Own { .. })), "{put:?}");
        assert_own_head(&node).await;
        assert_eq!(titled(&node, &sequence.to_string()).await, publishes);
        assert_own_head(&node).await;
    }
    // The numbers go on from what the owner signed.
    keyring::rotate(&node).await.unwrap();
    assert_eq!(announce::stranger(&node).unwrap(), None);
    assert_own_head(&node).await;
    assert_eq!(titled(&node, "after").await, 5);
    assert_own_head(&node).await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_shop_without_a_head_takes_none_that_a_newcomer_would_refuse() {
    let (node, _dir) = node(None).await;
    let key = node.keys().publishing.key().unwrap().clone();
    let theft = record(&key, "/ipfs/bafkqaaa", u64::MAX, 48);
    let name = name_of(&key);
    keep_if_newer(&node, &name, Some(theft)).await.unwrap();
    assert!(known_record(&node, &name).unwrap().is_none());
    assert_eq!(titled(&node, "first").await, 1);
    assert_own_head(&node).await;
    node.shutdown().await;
}

#[tokio::test]
async fn numbers_that_are_used_up_are_an_error() {
    let (node, _dir) = node(None).await;
    titled(&node, "one").await;
    let head = node.manifest().head().unwrap().unwrap();
    let far = Head {
        seq: MAX_SEQ,
        ..head
    };
    let change = Change {
        expect: Vec::new(),
        ops: vec![Op::PutHead(far)],
    };
    node.manifest().commit(change).await.unwrap();
    let setting = Setting::Title(Some("two".to_owned()));
    let job = settings::change(&node, setting).await.unwrap();
    let soon = Duration::from_secs(1);
    assert!(!announce::wait_for_job(&node, job, soon).await.unwrap());
    assert_eq!(node.manifest().head().unwrap().unwrap().seq, MAX_SEQ);
    node.shutdown().await;
}
