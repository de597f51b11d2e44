//! What was asked for lately, within a fixed number of bytes; what was asked for longest ago goes first.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;

use lru::LruCache;
use parking_lot::Mutex;

/// Longer entries are read from the disk: the page cache has them.
const MAX_LEN: usize = 16 << 10;
/// What an entry takes besides its bytes.
const OVERHEAD: usize = 256;

/// Things that were read from the store, and are forgotten when it removes something.
pub(super) struct Memory<K, V> {
    most: usize,
    kept: Mutex<Kept<K, V>>,
}

struct Kept<K, V> {
    entries: LruCache<K, Entry<V>>,
    bytes: usize,
    /// What is here was read when the store had removed so many packs.
    removals: u64,
}

struct Entry<V> {
    value: V,
    cost: usize,
}

impl<K: Hash + Eq, V: Clone> Memory<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            kept: Mutex::new(Kept {
                entries: LruCache::unbounded(),
                bytes: 0,
                removals: 0,
            }),
        }
    }

    /// An entry, unless the store has removed anything since: it may be gone there.
    pub(super) fn get<Q>(&self, key: &Q, removals: u64) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut kept = self.kept.lock();
        if removals > kept.removals {
            kept.entries.clear();
            (kept.bytes, kept.removals) = (0, removals);
        }
        kept.entries.get(key).map(|entry| entry.value.clone())
    }

    /// Whether there is room for an entry of `len` bytes.
    pub(super) fn takes(&self, len: usize) -> bool {
        len <= MAX_LEN && len + OVERHEAD <= self.most
    }

    /// Takes an entry of `len` bytes that was read when the store had removed so many packs.
    pub(super) fn put(&self, key: K, value: V, len: usize, removals: u64) {
        if !self.takes(len) {
            return;
        }
        let cost = len + OVERHEAD;
        let mut kept = self.kept.lock();
        if kept.removals != removals {
            return;
        }
        if let Some(replaced) = kept.entries.put(key, Entry { value, cost }) {
            kept.bytes -= replaced.cost;
        }
        kept.bytes += cost;
        while kept.bytes > self.most
            && let Some((_, oldest)) = kept.entries.pop_lru()
        {
            kept.bytes -= oldest.cost;
        }
    }
}

impl<K, V> fmt::Debug for Memory<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_longest_ago_goes_first() {
        let memory = Memory::new(3 * (1_000 + OVERHEAD));
        for key in [1, 2, 3] {
            memory.put(key, key, 1_000, 0);
            memory.put(key, key, 1_000, 0);
        }
        assert_eq!(memory.get(&1, 0), Some(1));
        memory.put(4, 4, 1_000, 0);
        let here = [1, 2, 3, 4].map(|key| memory.get(&key, 0).is_some());
        assert_eq!(here, [true, false, true, true]);
    }

    #[test]
    fn long_entries_and_those_that_may_be_gone_are_not_kept() {
        let memory = Memory::new(1 << 20);
        memory.put("long", (), MAX_LEN + 1, 0);
        assert!(memory.get("long", 0).is_none());
        memory.put("short", (), 10, 0);
        assert!(memory.get("short", 0).is_some());
        assert!(memory.get("short", 1).is_none(), "something was removed");
        memory.put("short", (), 10, 0);
        assert!(memory.get("short", 1).is_none(), "it was read before");
    }
}
