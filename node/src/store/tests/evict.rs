//! Limits: what is kept stays, the cache goes first, and of it what was not read.

use super::*;

const KIB: u64 = 1 << 10;

fn limited(max_size: u64, cache_size: u64) -> StoreOptions {
    StoreOptions {
        max_size,
        cache_size,
        ..SMALL
    }
}

/// Blocks of 8 KiB.
fn blocks(seeds: std::ops::Range<u32>) -> Vec<Block> {
    seeds.map(|seed| block(seed, 8 << 10)).collect()
}

fn put(store: &Store, kind: PackKind, blocks: &[Block]) -> Result<(), StoreError> {
    for block in blocks {
        store.put(kind, std::slice::from_ref(block))?;
        store.commit()?;
    }
    Ok(())
}

fn on_disk(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir.join("packs")).unwrap();
    let packs = entries.map(|entry| entry.unwrap());
    let packs = packs.filter(|entry| entry.path().extension().is_some_and(|found| found == "car"));
    packs.map(|entry| entry.metadata().unwrap().len()).sum()
}

fn held(store: &Store, blocks: &[Block]) -> usize {
    let is_held = |block: &&Block| store.get(block.cid()).unwrap().is_some();
    blocks.iter().filter(is_held).count()
}

#[test]
fn a_put_beyond_the_limit_is_refused_and_says_what_takes_the_room() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &limited(300 * KIB, 0));
    let all = blocks(0..60);
    let error = put(&store, PackKind::Kept, &all).unwrap_err();
    assert!(matches!(error, StoreError::Quota { .. }), "{error}");
    assert!(store.is_tight().unwrap(), "whoever makes room is told");
    let said = error.to_string();
    for part in [
        "store.max_size",
        "300.0 KiB",
        "KiB are kept",
        "0 B are cache",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let stored = held(&store, &all);
    assert!((20..36).contains(&stored), "{stored}");
    assert_holds(&store, &all[..stored]);
    assert!(on_disk(dir.path()) <= 300 * KIB);
    // The limit holds over a restart.
    drop(store);
    let (store, _) = open(dir.path(), &limited(300 * KIB, 0));
    put(&store, PackKind::Kept, &all[stored..]).unwrap_err();
    assert!(on_disk(dir.path()) <= 300 * KIB);
}

#[test]
fn the_cache_gives_way_to_what_is_kept_and_never_the_other_way() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &limited(300 * KIB, 0));
    let (kept, cached) = (blocks(0..20), blocks(100..160));
    put(&store, PackKind::Cache, &cached).unwrap();
    assert!(on_disk(dir.path()) <= 300 * KIB);
    put(&store, PackKind::Kept, &kept).unwrap();
    put(&store, PackKind::Cache, &cached).unwrap();
    assert_holds(&store, &kept);
    assert!(on_disk(dir.path()) <= 300 * KIB);
    put(&store, PackKind::Kept, &blocks(200..260)).unwrap_err();
    assert_eq!(held(&store, &cached), 0, "the cache went before a refusal");
    put(&store, PackKind::Cache, &cached[..6]).unwrap_err();
    assert_holds(&store, &kept);
}

#[test]
fn the_reserve_of_the_disk_takes_the_cache_first() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let options = StoreOptions {
        reserve: 1_000,
        ..SMALL
    };
    let (store, _) =
        Store::open_on(Arc::clone(&disk) as Arc<dyn Disk>, dir.path(), options).unwrap();
    let (kept, cached) = (blocks(0..3), blocks(10..40));
    put(&store, PackKind::Kept, &kept).unwrap();
    put(&store, PackKind::Cache, &cached).unwrap();
    disk.free.store(999, Ordering::Relaxed);
    let error = put(&store, PackKind::Kept, &blocks(50..51)).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(held(&store, &cached), 0);
    assert_holds(&store, &kept);
}

#[test]
fn what_was_read_stays_in_the_cache_longer_than_what_was_not() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &limited(0, 256 * KIB));
    let first = blocks(0..12);
    put(&store, PackKind::Cache, &first).unwrap();
    assert_eq!(store.evict().unwrap(), 0, "it is not full");
    let hot = &first[3..6];
    for round in 1..6u32 {
        assert_holds(&store, hot);
        put(
            &store,
            PackKind::Cache,
            &blocks(round * 100..round * 100 + 12),
        )
        .unwrap();
        assert!(store.evict().unwrap() > 0);
        let cache = store.stats().unwrap().cache_disk_bytes;
        assert!(cache <= 256 * KIB, "{cache}");
    }
    assert_holds(&store, hot);
    assert_eq!(held(&store, &first), hot.len());
    // Nobody reads them any more.
    for round in 6..12u32 {
        put(
            &store,
            PackKind::Cache,
            &blocks(round * 100..round * 100 + 12),
        )
        .unwrap();
        store.evict().unwrap();
    }
    assert_eq!(held(&store, hot), 0);
}

#[test]
fn reads_go_on_while_the_cache_is_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &limited(0, 128 * KIB));
    let kept = blocks(1_000..1_010);
    put(&store, PackKind::Kept, &kept).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_holds(&store, &kept);
                    for block in blocks(0..400).iter().step_by(13) {
                        let got = store.get(block.cid()).unwrap();
                        assert!(got.is_none_or(|got| got == *block));
                    }
                }
            });
        }
        for batch in blocks(0..400).chunks(8) {
            put(&store, PackKind::Cache, batch).unwrap();
            // What has just come is there.
            assert_holds(&store, &batch[7..]);
            store.evict().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_last_whole_copy_of_a_kept_block_is_not_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &limited(0, 64 * KIB));
    let all = blocks(0..1);
    put(&store, PackKind::Cache, &all).unwrap();
    put(&store, PackKind::Kept, &all).unwrap();
    flip(&pack_path(dir.path(), "kept-00000001.car"), 4_096 + 2_000);
    assert_holds(&store, &all);
    put(&store, PackKind::Cache, &blocks(10..40)).unwrap();
    store.evict().unwrap();
    assert!(!pack_path(dir.path(), "cache-00000001.car").exists());
    assert!(store.holds(PackKind::Kept, all[0].cid()).unwrap());
    assert_holds(&store, &all);
}

#[test]
fn the_watermark_is_told_before_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &limited(1_000 * KIB, 0));
    let pressed = || futures::FutureExt::now_or_never(store.wait_for_pressure()).is_some();
    put(&store, PackKind::Kept, &blocks(0..60)).unwrap();
    assert!(!pressed() && !store.is_tight().unwrap());
    put(&store, PackKind::Kept, &blocks(100..115)).unwrap();
    assert!(pressed() && store.is_tight().unwrap());
}
