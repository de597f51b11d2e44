//! What fsck finds in a store whose files were harmed.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::dag::import::{ImportOptions, OnProgress, Sink, import_path};
use crate::ids::ProductId;
use crate::manifest::ManifestOptions;
use crate::manifest::change::{Change, Op};
use crate::manifest::record::{Pin, Product, Release, Text};
use crate::store::{PackKind, StoreOptions};

const OPTIONS: StoreOptions = StoreOptions {
    pack_size: 256 << 10,
    reserve: 0,
    max_size: 0,
    cache_size: 0,
};
/// A DAG of 1 MiB leaves: one root, three leaves.
const FILE_LEN: usize = (2 << 20) + 500_000;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn store(&self) -> Store {
        Store::open(self.0.path(), OPTIONS).unwrap().0
    }

    fn manifest(&self) -> Manifest {
        let options = ManifestOptions {
            journal_limit: 64 << 20,
            reserve: 0,
        };
        Manifest::open_with(&self.0.path().join("manifest"), options)
            .unwrap()
            .0
    }

    /// Imports a file and gives its root and leaves.
    fn import(&self, store: &Store) -> (Cid, Vec<Cid>) {
        let path = self.0.path().join("file");
        let bytes: Vec<u8> = (0..FILE_LEN)
            .map(|i| (i % 251 + i / 100_003).to_le_bytes()[0])
            .collect();
        std::fs::write(&path, bytes).unwrap();
        let sink = Sink::Store(store.clone(), PackKind::Kept);
        let options = ImportOptions::default();
        let progress: OnProgress = Arc::new(|_| true);
        let root = import_path(&sink, &path, &options, &progress).unwrap().root;
        store.commit().unwrap();
        let leaves = links(&store.get(&root).unwrap().unwrap()).unwrap();
        assert_eq!(leaves.len(), 3);
        (root, leaves)
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.path().join("packs")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect()
    }

    /// Flips a byte in the middle of the block's only copy.
    fn harm(&self, store: &Store, cid: &Cid) {
        let data = store.get(cid).unwrap().unwrap().into_data();
        for path in self.files("car") {
            let pack = std::fs::read(&path).unwrap();
            let mut windows = pack.windows(data.len());
            if let Some(at) = windows.position(|window| window == data) {
                return flip(&path, (at + data.len() / 2) as u64);
            }
        }
        panic!("{cid} is in no pack");
    }
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn commit(manifest: &Manifest, ops: Vec<Op>) {
    let change = Change {
        ops,
        ..Change::default()
    };
    manifest.commit_blocking(change).unwrap();
}

fn pin(manifest: &Manifest, cid: Cid, recursive: bool) {
    let pin = Pin {
        recursive,
        name: None,
        created: Timestamp::UNIX_EPOCH,
    };
    commit(manifest, vec![Op::PutPin(cid, pin)]);
}

fn release(root: Cid, file_list: Cid) -> Vec<Op> {
    let id: ProductId = "album".parse().unwrap();
    let product = Product {
        title: "Album".to_owned(),
        description: Text::Inline(String::new()),
        price: None,
        cover: None,
        created: Timestamp::UNIX_EPOCH,
        channels: std::collections::BTreeMap::new(),
        history: std::collections::BTreeMap::new(),
    };
    let release = Release {
        root,
        profile: "unixfs-v1-2025".to_owned(),
        size: 0,
        tsize: 0,
        blocks: 0,
        files: 1,
        file_list,
        record: None,
        notes: None,
        issued: Timestamp::UNIX_EPOCH,
        number: 1,
        yanked: None,
    };
    vec![
        Op::PutProduct(id.clone(), product),
        Op::PutRelease(id, "1".parse().unwrap(), release),
    ]
}

const DEEP: FsckOptions = FsckOptions {
    deep: true,
    repair: false,
    repair_index: false,
};

fn fsck(
    store: &Store,
    manifest: &Manifest,
    options: FsckOptions,
    progress: &dyn Fn(u64),
) -> Result<Report, FsckError> {
    let mut pace = Pace::new(0, CancellationToken::new());
    super::fsck(store, manifest, options, &mut pace, progress).map(|checked| checked.report)
}

/// Quick and deep agree on what is missing.
fn check(store: &Store, manifest: &Manifest) -> Report {
    let quick = fsck(store, manifest, FsckOptions::default(), &|_| {}).unwrap();
    let deep = fsck(store, manifest, DEEP, &|_| {}).unwrap();
    assert_eq!(quick.missing, deep.missing);
    assert_eq!(quick.blocks, deep.blocks);
    deep
}

/// A store with these blocks of `from` except one.
fn without(from: &Store, dir: &Dir, blocks: &[Cid], left_out: &Cid) -> Store {
    let store = dir.store();
    for cid in blocks.iter().filter(|cid| *cid != left_out) {
        let block = from.get(cid).unwrap().unwrap();
        store.put(PackKind::Kept, &[block]).unwrap();
    }
    store.commit().unwrap();
    store
}

#[test]
fn a_whole_store_has_nothing_damaged_or_missing() {
    let dir = Dir::new();
    let (store, manifest) = (dir.store(), dir.manifest());
    let (root, _) = dir.import(&store);
    pin(&manifest, root, true);
    commit(&manifest, release(root, root));
    let counted = std::sync::atomic::AtomicU64::new(0);
    let count = |bytes| {
        counted.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    };
    let report = fsck(&store, &manifest, DEEP, &count).unwrap();
    assert_eq!(report.damaged, []);
    assert_eq!(report.missing, []);
    assert_eq!(report.rebuilt_indexes, 0);
    assert_eq!(report.blocks, 4);
    assert!(report.bytes > FILE_LEN as u64);
    assert_eq!(counted.into_inner(), report.bytes);
}

#[test]
fn a_flipped_byte_is_named_as_damaged_until_the_block_is_put_again() {
    let dir = Dir::new();
    let (store, manifest) = (dir.store(), dir.manifest());
    let (root, leaves) = dir.import(&store);
    pin(&manifest, root, true);
    dir.harm(&store, &leaves[1]);
    let quick = fsck(&store, &manifest, FsckOptions::default(), &|_| {}).unwrap();
    assert!(quick.is_whole(), "blocks are not read");
    for _ in 0..2 {
        let report = check(&store, &manifest);
        assert_eq!(report.damaged, [leaves[1]]);
        assert_eq!(report.missing, [], "it is damaged, not missing");
    }
    dir.import(&store);
    let report = check(&store, &manifest);
    assert_eq!(report.damaged, []);
    assert_eq!(report.missing, []);
}

#[test]
fn a_block_missing_below_a_pin_is_named_with_its_root() {
    let (dir, other) = (Dir::new(), Dir::new());
    let whole = dir.store();
    let (root, leaves) = dir.import(&whole);
    let all = [&[root], &leaves[..]].concat();
    let store = without(&whole, &other, &all, &leaves[2]);
    let manifest = other.manifest();
    assert_eq!(check(&store, &manifest).missing, [], "nobody needs it");

    pin(&manifest, root, false);
    assert_eq!(
        check(&store, &manifest).missing,
        [],
        "a direct pin is one block"
    );
    pin(&manifest, root, true);
    let report = check(&store, &manifest);
    assert_eq!(report.missing, [(root, leaves[2])]);
    assert_eq!(report.damaged, []);
}

#[test]
fn a_block_missing_below_a_release_is_named_with_its_root() {
    let (dir, other) = (Dir::new(), Dir::new());
    let whole = dir.store();
    let (root, leaves) = dir.import(&whole);
    let store = without(&whole, &other, &leaves, &root);
    let manifest = other.manifest();
    commit(&manifest, release(root, leaves[0]));
    assert_eq!(check(&store, &manifest).missing, [(root, root)]);
}

#[test]
fn a_damaged_index_is_rebuilt_on_request() {
    let dir = Dir::new();
    let (store, manifest) = (dir.store(), dir.manifest());
    let (root, _) = dir.import(&store);
    pin(&manifest, root, true);
    let index = dir.files("idx").remove(0);
    let len = std::fs::metadata(&index).unwrap().len();
    flip(&index, len - 10);
    assert!(matches!(
        fsck(&store, &manifest, FsckOptions::default(), &|_| {}),
        Err(FsckError::Store(StoreError::CorruptIndex { path })) if path == index
    ));
    let repair = FsckOptions {
        repair_index: true,
        ..DEEP
    };
    let report = fsck(&store, &manifest, repair, &|_| {}).unwrap();
    assert_eq!(report.rebuilt_indexes, 1);
    assert_eq!(report.damaged, []);
    assert_eq!(report.missing, []);
}
