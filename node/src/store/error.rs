//! Why the store failed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use cid::Cid;

use super::layout;

/// Why the store failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full or under the reserve: nothing more is written until there is room.
    #[error("the disk holding {} has no room for more blocks", path.display())]
    Full {
        /// The store's directory.
        path: PathBuf,
    },
    /// Another process writes to the store now.
    #[error("the store was handed over to another process")]
    HandedOver,
    /// The packs would take more than `max_size`, and there is no cache to evict.
    #[error(
        "{more} more do not fit into the store: of the {limit} that `store.max_size` allows, {kept} are \
         kept and {cache} are cache"
    )]
    Quota {
        /// What the packs may take.
        limit: ByteSize,
        /// What kept packs take.
        kept: ByteSize,
        /// What cache packs take.
        cache: ByteSize,
        /// What was to be stored.
        more: ByteSize,
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
    /// A block was added in place, and its file is another one now, or gone.
    #[error("{} changed since it was added in place: add it again", path.display())]
    Changed {
        /// The block.
        cid: Cid,
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: Option<Arc<io::Error>>,
    },
    /// An index file is damaged; a check makes it anew from its pack.
    #[error("the index {} is damaged", path.display())]
    CorruptIndex {
        /// The index file.
        path: PathBuf,
    },
    /// Written by a newer duka.
    #[error("{} was written by a newer duka (format {found}; this one knows {known})", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// The block is longer than any peer would take.
    #[error("block {cid} has {len} bytes, more than a block may have")]
    TooLarge {
        /// The block.
        cid: Cid,
        /// Its length in bytes.
        len: usize,
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
        source: Arc<io::Error>,
    },
}

impl StoreError {
    /// Whether a block is here, and its bytes are not: others may have them.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Changed { .. })
    }

    /// Whether there is no room, on the disk or in what the store may take.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Quota { .. })
    }

    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }

    pub(super) fn too_new(path: &Path, found: u32) -> Self {
        Self::TooNew {
            path: path.to_owned(),
            found,
            known: layout::FORMAT,
        }
    }
}
