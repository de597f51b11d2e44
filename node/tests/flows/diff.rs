//! What changes from one release to another.

use duka_node::diff::{self, DiffError, FileChange, Kind, Totals};
use parking_lot::Mutex;

use super::*;

async fn compare(node: &Node, from: &str, to: &str) -> (Vec<FileChange>, Totals) {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&changes);
    let on_change = Arc::new(move |change| {
        told.lock().push(change);
        true
    });
    let versions: [Version; 2] = [from.parse().unwrap(), to.parse().unwrap()];
    let totals = diff::diff(node, &album(), [&versions[0], &versions[1]], on_change)
        .await
        .unwrap();
    (Arc::into_inner(changes).unwrap().into_inner(), totals)
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[tokio::test]
async fn diff_names_files_and_counts_each_new_block_once() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    let song = noise(3 << 20, 1);
    write("changed", &song);
    write("removed", b"old");
    write("same", b"same");
    write("sub/moved", &noise(2 << 20, 2));
    write("sub/script", b"#!/bin/sh");
    publish(&node, &folder, PublishOptions::new(album())).await;

    // One of three chunks changes; what moves, and what is there twice, costs nothing.
    let mut changed = song.clone();
    changed[1 << 20] ^= 1;
    write("changed", &changed);
    write("copy", &changed);
    std::fs::remove_file(folder.join("removed")).unwrap();
    std::fs::rename(folder.join("sub/moved"), folder.join("moved")).unwrap();
    let script = folder.join("sub/script");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, executable).unwrap();
    publish(&node, &folder, PublishOptions::new(album())).await;
    shop_file(&node, 2, "shop.json").await;

    let (changes, totals) = compare(&node, "1", "2").await;
    let short: Vec<_> = changes
        .iter()
        .map(|change| (change.kind, change.path.as_str(), change.after))
        .collect();
    let wanted = [
        (Kind::Changed, "changed", 3 << 20),
        (Kind::Added, "copy", 3 << 20),
        (Kind::Added, "moved", 2 << 20),
        (Kind::Removed, "removed", 0),
        (Kind::Removed, "sub/moved", 0),
        (Kind::Mode, "sub/script", 9),
    ];
    assert_eq!(short, wanted);
    let new: Vec<_> = changes.iter().map(|change| change.new_bytes).collect();
    assert_eq!(new[1..], [0; 5]);
    let chunk_and_node = (1 << 20)..(1 << 20) + 1000;
    assert!(chunk_and_node.contains(&new[0]), "{new:?}");
    let counts = (
        totals.added,
        totals.removed,
        totals.changed,
        totals.unchanged,
    );
    assert_eq!(counts, (2, 2, 2, 1));
    // The chunk, the node of its file, and two folders.
    assert_eq!(
        (totals.upgrade.blocks, totals.upgrade.missing_blocks),
        (4, 0)
    );
    assert!(
        totals.record_bytes > 0 && totals.list_bytes > 0,
        "{totals:?}"
    );

    let (changes, totals) = compare(&node, "2", "2").await;
    assert_eq!((changes, totals.upgrade.bytes), (Vec::new(), 0));
    let one: Version = "1".parse().unwrap();
    let absent: Version = "9".parse().unwrap();
    let refused = diff::diff(&node, &album(), [&one, &absent], Arc::new(|_| true)).await;
    assert!(matches!(
        refused,
        Err(DiffError::Manifest(ManifestError::Conflict(
            Conflict::NoRelease { .. }
        )))
    ));
    node.shutdown().await;
}

#[tokio::test]
async fn buzhash_is_remembered_and_moves_only_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    std::fs::create_dir_all(&folder).unwrap();
    let mut song = noise(4 << 20, 3);
    let mut versions = Vec::new();
    let buzhash = Some(duka_node::dag::import::Chunker::Buzhash);
    for (chunker, profile) in [
        (buzhash, None),
        (None, None),
        (None, Some(Profile::UnixfsV1_2025)),
    ] {
        std::fs::write(folder.join("song"), &song).unwrap();
        let options = PublishOptions {
            chunker,
            profile,
            ..PublishOptions::new(album())
        };
        versions.push(publish(&node, &folder, options).await.version);
        song.splice(100..100, *b"a few more bytes at the beginning");
    }
    let profile = |version: &Version| {
        let release = node.manifest().release(&album(), version).unwrap();
        release.unwrap().profile
    };
    let profiles: Vec<_> = versions.iter().map(profile).collect();
    assert_eq!(
        profiles,
        [
            "unixfs-v1-2025+buzhash",
            "unixfs-v1-2025+buzhash",
            "unixfs-v1-2025"
        ]
    );
    let record = shop_file(&node, 3, "products/album/1.json").await;
    assert_eq!(record["profile"], "unixfs-v1-2025+buzhash");
    let (_, little) = compare(&node, "1", "2").await;
    let (_, all) = compare(&node, "2", "3").await;
    assert!(little.upgrade.bytes < 1 << 20, "{little:?}");
    assert!(all.upgrade.bytes > 4 << 20, "{all:?}");
    node.shutdown().await;
}
