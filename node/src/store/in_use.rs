//! What garbage collection must leave alone although nothing refers to it yet.
//!
//! A publish relies on blocks that were here before it: it finds them, does not store them again, and
//! its root is not known before its end. So each block that is found is noted as in use, in the
//! generation of the day, and a [`super::Session`] keeps from collection what was noted or put
//! since it began. A collection begins a new generation. Notes of the generation before last go, unless
//! a session is as old.

use std::collections::{BTreeMap, HashMap};

use fixedbitset::FixedBitSet;

use super::layout::PackId;

/// Notes of one kind of packs. Lives in memory only: no session outlives the process.
#[derive(Debug, Default)]
pub(super) struct InUse {
    generation: u64,
    /// Sessions by the generation in which they began.
    sessions: BTreeMap<u64, usize>,
    /// Per generation, the first pack that had no index when it began.
    first_open: BTreeMap<u64, u64>,
    recent: HashMap<PackId, FixedBitSet>,
    older: HashMap<PackId, FixedBitSet>,
}

impl InUse {
    /// Begins a session; [`InUse::end`] takes what it returns.
    pub(super) fn begin(&mut self) -> u64 {
        *self.sessions.entry(self.generation).or_default() += 1;
        self.generation
    }

    pub(super) fn end(&mut self, generation: u64) {
        if let Some(count) = self.sessions.get_mut(&generation) {
            *count -= 1;
            if *count == 0 {
                self.sessions.remove(&generation);
            }
        }
    }

    /// Notes an entry of a pack with `count` entries.
    pub(super) fn note(&mut self, pack: PackId, entry: u32, count: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let notes = self.recent.entry(pack);
        let notes = notes.or_insert_with(|| FixedBitSet::with_capacity(count));
        // The number may be that of an index that was made anew since.
        notes.grow_and_insert(entry as usize);
    }

    /// Notes all entries of a pack.
    pub(super) fn note_all(&mut self, pack: PackId, count: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let mut notes = FixedBitSet::with_capacity(count);
        notes.insert_range(..);
        self.recent.insert(pack, notes);
    }

    /// The entries of a pack that are in use.
    pub(super) fn of(&self, pack: PackId, count: u64) -> FixedBitSet {
        let mut all = FixedBitSet::with_capacity(usize::try_from(count).unwrap_or(usize::MAX));
        for notes in [&self.recent, &self.older] {
            if let Some(notes) = notes.get(&pack) {
                all.union_with(notes);
            }
        }
        all
    }

    pub(super) fn forget(&mut self, pack: PackId) {
        self.recent.remove(&pack);
        self.older.remove(&pack);
    }

    /// Begins a generation, the first one when the store opens; `first_open` is the number of the first
    /// pack without an index. Returns
    /// the number of the first pack that may hold blocks which a session put.
    pub(super) fn advance(&mut self, first_open: u64) -> u64 {
        let recent = std::mem::take(&mut self.recent);
        let oldest = self.sessions.keys().next().copied();
        if oldest.is_some_and(|oldest| oldest < self.generation) {
            for (pack, notes) in recent {
                self.older.entry(pack).or_default().union_with(&notes);
            }
        } else {
            self.older = recent;
        }
        self.generation += 1;
        self.first_open.insert(self.generation, first_open);
        let oldest = oldest.unwrap_or(self.generation);
        self.first_open = self.first_open.split_off(&oldest);
        self.first_open.values().next().copied().unwrap_or(0)
    }
}
