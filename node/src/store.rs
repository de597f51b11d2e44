//! Blocks on disk: append-only pack files. See `node/DESIGN.md`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cid::Cid;

use crate::block::Block;

/// Which packs a block belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PackKind {
    /// Held on purpose: published, pinned or imported.
    Kept,
    /// Fetched for a request; may be evicted.
    Cache,
}

/// Settings of a [`Store`].
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// A pack is sealed when it reaches this many bytes. Default 512 MiB.
    pub pack_size: u64,
    /// New writes are refused when the disk has less free space, in bytes. Default 1 GiB... tests lower it.
    pub reserve: u64,
}

/// Handle to the block store of one data directory. Cheap to clone; all methods take `&self`.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<()>,
}

/// What opening found and repaired.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Bytes of unacknowledged tail that were cut off.
    pub truncated_bytes: u64,
    /// Index files that were rebuilt from their pack.
    pub rebuilt_indexes: usize,
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full or under the reserve: nothing was written.
    #[error("the disk holding {} has no room for more blocks", path.display())]
    Full {
        /// The store's directory.
        path: PathBuf,
    },
    /// A stored block does not match its checksum.
    #[error("block {cid} is damaged in {} at byte {offset}", pack.display())]
    Corrupt {
        /// The block.
        cid: Cid,
        /// The pack file.
        pack: PathBuf,
        /// Where, in bytes from the start of the file.
        offset: u64,
    },
    /// Reading or writing failed. After a failed write or sync the store refuses all writes.
    #[error("{action} {} failed", path.display())]
    Io {
        /// What was being done: `writing`, `syncing`, `reading`.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Arc<std::io::Error>,
    },
}

impl Store {
    /// Opens or makes the store in `dir`, recovering an unfinished tail. Blocking.
    pub fn open(_dir: &Path, _options: StoreOptions) -> Result<(Self, Recovery), StoreError> {
        todo!()
    }

    /// Whether the block is here: index only, no data is read.
    pub fn has(&self, _cid: &Cid) -> Result<bool, StoreError> {
        todo!()
    }

    /// Length of the block in bytes, from the index.
    pub fn block_len(&self, _cid: &Cid) -> Result<Option<u32>, StoreError> {
        todo!()
    }

    /// Reads a block and checks its CRC. Blocking.
    pub fn get(&self, _cid: &Cid) -> Result<Option<Block>, StoreError> {
        todo!()
    }

    /// [`Store::get`] off the async runtime.
    pub async fn read(&self, _cid: &Cid) -> Result<Option<Block>, StoreError> {
        todo!()
    }

    /// Appends blocks that are not here yet; they can be read at once but are not durable until
    /// [`Store::commit`]. Returns the bytes that were new. Blocking, with back-pressure.
    pub fn put(&self, _kind: PackKind, _blocks: &[Block]) -> Result<u64, StoreError> {
        todo!()
    }

    /// Makes everything that was put before this call durable. Concurrent calls share one sync.
    /// Blocking.
    pub fn commit(&self) -> Result<(), StoreError> {
        todo!()
    }
}
