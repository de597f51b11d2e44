use bytes::Bytes;
use futures::TryStreamExt;

use super::*;
use crate::block::{DAG_PB, RAW};
use crate::dag::dagpb;
use crate::dag::unixfs::Link;
use crate::source::memory::MemorySource;

fn leaf(source: &MemorySource, data: &'static str) -> Cid {
    source.put(Block::of(RAW, Bytes::from_static(data.as_bytes())))
}

fn node(source: &MemorySource, children: &[Cid]) -> Cid {
    let links: Vec<Link> = children
        .iter()
        .map(|cid| Link {
            cid: *cid,
            name: Vec::new(),
            tsize: 0,
        })
        .collect();
    source.put(Block::of(DAG_PB, dagpb::encode(&links, b"").into()))
}

async fn walked(
    source: &MemorySource,
    root: Cid,
    options: WalkOptions,
) -> Result<Vec<Cid>, DagError> {
    walk(source, root, options)
        .map_ok(|block| *block.cid())
        .try_collect()
        .await
}

/// A root over three inner nodes that share leaves and one whole subtree.
fn shared_tree(source: &MemorySource) -> (Cid, Vec<Cid>) {
    let [a, b, c] = ["a", "b", "c"].map(|data| leaf(source, data));
    let left = node(source, &[a, b, a]);
    let right = node(source, &[left, c]);
    let root = node(source, &[right, left, c]);
    let visits = vec![root, right, left, a, b, a, c, left, a, b, a, c];
    (root, visits)
}

#[tokio::test]
async fn order_is_depth_first_whatever_the_window() {
    let source = MemorySource::default();
    let (root, visits) = shared_tree(&source);
    let mut once = Vec::new();
    for cid in &visits {
        if !once.contains(cid) {
            once.push(*cid);
        }
    }
    for window in [1, 2, 3, 16, 1000] {
        let mut options = WalkOptions {
            unique: false,
            window,
            ..WalkOptions::default()
        };
        assert_eq!(walked(&source, root, options).await.unwrap(), visits);
        options.unique = true;
        assert_eq!(walked(&source, root, options).await.unwrap(), once);
    }
}

#[tokio::test]
async fn wide_and_deep_tree_is_walked_in_order() {
    let source = MemorySource::default();
    let mut wanted = Vec::new();
    let mut children = Vec::new();
    for i in 0..50_u8 {
        let leaves: Vec<Cid> = (0..i)
            .map(|j| source.put(Block::of(RAW, vec![i, j].into())))
            .collect();
        let inner = node(&source, &leaves);
        wanted.push(inner);
        wanted.extend(leaves);
        children.push(inner);
    }
    let root = node(&source, &children);
    wanted.insert(0, root);
    for window in [1, 7, 64] {
        let options = WalkOptions {
            window,
            ..WalkOptions::default()
        };
        assert_eq!(walked(&source, root, options).await.unwrap(), wanted);
        assert_eq!(source.take_asked().len(), wanted.len());
    }
}

#[tokio::test]
async fn missing_block_ends_the_walk_in_its_turn() {
    let source = MemorySource::default();
    let (root, visits) = shared_tree(&source);
    source.remove(&visits[6]);
    let options = WalkOptions::default();
    let seen: Vec<_> = futures::StreamExt::collect(walk(&source, root, options)).await;
    let (last, before) = seen.split_last().unwrap();
    assert!(matches!(last, Err(DagError::Fetch(_))));
    assert_eq!(before.len(), 5);
    assert!(before.iter().all(Result::is_ok));
}

#[tokio::test]
async fn depth_is_limited() {
    let source = MemorySource::default();
    let mut at = leaf(&source, "bottom");
    for _ in 0..20 {
        at = node(&source, &[at]);
    }
    let mut options = WalkOptions {
        max_depth: 20,
        ..WalkOptions::default()
    };
    assert_eq!(walked(&source, at, options).await.unwrap().len(), 21);
    options.max_depth = 19;
    let err = walked(&source, at, options).await.unwrap_err();
    assert!(matches!(err, DagError::Limit { .. }));
}

#[tokio::test]
async fn identity_cid_is_its_own_block_and_never_fetched() {
    let source = MemorySource::default();
    let inline: Cid = "bafkqaaik".parse().unwrap();
    let root = node(&source, &[inline]);
    let cids = walked(&source, root, WalkOptions::default()).await.unwrap();
    assert_eq!(cids, [root, inline]);
    assert_eq!(source.take_asked(), [root]);
}
