//! What opening and looking up read.

use super::*;

/// Many packs with some blocks each, and one pack with many.
const SHAPES: [u64; 2] = [16 << 10, 512 << 20];

fn filled(dir: &Path, pack_size: u64, count: u32) -> (Store, Vec<Block>) {
    let options = StoreOptions { pack_size, ..LARGE };
    let (store, _) = open(dir, &options);
    let blocks: Vec<_> = (0..count).map(|i| block(i, 100)).collect();
    store.put(PackKind::Kept, &blocks).unwrap();
    store.seal().unwrap();
    store.commit().unwrap();
    (store, blocks)
}

/// Bytes that this thread asks files for meanwhile.
fn read_by(work: impl FnOnce()) -> u64 {
    let counters = || std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let read = |text: &str| {
        let field = text.lines().find_map(|line| line.strip_prefix("rchar: "));
        field.unwrap().parse::<u64>().unwrap()
    };
    let before = counters();
    work();
    read(&counters()) - read(&before) - before.len() as u64
}

#[test]
fn a_look_up_reads_one_page_and_a_miss_nothing() {
    for pack_size in SHAPES {
        let dir = tempfile::tempdir().unwrap();
        let (store, blocks) = filled(dir.path(), pack_size, 3_000);
        let mut all = 0;
        for block in &blocks {
            let read = read_by(|| assert!(store.has(block.cid()).unwrap()));
            assert!((1..=3 * 4096).contains(&read), "{read}");
            all += read;
        }
        assert!(all <= 3_000 * 4096 * 11 / 10, "{all}");

        let absent = (10_000..11_000).map(|i| block(i, 100));
        let reading =
            absent.filter(|block| read_by(|| assert!(!store.has(block.cid()).unwrap())) > 0);
        let reading = reading.count();
        assert!(reading <= 10, "{reading} of 1,000");
    }
}

#[test]
fn a_pack_with_a_good_index_is_not_read_at_open() {
    for pack_size in SHAPES {
        let dir = tempfile::tempdir().unwrap();
        let (store, blocks) = filled(dir.path(), pack_size, 500);
        drop(store);
        for entry in std::fs::read_dir(dir.path().join("packs")).unwrap() {
            let path = entry.unwrap().path();
            if path.with_extension("idx").exists() && path.extension().unwrap() == "car" {
                let len = std::fs::metadata(&path).unwrap().len();
                let file = File::create(&path).unwrap();
                file.set_len(len).unwrap();
            }
        }
        let (store, recovery) = open(dir.path(), &LARGE);
        assert_eq!(recovery.rebuilt_indexes, 0);
        for block in &blocks {
            assert!(store.has(block.cid()).unwrap());
            let got = store.get(block.cid());
            assert!(matches!(got, Err(StoreError::Corrupt { .. })), "{got:?}");
        }
    }
}

#[test]
fn an_index_of_another_version_is_made_anew_from_its_pack() {
    for (older, newer) in [(1, 0), (0, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let (store, blocks) = filled(dir.path(), 512 << 20, 100);
        drop(store);
        let path = dir.path().join("packs/kept-00000001.idx");
        let whole = std::fs::read(&path).unwrap();
        let mut other = whole.clone();
        other[8] = other[8] - older + newer;
        std::fs::write(&path, other).unwrap();
        let (store, recovery) = open(dir.path(), &LARGE);
        assert_eq!(recovery.rebuilt_indexes, 1);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        assert!(blocks.iter().all(|block| store.has(block.cid()).unwrap()));
    }
}
