//! Who has a creator's publishing key, and signs what the creator did not.

use std::collections::HashMap;
use std::time::Duration;

use cid::Cid;
use duka_node::block::{Block, RAW};
use duka_node::dag::hamt::{Entry, build_directory};
use duka_node::dag::import::Profile;
use duka_node::dag::unixfs::{Link, Metadata, UnixFs, decode};
use duka_node::ipns;
use duka_node::keys::{self, Keys};
use duka_tests::http1::Connection;
use jiff::Timestamp;
use serde_json::Value;

use crate::mirror::{Answering, Node};

pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a gateway has at a path.
pub(crate) type Answers = Box<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

/// Who stole a creator's publishing key, and signs heads with it.
pub(crate) struct Thief<'a> {
    creator: &'a Node,
    pub(crate) keys: Keys,
}

impl<'a> Thief<'a> {
    pub(crate) fn of(creator: &'a Node) -> Self {
        let keys = keys::load_all(&creator.duka.data_dir().join("keys")).unwrap();
        Self { creator, keys }
    }

    pub(crate) fn block(&self, cid: &Cid) -> Block {
        let bytes = self.creator.stored(&format!("/ipfs/{cid}?format=raw"));
        Block::new(*cid, bytes.unwrap().into()).unwrap()
    }

    /// The entries of the creator's newest head.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let shop = self.creator.duka.ok(&["shop", "show"]).unwrap();
        let root = shop["head"]["cid"].as_str().unwrap();
        self.directory(&root.parse().unwrap())
    }

    pub(crate) fn directory(&self, cid: &Cid) -> Vec<Entry> {
        let UnixFs::Directory(dir) = decode(&self.block(cid)).unwrap() else {
            panic!("{cid} is no directory");
        };
        let entry = |link: Link| Entry {
            name: String::from_utf8(link.name).unwrap(),
            cid: link.cid,
            tsize: link.tsize,
        };
        dir.links.into_iter().map(entry).collect()
    }

    /// A gateway that shows a head with these entries, but with another `shop.json`.
    pub(crate) fn shows(&self, entries: Vec<Entry>, change: impl FnOnce(&mut Value)) -> Answering {
        Answering::of(self.answers(entries, Timestamp::now() + YEAR, change))
    }

    /// What such a gateway has at a path; the head is signed until then.
    pub(crate) fn answers(
        &self,
        mut entries: Vec<Entry>,
        validity: Timestamp,
        change: impl FnOnce(&mut Value),
    ) -> Answers {
        let place = entries.iter_mut().find(|entry| entry.name == "shop.json");
        let place = place.unwrap();
        let mut json = serde_json::from_slice(self.block(&place.cid).data()).unwrap();
        change(&mut json);
        let seq = json["seq"].as_u64().unwrap();
        let json = Block::of(RAW, serde_json::to_vec(&json).unwrap().into());
        place.cid = *json.cid();
        let built = build_directory(entries, Metadata::default(), Profile::default()).unwrap();
        let blocks: HashMap<String, Vec<u8>> = built
            .blocks
            .iter()
            .chain([&json])
            .map(|block| (block.cid().to_string(), block.data().to_vec()))
            .collect();
        let shop = self.creator.shop();
        let shop_record = format!("/ipns/{shop}?format=ipns-record");
        let shop_record = self.creator.stored(&shop_record).unwrap();
        let publishing = self.keys.publishing.name().unwrap().to_string();
        let value = format!("/ipfs/{}", built.root);
        let record = ipns::sign(
            self.keys.publishing.key().unwrap(),
            &value,
            seq,
            validity,
            Duration::from_secs(60),
        );
        let head_record = record.bytes;
        Box::new(move |path| match path.strip_prefix("/ipns/") {
            Some(name) if name.starts_with(&shop) => Some(shop_record.clone()),
            Some(name) if name.starts_with(&publishing) => Some(head_record.clone()),
            Some(_) => None,
            None => {
                let cid = path.strip_prefix("/ipfs/")?;
                blocks.get(cid.split(['?', '/']).next()?).cloned()
            }
        })
    }
}

/// What another gateway has at a path. It tells of no peers.
pub(crate) fn forwarded(url: &str, path: &str) -> Option<Vec<u8>> {
    if !path.starts_with("/ipfs/") && !path.starts_with("/ipns/") {
        return None;
    }
    let address = url.strip_prefix("http://")?.parse().ok()?;
    let mut upstream = Connection::open(address).ok()?;
    let host = ("host".to_owned(), "localhost".to_owned());
    let answer = upstream.ask("GET", path, &[host]).ok()?;
    (answer.status == 200).then_some(answer.body)
}
