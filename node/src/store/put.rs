//! Putting blocks: those that are here already are left out, the others go to the newest pack of a kind.

use std::fmt;

use super::append::{Appender, New};
use super::keep::Keep;
use super::{PackKind, Store, StoreError, evict};
use crate::block::{Block, MAX_BLOCK_LEN};

/// What came of appending.
#[derive(Debug)]
pub(super) struct Appended {
    /// The first so many blocks are here now.
    pub(super) blocks: usize,
    /// Bytes of those that were new.
    pub(super) bytes: u64,
    pub(super) result: Result<(), StoreError>,
}

type Listener = dyn Fn(&[&Block]) + Send + Sync;

/// Who is told of new blocks.
pub(super) struct OnPut(Box<Listener>);

impl fmt::Debug for OnPut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnPut").finish_non_exhaustive()
    }
}

impl Store {
    /// Appends blocks that are not here yet; they can be read at once but are not durable until
    /// [`Store::commit`]. Returns the bytes that were new. Blocking, with back-pressure.
    ///
    /// A block that only a cache pack holds is new to the kept ones.
    ///
    /// # Errors
    /// After [`StoreError::Full`] the blocks before the one that found no room stay; the store
    /// takes more as soon as there is room.
    pub fn put(&self, kind: PackKind, blocks: &[Block]) -> Result<u64, StoreError> {
        self.put_all(kind, blocks.iter().map(|block| (block, &Keep::Copied)))
    }

    /// [`Store::put`], with how the bytes of each block are kept. Of those that stay in place only a record
    /// is written that says where they are, and each read hashes what it finds.
    ///
    /// A block that is here already stays as it is, unless it is in another file that changed, or is not to be
    /// in another file any more.
    pub fn put_from(&self, kind: PackKind, blocks: &[(Block, Keep)]) -> Result<u64, StoreError> {
        self.put_all(kind, blocks.iter().map(|(block, keep)| (block, keep)))
    }

    fn put_all<'a>(
        &self,
        kind: PackKind,
        blocks: impl Iterator<Item = (&'a Block, &'a Keep)>,
    ) -> Result<u64, StoreError> {
        let mut missing = Vec::new();
        let mut new_blocks = Vec::new();
        for (block, keep) in blocks {
            if block.data().len() > MAX_BLOCK_LEN {
                return Err(StoreError::TooLarge {
                    cid: *block.cid(),
                    len: block.data().len(),
                });
            }
            let new = New::of(block, keep);
            if !self.holds_content(kind, &new)? {
                missing.push(new);
                new_blocks.push(block);
            }
        }
        if missing.is_empty() {
            return Ok(0);
        }

        let mut stored = 0;
        let mut new = 0;
        let result = loop {
            let appended = self.append_within_limits(kind, &missing[stored..]);
            stored += appended.blocks;
            new += appended.bytes;
            match appended.result {
                Err(error @ (StoreError::Full { .. } | StoreError::Quota { .. })) => {
                    match self.make_room() {
                        Ok(true) => {}
                        Ok(false) => break Err(error),
                        Err(error) => break Err(error),
                    }
                }
                result => break result,
            }
        };
        if let Some(OnPut(listener)) = self.inner.on_put.get()
            && stored > 0
        {
            listener(&new_blocks[..stored]);
        }
        result.map(|()| new)
    }

    /// Appends blocks if there is room for all of them.
    fn append_within_limits(&self, kind: PackKind, blocks: &[New<'_>]) -> Appended {
        let mut appender = self.inner.appenders[kind.slot()].lock();
        let bytes = blocks.iter().map(New::stored);
        let bytes = bytes.sum::<u64>() + evict::overhead(blocks.len());
        if let Err(error) = self.check_room(bytes) {
            return Appended {
                blocks: 0,
                bytes: 0,
                result: Err(error),
            };
        }
        self.append_to(&mut appender, blocks)
    }

    /// Appends blocks whatever the limits are: what they replace goes at once.
    pub(super) fn append(&self, kind: PackKind, blocks: &[New<'_>]) -> Appended {
        self.append_to(&mut self.inner.appenders[kind.slot()].lock(), blocks)
    }

    /// Appends blocks up to the first that fails.
    fn append_to(&self, appender: &mut Appender, blocks: &[New<'_>]) -> Appended {
        let shared = &self.inner.shared;
        let mut bytes = 0;
        for (at, block) in blocks.iter().enumerate() {
            // Another caller, or the same batch, may have put it since.
            if appender.contains(shared, block) {
                continue;
            }
            let appended = shared.queue.admit();
            if let Err(error) = appended.and_then(|()| appender.append(shared, block)) {
                return Appended {
                    blocks: at,
                    bytes,
                    result: Err(error),
                };
            }
            bytes += block.len();
        }
        Appended {
            blocks: blocks.len(),
            bytes,
            result: Ok(()),
        }
    }

    /// Has `listener` called with the blocks of each [`Store::put`] that were not here, once they can
    /// be read, on the thread that put them. Only the first listener of a store is called.
    pub fn on_put(&self, listener: impl Fn(&[&Block]) + Send + Sync + 'static) {
        self.inner.on_put.get_or_init(|| OnPut(Box::new(listener)));
    }
}
