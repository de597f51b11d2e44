//! Garbage collection over a real data directory.

use cid::Cid;
use duka_node::block::{Block, DAG_CBOR};
use duka_node::gc::{self, GcError, GcOptions, Report};
use duka_node::manifest::record::Pin;
use duka_node::pin;
use jiff::Timestamp;

use super::*;

pub(crate) const FULL_SPEED: GcOptions = GcOptions {
    dry_run: false,
    seal: true,
    bytes_per_second: 0,
    spare_recent: false,
};

async fn collect(node: &Node) -> Report {
    gc::collect(node, FULL_SPEED).await.unwrap()
}

fn raw(seed: u8, len: usize) -> Block {
    let bytes: Vec<u8> = (0..len).map(|at| seed ^ at.to_le_bytes()[0]).collect();
    Block::of(RAW, bytes.into())
}

/// Stores blocks and pins the first.
async fn put_pinned(node: &Node, blocks: &[Block], recursive: bool) -> Cid {
    node.store().put(PackKind::Kept, blocks).unwrap();
    node.commit_blocks().await.unwrap();
    let root = *blocks[0].cid();
    let pin = Pin {
        recursive,
        name: None,
        created: Timestamp::now(),
    };
    let change = Change {
        expect: Vec::new(),
        ops: vec![Op::PutPin(root, pin)],
    };
    node.manifest().commit(change).await.unwrap();
    root
}

fn linking_to(cids: &[Cid]) -> Block {
    Block::of(DAG_CBOR, serde_ipld_dagcbor::to_vec(cids).unwrap().into())
}

#[tokio::test]
async fn what_is_no_longer_pinned_goes_and_the_shop_stays() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let data = dir.path().join("data");
    let node = open(&data).await;
    write_album(&folder, "la");
    publish(&node, &folder, PublishOptions::new(album())).await;
    shop_file(&node, 1, "shop.json").await;
    let big = raw(1, 1 << 20);
    let root = put_pinned(&node, std::slice::from_ref(&big), true).await;

    assert!(collect(&node).await.collected.freed_bytes < 1 << 20);
    assert!(node.store().has(&root).unwrap());
    pin::remove(&node, root).await.unwrap();
    let dry = gc::collect(
        &node,
        GcOptions {
            dry_run: true,
            ..FULL_SPEED
        },
    );
    assert!(dry.await.unwrap().collected.left_bytes >= 1 << 20);
    assert!(node.store().has(&root).unwrap());
    assert!(collect(&node).await.collected.freed_bytes >= 1 << 20);
    assert!(!node.store().has(&root).unwrap());
    assert_whole(&node).await;
    shop_file(&node, 1, "products/album/1.json").await;

    node.shutdown().await;
    drop(node);
    let node = open(&data).await;
    assert_whole(&node).await;
    write_album(&folder, "la la");
    publish(&node, &folder, PublishOptions::new(album())).await;
    shop_file(&node, 2, "products/album/2.json").await;
    node.shutdown().await;
}

#[tokio::test]
async fn nothing_goes_while_a_promised_tree_lacks_an_inner_block() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    let (leaf, lost) = (raw(1, 1 << 20), linking_to(&[]));
    let inner = linking_to(&[*leaf.cid(), *lost.cid()]);
    let root = put_pinned(&node, &[inner, leaf.clone()], true).await;
    let garbage = raw(2, 1 << 20);
    node.store()
        .put(PackKind::Kept, std::slice::from_ref(&garbage))
        .unwrap();
    match gc::collect(&node, FULL_SPEED).await {
        Err(GcError::Incomplete {
            root: found,
            cid,
            mirror,
        }) => {
            assert_eq!((found, cid, mirror), (root, *lost.cid(), None));
        }
        other => panic!("{other:?}"),
    }
    assert!(node.store().has(garbage.cid()).unwrap());
    node.store().put(PackKind::Kept, &[lost]).unwrap();
    collect(&node).await;
    assert!(!node.store().has(garbage.cid()).unwrap());
    assert!(node.store().has(leaf.cid()).unwrap());
    node.shutdown().await;
}

/// The bytes of a node with links, pinned as a file before they are pinned as the node, or as one
/// block before the whole tree.
#[tokio::test]
async fn links_are_followed_whatever_else_the_bytes_are_pinned_as() {
    for recursive in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let node = open(dir.path()).await;
        let leaf = raw(1, 100_000);
        let inner = linking_to(&[*leaf.cid()]);
        let as_file = Block::of(RAW, inner.data().clone());
        let above = linking_to(&[*as_file.cid(), *inner.cid()]);
        put_pinned(&node, &[as_file, leaf.clone()], true).await;
        put_pinned(&node, std::slice::from_ref(&inner), recursive).await;
        put_pinned(&node, &[above, inner], true).await;
        collect(&node).await;
        assert!(node.store().has(leaf.cid()).unwrap());
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishes_and_pins_go_on_while_garbage_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut config = offline_config();
    config.store.pack_size = bytesize::ByteSize::kib(256);
    let node = open_with(&data, &config).await;
    let publishing = async {
        for round in 0..20 {
            let folder = dir.path().join(format!("album-{}", round % 3));
            write_album(&folder, &format!("la {}", round / 3));
            // The same bytes in each: found, and not stored again.
            std::fs::write(folder.join("song.bin"), raw(7, 300_000).into_data()).unwrap();
            std::fs::write(folder.join("new.bin"), raw(round, 100_001).into_data()).unwrap();
            let product = format!("album-{}", round % 3).parse().unwrap();
            publish(&node, &folder, PublishOptions::new(product)).await;
        }
    };
    let pinning = async {
        for round in 0..40 {
            let leaf = raw(round % 4, 60_000);
            let guard = node.temp_pin();
            let root = put_pinned(&node, &[linking_to(&[*leaf.cid()]), leaf.clone()], true).await;
            drop(guard);
            tokio::task::yield_now().await;
            assert_eq!(node.store().get(leaf.cid()).unwrap(), Some(leaf));
            pin::remove(&node, root).await.unwrap();
        }
    };
    let mut collections = 0;
    let collecting = async {
        loop {
            collect(&node).await;
            collections += 1;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(publishing, pinning) } => {}
        () = collecting => {}
    }
    assert!(collections > 3, "{collections} collections");
    assert_whole(&node).await;
    shop_file(&node, 20, "shop.json").await;
    node.shutdown().await;
    drop(node);
    let node = open_with(&data, &config).await;
    assert_whole(&node).await;
    node.shutdown().await;
}
