//! Flipped bits: found by the check, and never given to anybody.

use std::path::{Path, PathBuf};

use duka_node::block::Block;
use duka_node::pace::Pace;
use duka_node::store::{CheckCursor, Depth, Indexes, PackKind, Recovery, Store, StoreError};
use duka_tests::disk::crash::memory;
use duka_tests::disk::{Hooked, NoSync};
use tokio_util::sync::CancellationToken;

use crate::store::{OPTIONS, blocks};

/// Bits that are flipped, one at a time.
const FLIPS: u64 = 1_000;
/// Decides which.
const SEED: u64 = 0x5eed_f11b;

#[test]
fn flipped_bits_are_found_and_no_wrong_byte_is_given() {
    let all = blocks(0..120, 4_500);
    let whole = tempfile::tempdir_in(memory()).unwrap();
    let (store, _) = open(whole.path()).unwrap();
    for batch in all.chunks(5) {
        store.put(PackKind::Kept, batch).unwrap();
        store.commit().unwrap();
    }
    drop(store);
    let files = files(&whole.path().join("packs"));
    assert!(files.len() > 20, "{files:?}");

    let mut random = SEED;
    let mut unnoticed = Vec::new();
    for _ in 0..FLIPS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Indexes are small, so that they get a third of the flips.
        let wanted = if random.is_multiple_of(3) {
            "idx"
        } else {
            "car"
        };
        let candidates = files
            .iter()
            .filter(|file| file.extension().unwrap() == wanted);
        let sizes: Vec<_> = candidates
            .map(|file| (file, file.metadata().unwrap().len()))
            .collect();
        let total: u64 = sizes.iter().map(|(_, len)| len).sum();
        let mut at = (random >> 8) % total;
        let flipped = sizes
            .iter()
            .find_map(|(file, len)| match at.checked_sub(*len) {
                Some(behind) => {
                    at = behind;
                    None
                }
                None => Some(*file),
            });
        let flipped = flipped.unwrap();
        let bit = 1u8 << (random >> 61);

        let copy = tempfile::tempdir_in(memory()).unwrap();
        std::fs::create_dir(copy.path().join("packs")).unwrap();
        for file in &files {
            let to = copy.path().join("packs").join(file.file_name().unwrap());
            let mut bytes = std::fs::read(file).unwrap();
            if file == flipped {
                bytes[usize::try_from(at).unwrap()] ^= bit;
            }
            std::fs::write(to, bytes).unwrap();
        }
        if !is_found(copy.path(), &all) {
            unnoticed.push((flipped.file_name().unwrap().to_owned(), at));
        }
    }
    assert_eq!(
        unnoticed,
        Vec::new(),
        "{} flips are not found",
        unnoticed.len()
    );
}

#[test]
fn a_flipped_version_is_damage_and_not_a_newer_duka() {
    let all = blocks(0..30, 4_500);
    let (pack, index) = ("packs/kept-00000001.car", "packs/kept-00000001.idx");
    for (file, at, version) in [(pack, 64, 2), (index, 8, 3)] {
        let dir = tempfile::tempdir_in(memory()).unwrap();
        let (store, _) = open(dir.path()).unwrap();
        store.put(PackKind::Kept, &all).unwrap();
        store.commit().unwrap();
        drop(store);
        let path = dir.path().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(
            bytes[at..at + 4],
            [version, 0, 0, 0],
            "the version of {file}"
        );
        bytes[at + 1] ^= 4;
        std::fs::write(path, bytes).unwrap();
        if file == pack {
            // A pack with an index is not read.
            std::fs::remove_file(dir.path().join(index)).unwrap();
        }
        let (store, recovery) = open(dir.path()).unwrap();
        assert_eq!(recovery.rebuilt_indexes, 1);
        for block in &all {
            assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
        }
    }
}

/// Whether opening or the check find that something is wrong. Nothing wrong is given to anybody.
fn is_found(dir: &Path, all: &[Block]) -> bool {
    let (store, recovery) = open(dir).unwrap();
    for block in all {
        match store.get(block.cid()) {
            Ok(Some(got)) => assert_eq!(got, *block),
            Ok(None) | Err(StoreError::Corrupt { .. } | StoreError::CorruptIndex { .. }) => {}
            Err(error) => panic!("not clear: {error:?}"),
        }
    }
    let Recovery {
        rebuilt_indexes,
        damaged_blocks,
        unlisted_blocks,
        truncated_bytes,
        ..
    } = recovery;
    let repaired = rebuilt_indexes + damaged_blocks + unlisted_blocks > 0 || truncated_bytes > 0;
    let indexes = store.rebuild_indexes(Indexes::Damaged, &|_| {}).unwrap();
    repaired || indexes > 0 || is_damaged(&store)
}

/// What a deep check says.
fn is_damaged(store: &Store) -> bool {
    let mut pace = Pace::new(0, CancellationToken::new());
    let mut cursor = CheckCursor::default();
    let mut damaged = false;
    while let Some(pack) = store
        .check_next(&mut cursor, Depth::Deep, &mut pace, &|_| {})
        .unwrap()
    {
        damaged |= pack.bad_framing || !pack.damaged.is_empty();
    }
    damaged
}

fn open(dir: &Path) -> Result<(Store, Recovery), StoreError> {
    Store::open_on(Hooked::shared(NoSync), dir, OPTIONS)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
