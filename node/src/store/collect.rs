//! Garbage collection: mark what is live, unlink packs without live blocks, rewrite those that are
//! more than a quarter dead.
//!
//! Marks are bits, one per entry of an index, so that 10,000,000 blocks take 1.2 MB. A pack is the
//! unit of work: its live blocks are copied to the newest pack and made durable before the files go,
//! so a crash leaves a copy too many and never one too few, and the next collection goes on from
//! there. Puts, reads and commits go on meanwhile; what they rely on is [in use](super::in_use) and
//! counts as live.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cid::Cid;
use fixedbitset::FixedBitSet;

use super::append::{Content, New};
use super::catalog::Located;
use super::index::PackIndex;
use super::layout::{Entry, PackId};
use super::read::Access;
use super::recover::{Trust, recover};
use super::reflink::Extent;
use super::{Keep, PackKind, Store, StoreError};
use crate::block::IDENTITY;
use crate::disk::gone;
use crate::pace::Pace;

/// A pack is rewritten when more than one part in this many of it is dead.
const DEAD_PART: u64 = 4;
/// So many small packs are rewritten into one.
const SMALL_PACKS: usize = 4;
/// Times that a pack's blocks are copied because more came into use; then the next collection's turn.
const COPY_ROUNDS: usize = 4;
/// Copied bytes after which they are committed: a publish that commits meanwhile waits for no more.
const COMMIT_BYTES: u64 = 8 << 20;

/// Keeps from collection what was put into kept packs, or found there by [`Store::holds`] or
/// [`Store::put`], since it began.
#[derive(Debug)]
#[must_use = "dropping the session lets what it put be collected"]
pub struct Session {
    store: Store,
    generation: u64,
}

impl Drop for Session {
    fn drop(&mut self) {
        let catalog = &self.store.inner.shared.catalog;
        catalog.in_use(PackKind::Kept).end(self.generation);
    }
}

/// What [`Collection::mark`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Marked now: what it links to is to be marked, too.
    New,
    /// Marked before.
    Seen,
    /// Not in the store.
    Missing,
}

/// What a collection found and did, in kept packs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Packs without live blocks, which were removed.
    pub removed_packs: u64,
    /// Packs whose live blocks were copied before they were removed.
    pub rewritten_packs: u64,
    /// Bytes that the disk got back, less those of the copies.
    pub freed_bytes: u64,
    /// Dead bytes that stay: in packs that are mostly live, or not sealed yet.
    pub left_bytes: u64,
    /// Stopped before its end.
    pub stopped: bool,
}

/// A collection: first everything live is marked, then [`Collection::sweep`] takes the rest.
#[derive(Debug)]
pub struct Collection {
    store: Store,
    packs: BTreeMap<PackId, Candidate>,
    /// Live blocks of packs that this collection leaves alone.
    elsewhere: HashSet<(PackId, u64)>,
}

#[derive(Debug)]
struct Candidate {
    index: Arc<PackIndex>,
    live: FixedBitSet,
}

impl Store {
    /// Begins a [`Session`].
    pub fn session(&self) -> Session {
        let generation = self.inner.shared.catalog.in_use(PackKind::Kept).begin();
        Session {
            store: self.clone(),
            generation,
        }
    }

    /// Seals the newest kept pack, so that a collection or a backup takes it too. Blocking.
    pub fn seal(&self) -> Result<(), StoreError> {
        let shared = &self.inner.shared;
        self.inner.appenders[PackKind::Kept.slot()]
            .lock()
            .seal(shared);
        shared.queue.flush()
    }

    /// Begins a collection of the sealed kept packs. One at a time.
    pub fn collect(&self) -> Collection {
        let catalog = &self.inner.shared.catalog;
        let end = catalog.advance(PackKind::Kept);
        let packs = catalog.sealed_packs().into_iter();
        let packs = packs.filter(|index| index.id.kind == PackKind::Kept && index.id.number < end);
        let packs = packs.map(|index| {
            let live = FixedBitSet::with_capacity(usize::try_from(index.count).unwrap_or(0));
            (index.id, Candidate { index, live })
        });
        Collection {
            store: self.clone(),
            packs: packs.collect(),
            elsewhere: HashSet::new(),
        }
    }
}

impl Collection {
    /// Marks a block as live. One that only a cache pack has is copied to the kept ones. Blocking.
    pub fn mark(&mut self, cid: &Cid) -> Result<Mark, StoreError> {
        if cid.hash().code() == IDENTITY {
            return Ok(Mark::Seen);
        }
        let catalog = &self.store.inner.shared.catalog;
        let Some(located) = catalog.locate(PackKind::Kept, cid.hash())? else {
            return match self.store.get(cid)? {
                Some(block) => {
                    self.store.put(PackKind::Kept, &[block])?;
                    self.mark(cid)
                }
                None => Ok(Mark::Missing),
            };
        };
        let new = match (self.packs.get_mut(&located.pack), located.entry) {
            (Some(candidate), Some(entry)) => !candidate.live.put(entry as usize),
            _ => {
                let place = (located.pack, located.place.offset);
                self.elsewhere.insert(place)
            }
        };
        Ok(if new { Mark::New } else { Mark::Seen })
    }

    /// Removes what is not marked, pack by pack. Blocking.
    ///
    /// # Errors
    /// What was removed until then was dead; all that is live stays.
    pub fn sweep(self, pace: &mut Pace) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let mut usages = self.usages()?;
        // What needs no copies makes room for those of the others.
        usages.sort_by_key(|(_, _, live_bytes)| *live_bytes);
        let pack_size = self.store.inner.shared.options.pack_size;
        let is_small = |len: u64| len < pack_size / DEAD_PART;
        let small = usages
            .iter()
            .filter(|(index, _, _)| is_small(index.pack_len));
        let merge = small.count() >= SMALL_PACKS;
        for (index, live, live_bytes) in usages {
            let len = index.pack_len;
            let dead = len.saturating_sub(live_bytes);
            let worthwhile = live.is_clear() || dead > len / DEAD_PART || merge && is_small(len);
            if !worthwhile {
                collected.left_bytes += dead;
                continue;
            }
            match self.rewrite(&index, live, pace) {
                Err(StoreError::Full { .. }) => collected.left_bytes += dead,
                Err(error) => return Err(error),
                Ok(Rewritten::Removed { copied: 0 }) => {
                    collected.removed_packs += 1;
                    collected.freed_bytes += len;
                }
                Ok(Rewritten::Removed { copied }) => {
                    collected.rewritten_packs += 1;
                    collected.freed_bytes += len.saturating_sub(copied);
                }
                Ok(Rewritten::Left) => collected.left_bytes += dead,
                Ok(Rewritten::Stopped) => {
                    collected.stopped = true;
                    return Ok(collected);
                }
            }
        }
        Ok(collected)
    }

    /// What a [`Collection::sweep`] would find now, with nothing removed. Blocking.
    pub fn dead_bytes(&self) -> Result<u64, StoreError> {
        let usages = self.usages()?;
        let dead = usages
            .iter()
            .map(|(index, _, live)| index.pack_len.saturating_sub(*live));
        Ok(dead.sum())
    }

    /// Each pack with its live entries, those in use included, and their bytes; in order.
    fn usages(&self) -> Result<Vec<(Arc<PackIndex>, FixedBitSet, u64)>, StoreError> {
        let catalog = &self.store.inner.shared.catalog;
        let usage = |candidate: &Candidate| {
            let index = &candidate.index;
            let mut live = catalog.in_use(index.id.kind).of(index.id, index.count);
            live.union_with(&candidate.live);
            let path = index.id.index_path(catalog.dir());
            let bytes = catalog
                .file(&path)
                .and_then(|file| index.bytes_of(&file, &live))
                .map_err(|source| StoreError::io("reading", &path, source))?;
            Ok((Arc::clone(index), live, bytes))
        };
        self.packs.values().map(usage).collect()
    }

    fn rewrite(
        &self,
        index: &PackIndex,
        mut live: FixedBitSet,
        pace: &mut Pace,
    ) -> Result<Rewritten, StoreError> {
        let store = &self.store;
        let catalog = &store.inner.shared.catalog;
        let path = index.id.pack_path(catalog.dir());
        let entries = match recover(&path, index.id, Trust::All)? {
            Some(found) => found.entries,
            None => Vec::new(),
        };
        let mut copied = FixedBitSet::with_capacity(live.len());
        let mut bytes = 0;
        for _ in 0..COPY_ROUNDS {
            match store.copy(index, &entries, &live, pace)? {
                Copied::All(more) => bytes += more,
                // Its bytes are the last trace of a block that something refers to.
                Copied::Damaged => return Ok(Rewritten::Left),
                Copied::Stopped => return Ok(Rewritten::Stopped),
            }
            copied.union_with(&live);
            match catalog.retire(index, &copied) {
                Ok(()) => {
                    remove_files(store, index.id)?;
                    return Ok(Rewritten::Removed { copied: bytes });
                }
                Err(missed) => live = missed,
            }
        }
        Ok(Rewritten::Left)
    }
}

enum Rewritten {
    /// It is gone; so many bytes were copied.
    Removed {
        copied: u64,
    },
    /// It stays.
    Left,
    Stopped,
}

enum Copied {
    All(u64),
    Damaged,
    Stopped,
}

impl Store {
    /// Copies the `wanted` entries of a sealed pack to the newest one, durably.
    fn copy(
        &self,
        index: &PackIndex,
        entries: &[Entry],
        wanted: &FixedBitSet,
        pace: &mut Pace,
    ) -> Result<Copied, StoreError> {
        let mut bytes = 0;
        let mut uncommitted = 0;
        for entry in entries {
            if !self.is_entry(index, entry, wanted)? {
                continue;
            }
            let stored = u64::from(entry.place.stored());
            if !pace.take(stored) {
                return Ok(Copied::Stopped);
            }
            let located = Located {
                pack: index.id,
                place: entry.place,
                entry: None,
                data: None,
                damaged: false,
            };
            match self.append_copy(&entry.cid, located) {
                Err(StoreError::Corrupt { .. }) => return Ok(Copied::Damaged),
                appended => appended?,
            }
            bytes += stored;
            uncommitted += stored;
            if uncommitted >= COMMIT_BYTES {
                self.commit()?;
                uncommitted = 0;
            }
        }
        self.commit()?;
        Ok(Copied::All(bytes))
    }

    /// Appends a located block to the newest kept pack, which shares the bytes where it can. Of one in another
    /// file only what says where it is: the file is not read.
    pub(super) fn append_copy(&self, cid: &Cid, located: Located) -> Result<(), StoreError> {
        if located.place.is_in_place() {
            let record = self.record(cid, &located)?;
            let content = Content::InPlace {
                origin: &record.origin,
                len: record.len,
            };
            return self.append(PackKind::Kept, &[New { cid, content }]).result;
        }
        let catalog = &self.inner.shared.catalog;
        let keep = match &located.data {
            Some(_) => Keep::Copied,
            None => Keep::Shared(Extent::in_pack(catalog, &located)?),
        };
        let block = self.load(cid, located, Access::Scan)?;
        self.append(PackKind::Kept, &[New::of(&block, &keep)])
            .result
    }

    /// Whether `entry`, from the pack's footers, is one of the `wanted` entries of its index.
    fn is_entry(
        &self,
        index: &PackIndex,
        entry: &Entry,
        wanted: &FixedBitSet,
    ) -> Result<bool, StoreError> {
        let catalog = &self.inner.shared.catalog;
        let path = index.id.index_path(catalog.dir());
        let found = catalog
            .file(&path)
            .and_then(|file| index.find(&file, entry.cid.hash()))
            .map_err(|source| StoreError::io("reading", &path, source))?;
        // An older copy in the same pack is not in the index.
        Ok(found.is_some_and(|(number, place)| {
            place.offset == entry.place.offset && wanted.contains(number as usize)
        }))
    }
}

/// The index first: a pack without one is only indexed again when a crash comes in between.
pub(super) fn remove_files(store: &Store, id: PackId) -> Result<(), StoreError> {
    let catalog = &store.inner.shared.catalog;
    let (disk, dir) = (catalog.disk(), catalog.dir());
    for path in [id.index_path(dir), id.damage_path(dir), id.pack_path(dir)] {
        gone(disk.remove(&path)).map_err(|source| StoreError::io("removing", &path, source))?;
    }
    disk.sync_dir(dir)
        .map_err(|source| StoreError::io("syncing", dir, source))
}
