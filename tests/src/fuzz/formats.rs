//! What comes from the network.

use bytes::Bytes;
use cid::Cid;
use duka_node::block::{Block, DAG_PB, RAW};
use duka_node::dag::car::import_into;
use duka_node::dag::import::Sink;
use duka_node::dag::links::links;
use duka_node::dag::unixfs::{decode, links_of};
use duka_node::dag::{path, read};
use duka_node::fuzz;
use duka_node::source::{BlockSource, FetchError};
use futures::executor::block_on;
use futures::future;
use futures::stream::StreamExt;

/// The bytes are a CAR. It holds no more than it is long.
pub(super) fn car(bytes: &[u8]) {
    if let Ok(summary) = import_into(&Sink::Discard, &mut &*bytes) {
        assert!(summary.bytes < bytes.len() as u64, "{summary:?}");
        assert!(summary.blocks < bytes.len() as u64, "{summary:?}");
    }
}

/// The bytes are a bitswap message.
pub(super) fn bitswap(bytes: &[u8]) {
    fuzz::decode_message(&Bytes::copy_from_slice(bytes));
}

/// [`bitswap`] with a bug: no example both takes wants back and has blocks.
pub(super) fn planted(bytes: &[u8]) {
    if let Some(counts) = fuzz::decode_message(&Bytes::copy_from_slice(bytes)) {
        let is_rare = counts.cancels > 0 && counts.blocks > 0;
        assert!(!is_rare, "the planted bug");
    }
}

/// The bytes are an IPNS record or, behind a 1, its data, which are signed then. A record that is
/// accepted leads to a path.
pub(super) fn ipns(bytes: &[u8]) {
    let record = match bytes {
        [1, data @ ..] => fuzz::sign_data(data),
        _ => bytes.to_vec(),
    };
    if let Ok(record) = fuzz::verify_record(&record) {
        let starts = ["/ipfs/", "/ipns/"].map(|start| record.value.starts_with(start));
        assert!(starts.contains(&true), "{record:?}");
    }
}

/// The bytes are a dag-pb node.
pub(super) fn dag_pb(bytes: &[u8]) {
    let block = Block::of(DAG_PB, Bytes::copy_from_slice(bytes));
    let linked: Option<Vec<Cid>> = links(&block).ok();
    let named = links_of(&block).map(|links| links.iter().map(|link| link.cid).collect());
    assert_eq!(linked, named);
}

/// The bytes are a dag-pb node with the data of a file, a folder, a shard or a symbolic link.
pub(super) fn unixfs(bytes: &[u8]) {
    let block = Block::of(DAG_PB, Bytes::copy_from_slice(bytes));
    if decode(&block).is_ok() {
        assert!(links(&block).is_ok(), "UnixFS that is not dag-pb");
    }
}

/// The bytes are the root of a HAMT, of which no other shard is there. What is found in it, it links to.
pub(super) fn hamt(bytes: &[u8]) {
    let shard = Alone(Block::of(DAG_PB, Bytes::copy_from_slice(bytes)));
    let root = *shard.0.cid();
    let listed = read::list(&shard, root).take_while(|entry| future::ready(entry.is_ok()));
    let listed: Vec<_> = block_on(listed.take(1000).collect());
    let listed = listed.into_iter().flatten();
    let names = listed.map(|entry| String::from_utf8_lossy(&entry.name).into_owned());
    for name in names.chain(["name".to_owned()]) {
        if let Ok(found) = block_on(path::resolve(&shard, root, &[name])) {
            let linked = links(&shard.0).is_ok_and(|links| links.contains(&found.cid));
            assert!(linked, "{found:?} is not linked to");
        }
    }
}

/// A source that has one block.
#[derive(Clone)]
struct Alone(Block);

impl BlockSource for Alone {
    async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        match self.0.cid() == cid {
            true => Ok(self.0.clone()),
            false => Err(FetchError::NotFound {
                cid: *cid,
                tried: String::new(),
            }),
        }
    }
}

/// The bytes are a denylist.
pub(super) fn denylist(bytes: &[u8]) {
    fuzz::read_denylist(bytes);
}

/// A denylist with every kind of line.
pub(super) fn denylists() -> Vec<Vec<u8>> {
    let list = "version: 1\nname: \"Example\"\nhints:\n  gateway_status: 451\n  other: [a, {b: c}]\n---\n\
                # comment\n/ipfs/bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq\n\
                /ipfs/Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/test* gateway_status:410\n\
                !/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked/n%20t\n\
                /ipns/domain2.example/path\n/ipns/k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf\n\
                //QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM\n\
                //gW813G35CnLsy7gRYYHuf63hrz71U1xoLFDVeV7actx6oX\n\
                //d9d295bde21f422d471a90f2a37ec53049fdf3e5fa3ee2e8f20e10003da429e7\n";
    let (_, body) = list.split_once("---\n").expect("a header");
    vec![list.into(), body.into()]
}

/// CARs with and without blocks.
pub(super) fn cars() -> Vec<Vec<u8>> {
    let empty = b"\x11\xa2\x65roots\x80\x67version\x01".to_vec();
    let mut car = empty.clone();
    for (codec, data) in [(RAW, "a block"), (DAG_PB, "\n\x02\x08\x01"), (RAW, "")] {
        let block = Block::of(codec, Bytes::from(data));
        let cid = block.cid().to_bytes();
        let len = u8::try_from(cid.len() + data.len()).expect("short");
        car.push(len);
        car.extend_from_slice(&cid);
        car.extend_from_slice(data.as_bytes());
    }
    vec![empty, car]
}

/// Messages with each kind of content.
pub(super) fn bitswap_messages() -> Vec<Vec<u8>> {
    let messages = fuzz::example_messages();
    messages.iter().map(|message| message.to_vec()).collect()
}

/// A record, and its data.
pub(super) fn ipns_records() -> Vec<Vec<u8>> {
    let (record, data) = fuzz::example_record();
    vec![record, [vec![1], data].concat()]
}

/// A file, a folder, a shard, a symbolic link.
pub(super) fn unixfs_nodes() -> Vec<Vec<u8>> {
    let data = |data: &[u8]| [&[0x0a, u8::try_from(data.len()).expect("short")], data].concat();
    let child = Block::of(RAW, Bytes::from_static(b"child"))
        .cid()
        .to_bytes();
    let mut link = vec![0x0a, u8::try_from(child.len()).expect("short")];
    link.extend_from_slice(&child);
    link.extend_from_slice(b"\x12\x06A0name\x18\x05");
    let link = [&[0x12, u8::try_from(link.len()).expect("short")], &link[..]].concat();
    vec![
        [&link[..], &data(b"\x08\x02\x18\x05\x20\x05")].concat(),
        [&link[..], &data(b"\x08\x01")].concat(),
        [
            &link[..],
            &data(b"\x08\x05\x12\x01\x01\x28\x22\x30\x80\x02"),
        ]
        .concat(),
        data(b"\x08\x04\x12\x06target"),
    ]
}
