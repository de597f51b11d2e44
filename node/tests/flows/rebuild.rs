//! What is made anew from journal and packs, and what cannot be.

use std::collections::BTreeMap;
use std::path::PathBuf;

use duka_node::manifest::Loss;
use duka_node::rebuild::{self, RebuildError, Report};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;

/// A stopped shop with some packs and releases.
async fn stopped() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut config = offline_config();
    config.store.pack_size = bytesize::ByteSize::kib(256);
    let node = open_with(&dir.path().join("data"), &config).await;
    let folder = dir.path().join("album");
    for number in 0..4 {
        write_album(&folder, &format!("{number}\n").repeat(150_000));
        publish(&node, &folder, PublishOptions::new(album())).await;
    }
    shop_file(&node, 4, "shop.json").await;
    node.store().seal().unwrap();
    node.shutdown().await;
    dir
}

fn rebuild(dir: &TempDir) -> Result<Report, RebuildError> {
    let stop = CancellationToken::new();
    rebuild::run(
        &dir.path().join("data"),
        &offline_config(),
        &stop,
        &|_, _| {},
    )
}

/// The files of a folder of the data directory with this extension, in order.
fn files(dir: &TempDir, folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.path().join("data").join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    paths
}

/// All files of the data directory below `manifest` and `blocks`, with their bytes.
fn everything(dir: &TempDir) -> BTreeMap<PathBuf, Vec<u8>> {
    let data = dir.path().join("data");
    let mut folders = vec![data.join("manifest"), data.join("blocks/packs")];
    let mut found = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    found
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_damaged_indexes_are_made_anew_from_journal_and_packs() {
    let dir = stopped().await;
    let indexes = files(&dir, "blocks/packs", "idx");
    assert!(indexes.len() >= 3, "{indexes:?}");
    std::fs::remove_file(&indexes[0]).unwrap();
    let len = indexes[1].metadata().unwrap().len();
    flip(&indexes[1], usize::try_from(len).unwrap() - 10);
    std::fs::remove_dir_all(dir.path().join("data/manifest/index")).unwrap();

    let report = rebuild(&dir).unwrap();
    assert_eq!(report.rebuilt_indexes, indexes.len() as u64);
    assert_eq!((report.counts.products, report.counts.releases), (1, 4));
    assert!(report.check.is_whole(), "{report:?}");
    let node = Node::open(&dir.path().join("data"), &offline_config())
        .await
        .unwrap();
    let recovery = node.recovery();
    assert_eq!(recovery.store.rebuilt_indexes, 0, "{recovery:?}");
    assert_eq!(recovery.manifest.rebuilt_from, None);
    let releases = node.manifest().releases(&album());
    for (number, release) in releases.enumerate() {
        let lyrics = read(&node, release.unwrap().1.root, "lyrics/one.txt").await;
        assert_eq!(lyrics, format!("{number}\n").repeat(150_000).into_bytes());
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_knows_more_than_its_pack_stays() {
    let dir = stopped().await;
    let pack = files(&dir, "blocks/packs", "car").remove(0);
    let index = pack.with_extension("idx");
    let before = std::fs::read(&index).unwrap();
    // The CID of its first block: the block can be read by the index, and is not found without.
    flip(&pack, 4096 + 6);
    let bytes = std::fs::read(&pack).unwrap();
    let footers = bytes.chunks(4096).enumerate();
    let ends = footers.filter(|(page, bytes)| *page > 0 && bytes.ends_with(b"dukaend\n"));
    for (page, _) in ends {
        flip(&pack, page * 4096 + 4096 - 20);
    }
    let all = files(&dir, "blocks/packs", "idx").len() as u64;
    let report = rebuild(&dir).unwrap();
    assert_eq!(report.rebuilt_indexes, all - 1);
    assert_eq!(std::fs::read(&index).unwrap(), before);
    assert!(report.check.is_whole(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_damaged_journal_has_lost_is_said_and_nothing_is_touched() {
    let dir = stopped().await;
    let journal = files(&dir, "manifest", "log").remove(0);
    let whole = std::fs::read(&journal).unwrap();
    // The second entry: length of the first after the header of 32 bytes.
    let first = 32 + 16 + u32::from_le_bytes(whole[32..36].try_into().unwrap()) as usize;
    flip(&journal, first + 20);
    let before = everything(&dir);
    match rebuild(&dir).unwrap_err() {
        RebuildError::Lost(Loss::Journal { path, offset, last }) => {
            assert_eq!((&path, offset, last), (&journal, first as u64, 1));
        }
        error => panic!("{error}"),
    }
    assert_eq!(everything(&dir), before);

    std::fs::remove_file(&journal).unwrap();
    let before = everything(&dir);
    let error = rebuild(&dir).unwrap_err();
    assert!(
        matches!(error, RebuildError::Lost(Loss::All { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("cannot be recovered"), "{error}");
    assert_eq!(everything(&dir), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_and_a_journal_that_begins_too_late_are_named() {
    let dir = stopped().await;
    let checkpoint = dir
        .path()
        .join("data/manifest/checkpoint-00000000000000000001.log");
    std::fs::write(&checkpoint, b"dukackpt and what is no checkpoint").unwrap();
    match rebuild(&dir).unwrap_err() {
        RebuildError::Lost(Loss::Checkpoint { path, .. }) => assert_eq!(path, checkpoint),
        error => panic!("{error}"),
    }
    std::fs::remove_file(&checkpoint).unwrap();
    let journal = files(&dir, "manifest", "log").remove(0);
    let later = journal.with_file_name("journal-00000000000000000005.log");
    std::fs::rename(&journal, later).unwrap();
    match rebuild(&dir).unwrap_err() {
        RebuildError::Lost(Loss::Journal { path, last: 0, .. }) => assert_eq!(path, journal),
        error => panic!("{error}"),
    }
}
