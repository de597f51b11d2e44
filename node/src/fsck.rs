//! FSCK: are the packs whole, and does every pinned DAG and release have all its blocks?

use cid::Cid;

use crate::manifest::{Manifest, ManifestError};
use crate::store::{Store, StoreError};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Packs read.
    pub packs: u64,
    /// Blocks checked.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks whose bytes do not match.
    pub damaged: Vec<Cid>,
    /// Blocks that a pin or release needs and the store does not have: (root, block).
    pub missing: Vec<(Cid, Cid)>,
    /// Index files rebuilt (`--repair-index`).
    pub rebuilt_indexes: u64,
}

/// Why the check itself could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsckError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Checks the CRC of every stored block and the completeness of every pinned DAG and release.
/// Blocking. `progress` is called with the bytes checked since the last call.
pub fn fsck(
    _store: &Store,
    _manifest: &Manifest,
    _repair_index: bool,
    _progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, FsckError> {
    todo!()
}
