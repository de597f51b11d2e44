//! The manifest: products, releases, pins, names and jobs, behind one durable [`Manifest::commit`].
//!
//! An append-only journal is the only commit point; sled is its index and can be rebuilt from it.
//! See `node/DESIGN.md`.

pub mod change;
pub mod record;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cid::Cid;

use crate::ids::{ProductId, Version};
use change::Change;
use record::{Head, Job, JobId, NameRecord, Pin, Product, Release};

/// Handle to the manifest of one data directory. Cheap to clone.
///
/// Reads come from sled and see everything that was acknowledged. They are short and may be called
/// from async code.
#[derive(Clone, Debug)]
pub struct Manifest {
    inner: Arc<()>,
}

/// What opening found and repaired.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Journal entries that sled had not applied.
    pub replayed: u64,
    /// Bytes of an unfinished journal entry that were cut off.
    pub truncated_bytes: u64,
    /// Where the old sled directory was put, when it had to be rebuilt.
    pub rebuilt_from: Option<PathBuf>,
}

/// Why the manifest refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A condition of the change does not hold; nothing was changed.
    #[error("{0}")]
    Conflict(change::Conflict),
    /// The journal is damaged before its end: acknowledged entries may be missing.
    #[error("the journal {} is damaged at byte {offset}", path.display())]
    Corrupt {
        /// The journal file.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
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
    /// The disk is full or under the reserve; nothing was changed.
    #[error("the disk holding {} has no room for the manifest", path.display())]
    Full {
        /// The manifest's directory.
        path: PathBuf,
    },
    /// Reading or writing failed. After a failed sync the manifest refuses all changes.
    #[error("{action} {} failed", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// sled failed on an open database.
    #[error("the manifest index failed")]
    Index(#[source] sled::Error),
    /// A stored record does not decode.
    #[error("a {kind} record of the manifest does not decode")]
    Record {
        /// Which kind.
        kind: &'static str,
    },
}

impl Manifest {
    /// Opens or makes the manifest in `dir`, replaying what sled has not applied. Blocking.
    pub fn open(_dir: &Path) -> Result<(Self, Recovery), ManifestError> {
        todo!()
    }

    /// Checks the change's conditions, then makes all of it durable, or nothing. Changes that wait
    /// at the same time share one sync.
    ///
    /// # Cancel safety
    /// A dropped future leaves the change either whole or absent.
    pub async fn commit(&self, _change: Change) -> Result<u64, ManifestError> {
        todo!()
    }

    /// [`Manifest::commit`] for blocking callers.
    pub fn commit_blocking(&self, _change: Change) -> Result<u64, ManifestError> {
        todo!()
    }

    /// One product.
    pub fn product(&self, _id: &ProductId) -> Result<Option<Product>, ManifestError> {
        todo!()
    }

    /// All products, by id.
    pub fn products(
        &self,
    ) -> impl Iterator<Item = Result<(ProductId, Product), ManifestError>> + use<> {
        std::iter::empty()
    }

    /// One release.
    pub fn release(
        &self,
        _product: &ProductId,
        _version: &Version,
    ) -> Result<Option<Release>, ManifestError> {
        todo!()
    }

    /// The releases of a product, oldest first.
    pub fn releases(
        &self,
        _product: &ProductId,
    ) -> impl Iterator<Item = Result<(Version, Release), ManifestError>> + use<> {
        std::iter::empty()
    }

    /// One pin.
    pub fn pin(&self, _cid: &Cid) -> Result<Option<Pin>, ManifestError> {
        todo!()
    }

    /// All pins.
    pub fn pins(&self) -> impl Iterator<Item = Result<(Cid, Pin), ManifestError>> + use<> {
        std::iter::empty()
    }

    /// Jobs that are not done, oldest first.
    pub fn jobs(&self) -> impl Iterator<Item = Result<(JobId, Job), ManifestError>> + use<> {
        std::iter::empty()
    }

    /// The newest head of the own shop.
    pub fn head(&self) -> Result<Option<Head>, ManifestError> {
        todo!()
    }

    /// The newest IPNS record known for a name (binary multihash of the key).
    pub fn name(&self, _name: &[u8]) -> Result<Option<NameRecord>, ManifestError> {
        todo!()
    }

    /// All names with a stored record.
    pub fn names(
        &self,
    ) -> impl Iterator<Item = Result<(Vec<u8>, NameRecord), ManifestError>> + use<> {
        std::iter::empty()
    }
}
