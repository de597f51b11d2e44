//! REBUILD: make anew what follows from journal and packs → see what is missing.
//!
//! The index of the manifest follows from checkpoint and journal, the index files from the packs. Both
//! are made anew whether they are damaged or not, while no node has the data directory open; what a
//! node can make anew beside its work, it does ([`crate::fsck`], [`crate::scrub`]).

use std::cell::Cell;
use std::path::Path;

use duka_config::Config;
use tokio_util::sync::CancellationToken;

use crate::backup::Progress;
use crate::disk::FileSystem;
use crate::fsck::{self, FsckError};
use crate::layout;
use crate::manifest::record::Counts;
use crate::manifest::{self, Loss, Manifest, ManifestError};
use crate::node::{self, DirectoryLock, LockError, OpenError};
use crate::pace::Pace;
use crate::store::{CheckCursor, Indexes, Store, StoreError};

/// What was made anew, and what is missing all the same.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// What the manifest holds.
    pub counts: Counts,
    /// Index files made anew.
    pub rebuilt_indexes: u64,
    /// Packs and blocks, and what pins and releases lack of them.
    pub check: fsck::Report,
}

/// Why nothing, or not all, was made anew. Nothing is lost by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// There is no shop, or only half of one.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A part of journal or checkpoint is gone.
    #[error(transparent)]
    Lost(#[from] Loss),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The check at the end failed.
    #[error(transparent)]
    Fsck(#[from] FsckError),
}

impl From<LockError> for RebuildError {
    fn from(error: LockError) -> Self {
        Self::Open(error.into())
    }
}

impl From<manifest::RebuildError> for RebuildError {
    fn from(error: manifest::RebuildError) -> Self {
        match error {
            manifest::RebuildError::Lost(loss) => Self::Lost(loss),
            manifest::RebuildError::Failed(error) => Self::Manifest(error),
        }
    }
}

/// Makes anew what can be, in a data directory that no node has open. Blocking.
///
/// # Errors
/// [`RebuildError::Lost`] when journal or checkpoint are not whole: nothing is touched then.
pub fn run(
    data_dir: &Path,
    config: &Config,
    stop: &CancellationToken,
    progress: &Progress<'_>,
) -> Result<Report, RebuildError> {
    node::check_initialised(data_dir)?;
    let _lock = DirectoryLock::take(data_dir)?;
    layout::bring_up_to_date(&FileSystem, data_dir).map_err(OpenError::from)?;
    let manifest = Manifest::rebuild(&node::manifest_dir(data_dir))?;
    let options = node::store_options(config);
    let (store, recovery) = Store::open(&node::blocks_dir(data_dir), options)?;
    let total = store.unchecked_bytes(&CheckCursor::default());
    let done = Cell::new(0);
    let rebuilt = store.rebuild_indexes(Indexes::All, &|more| {
        done.set(done.get() + more);
        progress(done.get().min(total), total);
    })?;
    let mut pace = Pace::new(0, stop.clone());
    Ok(Report {
        counts: manifest.counts()?,
        rebuilt_indexes: rebuilt.max(recovery.rebuilt_indexes as u64),
        check: fsck::check(&store, &manifest, &mut pace)?,
    })
}
