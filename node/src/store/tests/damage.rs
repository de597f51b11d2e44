//! Flipped bytes: what they harm, and how it heals.

use std::collections::HashSet;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::pace::Pace;

fn assert_damaged(store: &Store, block: &Block) {
    let cid = block.cid();
    assert!(matches!(store.get(cid), Err(StoreError::Corrupt { .. })));
    assert!(!store.has(cid).unwrap());
    assert!(!store.holds(PackKind::Kept, cid).unwrap());
    assert_eq!(store.block_len(cid).unwrap(), None);
}

/// Offset of the block's bytes in the first kept pack.
fn offset_of(dir: &Path, block: &Block) -> u64 {
    let bytes = std::fs::read(pack_path(dir, "kept-00000001.car")).unwrap();
    let mut windows = bytes.windows(block.data().len());
    windows.position(|window| window == block.data()).unwrap() as u64
}

#[test]
fn a_damaged_block_of_the_last_commit_is_named_and_healed_by_putting_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &SMALL);
    let blocks: Vec<_> = (0..3).map(|i| block(i, 5_000)).collect();
    for block in &blocks {
        store
            .put(PackKind::Kept, std::slice::from_ref(block))
            .unwrap();
        store.commit().unwrap();
    }
    let dir = crashed(dir.path());
    drop(store);
    let path = pack_path(dir.path(), "kept-00000001.car");
    flip(&path, offset_of(dir.path(), &blocks[2]) + 2_500);

    let (store, recovery) = open(dir.path(), &SMALL);
    assert_eq!(recovery.truncated_bytes, 0);
    assert_eq!(recovery.damaged_blocks, 1);
    assert_damaged(&store, &blocks[2]);
    assert_holds(&store, &blocks[..2]);
    drop(store);

    // The next open has nothing to check, and knows it all the same.
    let (store, recovery) = open(dir.path(), &SMALL);
    assert_eq!(recovery.damaged_blocks, 0);
    assert_damaged(&store, &blocks[2]);
    let len = blocks[2].data().len() as u64;
    assert_eq!(store.put(PackKind::Kept, &blocks).unwrap(), len);
    assert_holds(&store, &blocks);
    assert_eq!(store.stats().unwrap().kept_blocks, 3);
    store.commit().unwrap();
    drop(store);

    let (store, _) = open(dir.path(), &SMALL);
    assert_holds(&store, &blocks);
    assert_eq!(store.put(PackKind::Kept, &blocks).unwrap(), 0);
    // The pack is sealed and gets its index, which is then lost.
    let more: Vec<_> = (10..30).map(|i| block(i, 5_000)).collect();
    store.put(PackKind::Kept, &more).unwrap();
    store.commit().unwrap();
    let index = pack_path(dir.path(), "kept-00000001.idx");
    assert!(index.exists());
    assert_holds(&store, &blocks);
    drop(store);
    assert_holds(&open(dir.path(), &SMALL).0, &blocks);
    std::fs::remove_file(index).unwrap();
    let (store, recovery) = open(dir.path(), &SMALL);
    assert_eq!(recovery.rebuilt_indexes, 1);
    assert_holds(&store, &blocks);
    assert_holds(&store, &more);
}

#[test]
fn a_damaged_block_of_a_sealed_pack_is_healed_into_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &SMALL);
    let blocks: Vec<_> = (0..60).map(|i| block(i, 3_000)).collect();
    store.put(PackKind::Kept, &blocks).unwrap();
    store.commit().unwrap();
    let path = pack_path(dir.path(), "kept-00000001.car");
    flip(&path, offset_of(dir.path(), &blocks[1]));
    assert!(store.has(blocks[1].cid()).unwrap(), "not read yet");
    assert_damaged(&store, &blocks[1]);
    drop(store);

    let (store, _) = open(dir.path(), &SMALL);
    assert_damaged(&store, &blocks[1]);
    store.put(PackKind::Kept, &blocks).unwrap();
    store.commit().unwrap();
    assert_holds(&store, &blocks);
    drop(store);
    assert_holds(&open(dir.path(), &SMALL).0, &blocks);
}

#[test]
fn a_cached_copy_is_read_in_place_of_a_damaged_kept_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let one = [block(1, 5_000)];
    store.put(PackKind::Cache, &one).unwrap();
    store.put(PackKind::Kept, &one).unwrap();
    store.commit().unwrap();
    let path = pack_path(dir.path(), "kept-00000001.car");
    flip(&path, offset_of(dir.path(), &one[0]));
    assert_holds(&store, &one);
    assert!(!store.holds(PackKind::Kept, one[0].cid()).unwrap());
}

#[test]
fn after_a_clean_close_nothing_is_checked_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let one = block(1, 5_000);
    store
        .put(PackKind::Kept, std::slice::from_ref(&one))
        .unwrap();
    store.commit().unwrap();
    drop(store);
    let path = pack_path(dir.path(), "kept-00000001.car");
    let len = std::fs::metadata(&path).unwrap().len();
    // Only a check could notice.
    flip(&path, offset_of(dir.path(), &one));
    let (store, recovery) = open(dir.path(), &LARGE);
    assert_eq!(recovery.damaged_blocks, 0);
    drop(store);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), len, "noted once");
}

#[test]
fn a_damaged_footer_in_front_of_the_note_of_a_clean_close_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let blocks = [block(1, 5_000), block(2, 5_000)];
    store.put(PackKind::Kept, &blocks).unwrap();
    store.commit().unwrap();
    let path = pack_path(dir.path(), "kept-00000001.car");
    let end = std::fs::metadata(&path).unwrap().len();
    drop(store);
    flip(&path, end - 1);
    let (store, recovery) = open(dir.path(), &LARGE);
    assert_eq!(recovery.truncated_bytes, 0);
    assert_holds(&store, &blocks);
}

#[test]
fn acknowledged_blocks_behind_the_last_whole_footer_are_kept() {
    // A damaged footer is one whose checksum is wrong, or one that cannot even be found.
    for (gone, footers) in [(false, 1), (true, 1), (false, 2), (true, 2), (true, 3)] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), &LARGE);
        let blocks: Vec<_> = (0..6).map(|i| block(i, 5_000)).collect();
        for batch in blocks.chunks(2) {
            store.put(PackKind::Kept, batch).unwrap();
            store.commit().unwrap();
        }
        let dir = crashed(dir.path());
        drop(store);
        let path = pack_path(dir.path(), "kept-00000001.car");
        let mut bytes = std::fs::read(&path).unwrap();
        let at: Vec<_> = (0..bytes.len() - 8)
            .filter(|at| bytes[*at..].starts_with(b"dukafoot"))
            .collect();
        assert_eq!(at.len(), 4, "the first page, and one for each commit");
        for at in &at[4 - footers..] {
            if gone {
                bytes[at - 38..at + 80].fill(0);
            } else {
                bytes[at + 20] ^= 1;
            }
        }
        std::fs::write(&path, bytes).unwrap();

        let (store, recovery) = open(dir.path(), &LARGE);
        assert_eq!(recovery.unlisted_blocks, 2 * footers);
        assert_holds(&store, &blocks);
        let more = [block(10, 5_000)];
        store.put(PackKind::Kept, &more).unwrap();
        store.commit().unwrap();
        let dir = crashed(dir.path());
        drop(store);
        std::fs::remove_file(pack_path(dir.path(), "kept-00000001.idx")).unwrap();
        let (store, _) = open(dir.path(), &LARGE);
        assert_holds(&store, &blocks);
        assert_holds(&store, &more);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Bytes flipped in any blocks, and anything after the last commit, harm nothing else.
    #[test]
    fn damage_after_acknowledged_commits_harms_only_the_blocks_it_hits(
        lens in proptest::collection::vec(1usize..9_000, 1..12),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..9_000),
        clean: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), &LARGE);
        let blocks: Vec<_> = (0..).zip(&lens).map(|(i, len)| block(i, *len)).collect();
        for batch in blocks.chunks(3) {
            store.put(PackKind::Kept, batch).unwrap();
            store.commit().unwrap();
        }
        let crashed = crashed(dir.path());
        drop(store);
        let dir = if clean { dir } else { crashed };
        let path = pack_path(dir.path(), "kept-00000001.car");
        let mut hit = HashSet::new();
        for (which, at) in flips {
            let block = &blocks[which.index(blocks.len())];
            if hit.insert(*block.cid()) {
                flip(&path, offset_of(dir.path(), block) + at.index(block.data().len()) as u64);
            }
        }
        let end = std::fs::metadata(&path).unwrap().len();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&tail, end).unwrap();

        let (store, recovery) = open(dir.path(), &LARGE);
        prop_assert_eq!(recovery.truncated_bytes, tail.len() as u64);
        for block in &blocks {
            match store.get(block.cid()) {
                Err(StoreError::Corrupt { .. }) => prop_assert!(hit.contains(block.cid())),
                got => prop_assert_eq!(got.unwrap(), Some(block.clone())),
            }
        }
        store.put(PackKind::Kept, &blocks).unwrap();
        store.commit().unwrap();
        drop(store);
        assert_holds(&open(dir.path(), &LARGE).0, &blocks);
    }

    /// One flipped byte anywhere after a clean close, footers and headers included.
    #[test]
    fn one_flipped_byte_harms_at_most_one_block(at: prop::sample::Index) {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), &LARGE);
        let blocks: Vec<_> = (0..6).map(|i| block(i, 1_500)).collect();
        for batch in blocks.chunks(2) {
            store.put(PackKind::Kept, batch).unwrap();
            store.commit().unwrap();
        }
        drop(store);
        let path = pack_path(dir.path(), "kept-00000001.car");
        let len = std::fs::metadata(&path).unwrap().len();
        flip(&path, at.index(usize::try_from(len).unwrap()) as u64);
        let (store, _) = open(dir.path(), &LARGE);
        let mut harmed = 0;
        for block in &blocks {
            match store.get(block.cid()) {
                Err(StoreError::Corrupt { .. }) => harmed += 1,
                got => prop_assert_eq!(got.unwrap(), Some(block.clone())),
            }
        }
        prop_assert!(harmed <= 1);
    }
}

#[test]
fn a_pack_that_became_shorter_names_what_it_lost_and_keeps_its_index() {
    let blocks: Vec<_> = (0..6).map(|i| block(i, 5_000)).collect();
    for (kept, len) in [(3, offset_in_a_pack(&blocks, 3)), (0, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), &SMALL);
        store.put(PackKind::Kept, &blocks).unwrap();
        store.seal().unwrap();
        drop(store);
        let path = pack_path(dir.path(), "kept-00000001.car");
        let index = std::fs::read(path.with_extension("idx")).unwrap();
        let pack = std::fs::File::options().write(true).open(&path).unwrap();
        pack.set_len(len).unwrap();

        for lost in [blocks.len() - kept, 0] {
            let (store, recovery) = open(dir.path(), &SMALL);
            assert_eq!(
                (recovery.damaged_blocks, recovery.rebuilt_indexes),
                (lost, 0)
            );
            assert_holds(&store, &blocks[..kept]);
            for block in &blocks[kept..] {
                assert_damaged(&store, block);
            }
        }
        assert_eq!(std::fs::read(path.with_extension("idx")).unwrap(), index);

        let (store, _) = open(dir.path(), &SMALL);
        let mut checked = CheckCursor::default();
        let mut pace = Pace::new(0, CancellationToken::new());
        let checked = store.check_next(&mut checked, Depth::Deep, &mut pace, &|_| {});
        let checked = checked.unwrap().unwrap();
        assert_eq!(checked.damaged.len(), blocks.len() - kept);
        store.put(PackKind::Kept, &blocks).unwrap();
        store.commit().unwrap();
        assert!(store.renew_pack(checked.renewable(), &mut pace).unwrap());
        drop(store);
        let (store, recovery) = open(dir.path(), &SMALL);
        assert_eq!(recovery.damaged_blocks, 0);
        assert_holds(&store, &blocks);
    }
}

/// Where the bytes of the block with this number are when they are put together.
fn offset_in_a_pack(blocks: &[Block], number: usize) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &SMALL);
    store.put(PackKind::Kept, blocks).unwrap();
    store.commit().unwrap();
    offset_of(dir.path(), &blocks[number])
}

#[test]
fn an_emptied_pack_without_a_good_index_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &SMALL);
    store.put(PackKind::Kept, &[block(1, 5_000)]).unwrap();
    store.seal().unwrap();
    drop(store);
    let path = pack_path(dir.path(), "kept-00000001.car");
    for path in [&path, &path.with_extension("idx")] {
        std::fs::write(path, b"").unwrap();
    }
    drop(open(dir.path(), &SMALL));
    assert!(path.with_extension("car.damaged").exists());
}
