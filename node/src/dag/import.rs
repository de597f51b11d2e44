//! Files and folders into UnixFS DAGs: chunk, hash in parallel, build, store.
//!
//! The tree is walked first (`plan`); then one worker per core reads, hashes and stores
//! (`work`); then the folders are built from the leaves up. Memory is bounded by the workers'
//! batches, 64 MiB in all, plus a few hundred bytes per file of the tree.

mod batch;
mod buffers;
mod chunker;
mod layout;
mod opened;
mod plan;
mod profile;
mod reader;
mod reflink;
mod work;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use cid::Cid;
use globset::GlobSet;

pub use self::chunker::{Chunker, ChunkerError};
pub use self::profile::Profile;
pub use self::reflink::Reflink;

use self::batch::Batch;
use self::layout::Part;
use self::plan::{Item, Plan};
use self::work::{Done, Work};
use super::hamt::{DirectoryError, Entry, build_directory};
use super::unixfs;
use crate::store::{PackKind, Store, StoreError};

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Import profile.
    pub profile: Profile,
    /// How files are cut into chunks; by default as the profile says.
    pub chunker: Option<Chunker>,
    /// Paths (relative to the imported folder) that are left out.
    pub ignore: GlobSet,
    /// Include names that begin with a dot.
    pub hidden: bool,
    /// Store Unix permission bits in the UnixFS nodes, as Kubo's `--preserve-mode`.
    pub preserve_mode: bool,
    /// Store mtimes, as Kubo's `--preserve-mtime`.
    pub preserve_mtime: bool,
    /// Leave the bytes of files where they are: only where that is goes into the store.
    pub in_place: bool,
    /// Whether what is stored shares the room of the files; not asked for what stays in place.
    pub reflink: Reflink,
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
    /// Blocks of the whole DAG; equal blocks count each time.
    pub blocks: u64,
}

/// Called with the number of source bytes taken in since the last call; returns `false` to stop.
pub type OnProgress = Arc<dyn Fn(u64) -> bool + Send + Sync>;

/// Where imported blocks go.
#[derive(Clone, Debug)]
pub enum Sink {
    /// Into packs of the store.
    Store(Store, PackKind),
    /// Nowhere: counts the bytes that packs of the store lack (`--dry-run`), equal blocks each time.
    Compare(Store, PackKind),
    /// Nowhere: only the CIDs are wanted (`verify`).
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
    /// The names in a folder cannot be one directory.
    #[error("the folder {} cannot be published", path.display())]
    Directory {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: DirectoryError,
    },
    /// The bytes cannot be left where they are.
    #[error("cannot add in place: {reason}")]
    NotInPlace {
        /// Why not.
        reason: &'static str,
    },
    /// The store cannot share the bytes of anything that is imported like this.
    #[error("cannot reflink: {reason}")]
    NotReflinked {
        /// Why not.
        reason: &'static str,
    },
    /// The store cannot share the bytes of the file.
    #[error(
        "cannot reflink {}: the file and the data directory must be on one file system that has reflinks, such as \
         XFS or Btrfs",
        path.display()
    )]
    NoReflinks {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller asked to stop.
    #[error("the import was stopped")]
    Stopped,
}

/// Imports a file or a folder. Blocking; uses all cores; memory is bounded whatever the size.
///
/// A symlink at `path` is followed; those inside are stored as symlinks. The result does not depend on the order
/// in which the file system lists names.
///
/// # Errors
/// [`ImportError`]; what was stored before it is garbage that no pin holds.
pub fn import_path(
    sink: &Sink,
    path: &Path,
    options: &ImportOptions,
    progress: &OnProgress,
) -> Result<Imported, ImportError> {
    if !options.raw_leaves() {
        let reason =
            "this profile, a mode or an mtime is stored together with the bytes of the files";
        if options.in_place {
            return Err(ImportError::NotInPlace { reason });
        }
        if options.reflink == Reflink::Always {
            return Err(ImportError::NotReflinked { reason });
        }
    }
    let plan = Plan::of(path, options)?;
    let workers = workers();
    let batch_bytes = BATCHES_BYTES / workers;
    let buffers = work::buffers(options.chunker(), workers, batch_bytes);
    let work = Work::new(sink, &plan, options, progress, buffers);

    let mut total = Batch::new(sink, batch_bytes);
    let mut roots = vec![None; plan.files.len()];
    for (batch, done) in run(workers, sink, batch_bytes, |batch| work.run(batch))? {
        total.count(&batch);
        for Done {
            index,
            root,
            executable,
        } in done
        {
            roots[index] = Some((root, executable));
        }
    }
    let mut files = Vec::with_capacity(plan.files.len());
    for (path, root) in plan.files.iter().zip(roots) {
        // A worker that was stopped early leaves gaps only when another one failed, returned above.
        let (root, executable) = root.ok_or(ImportError::Stopped)?;
        files.push((root, executable, path.clone()));
    }
    let root = build_folders(&plan, &files, options.profile, &mut total)?;
    total.flush()?;

    let mut files: Vec<ImportedFile> = files
        .into_iter()
        .map(|(root, executable, path)| ImportedFile {
            path,
            cid: root.cid,
            size: root.size,
            executable,
        })
        .collect();
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(Imported {
        root: root.cid,
        tsize: root.tsize,
        bytes: files.iter().map(|file| file.size).sum(),
        files,
        new_bytes: total.new_bytes,
        blocks: total.blocks,
    })
}

/// Imports one file from a reader. Blocking; metadata options do not apply.
///
/// # Errors
/// [`ImportError`]; a failed read names the path `-`.
pub fn import_reader(
    sink: &Sink,
    reader: &mut (dyn Read + Send),
    options: &ImportOptions,
    progress: &OnProgress,
) -> Result<Imported, ImportError> {
    if options.in_place {
        return Err(ImportError::NotInPlace {
            reason: "a stream has no place; add a file or a folder",
        });
    }
    if options.reflink == Reflink::Always {
        return Err(ImportError::NotReflinked {
            reason: "a stream is on no file system; add a file or a folder",
        });
    }
    let options = ImportOptions {
        preserve_mode: false,
        preserve_mtime: false,
        ..options.clone()
    };
    let workers = workers();
    let batch_bytes = BATCHES_BYTES / workers;
    let buffers = work::buffers(options.chunker(), workers, batch_bytes);
    let pieces = reader::Pieces::new(reader, &options, progress, buffers);

    let mut total = Batch::new(sink, batch_bytes);
    for (batch, ()) in run(workers, sink, batch_bytes, |batch| pieces.run(batch))? {
        total.count(&batch);
    }
    let root = pieces.finish(&mut total)?;
    total.flush()?;
    Ok(Imported {
        root: root.cid,
        files: vec![ImportedFile {
            path: String::new(),
            cid: root.cid,
            size: root.size,
            executable: false,
        }],
        tsize: root.tsize,
        bytes: root.size,
        new_bytes: total.new_bytes,
        blocks: total.blocks,
    })
}

/// Bytes of blocks that may wait in all workers' batches together: few, so that the disk is busy from the start
/// and blocks are copied to the writer's buffers while the cache has them.
const BATCHES_BYTES: usize = 8 << 20;
/// More threads than this would make the batches too small.
const MAX_WORKERS: usize = 16;

fn workers() -> usize {
    thread::available_parallelism().map_or(1, |n| n.get().min(MAX_WORKERS))
}

/// Runs `work` on `workers` threads, each with its own batch; the first error is the result.
fn run<'a, T: Send>(
    workers: usize,
    sink: &'a Sink,
    batch_bytes: usize,
    work: impl Fn(&mut Batch<'a>) -> Result<T, ImportError> + Sync,
) -> Result<Vec<(Batch<'a>, T)>, ImportError> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let mut batch = Batch::new(sink, batch_bytes);
                    let result = work(&mut batch)?;
                    Ok((batch, result))
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        // Join all before the first error counts.
        let results: Vec<_> = joined.collect();
        results.into_iter().collect()
    })
}

/// Builds the folders, the deepest first, and gives the root of the whole tree.
fn build_folders(
    plan: &Plan,
    files: &[(Part, bool, String)],
    profile: Profile,
    batch: &mut Batch<'_>,
) -> Result<Part, ImportError> {
    let mut built: Vec<Option<Part>> = vec![None; plan.folders.len()];
    for (index, folder) in plan.folders.iter().enumerate().rev() {
        let mut entries = Vec::with_capacity(folder.items.len());
        for (name, item) in &folder.items {
            let part = part_of(item, files, &built, profile, batch)?;
            entries.push(Entry {
                name: name.clone(),
                cid: part.cid,
                tsize: part.tsize,
            });
        }
        let directory = build_directory(entries, folder.metadata, profile).map_err(|source| {
            ImportError::Directory {
                path: plan.locate(&folder.path),
                source,
            }
        })?;
        for block in directory.blocks {
            batch.add(block)?;
        }
        built[index] = Some(Part {
            cid: directory.root,
            size: 0,
            tsize: directory.tsize,
        });
    }
    part_of(&plan.root, files, &built, profile, batch)
}

fn part_of(
    item: &Item,
    files: &[(Part, bool, String)],
    built: &[Option<Part>],
    profile: Profile,
    batch: &mut Batch<'_>,
) -> Result<Part, ImportError> {
    match item {
        Item::File(index) => Ok(files[*index].0),
        Item::Folder(index) => Ok(built[*index].expect("folders follow the folder they are in")),
        Item::Symlink { target, metadata } => {
            let block = profile.dag_pb(unixfs::encode_symlink(target.clone(), *metadata));
            let part = Part::leaf(&block, 0);
            batch.add(block)?;
            Ok(part)
        }
    }
}

#[cfg(test)]
mod tests;
