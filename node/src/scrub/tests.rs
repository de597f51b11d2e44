//! What a pass finds, repairs and remembers.

use std::os::unix::fs::FileExt;
use std::path::Path;

use cid::Cid;
use duka_config::{Config, DhtMode};

use super::*;
use crate::block::{Block, DAG_CBOR, RAW};
use crate::fsck::{self, FsckOptions};
use crate::manifest::record::Pin;
use crate::node;
use crate::source::test_gateway;

/// A node without peers that asks these gateways.
async fn open(dir: &Path, gateways: Vec<String>) -> Node {
    let mut config = Config::default();
    config.network.listen = Vec::new();
    config.network.bootstrap = Vec::new();
    config.network.upnp = false;
    config.network.dht = DhtMode::Off;
    config.network.offline = gateways.is_empty();
    config.gateway.upstreams = gateways;
    config.store.reserve = bytesize::ByteSize::mib(1);
    config.store.pack_size = bytesize::ByteSize::kib(128);
    config.store.scrub_rate = bytesize::ByteSize::b(0);
    // So short that a pass goes at full speed.
    config.store.scrub_interval = Duration::from_millis(10);
    node::init(dir).unwrap();
    Node::open(dir, &config).await.unwrap()
}

/// A tree of 20 leaves, its root first.
fn tree() -> Vec<Block> {
    let leaves: Vec<_> = (0..20u8)
        .map(|seed| {
            let bytes = (0..20_000u32).map(|at| seed ^ at.to_le_bytes()[at as usize % 2]);
            Block::of(RAW, bytes.collect::<Vec<_>>().into())
        })
        .collect();
    let cids: Vec<_> = leaves.iter().map(|leaf| *leaf.cid()).collect();
    let root = Block::of(DAG_CBOR, serde_ipld_dagcbor::to_vec(&cids).unwrap().into());
    std::iter::once(root).chain(leaves).collect()
}

async fn keep(node: &Node, blocks: &[Block], pinned: bool) {
    node.store().put(PackKind::Kept, blocks).unwrap();
    node.commit_blocks().await.unwrap();
    if pinned {
        let pin = Pin {
            recursive: true,
            name: None,
            created: Timestamp::UNIX_EPOCH,
        };
        let ops = vec![Op::PutPin(*blocks[0].cid(), pin)];
        let expect = Vec::new();
        node.manifest()
            .commit(Change { expect, ops })
            .await
            .unwrap();
    }
}

/// Flips a byte in the middle of the blocks' only copies.
fn harm(dir: &Path, blocks: &[&Block]) {
    for entry in std::fs::read_dir(dir.join("blocks/packs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|found| found != "car") {
            continue;
        }
        let pack = std::fs::read(&path).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        for block in blocks {
            let data = &block.data()[..];
            if let Some(at) = pack.windows(data.len()).position(|found| found == data) {
                let middle = at + data.len() / 2;
                file.write_all_at(&[pack[middle] ^ 1], middle as u64)
                    .unwrap();
            }
        }
    }
}

fn assert_holds(node: &Node, blocks: &[Block]) {
    for block in blocks {
        assert_eq!(node.store().get(block.cid()).unwrap().as_ref(), Some(block));
    }
}

#[tokio::test]
async fn what_is_damaged_or_missing_is_fetched_again_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = tree();
    let node = open(dir.path(), vec![test_gateway::serve(&blocks).await]).await;
    // One leaf was never stored.
    keep(&node, &blocks[..20], true).await;
    harm(dir.path(), &[&blocks[0], &blocks[3], &blocks[17]]);
    let found = pass(&node).await.unwrap();
    assert_eq!((found.damaged_blocks, found.missing_blocks), (3, 1));
    assert_eq!((found.repaired_blocks, found.lost_blocks), (4, 0));
    assert_holds(&node, &blocks);
    assert_eq!(last(node.manifest()).unwrap().as_ref(), Some(&found));
    assert!(found.ended.is_some());

    let again = pass(&node).await.unwrap();
    assert_eq!((again.damaged_blocks, again.missing_blocks), (0, 0));
    assert!(again.started > found.started);
    node.shutdown().await;
}

#[tokio::test]
async fn only_what_something_refers_to_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = tree();
    let node = open(dir.path(), Vec::new()).await;
    let garbage = Block::of(RAW, vec![9; 30_000].into());
    keep(&node, &blocks, true).await;
    keep(&node, std::slice::from_ref(&garbage), false).await;
    harm(dir.path(), &[&blocks[4], &garbage]);
    for _ in 0..2 {
        let found = pass(&node).await.unwrap();
        assert_eq!((found.damaged_blocks, found.repaired_blocks), (2, 0));
        assert_eq!((found.missing_blocks, found.lost_blocks), (1, 1));
    }
    node.shutdown().await;
}

#[tokio::test]
async fn damaged_indexes_and_framing_are_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = tree();
    let node = open(dir.path(), Vec::new()).await;
    keep(&node, &blocks, true).await;
    let packs = dir.path().join("blocks/packs");
    for (name, at) in [
        ("kept-00000001.car", 4_096 + 10),
        ("kept-00000002.idx", 200),
    ] {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(packs.join(name));
        file.unwrap().write_all_at(&[0x55], at).unwrap();
    }
    let found = pass(&node).await.unwrap();
    assert_eq!((found.rebuilt_indexes, found.renewed_packs), (1, 1));
    assert_eq!(found.damaged_blocks, 0);
    assert!(!packs.join("kept-00000001.car").exists());
    assert_holds(&node, &blocks);
    let again = pass(&node).await.unwrap();
    assert_eq!((again.rebuilt_indexes, again.renewed_packs), (0, 0));
    node.shutdown().await;
}

#[tokio::test]
async fn a_pass_that_was_cut_off_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = tree();
    let node = open(dir.path(), Vec::new()).await;
    keep(&node, &blocks, true).await;
    let mut begun = Pass {
        cursor: CheckCursor::default(),
        so_far: Summary {
            version: VERSION,
            ..Summary::default()
        },
    };
    let first = check_next(&node, &mut begun).await.unwrap().unwrap();
    assert!(first.blocks > 0);
    save(&node, PASS, &begun).await.unwrap();
    // A node that stops stores how far it was.
    node.stop_token().cancel();
    assert!(matches!(pass(&node).await, Err(ScrubError::Stopped)));
    node.shutdown().await;
    drop(node);

    let node = open(dir.path(), Vec::new()).await;
    assert!(under_way(node.manifest()).unwrap().is_some());
    let rest = pass(&node).await.unwrap();
    assert_eq!(rest.blocks + first.blocks, blocks.len() as u64);
    assert_eq!(under_way(node.manifest()).unwrap(), None);
    node.shutdown().await;
}

#[tokio::test]
async fn fsck_repairs_what_is_damaged_only_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = tree();
    let node = open(dir.path(), vec![test_gateway::serve(&blocks).await]).await;
    keep(&node, &blocks[..20], true).await;
    harm(dir.path(), &[&blocks[5]]);
    let mut options = FsckOptions {
        deep: true,
        ..FsckOptions::default()
    };
    let found = fsck::run(&node, options, |_| {}).await.unwrap();
    assert_eq!(found.damaged, [*blocks[5].cid()]);
    let missing: (Cid, Cid) = (*blocks[0].cid(), *blocks[20].cid());
    assert_eq!(found.missing, [missing]);
    options.repair = true;
    let found = fsck::run(&node, options, |_| {}).await.unwrap();
    assert!(found.is_whole(), "{found:?}");
    assert_eq!(found.repaired_blocks, 2);
    assert_holds(&node, &blocks);
    node.shutdown().await;
}

#[test]
fn a_pass_takes_its_interval_within_limits() {
    let two_weeks = Duration::from_secs(14 * 24 * 3600);
    let store = 2 << 40;
    assert_eq!(rate(store, two_weeks, 32 << 20), store / (14 * 24 * 3600));
    assert_eq!(rate(1 << 30, two_weeks, 32 << 20), SLOWEST);
    assert_eq!(rate(1 << 50, two_weeks, 32 << 20), 32 << 20);
    assert_eq!(rate(0, Duration::ZERO, 0), SLOWEST);
    assert_eq!(rate(1 << 50, Duration::ZERO, 0), 1 << 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_is_told_of_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), Vec::new()).await;
    assert_eq!(under_way(node.manifest()).unwrap(), None);
    let begun = begin(&node).await.unwrap().so_far;
    assert_eq!(under_way(node.manifest()).unwrap(), Some(begun.clone()));
    assert_eq!(begin(&node).await.unwrap().so_far, begun);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_writes_a_damaged_journal_anew() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), Vec::new()).await;
    keep(&node, &tree(), true).await;
    let journal = dir.path().join("manifest/journal-00000000000000000001.log");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&journal, &bytes).unwrap();
    assert_eq!(pass(&node).await.unwrap().lost_blocks, 0);
    node.shutdown().await;
    drop(node);
    std::fs::remove_dir_all(dir.path().join("manifest/index")).unwrap();
    let node = open(dir.path(), Vec::new()).await;
    assert_eq!(node.manifest().pins().count(), 1);
    node.shutdown().await;
}
