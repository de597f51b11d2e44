//! Files of the data directory.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use duka_node::block::{Block, RAW, cid_of};
use duka_node::fuzz::{read_journal, write_journal};
use duka_node::manifest::change::Op;
use duka_node::manifest::record::{Job, Pin};
use duka_node::pace::Pace;
use duka_node::store::{
    CheckCursor, Depth, Extent, Indexes, Keep, PackKind, Store, StoreError, StoreOptions,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::mend;
use crate::disk::crash::memory;
use crate::disk::{Hooked, NoSync};

const OPTIONS: StoreOptions = StoreOptions {
    pack_size: 16 << 10,
    reserve: 0,
    max_size: 0,
    cache_size: 0,
};

/// The bytes are a pack that was not sealed. A store that opens goes on.
pub(super) fn pack(bytes: &[u8]) {
    let dir = data_dir();
    fs::write(pack_path(dir.path()), mend::pack(bytes)).expect("a pack");
    goes_on(dir.path());
}

/// The bytes are the index of a pack. A store that opens goes on.
pub(super) fn index(bytes: &[u8]) {
    let dir = data_dir();
    let (pack, _) = sealed();
    fs::write(pack_path(dir.path()), pack).expect("a pack");
    let index = pack_path(dir.path()).with_extension("idx");
    fs::write(index, mend::index(bytes)).expect("an index");
    goes_on(dir.path());
}

/// The bytes are a journal. What it holds is what would be written.
pub(super) fn journal(bytes: &[u8]) {
    let dir = data_dir();
    let path = dir.path().join("journal");
    fs::write(&path, mend::journal(bytes)).expect("a journal");
    let Ok(entries) = read_journal(&path) else {
        return;
    };
    fs::write(
        &path,
        write_journal(&entries).expect("no longer than it was"),
    )
    .expect("a journal");
    assert_eq!(read_journal(&path).expect("what was written"), entries);
}

/// Packs with several commits, and one with many blocks.
pub(super) fn packs() -> Vec<Vec<u8>> {
    let pack = |commits: &[&[Block]]| {
        let dir = data_dir();
        let store = open(dir.path()).expect("an empty store");
        for commit in commits {
            store.put(PackKind::Kept, commit).expect("a put");
            store.commit().expect("a commit");
        }
        // Before the store is closed, which notes that all was synced.
        let bytes = fs::read(pack_path(dir.path())).expect("a pack");
        drop(store);
        bytes
    };
    let all = blocks();
    vec![
        pack(&[&all[..2], &all[2..3]]),
        pack(&[&all[..1]]),
        sealed().0,
        shared(),
    ]
}

/// A pack that shares a block with a file, with what leads to a page before it.
fn shared() -> Vec<u8> {
    let dir = data_dir();
    let store = open(dir.path()).expect("an empty store");
    let block = Block::of(RAW, Bytes::from(vec![7; 32 << 10]));
    let mut file = tempfile::tempfile_in(dir.path()).expect("a file");
    file.write_all(block.data()).expect("a file");
    let snapshot = store.snapshot(&file).expect("a snapshot");
    let extent = Extent {
        snapshot,
        offset: 0,
    };
    store
        .put_from(PackKind::Kept, &[(block, Keep::Shared(extent))])
        .expect("a put");
    store.commit().expect("a commit");
    fs::read(pack_path(dir.path())).expect("a pack")
}

/// The index of a sealed pack.
pub(super) fn indexes() -> Vec<Vec<u8>> {
    vec![sealed().1]
}

/// A journal of several entries.
pub(super) fn journals() -> Vec<Vec<u8>> {
    let cid = cid_of(RAW, b"pinned");
    let pin = Pin {
        recursive: true,
        name: Some("a name".to_owned()),
        created: "2026-01-01T00:00:00Z".parse().expect("a time"),
    };
    let entries = [
        vec![Op::PutState("key".to_owned(), b"value".to_vec())],
        vec![Op::PutPin(cid, pin), Op::PutJob(1, Job::Announce)],
        vec![Op::DeletePin(cid), Op::DeleteJob(1)],
    ];
    vec![write_journal(&entries).expect("a journal")]
}

/// A sealed pack and its index.
fn sealed() -> (Vec<u8>, Vec<u8>) {
    let dir = data_dir();
    let store = open(dir.path()).expect("an empty store");
    store.put(PackKind::Kept, &blocks()).expect("a put");
    store.commit().expect("a commit");
    store.seal().expect("a seal");
    let path = pack_path(dir.path());
    let index = fs::read(path.with_extension("idx")).expect("an index");
    (fs::read(path).expect("a pack"), index)
}

fn blocks() -> Vec<Block> {
    let block = |number: u8| Block::of(RAW, Bytes::from(vec![number; 40 * usize::from(number)]));
    (1..13).map(block).collect()
}

/// Opens a store, reads and checks everything; what is put then can be read, also after it was opened
/// again.
fn goes_on(dir: &Path) {
    let store = match open(dir) {
        Ok(store) => store,
        Err(StoreError::TooNew { .. } | StoreError::Corrupt { .. }) => return,
        Err(error) => panic!("not clear: {error:?}"),
    };
    for block in blocks() {
        drop(store.get(block.cid()));
    }
    let mut pace = Pace::new(0, CancellationToken::new());
    let mut cursor = CheckCursor::default();
    while let Ok(Some(_)) = store.check_next(&mut cursor, Depth::Deep, &mut pace, &|_| {}) {}
    store
        .rebuild_indexes(Indexes::Damaged, &|_| {})
        .expect("indexes made anew");

    let new = Block::of(RAW, Bytes::from_static(b"a new block"));
    store
        .put(PackKind::Kept, std::slice::from_ref(&new))
        .expect("a put");
    store.commit().expect("a commit");
    assert_eq!(store.get(new.cid()).expect("a get").as_ref(), Some(&new));
    drop(store);
    let store = open(dir).expect("it was opened before");
    assert_eq!(store.get(new.cid()).expect("a get"), Some(new));
}

fn data_dir() -> TempDir {
    let dir = tempfile::tempdir_in(memory()).expect("a directory");
    fs::create_dir(dir.path().join("packs")).expect("a directory");
    dir
}

fn pack_path(dir: &Path) -> PathBuf {
    dir.join("packs/kept-00000001.car")
}

fn open(dir: &Path) -> Result<Store, StoreError> {
    let (store, _) = Store::open_on(Hooked::shared(NoSync), dir, OPTIONS)?;
    Ok(store)
}
