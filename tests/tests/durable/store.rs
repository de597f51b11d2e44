//! The block store: commits, seals, a collection that rewrites, reopening.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use cid::Cid;
use duka_node::block::{Block, RAW};
use duka_node::disk::Disk;
use duka_node::pace::Pace;
use duka_node::store::{PackKind, Store, StoreError, StoreOptions};
use duka_tests::disk::faulty::Fault;
use duka_tests::disk::point::SyncKind;
use duka_tests::disk::{Hook, Hooked, NoSync};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{Events, Workload, cuts_lose_nothing_and_each_sync_is_needed, fail_everywhere};

pub(crate) const OPTIONS: StoreOptions = StoreOptions {
    pack_size: 48 << 10,
    reserve: 0,
    max_size: 0,
    cache_size: 0,
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

#[derive(Default)]
struct Blocks {
    promised: Mutex<Promised>,
    idle: AtomicBool,
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

        // Killed between the write of a commit and its sync; the next run finds the blocks.
        events.fail_next(SyncKind::Commit);
        writer.publish(PackKind::Kept, &blocks(300..302, 3_000));

        writer.collect(&[blocks(0..2, 3_000), blocks(12..18, 4_500)].concat());
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
    events: &'a dyn Events,
    store: Option<Store>,
}

impl Writer<'_> {
    fn publish(&mut self, kind: PackKind, new: &[Block]) {
        self.blocks.promised.lock().tried.extend_from_slice(new);
        self.attempt(&|store| {
            store.put(kind, new)?;
            store.commit()
        });
        self.blocks
            .promised
            .lock()
            .acknowledged
            .extend_from_slice(new);
        self.blocks.idle(self.events);
    }

    fn collect(&mut self, live: &[Block]) {
        let acknowledged = std::mem::take(&mut self.blocks.promised.lock().acknowledged);
        let is_live = |block: &Block| live.contains(block);
        let (live, dead): (Vec<_>, Vec<_>) = acknowledged.into_iter().partition(is_live);
        self.blocks.promised.lock().acknowledged = live.clone();
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
        let store = self.store.as_ref().unwrap();
        let gone = dead.iter().map(|block| *block.cid());
        let gone: HashSet<Cid> = gone.filter(|cid| !store.has(cid).unwrap()).collect();
        assert!(gone.len() >= 10, "{} blocks were collected", gone.len());
        self.blocks.promised.lock().gone = gone;
        self.blocks.idle(self.events);
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
        let (store, _) = Store::open_on(disk, &self.root.join("blocks"), OPTIONS)?;
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
