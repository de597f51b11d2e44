//! The block store: commits, seals, a collection that rewrites, reopening; and an eviction that moves and
//! rescues, and a pack that is written anew.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cid::Cid;
use duka_node::block::{Block, RAW};
use duka_node::disk::Disk;
use duka_node::pace::Pace;
use duka_node::store::{
    CheckCursor, Depth, Extent, Keep, Origin, PackKind, SourceFile, Store, StoreError, StoreOptions,
};
use duka_tests::disk::faulty::Fault;
use duka_tests::disk::point::SyncKind;
use duka_tests::disk::{Hook, Hooked, NoSync};
use parking_lot::Mutex;
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use crate::{
    Events, Workload, cut_everywhere, cuts_lose_nothing_and_each_sync_is_needed, fail_everywhere,
};

pub(crate) const OPTIONS: StoreOptions = StoreOptions {
    pack_size: 48 << 10,
    reserve: 0,
    max_size: 0,
    cache_size: 0,
};

/// A cache pack takes one small block, and two pages.
const WITH_CACHE: StoreOptions = StoreOptions {
    cache_size: 40 << 10,
    ..OPTIONS
};

#[test]
fn a_disk_that_fails_at_any_operation_loses_no_acknowledged_block() {
    fail_everywhere::<Blocks>();
}

#[test]
fn a_power_cut_at_any_operation_loses_no_acknowledged_block() {
    cuts_lose_nothing_and_each_sync_is_needed::<Blocks>(&[
        SyncKind::Commit,
        SyncKind::Seal,
        SyncKind::Reopen,
        SyncKind::PackName,
        SyncKind::Index,
        SyncKind::IndexName,
        SyncKind::Removal,
        SyncKind::Directory,
    ]);
}

#[test]
fn a_disk_that_fails_while_blocks_are_shared_loses_no_acknowledged_block() {
    fail_everywhere::<Shared>();
}

#[test]
fn a_power_cut_while_blocks_are_shared_loses_no_acknowledged_block() {
    let seen = cut_everywhere::<Shared>(None);
    assert_eq!(seen.losses, Vec::<String>::new());
    assert!(seen.syncs[&SyncKind::Commit] >= 3, "{:?}", seen.syncs);
}

#[test]
fn a_disk_that_fails_while_packs_are_evicted_or_written_anew_loses_no_acknowledged_block() {
    fail_everywhere::<Replaced>();
}

#[test]
fn a_power_cut_while_packs_are_evicted_or_written_anew_loses_no_acknowledged_block() {
    let seen = cut_everywhere::<Replaced>(None);
    assert_eq!(seen.losses, Vec::<String>::new());
    assert!(seen.syncs[&SyncKind::Removal] >= 5, "{:?}", seen.syncs);
    let seen = cut_everywhere::<Replaced>(Some(SyncKind::Removal));
    assert!(
        !seen.losses.is_empty(),
        "what was evicted does not come back"
    );
}

/// Commits, seals, a collection.
#[derive(Default)]
struct Blocks {
    promised: Mutex<Promised>,
    idle: AtomicBool,
    /// What was added in place.
    source: OnceLock<NamedTempFile>,
}

#[derive(Default)]
struct Promised {
    tried: Vec<Block>,
    acknowledged: Vec<Block>,
    /// Removed by a collection that has ended.
    gone: HashSet<Cid>,
}

pub(crate) fn blocks(seeds: std::ops::Range<u32>, len: usize) -> Vec<Block> {
    let block = |seed: u32| {
        let words = (1..).map(|word: u32| (word ^ seed << 16).wrapping_mul(0x9e37_79b9));
        let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).take(len).collect();
        Block::of(RAW, Bytes::from(bytes))
    };
    seeds.map(block).collect()
}

impl Workload for Blocks {
    fn run<H: Hook + 'static>(&self, disk: &Arc<Hooked<H>>, root: &Path, events: &dyn Events) {
        let mut writer = Writer {
            blocks: self,
            disk: Arc::clone(disk) as Arc<dyn Disk>,
            root,
            options: OPTIONS,
            events,
            store: None,
        };
        for first in [0, 10, 20, 30] {
            writer.publish(PackKind::Kept, &blocks(first..first + 2, 3_000));
            writer.publish(PackKind::Kept, &blocks(first + 2..first + 8, 4_500));
        }
        writer.publish(PackKind::Cache, &blocks(100..104, 2_000));
        writer.store = None;
        writer.publish(PackKind::Kept, &blocks(200..204, 7_000));
        writer.publish_in_place(&blocks(250..253, 7_000));

        // Killed between the write of a commit and its sync; the next run finds the blocks.
        events.fail_next(SyncKind::Commit);
        writer.publish(PackKind::Kept, &blocks(300..302, 3_000));

        writer.collect(
            &[
                blocks(0..2, 3_000),
                blocks(12..18, 4_500),
                blocks(250..251, 7_000),
            ]
            .concat(),
        );
        writer.attempt(&|store| store.seal());
        self.idle(events);
        writer.publish(PackKind::Kept, &blocks(400..402, 500));
    }

    fn check(&self, root: &Path) -> Result<(), String> {
        let text = |error: StoreError| format!("{error:?}");
        let disk = Hooked::shared(NoSync);
        let (store, recovery) =
            Store::open_on(disk, &root.join("blocks"), OPTIONS).map_err(text)?;
        if self.idle.load(Ordering::Relaxed) && recovery.rebuilt_indexes > 0 {
            return Err(format!("indexes were lost: {recovery:?}"));
        }
        let promised = self.promised.lock();
        for block in &promised.acknowledged {
            let found = store.get(block.cid()).map_err(text)?;
            if found.as_ref() != Some(block) {
                return Err(format!("{} was acknowledged: {found:?}", block.cid()));
            }
        }
        for block in &promised.tried {
            match store.get(block.cid()) {
                Ok(Some(found)) if found != *block => {
                    return Err(format!("{} has wrong bytes", block.cid()));
                }
                Ok(_) | Err(StoreError::Corrupt { .. }) => {}
                Err(error) => return Err(text(error)),
            }
        }
        for cid in &promised.gone {
            if store.has(cid).map_err(text)? {
                return Err(format!("{cid} came back"));
            }
        }
        store
            .put(PackKind::Kept, &promised.tried[..])
            .map_err(text)?;
        store.commit().map_err(text)?;
        for block in &promised.tried {
            if store.get(block.cid()).map_err(text)?.as_ref() != Some(block) {
                return Err(format!("{} cannot be put again", block.cid()));
            }
        }
        Ok(())
    }
}

/// Blocks that packs share with a file, and that a collection moves.
#[derive(Default)]
struct Shared(Blocks);

impl Workload for Shared {
    fn run<H: Hook + 'static>(&self, disk: &Arc<Hooked<H>>, root: &Path, events: &dyn Events) {
        let mut writer = Writer {
            blocks: &self.0,
            disk: Arc::clone(disk) as Arc<dyn Disk>,
            root,
            options: OPTIONS,
            events,
            store: None,
        };
        let dead = blocks(0..11, 3_000);
        writer.publish(PackKind::Kept, &dead);
        writer.publish_shared(&blocks(20..21, 32 << 10));
        writer.store = None;
        writer.publish(PackKind::Kept, &blocks(30..32, 3_000));
        writer.publish_shared(&blocks(21..22, 32 << 10));
        writer.collect(&[blocks(20..22, 32 << 10), blocks(30..32, 3_000)].concat());
        writer.publish_shared(&blocks(22..23, 32 << 10));
    }

    fn check(&self, root: &Path) -> Result<(), String> {
        self.0.check(root)
    }
}

/// Packs that others take the place of: an eviction, damaged framing.
#[derive(Default)]
struct Replaced(Blocks);

impl Workload for Replaced {
    fn run<H: Hook + 'static>(&self, disk: &Arc<Hooked<H>>, root: &Path, events: &dyn Events) {
        let mut writer = Writer {
            blocks: &self.0,
            disk: Arc::clone(disk) as Arc<dyn Disk>,
            root,
            options: WITH_CACHE,
            events,
            store: None,
        };
        writer.publish(PackKind::Kept, &blocks(0..14, 4_500));
        writer.evict(&blocks(3..4, 4_500));
        writer.renew();
        writer.publish(PackKind::Kept, &blocks(20..22, 3_000));
    }

    fn check(&self, root: &Path) -> Result<(), String> {
        self.0.check(root)
    }
}

impl Blocks {
    fn idle(&self, events: &dyn Events) {
        self.idle.store(true, Ordering::Relaxed);
        events.idle();
        self.idle.store(false, Ordering::Relaxed);
    }
}

/// Who writes, and opens the store again after a failure that stopped it.
struct Writer<'a> {
    blocks: &'a Blocks,
    disk: Arc<dyn Disk>,
    root: &'a Path,
    options: StoreOptions,
    events: &'a dyn Events,
    store: Option<Store>,
}

impl Writer<'_> {
    fn publish(&mut self, kind: PackKind, new: &[Block]) {
        self.publish_with(new, &|store| store.put(kind, new));
    }

    /// Publishes the parts of a file that stay there.
    fn publish_in_place(&mut self, new: &[Block]) {
        let file = self
            .blocks
            .source
            .get_or_init(|| NamedTempFile::new().unwrap());
        let parts: Vec<_> = new.iter().map(|block| block.data().clone()).collect();
        std::fs::write(file.path(), parts.concat()).unwrap();
        let stat = file.path().metadata().unwrap();
        let file = Arc::new(SourceFile::new(file.path(), &stat).unwrap());
        let mut offset = 0;
        let located = new.iter().map(|block| {
            let origin = Origin {
                file: Arc::clone(&file),
                offset,
            };
            offset += block.data().len() as u64;
            (block.clone(), Keep::InPlace(origin))
        });
        let located: Vec<_> = located.collect();
        self.publish_with(new, &|store| store.put_from(PackKind::Kept, &located));
    }

    /// Publishes the parts of a file whose bytes the pack shares.
    fn publish_shared(&mut self, new: &[Block]) {
        let parts: Vec<_> = new.iter().map(|block| block.data().clone()).collect();
        let mut file = tempfile::tempfile_in(self.root).unwrap();
        file.write_all(&parts.concat()).unwrap();
        self.publish_with(new, &|store| {
            let snapshot = store.snapshot(&file).unwrap();
            let mut offset = 0;
            let shared = new.iter().map(|block| {
                let extent = Extent {
                    snapshot: snapshot.clone(),
                    offset,
                };
                offset += block.data().len() as u64;
                (block.clone(), Keep::Shared(extent))
            });
            store.put_from(PackKind::Kept, &shared.collect::<Vec<_>>())
        });
    }

    fn publish_with(&mut self, new: &[Block], put: &dyn Fn(&Store) -> Result<u64, StoreError>) {
        self.blocks.promised.lock().tried.extend_from_slice(new);
        self.attempt(&|store| {
            put(store)?;
            store.commit()
        });
        self.blocks
            .promised
            .lock()
            .acknowledged
            .extend_from_slice(new);
        self.blocks.idle(self.events);
    }

    /// Evicts, with the only whole copy of a kept block in the oldest cache pack.
    fn evict(&mut self, rescued: &[Block]) {
        self.forget(&|block| rescued.contains(block));
        self.flip(&rescued[0].data()[..32]);
        self.attempt(&|store| store.get_whole(rescued[0].cid()).map(drop));
        self.publish(PackKind::Cache, rescued);

        let cached = &blocks(100..107, 1_000);
        self.publish(PackKind::Cache, cached);
        self.forget(&|block| cached.contains(block));
        self.attempt(&|store| {
            store.get(cached[0].cid())?;
            store.evict().map(drop)
        });
        self.note_gone(cached, 1);
    }

    /// Damages the first page of the first pack, and has the pack written anew.
    fn renew(&mut self) {
        self.flip(b"dukafoot");
        self.attempt(&|store| {
            let mut pace = Pace::new(0, CancellationToken::new());
            let mut cursor = CheckCursor::default();
            while let Some(pack) =
                store.check_next(&mut cursor, Depth::Quick, &mut pace, &|_| {})?
            {
                if pack.bad_framing {
                    assert!(store.renew_pack(pack.renewable(), &mut pace)?, "{pack:?}");
                }
            }
            Ok(())
        });
        self.blocks.idle(self.events);
    }

    fn collect(&mut self, live: &[Block]) {
        let dead = self.forget(&|block| !live.contains(block));
        let live = self.blocks.promised.lock().acknowledged.clone();
        // What a run before put or found is in use until the next generation but one.
        for _ in 0..3 {
            self.attempt(&|store| {
                let mut collection = store.collect();
                for block in &live {
                    collection.mark(block.cid())?;
                }
                let mut pace = Pace::new(0, CancellationToken::new());
                collection.sweep(&mut pace).map(drop)
            });
        }
        self.note_gone(&dead, 10);
    }

    /// From now on these blocks may be missing.
    fn forget(&self, is_dead: &dyn Fn(&Block) -> bool) -> Vec<Block> {
        let mut promised = self.blocks.promised.lock();
        let acknowledged = std::mem::take(&mut promised.acknowledged);
        let (dead, live) = acknowledged.into_iter().partition(is_dead);
        promised.acknowledged = live;
        dead
    }

    /// What was removed must stay away.
    fn note_gone(&self, dead: &[Block], least: usize) {
        let store = self.store.as_ref().unwrap();
        let gone = dead.iter().map(|block| *block.cid());
        let gone: Vec<Cid> = gone.filter(|cid| !store.has(cid).unwrap()).collect();
        assert!(gone.len() >= least, "{} blocks were removed", gone.len());
        self.blocks.promised.lock().gone.extend(gone);
        self.blocks.idle(self.events);
    }

    /// Flips a bit of the first place in a kept pack that holds `bytes`.
    fn flip(&self, bytes: &[u8]) {
        let (path, at) = find(&self.root.join("blocks/packs"), bytes);
        let flipped = [bytes[0] ^ 1];
        let flip = || {
            let file = self.disk.open(&path, OpenOptions::new().write(true))?;
            self.disk.write_at(&file, &flipped, at)?;
            self.disk.sync(&file)
        };
        // The disk fails once.
        flip().or_else(|_: std::io::Error| flip()).unwrap();
    }

    /// Does something, once more after a failure, which must be clear.
    fn attempt(&mut self, work: &dyn Fn(&Store) -> Result<(), StoreError>) {
        let mut failure = None;
        for _ in 0..3 {
            let done = self.open().and_then(|store| work(&store));
            match done {
                Ok(()) => return,
                Err(error) => failure = Some(self.take(error)),
            }
        }
        panic!("still fails: {failure:?}");
    }

    fn open(&mut self) -> Result<Store, StoreError> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let disk = Arc::clone(&self.disk);
        let (store, _) = Store::open_on(disk, &self.root.join("blocks"), self.options.clone())?;
        Ok(self.store.insert(store).clone())
    }

    fn take(&mut self, error: StoreError) -> StoreError {
        let fault = self.events.fault();
        match &error {
            StoreError::Full { .. } => assert!(fault.is_some_and(Fault::is_full), "{error}"),
            StoreError::Io { source, .. } => {
                super::assert_injected(source, fault.is_some_and(Fault::is_full));
                // Nothing is written any more until the next start.
                self.store = None;
            }
            other => panic!("not clear: {other:?}"),
        }
        error
    }
}

/// The first place in the kept packs of a folder that holds `bytes`.
fn find(packs: &Path, bytes: &[u8]) -> (PathBuf, u64) {
    let entries = std::fs::read_dir(packs).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("kept-") && name.ends_with(".car")
    });
    paths.sort();
    let found = paths.into_iter().find_map(|path| {
        let pack = std::fs::read(&path).unwrap();
        let at = pack
            .windows(bytes.len())
            .position(|window| window == bytes)?;
        Some((path, at as u64))
    });
    found.expect("a pack holds them")
}
