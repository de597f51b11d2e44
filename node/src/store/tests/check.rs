//! Deep checks find whatever was harmed.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::pace::Pace;

const FLIPS: u64 = 1_000;
const TINY: StoreOptions = StoreOptions {
    pack_size: 24 << 10,
    reserve: 0,
    max_size: 0,
    cache_size: 0,
};

fn unlimited() -> Pace {
    Pace::new(0, CancellationToken::new())
}

fn check_all(store: &Store, depth: Depth) -> Result<Vec<CheckedPack>, StoreError> {
    let mut cursor = CheckCursor::default();
    let mut checked = Vec::new();
    while let Some(pack) = store.check_next(&mut cursor, depth, &mut unlimited(), &|_| {})? {
        checked.push(pack);
    }
    Ok(checked)
}

/// Whether anything is wrong.
fn finds_something(checked: &Result<Vec<CheckedPack>, StoreError>) -> bool {
    match checked {
        Ok(packs) => packs
            .iter()
            .any(|pack| pack.bad_framing || !pack.damaged.is_empty()),
        Err(StoreError::CorruptIndex { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

/// Sealed packs and open ones, of both kinds, in several commits.
fn filled(dir: &Path) -> (Store, Vec<Block>) {
    let (store, _) = open(dir, &TINY);
    let blocks: Vec<_> = (0..90u32)
        .map(|i| block(i, 40 + (i as usize * 997) % 3_000))
        .collect();
    let (kept, cached) = blocks.split_at(70);
    for (kind, blocks) in [(PackKind::Kept, kept), (PackKind::Cache, cached)] {
        for batch in blocks.chunks(7) {
            store.put(kind, batch).unwrap();
            store.commit().unwrap();
        }
    }
    (store, blocks)
}

#[test]
fn a_whole_store_is_whole_and_every_block_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (store, blocks) = filled(dir.path());
    for depth in [Depth::Quick, Depth::Deep] {
        let checked = check_all(&store, depth).unwrap();
        assert!(checked.len() >= 6, "{checked:?}");
        assert!(!finds_something(&Ok(checked)));
    }
    let read: u64 = check_all(&store, Depth::Deep)
        .unwrap()
        .iter()
        .map(|pack| pack.blocks)
        .sum();
    assert_eq!(read, blocks.len() as u64);
}

/// What was not committed is nobody's to miss: a check beside a publish finds nothing wrong.
#[test]
fn a_pack_that_is_being_begun_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let blocks: Vec<_> = (0..4).map(|i| block(i, 3_000)).collect();
    for block in &blocks {
        for depth in [Depth::Quick, Depth::Deep] {
            assert!(!finds_something(&check_all(&store, depth)));
        }
        store
            .put(PackKind::Kept, std::slice::from_ref(block))
            .unwrap();
        for depth in [Depth::Quick, Depth::Deep] {
            assert!(!finds_something(&check_all(&store, depth)));
        }
        store.commit().unwrap();
    }
}

/// A crash may leave whole blocks behind the last footer; recovery keeps them.
#[test]
fn blocks_behind_the_last_footer_are_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let blocks: Vec<_> = (0..4).map(|i| block(i, 3_000)).collect();
    for batch in blocks.chunks(2) {
        store.put(PackKind::Kept, batch).unwrap();
        store.commit().unwrap();
    }
    let dir = crashed(dir.path());
    let pack = pack_path(dir.path(), "kept-00000001.car");
    let end = pack.metadata().unwrap().len();
    // The last footer did not reach the disk as a whole.
    flip(&pack, end - 1);
    let (store, recovery) = open(dir.path(), &LARGE);
    assert_eq!(recovery.unlisted_blocks, 2);
    for depth in [Depth::Quick, Depth::Deep] {
        assert!(!finds_something(&check_all(&store, depth)));
    }
    assert_holds(&store, &blocks);
}

#[test]
fn a_thousand_flipped_bits_are_all_found_and_none_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let (store, blocks) = filled(dir.path());
    drop(store);
    let files: Vec<_> = files(dir.path(), &["car", "idx"]);
    let bits: u64 = files.iter().map(|(_, len)| len * 8).sum();
    let mut random = 7u64;
    for n in 0..FLIPS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut bit = random % bits;
        let (path, _) = files
            .iter()
            .find(|(_, len)| {
                let here = bit < len * 8;
                bit -= if here { 0 } else { len * 8 };
                here
            })
            .unwrap();
        let (store, _) = open(dir.path(), &TINY);
        flip_bit(path, bit);
        assert!(
            finds_something(&check_all(&store, Depth::Deep)),
            "flip {n}: bit {bit} of {}",
            path.display()
        );
        for block in &blocks {
            match store.get(block.cid()) {
                Ok(Some(served)) => assert_eq!(served.data(), block.data()),
                Ok(None) | Err(StoreError::Corrupt { .. } | StoreError::CorruptIndex { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        flip_bit(path, bit);
        drop(store);
        for (path, _) in self::files(dir.path(), &["bad"]) {
            std::fs::remove_file(path).unwrap();
        }
    }
}

fn files(dir: &Path, extensions: &[&str]) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir.join("packs")).unwrap() {
        let path = entry.unwrap().path();
        let extension = path.extension().and_then(|found| found.to_str());
        if extension.is_some_and(|found| extensions.contains(&found)) {
            let len = path.metadata().unwrap().len();
            files.push((path, len));
        }
    }
    files.sort();
    files
}

/// Also the codec of a CID, which the hash of the bytes says nothing about.
#[test]
fn every_byte_before_a_block_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (store, blocks) = filled(dir.path());
    let pack = pack_path(dir.path(), "kept-00000001.car");
    for at in 4_096..4_096 + 37 {
        flip(&pack, at);
        assert!(finds_something(&check_all(&store, Depth::Deep)), "{at}");
        flip(&pack, at);
    }
    assert!(!finds_something(&check_all(&store, Depth::Deep)));
    assert_holds(&store, &blocks);
}

/// Bytes that were wrong in memory before their checksum was made: a read cannot know, the check does,
/// and from then on nobody gets them.
#[test]
fn wrong_bytes_under_a_right_checksum_are_found_by_their_hash() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let (good, other) = (block(1, 5_000), block(2, 5_000));
    let wrong = Block::trusted(*good.cid(), other.data().clone());
    store.put(PackKind::Kept, &[wrong]).unwrap();
    store.commit().unwrap();
    drop(store);
    let (store, _) = open(dir.path(), &LARGE);
    let checked = check_all(&store, Depth::Deep).unwrap();
    assert_eq!(checked[0].damaged, [*good.cid()]);
    assert!(!store.has(good.cid()).unwrap());
    let got = store.get(good.cid());
    assert!(matches!(got, Err(StoreError::Corrupt { .. })), "{got:?}");
    store
        .put(PackKind::Kept, std::slice::from_ref(&good))
        .unwrap();
    assert_holds(&store, &[good]);
}

#[test]
fn a_stopped_check_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (store, blocks) = filled(dir.path());
    let mut cursor = CheckCursor::default();
    let mut read = 0;
    let mut stops = 0;
    loop {
        let stop = CancellationToken::new();
        let mut pace = Pace::new(0, stop.clone());
        let here = std::cell::Cell::new(0u64);
        let progress = |_| {
            here.set(here.get() + 1);
            if here.get() == 4 {
                stop.cancel();
            }
        };
        let Some(pack) = store
            .check_next(&mut cursor, Depth::Deep, &mut pace, &progress)
            .unwrap()
        else {
            break;
        };
        assert!(pack.damaged.is_empty() && !pack.bad_framing, "{pack:?}");
        stops += u32::from(pack.stopped);
        read += pack.blocks;
        assert_eq!(pack.blocks, here.get());
    }
    assert!(stops > 6, "{stops} stops");
    assert_eq!(read, blocks.len() as u64);
    assert_eq!(store.unchecked_bytes(&cursor), 0);
}

#[test]
fn a_pack_with_bad_framing_is_written_anew_and_can_lose_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let (store, blocks) = filled(dir.path());
    // The CID of the first block, behind the first page and two bytes of length.
    let pack = pack_path(dir.path(), "kept-00000001.car");
    flip(&pack, 4_096 + 2 + 10);
    let checked = check_all(&store, Depth::Deep).unwrap();
    let bad: Vec<_> = checked.iter().filter(|pack| pack.bad_framing).collect();
    assert_eq!(bad.len(), 1);
    assert!(bad[0].damaged.is_empty());
    assert!(
        store
            .renew_pack(bad[0].renewable(), &mut unlimited())
            .unwrap()
    );
    assert!(!pack.exists());
    assert!(!finds_something(&check_all(&store, Depth::Deep)));
    drop(store);
    for (index, _) in files(dir.path(), &["idx"]) {
        std::fs::remove_file(index).unwrap();
    }
    assert_holds(&open(dir.path(), &TINY).0, &blocks);
}

#[test]
fn a_pack_whose_damaged_block_has_no_other_copy_is_not_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, blocks) = filled(dir.path());
    let pack = pack_path(dir.path(), "kept-00000001.car");
    flip(&pack, 4_096 + 2 + 10);
    let end = pack.metadata().unwrap().len();
    flip(&pack, end - 30);
    flip(&pack, 4_096 + 2 + 36 + 20);
    let checked = check_all(&store, Depth::Deep).unwrap();
    let bad = checked.iter().find(|pack| pack.bad_framing).unwrap();
    assert_eq!(bad.damaged, [*blocks[0].cid()]);
    assert!(!store.renew_pack(bad.renewable(), &mut unlimited()).unwrap());
    assert!(pack.exists());
    store.put(PackKind::Kept, &blocks[..1]).unwrap();
    assert!(store.renew_pack(bad.renewable(), &mut unlimited()).unwrap());
    assert_holds(&store, &blocks);
}

#[test]
fn the_index_of_a_pack_in_use_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, blocks) = filled(dir.path());
    let index = pack_path(dir.path(), "kept-00000001.idx");
    let len = index.metadata().unwrap().len();
    flip(&index, len - 10);
    assert!(finds_something(&check_all(&store, Depth::Quick)));
    assert_eq!(store.rebuild_indexes(Indexes::Damaged, &|_| {}).unwrap(), 1);
    assert!(!finds_something(&check_all(&store, Depth::Deep)));
    assert_holds(&store, &blocks);
}
