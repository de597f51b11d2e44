//! The worker against a DHT that the test plays.

use std::io::Cursor as Bytes;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::*;
use crate::block::{Block, RAW};
use crate::dag::hamt::{Entry, build_directory};
use crate::dag::import::{ImportOptions, Profile, Sink, import_reader};
use crate::dag::unixfs::Metadata;
use crate::manifest::ManifestOptions;
use crate::manifest::record::Pin;
use crate::net::fake::{FakeDht, Stored};
use crate::store::{PackKind, StoreOptions};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct World {
    dir: tempfile::TempDir,
    store: Store,
    manifest: Manifest,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            pack_size: 16 << 20,
            reserve: 0,
            ..StoreOptions::default()
        };
        let (store, _) = Store::open(dir.path(), options).unwrap();
        let options = ManifestOptions {
            reserve: 0,
            ..ManifestOptions::default()
        };
        let (manifest, _) = Manifest::open_with(&dir.path().join("manifest"), options).unwrap();
        Self {
            dir,
            store,
            manifest,
        }
    }

    /// A file of one block.
    fn file(&self, content: &str) -> Cid {
        let block = Block::of(RAW, content.to_owned().into());
        self.put(std::slice::from_ref(&block));
        *block.cid()
    }

    fn folder(&self, entries: &[Cid]) -> Cid {
        let entries = entries.iter().enumerate().map(|(n, cid)| Entry {
            name: format!("{n:04}"),
            cid: *cid,
            tsize: 0,
        });
        let metadata = Metadata::default();
        let built = build_directory(entries.collect(), metadata, Profile::default()).unwrap();
        self.put(&built.blocks);
        built.root
    }

    fn put(&self, blocks: &[Block]) {
        self.store.put(PackKind::Kept, blocks).unwrap();
    }

    async fn pin(&self, root: Cid) {
        let pin = Pin {
            recursive: true,
            name: None,
            created: Timestamp::now(),
        };
        self.change(Op::PutPin(root, pin)).await;
    }

    async fn change(&self, op: Op) {
        let change = Change {
            ops: vec![op],
            ..Change::default()
        };
        self.manifest.commit(change).await.unwrap();
    }

    /// Damages the bytes of a block on disk.
    fn damage(&self, cid: &Cid) {
        self.store.commit().unwrap();
        let bytes = self.store.get(cid).unwrap().unwrap().into_data();
        let path = self.dir.path().join("packs/kept-00000001.car");
        let pack = std::fs::read(&path).unwrap();
        let mut windows = pack.windows(bytes.len());
        let at = windows.position(|window| window == bytes).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[!bytes[0]], at as u64).unwrap();
    }

    /// Runs the worker against a DHT.
    fn run(&self, interval: Duration) -> (Provider, FakeDht) {
        let (network, dht) = FakeDht::new(self.store.clone());
        let (store, manifest) = (self.store.clone(), self.manifest.clone());
        let (provider, worker) = new(network, store, manifest, interval);
        tokio::spawn(worker.run(CancellationToken::new()));
        (provider, dht)
    }
}

/// Takes `count` records; sorted, since eight are under way at once.
async fn take(dht: &mut FakeDht, count: usize) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push(dht.take().await);
    }
    keys.sort();
    keys
}

fn keys(cids: &[Cid]) -> Vec<Vec<u8>> {
    let mut keys: Vec<_> = cids.iter().map(|cid| cid.hash().to_bytes()).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn a_round_announces_folders_and_files_but_no_chunks_and_then_what_is_new() {
    let world = World::new();
    let sink = Sink::Store(world.store.clone(), PackKind::Kept);
    let mut large = Bytes::new(vec![7; 3 << 20]);
    let options = ImportOptions::default();
    let large = import_reader(&sink, &mut large, &options, &(Arc::new(|_| true) as _)).unwrap();
    let small = world.file("small");
    let inner = world.folder(&[small]);
    let root = world.folder(&[large.root, inner]);
    world.pin(root).await;
    let (provider, mut dht) = world.run(DAY);
    let all = keys(&[root, large.root, inner, small]);
    assert_eq!(take(&mut dht, 4).await, all);

    let new = world.file("new");
    provider.soon(new);
    assert_eq!(take(&mut dht, 1).await, keys(&[new]));
}

#[tokio::test]
async fn a_damaged_folder_is_passed_over_and_the_round_goes_on() {
    let world = World::new();
    let (hidden, file) = (world.file("hidden"), world.file("file"));
    let damaged = world.folder(&[hidden]);
    let root = world.folder(&[damaged, file]);
    world.pin(root).await;
    world.damage(&damaged);
    let (_provider, mut dht) = world.run(Duration::ZERO);
    assert_eq!(take(&mut dht, 2).await, keys(&[root, file]));
    // The round ended: the next one begins.
    assert_eq!(take(&mut dht, 2).await, keys(&[root, file]));
}

#[tokio::test]
async fn a_record_that_nobody_takes_yet_holds_up_no_other() {
    let world = World::new();
    let files: Vec<Cid> = (0..3 * PARALLEL)
        .map(|n| world.file(&n.to_string()))
        .collect();
    let root = world.folder(&files);
    world.pin(root).await;
    let (_provider, mut dht) = world.run(DAY);
    let Stored { key, done } = dht.next().await;
    assert_eq!(key, root.hash().to_bytes());
    assert_eq!(take(&mut dht, files.len()).await, keys(&files));
    done.send(Ok(())).unwrap();
}

#[tokio::test]
async fn a_round_goes_on_at_the_cursor() {
    let world = World::new();
    let trees = ["one", "two", "three"].map(|name| {
        let files = ["a", "b", "c"].map(|file| world.file(&format!("{name} {file}")));
        (world.folder(&files), files)
    });
    for (root, _) in &trees {
        world.pin(*root).await;
    }
    let mut sorted = trees.to_vec();
    sorted.sort();
    // Of the second root itself and its first file are done.
    let cursor = Cursor {
        version: CURSOR_VERSION,
        started: Timestamp::now(),
        root: Some(sorted[1].0),
        done: 2,
    };
    let bytes = serde_ipld_dagcbor::to_vec(&cursor).unwrap();
    world.change(Op::PutState(CURSOR.to_owned(), bytes)).await;
    let (provider, mut dht) = world.run(DAY);
    assert_eq!(take(&mut dht, 2).await, keys(&sorted[1].1[1..]));
    let mut last = vec![sorted[2].0];
    last.extend(sorted[2].1);
    assert_eq!(take(&mut dht, 4).await, keys(&last));
    // The next round is a day away: only what is new comes.
    let new = world.file("new");
    provider.soon(new);
    assert_eq!(take(&mut dht, 1).await, keys(&[new]));
}

#[test]
fn the_cursor_never_passes_an_entry_that_is_not_done() {
    let mut done = InOrder::from(10);
    assert_eq!(done.add(1), 10);
    assert_eq!(done.add(3), 10);
    assert_eq!(done.add(0), 12);
    assert_eq!(done.add(2), 14);
}
