//! The balanced layout: chunks in order in, inner nodes out as soon as they are full.

use std::collections::BTreeMap;

use cid::Cid;

use super::Profile;
use crate::block::Block;
use crate::dag::unixfs::{self, Link, Metadata};

/// A finished part of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) cid: Cid,
    /// File bytes below it.
    pub(super) size: u64,
    /// Cumulative size of its DAG in bytes.
    pub(super) tsize: u64,
}

impl Part {
    /// A chunk of `size` file bytes that is `block`.
    pub(super) fn leaf(block: &Block, size: u64) -> Self {
        Self {
            cid: *block.cid(),
            size,
            tsize: block.data().len() as u64,
        }
    }
}

/// Builds one file. Holds one unfinished node per level, so memory grows with the logarithm of the
/// file, and the chunks that came too early.
#[derive(Debug)]
pub(super) struct Layout {
    profile: Profile,
    /// `levels[0]` are chunks. A full level is only closed when one more part arrives, because a
    /// level that stays the top becomes the root, with the file's metadata.
    levels: Vec<Vec<Part>>,
    next: u64,
    early: BTreeMap<u64, Part>,
}

impl Layout {
    pub(super) fn new(profile: Profile) -> Self {
        Self {
            profile,
            levels: Vec::new(),
            next: 0,
            early: BTreeMap::new(),
        }
    }

    /// Takes chunk number `index`; each number comes once, in any order. Finished inner nodes are
    /// appended to `blocks`.
    pub(super) fn insert(&mut self, index: u64, leaf: Part, blocks: &mut Vec<Block>) {
        self.early.insert(index, leaf);
        while let Some(leaf) = self.early.remove(&self.next) {
            self.next += 1;
            self.push(0, leaf, blocks);
        }
    }

    /// How many chunks are in place.
    pub(super) fn chunks(&self) -> u64 {
        self.next
    }

    /// Closes all levels. `None` when there was no chunk at all.
    pub(super) fn finish(mut self, metadata: Metadata, blocks: &mut Vec<Block>) -> Option<Part> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            let parts = std::mem::take(&mut self.levels[level]);
            let node = self.node(&parts, Metadata::default(), blocks);
            level += 1;
            self.push(level, node, blocks);
        }
        match self.levels.pop()?.as_slice() {
            [leaf] if level == 0 => Some(*leaf),
            parts => Some(self.node(parts, metadata, blocks)),
        }
    }

    fn push(&mut self, mut level: usize, mut part: Part, blocks: &mut Vec<Block>) {
        loop {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            if self.levels[level].len() < self.profile.file_links() {
                self.levels[level].push(part);
                return;
            }
            let full = std::mem::replace(&mut self.levels[level], vec![part]);
            part = self.node(&full, Metadata::default(), blocks);
            level += 1;
        }
    }

    fn node(&self, parts: &[Part], metadata: Metadata, blocks: &mut Vec<Block>) -> Part {
        let links: Vec<Link> = parts
            .iter()
            .map(|part| Link {
                cid: part.cid,
                name: Vec::new(),
                tsize: part.tsize,
            })
            .collect();
        let sizes = parts.iter().map(|part| part.size).collect();
        let block = self
            .profile
            .dag_pb(unixfs::encode_file(&links, sizes, metadata));
        let below: u64 = parts.iter().map(|part| part.tsize).sum();
        let node = Part {
            cid: *block.cid(),
            size: parts.iter().map(|part| part.size).sum(),
            tsize: below + block.data().len() as u64,
        };
        blocks.push(block);
        node
    }
}
