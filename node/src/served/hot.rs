//! Small blocks that were asked for lately, in memory: directories, and files of a few kilobytes.

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use crate::block::Multihash;

/// Longer blocks are read from the disk: the page cache has them.
const MAX_LEN: usize = 16 << 10;
/// What an entry takes besides the bytes of its block.
const OVERHEAD: usize = 256;

/// Blocks within a fixed number of bytes; what was asked for longest ago goes first.
#[derive(Debug)]
pub(super) struct Hot {
    most: usize,
    nodes: Mutex<Nodes>,
}

#[derive(Debug)]
struct Nodes {
    blocks: LruCache<Multihash, Bytes>,
    bytes: usize,
    /// What is here was read when the store had removed so many packs.
    removals: u64,
}

impl Hot {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            nodes: Mutex::new(Nodes {
                blocks: LruCache::unbounded(),
                bytes: 0,
                removals: 0,
            }),
        }
    }

    /// A block, unless the store has removed anything since: it may be gone there.
    pub(super) fn get(&self, hash: &Multihash, removals: u64) -> Option<Bytes> {
        let mut nodes = self.nodes.lock();
        if removals > nodes.removals {
            nodes.blocks.clear();
            (nodes.bytes, nodes.removals) = (0, removals);
        }
        nodes.blocks.get(hash).cloned()
    }

    /// Takes a block that was read when the store had removed so many packs.
    pub(super) fn put(&self, hash: Multihash, data: &Bytes, removals: u64) {
        let cost = data.len() + OVERHEAD;
        if data.len() > MAX_LEN || cost > self.most {
            return;
        }
        let mut nodes = self.nodes.lock();
        if nodes.removals != removals {
            return;
        }
        // A slice would hold all of what it is of.
        let replaced = nodes.blocks.put(hash, Bytes::copy_from_slice(data));
        if replaced.is_none() {
            nodes.bytes += cost;
        }
        while nodes.bytes > self.most
            && let Some((_, oldest)) = nodes.blocks.pop_lru()
        {
            nodes.bytes -= oldest.len() + OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{RAW, cid_of};

    fn data(n: u8, len: usize) -> (Multihash, Bytes) {
        let data = Bytes::from(vec![n; len]);
        (*cid_of(RAW, &data).hash(), data)
    }

    #[test]
    fn what_was_asked_for_longest_ago_goes_first() {
        let hot = Hot::new(3 * (1_000 + OVERHEAD));
        let blocks = [1, 2, 3, 4].map(|n| data(n, 1_000));
        for (hash, bytes) in &blocks[..3] {
            hot.put(*hash, bytes, 0);
            hot.put(*hash, bytes, 0);
        }
        assert!(hot.get(&blocks[0].0, 0).is_some());
        hot.put(blocks[3].0, &blocks[3].1, 0);
        let here = blocks.map(|(hash, _)| hot.get(&hash, 0).is_some());
        assert_eq!(here, [true, false, true, true]);
    }

    #[test]
    fn long_blocks_and_those_that_may_be_gone_are_not_kept() {
        let hot = Hot::new(1 << 20);
        let (long, bytes) = data(1, MAX_LEN + 1);
        hot.put(long, &bytes, 0);
        assert!(hot.get(&long, 0).is_none());
        let (hash, bytes) = data(2, 10);
        hot.put(hash, &bytes, 0);
        assert!(hot.get(&hash, 0).is_some());
        assert!(hot.get(&hash, 1).is_none(), "something was removed");
        hot.put(hash, &bytes, 0);
        assert!(hot.get(&hash, 1).is_none(), "it was read before");
    }
}
