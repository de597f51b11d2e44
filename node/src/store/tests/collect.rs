//! Garbage collection: what is live stays readable all the time, and the rest gives its room back.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::pace::Pace;

/// Eight blocks of 8 KiB fill a pack of [`SMALL`].
fn blocks(seeds: std::ops::Range<u32>) -> Vec<Block> {
    seeds.map(|seed| block(seed, 8 << 10)).collect()
}

fn put(store: &Store, blocks: &[Block]) {
    store.put(PackKind::Kept, blocks).unwrap();
    store.commit().unwrap();
}

fn assert_gone(store: &Store, blocks: &[Block]) {
    for block in blocks {
        assert!(!store.has(block.cid()).unwrap());
        assert_eq!(store.get(block.cid()).unwrap(), None);
    }
}

fn packs(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir.join("packs")).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_dead_pack_goes_and_a_live_one_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let all = blocks(0..16);
    let (store, _) = open(dir.path(), &SMALL);
    put(&store, &all);
    let disk = store.stats().unwrap().disk_bytes;
    let collected = collect(&store, &all[8..]);
    assert_eq!(collected.removed_packs, 1);
    assert_eq!(collected.rewritten_packs, 0);
    assert_eq!(
        store.stats().unwrap().disk_bytes,
        disk - collected.freed_bytes
    );
    assert_holds(&store, &all[8..]);
    assert_gone(&store, &all[..8]);
    assert_eq!(
        packs(dir.path()),
        ["kept-00000002.car", "kept-00000002.idx"]
    );
    drop(store);
    let (store, _) = open(dir.path(), &SMALL);
    assert_holds(&store, &all[8..]);
    assert_gone(&store, &all[..8]);
    // What is gone can come back.
    put(&store, &all);
    assert_holds(&store, &all);
}

#[test]
fn a_pack_that_is_more_than_a_quarter_dead_is_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let all = blocks(0..16);
    let (store, _) = open(dir.path(), &SMALL);
    put(&store, &all);
    // One in eight of the first pack is dead, three in eight of the second.
    let live: Vec<_> = all[1..8].iter().chain(&all[11..]).cloned().collect();
    let collected = collect(&store, &live);
    assert_eq!((collected.removed_packs, collected.rewritten_packs), (0, 1));
    assert!(collected.left_bytes >= 8 << 10);
    assert_holds(&store, &live);
    assert_gone(&store, &all[8..11]);
    drop(store);
    let (store, _) = open(dir.path(), &SMALL);
    assert_holds(&store, &live);
    assert_gone(&store, &all[8..11]);
}

#[test]
fn what_is_found_or_put_during_a_session_stays_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let old = blocks(0..8);
    let new = blocks(8..16);
    let (store, _) = open(dir.path(), &SMALL);
    put(&store, &old);
    let session = store.session();
    // Finds the old ones, and seals a pack of new ones.
    put(&store, &old);
    put(&store, &new);
    for _ in 0..3 {
        assert_eq!(collect(&store, &[]).removed_packs, 0);
        assert_holds(&store, &old);
        assert_holds(&store, &new);
    }
    drop(session);
    // The notes of a session go with the second collection after it.
    collect(&store, &[]);
    collect(&store, &[]);
    assert_gone(&store, &old);
    assert_gone(&store, &new);
}

#[test]
fn a_block_that_is_found_after_the_marking_stays() {
    let dir = tempfile::tempdir().unwrap();
    let all = blocks(0..8);
    let (store, _) = open(dir.path(), &SMALL);
    put(&store, &all);
    let collection = store.collect();
    let session = store.session();
    assert!(store.holds(PackKind::Kept, all[5].cid()).unwrap());
    let collected = collection.sweep(&mut full_speed()).unwrap();
    assert_eq!(collected.rewritten_packs, 1);
    assert_holds(&store, &all[5..6]);
    assert_gone(&store, &all[..5]);
    drop(session);
}

#[test]
fn a_live_block_that_is_only_cached_is_kept_from_now_on() {
    let dir = tempfile::tempdir().unwrap();
    let all = blocks(0..1);
    let (store, _) = open(dir.path(), &SMALL);
    store.put(PackKind::Cache, &all).unwrap();
    collect(&store, &all);
    assert!(store.holds(PackKind::Kept, all[0].cid()).unwrap());
}

#[test]
fn a_pack_with_a_damaged_live_block_is_not_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let all = blocks(0..8);
    let (store, _) = open(dir.path(), &SMALL);
    put(&store, &all);
    let pack = pack_path(dir.path(), "kept-00000001.car");
    flip(&pack, std::fs::metadata(&pack).unwrap().len() / 2);
    let damaged: Vec<_> = all
        .iter()
        .filter(|block| store.get(block.cid()).is_err())
        .cloned()
        .collect();
    assert_eq!(damaged.len(), 1);
    let collected = collect(&store, &damaged);
    assert_eq!((collected.removed_packs, collected.rewritten_packs), (0, 0));
    assert!(pack.exists());
    // Once there is a whole copy, the damaged one is dead.
    put(&store, &damaged);
    collect(&store, &damaged);
    assert!(!pack.exists());
    assert_holds(&store, &damaged);
}

#[test]
fn small_packs_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &SMALL);
    let all = blocks(0..5);
    for block in &all {
        put(&store, std::slice::from_ref(block));
        store.seal().unwrap();
    }
    assert_eq!(collect(&store, &all).rewritten_packs, 5);
    assert_holds(&store, &all);
    assert_eq!(store.stats().unwrap().packs, 1);
}

#[test]
fn reads_go_on_while_packs_are_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let all = blocks(0..64);
    let live: Vec<_> = all.iter().step_by(2).cloned().collect();
    let (store, _) = open(dir.path(), &SMALL);
    put(&store, &all);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_holds(&store, &live);
                }
            });
        }
        for _ in 0..3 {
            let collected = collect(&store, &live);
            assert!(!collected.stopped);
            // Dead again, so that the next collection has to copy.
            put(&store, &all);
        }
        done.store(true, Ordering::Relaxed);
    });
    drop(store);
    let (store, _) = open(dir.path(), &SMALL);
    assert_holds(&store, &live);
}

#[test]
fn a_collection_stops_when_asked_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let all = blocks(0..32);
    let live: Vec<_> = all.iter().step_by(2).cloned().collect();
    let (store, _) = open(dir.path(), &SMALL);
    put(&store, &all);
    let stop = CancellationToken::new();
    stop.cancel();
    let mut collection = store.collect();
    for block in &live {
        collection.mark(block.cid()).unwrap();
    }
    let collected = collection.sweep(&mut Pace::new(0, stop)).unwrap();
    assert!(collected.stopped);
    assert_holds(&store, &live);
}
