//! VERIFY: is a file or folder on disk what a CID says?
//!
//! The DAG is walked and compared with the disk; of a file that is as it should be only the inner
//! nodes are needed. Without the DAG the files are imported again: the same bytes have different
//! CIDs under different settings, so those that are usual are tried.

mod again;
mod compare;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cid::Cid;

use crate::blocking::blocking;
use crate::dag::DagError;
use crate::dag::import::ImportError;
use crate::source::{BlockSource, FetchError};

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it was found.
    pub way: Way,
    /// Bytes compared.
    pub bytes: u64,
    /// What is not as in the tree; after an import only what it left out.
    pub differences: Vec<Difference>,
}

/// How a verdict was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By comparing with the tree of the CID.
    Tree,
    /// By importing the files again.
    Import {
        /// The CID that gave: the wanted one, or that of the usual settings.
        found: Cid,
    },
}

/// An entry that is not as in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path below what is verified; empty for itself.
    pub path: String,
    /// How it is not.
    pub kind: Kind,
}

/// How an entry is not as in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has other bytes, or is of another kind.
    Differs,
    /// It is not on disk.
    Missing,
    /// It is on disk only.
    Added,
}

impl Kind {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::Missing => "missing",
            Self::Added => "added",
        }
    }
}

/// Called with the bytes read so far.
pub type OnProgress = Arc<dyn Fn(u64) + Send + Sync>;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The DAG could not be read.
    #[error(transparent)]
    Dag(#[from] DagError),
    /// The files could not be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A file or folder could not be read.
    #[error("reading {} failed", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Compares what is at `path` with the DAG of `cid`, or, when `source` does not have it, with the
/// CIDs that importing it gives. Permissions and times do not count.
///
/// # Errors
/// [`VerifyError`] when the disk or the DAG cannot be read; differences are no error.
pub async fn verify<S: BlockSource + Clone>(
    source: &S,
    path: &Path,
    cid: Cid,
    progress: OnProgress,
) -> Result<Verdict, VerifyError> {
    let top = path.to_owned();
    blocking(move || std::fs::symlink_metadata(&top).map_err(|source| failed(&top, source)))
        .await?;
    match compare::compare(source, path, cid, &progress).await {
        Err(VerifyError::Dag(DagError::Fetch(FetchError::NotFound { .. }))) => {
            again::import_again(path, cid, progress).await
        }
        compared => compared,
    }
}

fn failed(path: &Path, source: io::Error) -> VerifyError {
    VerifyError::Read {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
