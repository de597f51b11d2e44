//! Behaviour of the store as a whole: durability, recovery, faults.

mod check;
mod collect;
mod damage;
mod evict;
mod in_place;
mod index;
mod reflink;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use cid::Cid;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::block::{Block, DAG_PB, RAW};
use crate::disk::FileRange;
use crate::pace::Pace;

const SMALL: StoreOptions = StoreOptions {
    pack_size: 64 << 10,
    reserve: 0,
    max_size: 0,
    cache_size: 0,
};
const LARGE: StoreOptions = StoreOptions {
    pack_size: 512 << 20,
    reserve: 0,
    max_size: 0,
    cache_size: 0,
};

fn block(seed: u32, len: usize) -> Block {
    let mut bytes = vec![0; len];
    let mut state = u64::from(seed) + 1;
    for byte in &mut bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state.to_le_bytes()[4];
    }
    bytes.extend_from_slice(&seed.to_le_bytes());
    Block::of(RAW, Bytes::from(bytes))
}

fn open(dir: &Path, options: &StoreOptions) -> (Store, Recovery) {
    Store::open(dir, options.clone()).unwrap()
}

fn full_speed() -> Pace {
    Pace::new(0, CancellationToken::new())
}

/// Marks `live`, and removes the rest of what is sealed.
fn collect(store: &Store, live: &[Block]) -> Collected {
    let mut collection = store.collect();
    for block in live {
        assert_eq!(collection.mark(block.cid()).unwrap(), Mark::New);
        assert_eq!(collection.mark(block.cid()).unwrap(), Mark::Seen);
    }
    collection.sweep(&mut full_speed()).unwrap()
}

/// The same with the newest pack, too.
fn seal_and_collect(store: &Store, live: &[Block]) -> Collected {
    store.seal().unwrap();
    collect(store, live)
}

fn pack_path(dir: &Path, name: &str) -> PathBuf {
    dir.join("packs").join(name)
}

fn assert_holds(store: &Store, blocks: &[Block]) {
    for block in blocks {
        assert!(store.has(block.cid()).unwrap());
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
        let len = store.block_len(block.cid()).unwrap();
        assert_eq!(len, Some(u32::try_from(block.data().len()).unwrap()));
    }
}

fn flip(path: &Path, at: u64) {
    flip_bit(path, at * 8);
}

fn flip_bit(path: &Path, bit: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], bit / 8)
        .unwrap();
}

#[test]
fn committed_blocks_are_there_after_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let blocks: Vec<_> = [0, 1, 4095, 4096, 4097, 1 << 20, (2 << 20) - 4]
        .into_iter()
        .enumerate()
        .map(|(i, len)| block(u32::try_from(i).unwrap(), len))
        .collect();
    let (store, _) = open(dir.path(), &LARGE);
    store.put(PackKind::Kept, &blocks).unwrap();
    assert_holds(&store, &blocks);
    store.commit().unwrap();
    assert_holds(&store, &blocks);
    drop(store);

    let (store, recovery) = open(dir.path(), &LARGE);
    assert_eq!(recovery.truncated_bytes, 0);
    assert_holds(&store, &blocks);
    assert!(!store.has(block(99, 5).cid()).unwrap());
}

#[test]
fn store_that_was_handed_over_reads_on_and_writes_nothing_while_the_next_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let blocks: Vec<_> = (0..20).map(|i| block(i, 5000)).collect();
    let (old, _) = open(dir.path(), &LARGE);
    old.put(PackKind::Kept, &blocks[..10]).unwrap();
    old.hand_over().unwrap();

    let (new, recovery) = open(dir.path(), &LARGE);
    assert_eq!(recovery.truncated_bytes, 0);
    new.put(PackKind::Kept, &blocks[10..]).unwrap();
    new.commit().unwrap();
    assert_holds(&old, &blocks[..10]);
    let refused = old.put(PackKind::Cache, &[block(99, 5)]);
    assert!(
        matches!(refused, Err(StoreError::HandedOver)),
        "{refused:?}"
    );
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(dir.path().join("packs"))
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name(), std::fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    let before = files();
    drop(old);
    assert!(files() == before, "the old store wrote");
    drop(new);
    let (again, recovery) = open(dir.path(), &LARGE);
    assert_eq!(recovery.truncated_bytes, 0);
    assert_holds(&again, &blocks);
}

#[test]
fn a_block_is_stored_once_per_kind() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let one = block(1, 100);
    let len = one.data().len() as u64;
    let same_bytes = Block::of(DAG_PB, one.data().clone());
    let batch = [one.clone(), one.clone(), same_bytes.clone()];
    assert_eq!(store.put(PackKind::Cache, &batch).unwrap(), len);
    assert_eq!(store.put(PackKind::Cache, &batch).unwrap(), 0);
    // A pin must not depend on a cache that may be evicted.
    assert_eq!(store.put(PackKind::Kept, &batch).unwrap(), len);
    assert_eq!(store.put(PackKind::Cache, &batch).unwrap(), 0);
    assert_eq!(store.get(same_bytes.cid()).unwrap(), Some(same_bytes));
}

#[test]
fn identity_cids_are_never_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let cid: Cid = "bafkqabtimvwgy3yk".parse().unwrap();
    let inlined = Block::inlined(&cid).unwrap().unwrap();
    assert_eq!(store.put(PackKind::Kept, &[inlined]).unwrap(), 0);
    assert_eq!(&store.get(&cid).unwrap().unwrap().data()[..], b"hello\n");
}

#[test]
fn blocks_over_the_limit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let long = block(1, 2 << 20);
    let refused = store.put(PackKind::Kept, &[long]);
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })));
}

#[test]
fn full_packs_are_sealed_and_their_blocks_found_by_index() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &SMALL);
    let blocks: Vec<_> = (0..200).map(|i| block(i, 3_000)).collect();
    store.put(PackKind::Kept, &blocks).unwrap();
    store.commit().unwrap();
    assert_holds(&store, &blocks);
    assert!(pack_path(dir.path(), "kept-00000001.idx").exists());
    let stats = store.stats().unwrap();
    assert_eq!(stats.kept_blocks, 200);
    assert_eq!(stats.kept_bytes, 200 * 3_004);
    assert!(stats.packs > 5);
    drop(store);

    let (store, recovery) = open(dir.path(), &SMALL);
    assert_eq!(recovery.rebuilt_indexes, 0);
    assert_holds(&store, &blocks);
    assert_eq!(store.put(PackKind::Kept, &blocks).unwrap(), 0);
}

#[test]
fn every_cut_of_an_unfinished_commit_leaves_the_acknowledged_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let acknowledged: Vec<_> = (0..5).map(|i| block(i, 2_000)).collect();
    store.put(PackKind::Kept, &acknowledged).unwrap();
    store.commit().unwrap();
    let path = pack_path(dir.path(), "kept-00000001.car");
    let durable = std::fs::metadata(&path).unwrap().len();
    let torn: Vec<_> = (10..15).map(|i| block(i, 3_000)).collect();
    store.put(PackKind::Kept, &torn).unwrap();
    store.commit().unwrap();
    let whole = std::fs::read(&path).unwrap();
    drop(store);

    let ends: Vec<_> = torn
        .iter()
        .map(|block| {
            let mut windows = whole.windows(block.data().len());
            let at = windows.position(|window| window == block.data());
            at.unwrap() + block.data().len()
        })
        .collect();
    let durable = usize::try_from(durable).unwrap();
    for cut in (durable..whole.len()).step_by(512) {
        // A crash leaves the file short, or long with zeros where nothing was written.
        let mut zeros = whole[..cut].to_vec();
        zeros.resize(whole.len(), 0);
        let kept = ends.iter().filter(|end| **end <= cut).count();
        let end = ends[..kept].last().copied().unwrap_or(durable);
        for bytes in [&whole[..cut], &zeros] {
            std::fs::write(&path, bytes).unwrap();
            let (store, recovery) = open(dir.path(), &LARGE);
            assert_holds(&store, &acknowledged);
            assert_holds(&store, &torn[..kept]);
            assert_eq!(recovery.unlisted_blocks, kept);
            assert_eq!(recovery.truncated_bytes, (bytes.len() - end) as u64);
            assert!(torn[kept..].iter().all(|b| !store.has(b.cid()).unwrap()));
            // The store goes on from there.
            store.put(PackKind::Kept, &torn).unwrap();
            store.commit().unwrap();
            drop(store);
            let (store, _) = open(dir.path(), &LARGE);
            assert_holds(&store, &acknowledged);
            assert_holds(&store, &torn);
            drop(store);
            std::fs::remove_dir_all(dir.path().join("packs")).unwrap();
            std::fs::create_dir(dir.path().join("packs")).unwrap();
        }
    }
}

/// What a crash leaves: the packs as they are while the store is open.
fn crashed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("packs")).unwrap();
    for entry in std::fs::read_dir(dir.join("packs")).unwrap() {
        let entry = entry.unwrap();
        let to = copy.path().join("packs").join(entry.file_name());
        std::fs::copy(entry.path(), to).unwrap();
    }
    copy
}

#[test]
fn a_flipped_byte_is_found_on_get() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let blocks = [block(1, 10_000), block(2, 10_000)];
    store.put(PackKind::Kept, &blocks).unwrap();
    store.commit().unwrap();
    let path = pack_path(dir.path(), "kept-00000001.car");
    flip(&path, 4_096 + 5_000);
    let Err(StoreError::Corrupt { cid, pack, offset }) = store.get(blocks[0].cid()) else {
        panic!("not noticed");
    };
    assert_eq!((&cid, pack), (blocks[0].cid(), path));
    assert_eq!(offset, 4_096 + 2 + 36);
    assert_holds(&store, &blocks[1..]);
}

#[test]
fn damaged_footers_and_indexes_are_rebuilt_from_the_blocks() {
    let blocks: Vec<_> = (0..60).map(|i| block(i, 3_000)).collect();
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &SMALL);
    for batch in blocks.chunks(4) {
        store.put(PackKind::Kept, batch).unwrap();
        store.commit().unwrap();
    }
    drop(store);
    let pack = pack_path(dir.path(), "kept-00000001.car");
    let index = pack_path(dir.path(), "kept-00000001.idx");
    let whole = std::fs::read(&pack).unwrap();
    let pages = whole.len() / 4096;

    // One damaged page at a time that is the end of a footer: the first page, all commits.
    for page in 0..pages {
        let last = (page + 1) * 4096;
        if !whole[..last].ends_with(b"dukaend\n") {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[last - 20] ^= 1;
        std::fs::write(&pack, &bytes).unwrap();
        std::fs::remove_file(&index).unwrap();
        let (store, _) = open(dir.path(), &SMALL);
        let lost = blocks
            .iter()
            .filter(|block| store.get(block.cid()).unwrap().is_none())
            .count();
        assert_eq!(lost, 0, "page {page}");
        drop(store);
        std::fs::write(&pack, &whole).unwrap();
        std::fs::remove_file(&index).unwrap();
        drop(open(dir.path(), &SMALL));
    }

    flip(&index, 200);
    let (store, recovery) = open(dir.path(), &SMALL);
    assert_eq!(recovery.rebuilt_indexes, 1);
    assert_holds(&store, &blocks);
}

#[test]
fn a_damaged_page_is_named_and_rebuilt_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &SMALL);
    let blocks: Vec<_> = (0..30).map(|i| block(i, 3_000)).collect();
    store.put(PackKind::Kept, &blocks).unwrap();
    store.commit().unwrap();
    let index = pack_path(dir.path(), "kept-00000001.idx");
    let len = std::fs::metadata(&index).unwrap().len();
    flip(&index, len - 10);
    let damaged = |block: &&Block| {
        let got = store.get(block.cid());
        matches!(got, Err(StoreError::CorruptIndex { path }) if path == index)
    };
    // A page has more entries than this pack; the others' are whole.
    let damaged = blocks.iter().filter(damaged).count();
    assert!((1..blocks.len()).contains(&damaged), "{damaged}");
    assert_eq!(store.rebuild_indexes(Indexes::Damaged, &|_| {}).unwrap(), 1);
    assert_holds(&store, &blocks);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    store.put(PackKind::Kept, &[block(1, 10)]).unwrap();
    store.commit().unwrap();
    drop(store);
    let path = pack_path(dir.path(), "kept-00000001.car");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[18 + 2 + 36 + 8] = 9;
    let crc = crc32fast::hash(&bytes[18 + 2 + 36..4096 - 20]);
    bytes[4096 - 20..4096 - 16].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let Err(StoreError::TooNew { found, known, .. }) = Store::open(dir.path(), LARGE) else {
        panic!("opened");
    };
    assert_eq!((found, known), (9, 2));
}

#[test]
fn a_copied_footer_inside_a_block_is_no_footer() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let real = block(1, 100);
    store
        .put(PackKind::Kept, std::slice::from_ref(&real))
        .unwrap();
    store.commit().unwrap();
    let path = pack_path(dir.path(), "kept-00000001.car");
    // The pack's own bytes as content, at the same alignment as in the file.
    let mut bytes = vec![0; 4096 - 38];
    bytes.extend(std::fs::read(&path).unwrap());
    let copy = Block::of(RAW, Bytes::from(bytes));
    let copy_end = std::fs::metadata(&path).unwrap().len() + 38 + copy.data().len() as u64;
    store
        .put(PackKind::Kept, std::slice::from_ref(&copy))
        .unwrap();
    store.commit().unwrap();
    let dir = crashed(dir.path());
    drop(store);
    let path = pack_path(dir.path(), "kept-00000001.car");
    let end = std::fs::metadata(&path).unwrap().len();
    flip(&path, end - 1);
    let (store, recovery) = open(dir.path(), &LARGE);
    assert_eq!(recovery.truncated_bytes, end - copy_end);
    assert_eq!(recovery.unlisted_blocks, 1, "not those inside of it");
    assert_holds(&store, &[real, copy]);
}

#[test]
fn concurrent_commits_are_all_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &LARGE);
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let store = store.clone();
            std::thread::spawn(move || {
                for i in 0..20 {
                    store
                        .put(PackKind::Kept, &[block(thread * 100 + i, 500)])
                        .unwrap();
                    store.commit().unwrap();
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let dir = crashed(dir.path());
    drop(store);
    let (store, _) = open(dir.path(), &LARGE);
    for thread in 0..8 {
        let blocks: Vec<_> = (0..20).map(|i| block(thread * 100 + i, 500)).collect();
        assert_holds(&store, &blocks);
    }
}

#[test]
fn a_full_disk_refuses_keeps_serving_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (store, _) = Store::open_on(disk.clone(), dir.path(), LARGE).unwrap();
    let before = [block(1, 5_000)];
    store.put(PackKind::Kept, &before).unwrap();
    store.commit().unwrap();

    disk.no_space.store(true, Ordering::Relaxed);
    let after: Vec<_> = (2..60).map(|i| block(i, 1 << 20)).collect();
    let mut refused = false;
    for block in &after {
        refused |= store
            .put(PackKind::Kept, std::slice::from_ref(block))
            .is_err();
    }
    let failed = store.commit().unwrap_err();
    assert!(matches!(failed, StoreError::Full { .. }), "{failed}");
    assert!(refused);
    assert_holds(&store, &before);

    disk.no_space.store(false, Ordering::Relaxed);
    store.put(PackKind::Kept, &after).unwrap();
    store.commit().unwrap();
    assert_holds(&store, &after);
    drop(store);
    let (store, _) = open(dir.path(), &LARGE);
    assert_holds(&store, &before);
    assert_holds(&store, &after);
}

#[test]
fn blocks_before_the_one_that_found_no_room_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (store, _) = Store::open_on(disk.clone(), dir.path(), LARGE).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = told.clone();
    store.on_put(move |blocks| {
        let cids = blocks.iter().map(|block| *block.cid());
        listener.lock().extend(cids);
    });
    disk.no_space.store(true, Ordering::Relaxed);
    let batch: Vec<_> = (2..60).map(|i| block(i, 1 << 20)).collect();
    let failed = store.put(PackKind::Kept, &batch).unwrap_err();
    assert!(matches!(failed, StoreError::Full { .. }), "{failed}");
    let stored: Vec<_> = batch
        .iter()
        .map(|block| *block.cid())
        .filter(|cid| store.has(cid).unwrap())
        .collect();
    assert!(!stored.is_empty() && stored.len() < batch.len());
    assert_eq!(*told.lock(), stored);
}

#[test]
fn a_store_that_closes_on_a_full_disk_gives_back_what_was_never_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (store, _) = Store::open_on(disk.clone(), dir.path(), LARGE).unwrap();
    let before: Vec<_> = (0..5).map(|i| block(i, 5_000)).collect();
    store.put(PackKind::Kept, &before).unwrap();
    store.commit().unwrap();
    let path = pack_path(dir.path(), "kept-00000001.car");
    let acknowledged = std::fs::metadata(&path).unwrap().len();

    disk.no_space.store(true, Ordering::Relaxed);
    let after: Vec<_> = (10..40).map(|i| block(i, 5_000)).collect();
    store.put(PackKind::Kept, &after).unwrap();
    let failed = store.commit().unwrap_err();
    assert!(matches!(failed, StoreError::Full { .. }), "{failed}");
    assert!(std::fs::metadata(&path).unwrap().len() > acknowledged);
    drop(store);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), acknowledged);

    let (store, recovery) = open(dir.path(), &LARGE);
    assert_eq!((recovery.truncated_bytes, recovery.unlisted_blocks), (0, 0));
    assert_holds(&store, &before);
    store.put(PackKind::Kept, &after).unwrap();
    store.commit().unwrap();
    assert_holds(&store, &after);
}

#[test]
fn the_reserve_is_left_free() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    disk.free.store(999, Ordering::Relaxed);
    let options = StoreOptions {
        reserve: 1_000,
        ..LARGE
    };
    let (store, _) = Store::open_on(disk.clone(), dir.path(), options).unwrap();
    let refused = store.put(PackKind::Kept, &[block(1, 10)]);
    assert!(matches!(refused, Err(StoreError::Full { .. })));
    disk.free.store(1_000, Ordering::Relaxed);
    store.put(PackKind::Kept, &[block(1, 10)]).unwrap();
}

#[test]
fn after_a_failed_sync_nothing_is_written_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (store, _) = Store::open_on(disk.clone(), dir.path(), LARGE).unwrap();
    let blocks = [block(1, 5_000)];
    store.put(PackKind::Kept, &blocks).unwrap();
    disk.sync_fails.store(true, Ordering::Relaxed);
    assert!(matches!(
        store.commit(),
        Err(StoreError::Io {
            action: "syncing",
            ..
        })
    ));
    disk.sync_fails.store(false, Ordering::Relaxed);
    assert!(matches!(store.commit(), Err(StoreError::Io { .. })));
    let refused = store.put(PackKind::Kept, &[block(2, 10)]);
    assert!(matches!(refused, Err(StoreError::Io { .. })));
    assert_holds(&store, &blocks);
}

#[test]
fn a_file_system_without_direct_io_is_written_through_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    disk.refuse_once.store(true, Ordering::Relaxed);
    let (store, _) = Store::open_on(disk, dir.path(), LARGE).unwrap();
    let blocks = [block(1, 5_000)];
    store.put(PackKind::Kept, &blocks).unwrap();
    store.commit().unwrap();
    drop(store);
    assert_holds(&open(dir.path(), &LARGE).0, &blocks);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever happens in which order, what was committed is there with the right bytes.
    #[test]
    fn committed_blocks_survive_any_sequence(
        steps in proptest::collection::vec((0u8..10, 0u32..60, 0usize..9_000), 1..80),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path(), &SMALL).0;
        let mut uncommitted: HashMap<Cid, Block> = HashMap::new();
        let mut committed: HashMap<Cid, Block> = HashMap::new();
        for (step, seed, len) in steps {
            match step {
                0 => {
                    drop(store);
                    store = open(dir.path(), &SMALL).0;
                    uncommitted.clear();
                }
                1 | 2 => {
                    store.commit().unwrap();
                    committed.extend(uncommitted.drain());
                }
                _ => {
                    let kind = if step < 7 { PackKind::Kept } else { PackKind::Cache };
                    let block = block(seed, len);
                    store.put(kind, std::slice::from_ref(&block)).unwrap();
                    uncommitted.insert(*block.cid(), block);
                }
            }
            for (cid, block) in committed.iter().chain(&uncommitted) {
                let got = store.get(cid).unwrap();
                prop_assert_eq!(got.as_ref(), Some(block));
            }
        }
    }
}

/// The file system, with faults on request.
#[derive(Debug)]
struct FaultyDisk {
    no_space: AtomicBool,
    sync_fails: AtomicBool,
    refuse_once: AtomicBool,
    refuse_copy_once: AtomicBool,
    no_room_for_copies: AtomicBool,
    free: AtomicU64,
}

impl Default for FaultyDisk {
    fn default() -> Self {
        Self {
            no_space: AtomicBool::new(false),
            sync_fails: AtomicBool::new(false),
            refuse_once: AtomicBool::new(false),
            refuse_copy_once: AtomicBool::new(false),
            no_room_for_copies: AtomicBool::new(false),
            free: AtomicU64::new(u64::MAX),
        }
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, options: &OpenOptions) -> io::Result<File> {
        FileSystem.open(path, options)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        FileSystem.set_len(file, len)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        FileSystem.sync_dir(dir)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        FileSystem.make_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        FileSystem.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        FileSystem.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        FileSystem.remove(path)
    }

    /// The file itself, which tests do not change.
    fn snapshot(&self, source: &File, _: &Path) -> io::Result<File> {
        source.try_clone()
    }

    fn copy_range(&self, range: FileRange<'_>, to: &File, offset: u64) -> io::Result<()> {
        if self.refuse_copy_once.swap(false, Ordering::Relaxed) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.no_room_for_copies.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        FileSystem.copy_range(range, to, offset)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.refuse_once.swap(false, Ordering::Relaxed) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.no_space.load(Ordering::Relaxed) {
            // Part of it may reach the disk all the same.
            FileSystem.write_at(file, &bytes[..bytes.len() / 8192 * 4096], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        FileSystem.write_at(file, bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.sync_fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("injected"));
        }
        FileSystem.sync(file)
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::Relaxed))
    }
}
