//! GET: a reference → verified blocks from gateways and peers → whole files on disk, or nothing.

use std::path::{Path, PathBuf};

use cid::Cid;

use crate::dag::DagError;
use crate::source::BlockSource;

/// How to write what was fetched.
#[derive(Clone, Debug, Default)]
pub struct GetOptions {
    /// Write into an existing folder: files that differ are replaced, others stay.
    pub update: bool,
    /// Start over instead of using what an interrupted `get` left.
    pub restart: bool,
    /// Blocks in flight.
    pub window: usize,
    /// Paths (segments joined by `/`) that get execute permission: from the release record.
    pub executables: Vec<String>,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct Got {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that came over the network.
    pub fetched: u64,
    /// Bytes that were already on this disk, from an interrupted run or an older version.
    pub reused: u64,
}

/// Called with bytes verified so far and bytes in all, once known.
pub type OnProgress = std::sync::Arc<dyn Fn(u64, Option<u64>) + Send + Sync>;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The DAG could not be fetched or read.
    #[error(transparent)]
    Dag(#[from] DagError),
    /// The target exists.
    #[error("{} exists already", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// A name in the DAG would leave the target folder, or cannot be a file name here.
    #[error("the entry {name:?} cannot be written as a file name")]
    Name {
        /// The name.
        name: String,
    },
    /// The disk is full.
    #[error("the disk holding {} has no room for {needed} bytes", path.display())]
    Full {
        /// The target.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
    },
    /// Writing failed.
    #[error("writing {} failed", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// Fetches the UnixFS tree under `root` to `out`: everything is written beside it and renamed at the
/// end, so that `out` is whole or absent. What an interrupted run left is verified by hash and reused.
pub async fn get<S: BlockSource + Clone>(
    _source: &S,
    _root: Cid,
    _out: &Path,
    _options: &GetOptions,
    _progress: OnProgress,
) -> Result<Got, GetError> {
    todo!()
}
