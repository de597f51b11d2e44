//! Files and folders into UnixFS DAGs: chunk, hash in parallel, build, store.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cid::Cid;
use globset::GlobSet;

use crate::store::{PackKind, Store, StoreError};

/// An import profile: everything that decides which CID a file gets (IPIP-499).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Profile {
    /// CIDv1, raw leaves, 1 MiB chunks, 1,024 links, HAMT above 256 KiB, fanout 256.
    #[default]
    UnixfsV1_2025,
    /// CIDv0, dag-pb leaves, 256 KiB chunks, 174 links, HAMT by link size.
    UnixfsV0_2015,
}

impl Profile {
    /// The profile's name as IPIP-499 and Kubo spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnixfsV1_2025 => "unixfs-v1-2025",
            Self::UnixfsV0_2015 => "unixfs-v0-2015",
        }
    }
}

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Import profile.
    pub profile: Profile,
    /// Paths (relative to the imported folder) that are left out.
    pub ignore: GlobSet,
    /// Include names that begin with a dot.
    pub hidden: bool,
    /// Store Unix permission bits in the UnixFS nodes, as Kubo's `--preserve-mode`.
    pub preserve_mode: bool,
    /// Store mtimes, as Kubo's `--preserve-mtime`.
    pub preserve_mtime: bool,
}

/// One regular file of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedFile {
    /// Path inside the imported folder, segments joined by `/`; empty for a single file.
    pub path: String,
    /// The file's own root.
    pub cid: Cid,
    /// Length in bytes.
    pub size: u64,
    /// Whether any execute bit is set.
    pub executable: bool,
}

/// What an import made. Nothing is durable before [`Store::commit`].
#[derive(Clone, Debug)]
pub struct Imported {
    /// The root.
    pub root: Cid,
    /// Regular files, in path order.
    pub files: Vec<ImportedFile>,
    /// Cumulative size of the DAG in bytes, the `Tsize` of a link to it.
    pub tsize: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of blocks that the store did not have.
    pub new_bytes: u64,
    /// Blocks of the whole DAG.
    pub blocks: u64,
}

/// Called with the number of source bytes taken in since the last call; returns `false` to stop.
pub type OnProgress = Arc<dyn Fn(u64) -> bool + Send + Sync>;

/// Where imported blocks go.
#[derive(Clone, Debug)]
pub enum Sink {
    /// Into packs of the store.
    Store(Store, PackKind),
    /// Nowhere: only the CIDs are wanted (`verify`, `--dry-run`).
    Discard,
}

/// Why an import stopped. Nothing of it is visible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Reading the source failed.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file's length or mtime changed between opening and the end.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The name is not UTF-8, which UnixFS names must be.
    #[error("the name of {} is not valid UTF-8", path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// Neither file, folder nor symlink.
    #[error("{} is a {kind}, which cannot be published", path.display())]
    Special {
        /// The file.
        path: PathBuf,
        /// `socket`, `named pipe`, `device`.
        kind: &'static str,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller asked to stop.
    #[error("the import was stopped")]
    Stopped,
}

/// Imports a file or a folder. Blocking; uses all cores; memory is bounded whatever the size.
pub fn import_path(
    _sink: &Sink,
    _path: &Path,
    _options: &ImportOptions,
    _progress: &OnProgress,
) -> Result<Imported, ImportError> {
    todo!()
}

/// Imports one file from a reader. Blocking.
pub fn import_reader(
    _sink: &Sink,
    _reader: &mut (dyn Read + Send),
    _options: &ImportOptions,
    _progress: &OnProgress,
) -> Result<Imported, ImportError> {
    todo!()
}
