//! Blocks on their way into the store, a few MiB at a time.

use super::{ImportError, Sink};
use crate::block::Block;
use crate::store::Keep;

/// Blocks per batch: 4 KiB files reach this before the batch is full of bytes.
pub(super) const MAX_BLOCKS: usize = 1024;

/// Collects the blocks of one worker.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    sink: &'a Sink,
    limit: usize,
    waiting: Vec<(Block, Keep)>,
    waiting_bytes: usize,
    /// Blocks taken in.
    pub(super) blocks: u64,
    /// Bytes that the store did not have, of what was flushed.
    pub(super) new_bytes: u64,
}

impl<'a> Batch<'a> {
    pub(super) fn new(sink: &'a Sink, limit: usize) -> Self {
        Self {
            sink,
            limit,
            waiting: Vec::new(),
            waiting_bytes: 0,
            blocks: 0,
            new_bytes: 0,
        }
    }

    pub(super) fn add(&mut self, block: Block) -> Result<(), ImportError> {
        self.add_from(block, Keep::Copied)
    }

    pub(super) fn add_from(&mut self, block: Block, keep: Keep) -> Result<(), ImportError> {
        self.blocks += 1;
        if matches!(self.sink, Sink::Discard) {
            return Ok(());
        }
        self.waiting_bytes += block.data().len();
        self.waiting.push((block, keep));
        if self.waiting_bytes >= self.limit || self.waiting.len() >= MAX_BLOCKS {
            self.flush()?;
        }
        Ok(())
    }

    /// Adds the counts of a finished worker's batch.
    pub(super) fn count(&mut self, other: &Self) {
        self.blocks += other.blocks;
        self.new_bytes += other.new_bytes;
    }

    pub(super) fn flush(&mut self) -> Result<(), ImportError> {
        match self.sink {
            _ if self.waiting.is_empty() => {}
            Sink::Store(store, kind) => self.new_bytes += store.put_from(*kind, &self.waiting)?,
            Sink::Compare(store, kind) => {
                for (block, _) in &self.waiting {
                    if !store.holds(*kind, block.cid())? {
                        self.new_bytes += block.data().len() as u64;
                    }
                }
            }
            Sink::Discard => {}
        }
        self.waiting.clear();
        self.waiting_bytes = 0;
        Ok(())
    }
}
