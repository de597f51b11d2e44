//! Depth-first walk over a DAG: exact DFS order with bounded read-ahead.

use std::collections::HashSet;

use cid::Cid;
use futures::stream::{self, Stream};
use sha2::{Digest, Sha256};

use super::ahead::{Ahead, Step, Visit};
use super::{DagError, DagLimits, links};
use crate::block::Block;
use crate::source::BlockSource;

/// Most blocks that a walk with [`WalkOptions::unique`] visits: 33 million, about 1 GiB of memory.
const MAX_UNIQUE: usize = 1 << 25;

/// How a walk goes.
#[derive(Clone, Copy, Debug)]
pub struct WalkOptions {
    /// Yield each CID once (`true`), or at each visit. Remembering takes about 30 bytes a block.
    pub unique: bool,
    /// How many blocks may be in flight or wait ahead of the reader.
    pub window: usize,
    /// Deepest level before [`DagError::Limit`].
    pub max_depth: usize,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self {
            unique: true,
            window: 16,
            max_depth: DagLimits::current().depth,
        }
    }
}

/// Every block below and including `root`, in depth-first order. Identity CIDs are yielded like
/// others. An error ends the stream, in its turn.
pub fn walk<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    options: WalkOptions,
) -> impl Stream<Item = Result<Block, DagError>> + Send + 'static + use<S> {
    let walker = Walker {
        options,
        seen: HashSet::new(),
    };
    let ahead = Ahead::new(source, walker, options.window, root, 0);
    stream::unfold(ahead, |mut ahead| async {
        loop {
            let block = match ahead.next().await? {
                Ok(block) => block,
                Err(err) => return Some((Err(err), ahead)),
            };
            match ahead.visitor.is_first(&block) {
                Ok(true) => return Some((Ok(block), ahead)),
                Ok(false) => {}
                Err(err) => return Some((Err(err), ahead)),
            }
        }
    })
}

struct Walker {
    options: WalkOptions,
    /// Keys of what was yielded.
    seen: HashSet<u128>,
}

impl Walker {
    /// Marks a block, in depth-first order, and says whether it is to be yielded.
    fn is_first(&mut self, block: &Block) -> Result<bool, DagError> {
        if !self.options.unique {
            return Ok(true);
        }
        if self.seen.len() >= MAX_UNIQUE {
            return Err(DagError::Limit {
                cid: *block.cid(),
                limit: format!("{MAX_UNIQUE} blocks in one walk"),
            });
        }
        Ok(self.seen.insert(key(block.cid())))
    }
}

impl Visit for Walker {
    /// How deep the block is.
    type Context = usize;
    type Output = Block;

    fn visit(&mut self, depth: usize, block: Block) -> Result<Vec<Step<Self>>, DagError> {
        let links = links::links(&block)?;
        if !links.is_empty() && depth >= self.options.max_depth {
            return Err(DagError::Limit {
                cid: *block.cid(),
                limit: format!("{} levels", self.options.max_depth),
            });
        }
        let mut steps = Vec::with_capacity(links.len() + 1);
        steps.push(Step::Output(block));
        steps.extend(links.into_iter().map(|cid| Step::Fetch(cid, depth + 1)));
        Ok(steps)
    }

    fn skip(&self, cid: &Cid) -> bool {
        self.options.unique && self.seen.contains(&key(cid))
    }
}

/// 16 bytes that stand for a CID, whatever its hash function.
pub fn key(cid: &Cid) -> u128 {
    let digest = Sha256::digest(cid.to_bytes());
    let (head, _) = digest
        .as_slice()
        .split_first_chunk::<16>()
        .expect("SHA-256 gives 32 bytes");
    u128::from_le_bytes(*head)
}

#[cfg(test)]
mod tests;
