//! CARv1: import and export (CARv1 spec, ipld.io).

use std::io::Read;
use std::path::Path;

use cid::Cid;

use super::DagError;
use crate::source::BlockSource;
use crate::store::{PackKind, Store, StoreError};

/// What a CAR held.
#[derive(Clone, Debug, Default)]
pub struct CarSummary {
    /// The roots named in its header.
    pub roots: Vec<Cid>,
    /// Blocks read.
    pub blocks: u64,
    /// Bytes of those blocks.
    pub bytes: u64,
}

/// Why a CAR could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CarError {
    /// Not a CARv1 (or a CARv2 whose payload is not), or its header is damaged.
    #[error("this is not a CAR file: {reason}")]
    NotCar {
        /// Why.
        reason: String,
    },
    /// It ends in the middle of a section.
    #[error("the CAR is cut off after {blocks} blocks")]
    Truncated {
        /// Whole blocks before the cut.
        blocks: u64,
    },
    /// A section is malformed or over a limit, or its bytes do not match its CID.
    #[error("section {index} of the CAR is bad: {reason}")]
    Section {
        /// Number of the section, from 0.
        index: u64,
        /// Why.
        reason: String,
    },
    /// Reading it failed.
    #[error("reading the CAR failed")]
    Io(#[source] std::io::Error),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Walking the DAG to export failed.
    #[error(transparent)]
    Dag(#[from] DagError),
}

/// Reads a CARv1 (or the payload of a CARv2), verifies each block and puts it into the store. Blocks
/// before a bad section stay; nothing is pinned. Blocking. Nothing is durable before
/// [`Store::commit`].
pub fn import(
    _store: &Store,
    _kind: PackKind,
    _reader: &mut (dyn Read + Send),
) -> Result<CarSummary, CarError> {
    todo!()
}

/// Writes the DAG under `root` as CARv1 in depth-first order, each block once, to `path` by an
/// atomic rename.
pub async fn export<S: BlockSource + Clone>(
    _source: &S,
    _root: Cid,
    _path: &Path,
) -> Result<CarSummary, CarError> {
    todo!()
}
