//! Blocks that stay in the file they were added from: never a wrong byte, whatever happens to the file.

use std::time::SystemTime;

use super::*;
use crate::dag::car;

const CHUNK: usize = 100_000;

/// A file of three blocks.
struct Added {
    dir: tempfile::TempDir,
    path: PathBuf,
    blocks: Vec<Block>,
}

impl Added {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film");
        let blocks: Vec<_> = (0..3).map(|seed| block(seed, CHUNK - 4)).collect();
        std::fs::write(&path, Self::content(&blocks)).unwrap();
        Self { dir, path, blocks }
    }

    fn content(blocks: &[Block]) -> Vec<u8> {
        blocks.iter().flat_map(|b| b.data().to_vec()).collect()
    }

    fn open(&self) -> Store {
        self.open_with(&LARGE).0
    }

    fn open_with(&self, options: &StoreOptions) -> (Store, Recovery) {
        open(&self.dir.path().join("store"), options)
    }

    fn open_again(&self, store: Store) -> Store {
        drop(store);
        self.open()
    }

    fn pack(&self, name: &str) -> PathBuf {
        pack_path(&self.dir.path().join("store"), name)
    }

    /// Adds `blocks` as what the file holds now.
    fn put(&self, store: &Store, blocks: &[Block]) -> u64 {
        let stat = std::fs::metadata(&self.path).unwrap();
        let file = Arc::new(SourceFile::new(&self.path, &stat).unwrap());
        let at = |number: usize| Origin {
            file: Arc::clone(&file),
            offset: (number * CHUNK) as u64,
        };
        let numbered = blocks.iter().cloned().enumerate();
        let all: Vec<_> = numbered.map(|(n, b)| (b, Keep::InPlace(at(n)))).collect();
        let new = store.put_from(PackKind::Kept, &all).unwrap();
        store.commit().unwrap();
        new
    }

    fn overwrite(&self, at: u64, byte: u8) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all_at(&[byte], at).unwrap();
        // As after any later write, whatever the clock of the file system is.
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }

    #[track_caller]
    fn assert_changed(&self, store: &Store, block: &Block) {
        let got = store.get(block.cid());
        let Err(StoreError::Changed { path, cid, .. }) = &got else {
            panic!("{got:?}");
        };
        assert_eq!((path, cid), (&self.path, block.cid()));
        let said = got.unwrap_err().to_string();
        let path = self.path.display();
        assert_eq!(
            said,
            format!("{path} changed since it was added in place: add it again")
        );
        assert!(!store.has(block.cid()).unwrap());
        assert!(!store.holds(PackKind::Kept, block.cid()).unwrap());
        assert_eq!(store.get_whole(block.cid()).unwrap(), None);
    }
}

fn check(store: &Store, depth: Depth) -> Vec<CheckedPack> {
    let mut pace = full_speed();
    let mut cursor = CheckCursor::default();
    std::iter::from_fn(|| {
        store
            .check_next(&mut cursor, depth, &mut pace, &|_| {})
            .unwrap()
    })
    .collect()
}

#[test]
fn the_bytes_are_not_copied_and_are_there_after_reopen() {
    let added = Added::new();
    let store = added.open();
    assert_eq!(added.put(&store, &added.blocks), 3 * CHUNK as u64);
    assert_holds(&store, &added.blocks);
    let stats = store.stats().unwrap();
    assert!(stats.disk_bytes < 20_000, "{stats:?}");
    assert!(stats.kept_bytes < 2_000, "{stats:?}");
    drop(store);

    let (store, recovery) = added.open_with(&LARGE);
    assert_eq!(recovery.damaged_blocks + recovery.rebuilt_indexes, 0);
    assert_holds(&store, &added.blocks);
    store.seal().unwrap();
    assert_holds(&store, &added.blocks);
    drop(store);
    let store = added.open();
    assert_holds(&store, &added.blocks);
    assert_eq!(added.put(&store, &added.blocks), 0);
}

#[test]
fn a_pack_is_a_car_and_its_blocks_are_found_without_footers() {
    let added = Added::new();
    let store = added.open();
    added.put(&store, &added.blocks);
    let plain = block(9, 5_000);
    store
        .put(PackKind::Kept, std::slice::from_ref(&plain))
        .unwrap();
    store.commit().unwrap();
    store.seal().unwrap();
    drop(store);

    let pack = added.pack("kept-00000001.car");
    let other = tempfile::tempdir().unwrap();
    let (imported, _) = open(other.path(), &LARGE);
    car::import(&imported, PackKind::Kept, &mut File::open(&pack).unwrap()).unwrap();
    // What is no record of that pack is a block like any other.
    assert_holds(&imported, std::slice::from_ref(&plain));
    assert!(!imported.has(added.blocks[0].cid()).unwrap());

    let index = pack.with_extension("idx");
    let len = std::fs::metadata(&pack).unwrap().len();
    // The first footer, and the last.
    for at in [60, len - 10] {
        if index.exists() {
            std::fs::remove_file(&index).unwrap();
        }
        flip(&pack, at);
        let store = added.open();
        assert_holds(&store, &added.blocks);
        assert_holds(&store, std::slice::from_ref(&plain));
    }
}

#[test]
fn a_block_that_only_looks_like_a_record_is_a_block() {
    let added = Added::new();
    let store = added.open();
    added.put(&store, &added.blocks[..1]);
    let path = added.pack("kept-00000001.car");
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|w| w == b"dukafile").unwrap();
    let cid = *added.blocks[0].cid();
    let located = store.locate(&cid).unwrap().unwrap();
    assert_eq!(located.place.offset, at as u64);
    let mut forged = bytes[at..at + located.place.stored() as usize].to_vec();
    // All but the salt is right.
    forged[8] ^= 1;
    forged[24..32].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    let forged = Block::of(RAW, Bytes::from(forged));
    store
        .put(PackKind::Kept, std::slice::from_ref(&forged))
        .unwrap();
    store.commit().unwrap();
    // Before the store is closed, which adds a footer.
    let mut bytes = std::fs::read(&path).unwrap();
    drop(store);
    *bytes.iter_mut().rev().nth(9).unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_file(&added.path).unwrap();
    let store = added.open();
    assert_eq!(store.get(forged.cid()).unwrap(), Some(forged));
    assert!(matches!(store.get(&cid), Err(StoreError::Changed { .. })));
}

#[test]
fn a_file_that_changed_is_named_and_gives_no_wrong_byte() {
    let added = Added::new();
    let store = added.open();
    added.put(&store, &added.blocks);
    let original = std::fs::read(&added.path).unwrap();
    added.overwrite(CHUNK as u64 + 5, !original[CHUNK + 5]);
    assert_holds(&store, &added.blocks[..1]);
    added.assert_changed(&store, &added.blocks[1]);
    assert_holds(&store, &added.blocks[2..]);

    std::fs::write(&added.path, &original[..2 * CHUNK + 7]).unwrap();
    assert_eq!(
        store.get(added.blocks[1].cid()).unwrap().as_ref(),
        Some(&added.blocks[1])
    );
    assert_holds(&store, &added.blocks[..2]);
    added.assert_changed(&store, &added.blocks[2]);

    let aside = added.path.with_extension("aside");
    std::fs::write(&added.path, &original).unwrap();
    std::fs::rename(&added.path, &aside).unwrap();
    added.assert_changed(&store, &added.blocks[0]);
    std::fs::create_dir(&added.path).unwrap();
    added.assert_changed(&store, &added.blocks[0]);
    std::fs::remove_dir(&added.path).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &added.path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    added.assert_changed(&store, &added.blocks[0]);
    // Who is back is whole again: nothing was noted for good.
    std::fs::rename(&aside, &added.path).unwrap();
    for block in &added.blocks {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
    }
    assert_holds(&store, &added.blocks);
    assert!(!added.pack("kept-00000001.bad").exists());
}

#[test]
fn a_changed_file_that_is_added_again_is_there_again() {
    let added = Added::new();
    let store = added.open();
    added.put(&store, &added.blocks);
    let mut changed = added.blocks.clone();
    changed[1] = block(7, CHUNK - 4);
    std::fs::write(&added.path, Added::content(&changed)).unwrap();
    let file = File::open(&added.path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();

    assert_eq!(added.put(&store, &changed), 3 * CHUNK as u64);
    assert_eq!(added.put(&store, &changed), 0);
    assert_holds(&store, &changed);
    added.assert_changed(&store, &added.blocks[1]);
    let store = added.open_again(store);
    assert_holds(&store, &changed);
}

#[test]
fn bytes_that_are_put_do_not_depend_on_the_file_any_more() {
    let added = Added::new();
    let store = added.open();
    added.put(&store, &added.blocks);
    assert_eq!(
        store.put(PackKind::Kept, &added.blocks).unwrap(),
        3 * CHUNK as u64
    );
    // Not in place again, now that they are here.
    assert_eq!(added.put(&store, &added.blocks), 0);
    std::fs::remove_file(&added.path).unwrap();
    assert_holds(&store, &added.blocks);
    let store = added.open_again(store);
    assert_holds(&store, &added.blocks);
}

#[test]
fn a_path_that_is_too_long_for_a_record_is_copied() {
    let added = Added::new();
    let store = added.open();
    let stat = std::fs::metadata(&added.path).unwrap();
    let long = Path::new("/").join("x".repeat(9_000));
    let origin = Origin {
        file: Arc::new(SourceFile::new(&long, &stat).unwrap()),
        offset: 0,
    };
    let one = added.blocks[0].clone();
    store
        .put_from(PackKind::Kept, &[(one.clone(), Keep::InPlace(origin))])
        .unwrap();
    std::fs::remove_file(&added.path).unwrap();
    assert_holds(&store, &[one]);
}

#[test]
fn collection_moves_what_is_live_without_the_file_and_takes_the_rest() {
    let added = Added::new();
    let store = added.open();
    let dead: Vec<_> = (20..24).map(|seed| block(seed, 10_000)).collect();
    added.put(&store, &added.blocks);
    store.put(PackKind::Kept, &dead).unwrap();
    store.commit().unwrap();
    let aside = added.path.with_extension("aside");
    std::fs::rename(&added.path, &aside).unwrap();
    added.assert_changed(&store, &added.blocks[0]);

    let collected = seal_and_collect(&store, &added.blocks[..2]);
    assert_eq!(collected.rewritten_packs, 1, "{collected:?}");
    assert!(collected.freed_bytes > 35_000, "{collected:?}");
    std::fs::rename(&aside, &added.path).unwrap();
    let store = added.open_again(store);
    assert_holds(&store, &added.blocks[..2]);
    assert_eq!(store.get(added.blocks[2].cid()).unwrap(), None);
    assert_eq!(seal_and_collect(&store, &[]).removed_packs, 1);
    assert!(!store.has(added.blocks[0].cid()).unwrap());
}

#[test]
fn a_check_names_the_file_that_changed_and_no_other() {
    for sealed in [false, true] {
        for depth in [Depth::Quick, Depth::Deep] {
            let added = Added::new();
            let store = added.open();
            added.put(&store, &added.blocks);
            if sealed {
                store.seal().unwrap();
            }
            let finds = |store: &Store| {
                let mut packs = check(store, depth);
                let pack = packs.pop().unwrap();
                assert!(packs.is_empty() && !pack.bad_framing, "{pack:?}");
                (pack.damaged, pack.changed)
            };
            assert_eq!(finds(&store), Default::default());
            let first = std::fs::read(&added.path).unwrap()[5];
            // Written, and as it was.
            added.overwrite(5, first);
            assert_eq!(finds(&store), Default::default());
            added.overwrite(5, !first);
            let (damaged, changed) = finds(&store);
            assert_eq!(damaged, [*added.blocks[0].cid()]);
            assert_eq!(
                changed,
                std::collections::BTreeSet::from([added.path.clone()])
            );
            assert!(!store.has(added.blocks[0].cid()).unwrap());
            assert!(store.has(added.blocks[1].cid()).unwrap());
        }
    }
}

#[test]
fn a_flipped_bit_in_a_record_is_found() {
    let added = Added::new();
    let store = added.open();
    added.put(&store, &added.blocks);
    store.seal().unwrap();
    let path = added.pack("kept-00000001.car");
    let bytes = std::fs::read(&path).unwrap();
    let record = bytes.windows(8).position(|w| w == b"dukafile").unwrap();
    for at in [0, 20, 40, 90, 120] {
        let at = (record + at) as u64;
        flip(&path, at);
        let damaged = check(&store, Depth::Deep).pop().unwrap().damaged;
        assert_eq!(damaged, [*added.blocks[0].cid()]);
        let got = store.get(added.blocks[0].cid());
        assert!(matches!(got, Err(StoreError::Corrupt { .. })), "{got:?}");
        flip(&path, at);
    }
}

#[test]
fn a_block_is_not_held_once_its_file_is_gone() {
    let added = Added::new();
    let store = added.open();
    added.put(&store, &added.blocks);
    let cid = added.blocks[0].cid();
    assert!(store.holds(PackKind::Kept, cid).unwrap());
    std::fs::remove_file(&added.path).unwrap();
    assert!(!store.holds(PackKind::Kept, cid).unwrap());
}
