//! Blocks whose bytes a pack shares with another file. These tests need no reflinks: elsewhere the bytes are
//! copied to the same places.

use super::*;
use crate::dag::car;

const CHUNK: usize = 64 << 10;

/// A store, and a file of four blocks that it shares.
struct Added {
    dir: tempfile::TempDir,
    disk: Arc<FaultyDisk>,
    blocks: Vec<Block>,
}

impl Added {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            disk: Arc::default(),
            blocks: (0..4).map(|seed| block(seed, CHUNK - 4)).collect(),
        }
    }

    fn open(&self) -> (Store, Recovery) {
        let disk = Arc::clone(&self.disk) as Arc<dyn Disk>;
        Store::open_on(disk, &self.dir.path().join("store"), LARGE).unwrap()
    }

    fn pack(&self, name: &str) -> PathBuf {
        pack_path(&self.dir.path().join("store"), name)
    }

    /// The blocks behind each other, and a block of some other bytes before each.
    fn put(&self, store: &Store) -> Result<Vec<Block>, StoreError> {
        let file = tempfile::tempfile_in(self.dir.path()).unwrap();
        let mut all = Vec::new();
        for (at, shared) in (0..).step_by(CHUNK).zip(&self.blocks) {
            file.write_all_at(shared.data(), at).unwrap();
            let other = block(100, 1_000 + usize::try_from(at).unwrap() / 50);
            let extent = Extent {
                snapshot: store.snapshot(&file).unwrap(),
                offset: at,
            };
            all.push((other, Keep::Copied));
            all.push((shared.clone(), Keep::Shared(extent)));
        }
        store.put_from(PackKind::Kept, &all)?;
        store.commit()?;
        Ok(all.into_iter().map(|(block, _)| block).collect())
    }

    /// The pack after one put, with the store closed.
    fn closed(&self) -> (PathBuf, Vec<Block>) {
        let all = self.put(&self.open().0).unwrap();
        (self.pack("kept-00000001.car"), all)
    }
}

fn offset(store: &Store, block: &Block) -> u64 {
    store.locate(block.cid()).unwrap().unwrap().place.offset
}

fn check(store: &Store) -> (u64, bool) {
    let mut pace = full_speed();
    let mut cursor = CheckCursor::default();
    let (mut blocks, mut is_bad) = (0, false);
    while let Some(pack) = store
        .check_next(&mut cursor, Depth::Deep, &mut pace, &|_| {})
        .unwrap()
    {
        blocks += pack.blocks;
        is_bad |= pack.bad_framing || !pack.damaged.is_empty();
    }
    (blocks, is_bad)
}

#[test]
fn shared_blocks_start_at_a_page_and_are_there_after_reopen() {
    let added = Added::new();
    let (store, _) = added.open();
    let all = added.put(&store).unwrap();
    for sealed in [false, true] {
        if sealed {
            store.seal().unwrap();
        }
        assert_holds(&store, &all);
        for shared in &added.blocks {
            assert_eq!(offset(&store, shared) % 4096, 0);
        }
        assert_eq!(check(&store), (8, false));
        assert_eq!(store.stats().unwrap().kept_blocks, 8);
    }
    drop(store);
    let (store, recovery) = added.open();
    assert_eq!(recovery.damaged_blocks + recovery.rebuilt_indexes, 0);
    assert_holds(&store, &all);
    assert_eq!(store.put(PackKind::Kept, &all).unwrap(), 0);
}

#[test]
fn what_is_short_or_no_whole_pages_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let file = Arc::new(tempfile::tempfile_in(dir.path()).unwrap());
    let all = [block(1, 4092), block(2, CHUNK - 5), block(3, CHUNK - 4)];
    // The last one has the right length, but no place that can be shared.
    let offsets = [0, 4096, 8000];
    let extents = offsets.map(|offset| Extent {
        snapshot: Snapshot::of(Arc::clone(&file)),
        offset,
    });
    let shared: Vec<_> = all.iter().cloned().zip(extents.map(Keep::Shared)).collect();
    store.put_from(PackKind::Kept, &shared).unwrap();
    store.commit().unwrap();
    drop(store);
    // The file is empty: none of them can be from there.
    assert_holds(&open(dir.path(), &LARGE).0, &all);
}

#[test]
fn a_pack_is_a_car_and_its_blocks_are_found_without_footers() {
    let added = Added::new();
    let (pack, all) = added.closed();

    let other = tempfile::tempdir().unwrap();
    let (imported, _) = open(other.path(), &LARGE);
    car::import(&imported, PackKind::Kept, &mut File::open(&pack).unwrap()).unwrap();
    assert_holds(&imported, &all);

    let len = std::fs::metadata(&pack).unwrap().len();
    // The first footer, and the last two: that of the commit, and that of closing.
    for at in [60, len - 10, len - 4096 - 10] {
        flip(&pack, at);
    }
    let (store, _) = added.open();
    assert_holds(&store, &all);
    assert_eq!(store.stats().unwrap().kept_blocks, 8);
}

#[test]
fn every_cut_of_an_unfinished_commit_leaves_the_acknowledged_blocks() {
    let added = Added::new();
    let (store, _) = added.open();
    let first = block(50, 5_000);
    store
        .put(PackKind::Kept, std::slice::from_ref(&first))
        .unwrap();
    store.commit().unwrap();
    let pack = added.pack("kept-00000001.car");
    let start = std::fs::metadata(&pack).unwrap().len();
    added.put(&store).unwrap();
    let bytes = std::fs::read(&pack).unwrap();
    drop(store);
    let end = bytes.len();
    let start = usize::try_from(start).unwrap();
    for cut in (start..end).step_by(1_999) {
        std::fs::write(&pack, &bytes[..cut]).unwrap();
        drop(std::fs::remove_file(pack.with_extension("idx")));
        let (store, recovery) = added.open();
        assert_holds(&store, std::slice::from_ref(&first));
        assert_eq!(recovery.damaged_blocks, 0);
        let again = added.put(&store).unwrap();
        assert_holds(&store, &again);
        drop(store);
        drop(std::fs::remove_file(added.pack("kept-00000002.car")));
    }
}

#[test]
fn a_flipped_bit_in_what_leads_to_a_page_is_found() {
    let added = Added::new();
    let (pack, all) = added.closed();
    let (store, _) = added.open();
    assert_eq!(check(&store), (8, false));
    // From the end of a copied block to the shared one behind it.
    let copied = store.locate(all[2].cid()).unwrap().unwrap().place.end();
    let shared = offset(&store, &all[3]);
    assert!(shared - copied > 200, "padding from {copied} to {shared}");
    for bit in (copied * 8..shared * 8).step_by(7) {
        flip_bit(&pack, bit);
        assert!(check(&store).1, "bit {bit}");
        assert_holds(&store, &all);
        flip_bit(&pack, bit);
    }
    assert_eq!(check(&store), (8, false));
}

#[test]
fn collection_leaves_a_live_pack_and_shares_what_it_moves() {
    let added = Added::new();
    let (store, _) = added.open();
    let all = added.put(&store).unwrap();
    let collected = seal_and_collect(&store, &all);
    assert_eq!(collected.rewritten_packs, 0, "{collected:?}");

    let live = &all[3..6];
    let collected = seal_and_collect(&store, live);
    assert_eq!(collected.rewritten_packs, 1, "{collected:?}");
    assert!(!added.pack("kept-00000001.car").exists());
    assert_holds(&store, live);
    for shared in [&all[3], &all[5]] {
        assert_eq!(offset(&store, shared) % 4096, 0);
    }
    drop(store);
    let (store, _) = added.open();
    assert_holds(&store, live);
    assert_eq!(check(&store), (3, false));
}

#[test]
fn a_full_disk_is_waited_out() {
    let added = Added::new();
    let (store, _) = added.open();
    let no_room = &added.disk.no_room_for_copies;
    no_room.store(true, Ordering::Relaxed);
    let full = added.put(&store).map(drop).unwrap_err();
    assert!(matches!(full, StoreError::Full { .. }), "{full}");
    no_room.store(false, Ordering::Relaxed);
    let all = added.put(&store).unwrap();
    assert_holds(&store, &all);
    drop(store);
    assert_holds(&added.open().0, &all);
}

#[test]
fn without_direct_io_blocks_are_shared_all_the_same() {
    let added = Added::new();
    let (store, _) = added.open();
    added.disk.refuse_copy_once.store(true, Ordering::Relaxed);
    let all = added.put(&store).unwrap();
    assert!(!added.disk.refuse_copy_once.load(Ordering::Relaxed));
    drop(store);
    assert_holds(&added.open().0, &all);
}
