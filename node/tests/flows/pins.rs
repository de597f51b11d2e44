//! Pins and temp pins: what holds a tree, and what may take that away.

use std::sync::Mutex;

use cid::Cid;
use duka_node::block::{Block, DAG_CBOR, RAW};
use duka_node::dag::import::OnProgress;
use duka_node::fetch::{FetchOptions, Progress};
use duka_node::pin::{self, PinError, PinRequest};
use futures::{StreamExt, TryStreamExt};

use super::*;

async fn pin_add(node: &Node, cid: Cid, name: Option<&str>) -> Result<(), PinError> {
    pin::add(node, request(cid, name))
        .map_ok(|_: Progress| ())
        .try_collect()
        .await
}

fn request(cid: Cid, name: Option<&str>) -> PinRequest {
    PinRequest {
        cid,
        recursive: true,
        name: name.map(str::to_owned),
        fetch: FetchOptions::offline(),
    }
}

fn label(node: &Node, cid: &Cid) -> Option<String> {
    node.manifest().pin(cid).unwrap().unwrap().name
}

#[tokio::test]
async fn publish_holds_a_temp_pin_until_the_pin_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    write_album(&folder, "la");
    let node = open(&dir.path().join("data")).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let progress: OnProgress = {
        let (temp_pins, seen) = (node.temp_pins().clone(), Arc::clone(&seen));
        Arc::new(move |_| {
            seen.lock().unwrap().push(temp_pins.any());
            true
        })
    };
    let source = Source::Path(folder);
    let options = PublishOptions::new(album());
    let published = publish::publish(&node, source, options, progress)
        .await
        .unwrap();
    let seen = seen.lock().unwrap().clone();
    assert!(
        !seen.is_empty() && seen.iter().all(|held| *held),
        "{seen:?}"
    );
    // Others may be there: the checksums of the release are computed meanwhile.
    let root: Cid = published.cid.parse().unwrap();
    assert!(!node.temp_pins().roots().contains(&root));
    node.shutdown().await;
}

#[tokio::test]
async fn pin_add_holds_the_root_until_the_pin_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    write_album(&folder, "la");
    let node = open(&dir.path().join("data")).await;
    let published = publish(&node, &folder, PublishOptions::new(album())).await;
    let root: Cid = published.cid.parse().unwrap();
    let mut progress = std::pin::pin!(pin::add(&node, request(root, None)));
    progress.next().await.unwrap().unwrap();
    assert!(node.temp_pins().roots().contains(&root));
    while let Some(progress) = progress.next().await {
        progress.unwrap();
    }
    assert!(!node.temp_pins().roots().contains(&root));
    node.shutdown().await;
}

/// A tree that lacks a leaf is not pinned, its root alone is; what it keeps is counted, and what it lacks.
#[tokio::test]
async fn what_is_incomplete_is_not_pinned_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    let here = Block::of(RAW, vec![1; 500].into());
    let absent = Block::of(RAW, vec![2; 500].into());
    let links = [*here.cid(), *absent.cid(), *here.cid()];
    let root = Block::of(DAG_CBOR, serde_ipld_dagcbor::to_vec(&links).unwrap().into());
    let stored = [root.clone(), here.clone()];
    node.store().put(PackKind::Kept, &stored).unwrap();
    let error = pin_add(&node, *root.cid(), None).await.unwrap_err();
    assert!(
        error.to_string().contains(&absent.cid().to_string()),
        "{error}"
    );
    assert_eq!(node.manifest().pin(root.cid()).unwrap(), None);

    let direct = PinRequest {
        recursive: false,
        ..request(*root.cid(), None)
    };
    let added: Result<Vec<_>, _> = pin::add(&node, direct).try_collect().await;
    added.unwrap();
    assert!(!node.manifest().pin(root.cid()).unwrap().unwrap().recursive);
    let one = pin::measure(&node, *root.cid(), false).await.unwrap();
    assert_eq!((one.blocks, one.missing_blocks), (1, 0));
    let all = pin::measure(&node, *root.cid(), true).await.unwrap();
    assert_eq!((all.blocks, all.missing_blocks), (2, 1));
    assert_eq!(all.bytes, (root.data().len() + 500) as u64);
    node.store().put(PackKind::Kept, &[absent]).unwrap();
    pin_add(&node, *root.cid(), None).await.unwrap();
    assert!(node.manifest().pin(root.cid()).unwrap().unwrap().recursive);
    node.shutdown().await;
}

#[tokio::test]
async fn the_pin_of_an_offered_release_cannot_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    write_album(&folder, "la");
    let published = publish(&node, &folder, PublishOptions::new(album())).await;
    let root: Cid = published.cid.parse().unwrap();
    // The same tree under another version, which is yanked.
    publish(&node, &folder, PublishOptions::new(album())).await;
    yank::yank(&node, &album(), &"2".parse().unwrap())
        .await
        .unwrap();

    let error = pin::remove(&node, root).await.unwrap_err();
    assert!(matches!(error, PinError::Offered { .. }), "{error}");
    assert!(error.to_string().contains("album 1"), "{error}");
    assert!(node.manifest().pin(&root).unwrap().is_some());

    yank::yank(&node, &album(), &"1".parse().unwrap())
        .await
        .unwrap();
    pin::remove(&node, root).await.unwrap();
    assert!(node.manifest().pin(&root).unwrap().is_none());
    node.shutdown().await;
}

#[tokio::test]
async fn a_release_keeps_its_label_and_other_pins_take_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    write_album(&folder, "la");
    let published = publish(&node, &folder, PublishOptions::new(album())).await;
    let root: Cid = published.cid.parse().unwrap();
    for name in [None, Some("mine")] {
        pin_add(&node, root, name).await.unwrap();
        assert_eq!(label(&node, &root).as_deref(), Some("album 1"));
    }

    let source = node.fetcher(FetchOptions::offline());
    let segments = ["lyrics".to_owned()];
    let lyrics = dag::path::resolve(&source, root, &segments).await.unwrap();
    for (name, kept) in [(Some("a"), "a"), (None, "a"), (Some("b"), "b")] {
        pin_add(&node, lyrics.cid, name).await.unwrap();
        assert_eq!(label(&node, &lyrics.cid).as_deref(), Some(kept));
    }
    node.shutdown().await;
}
