//! Which files are denylists, and whether they changed.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::DenylistError;

/// A file as it was: any write to it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) path: PathBuf,
    device: u64,
    inode: u64,
    len: u64,
    /// Times of the last write and of the last change of anything, in seconds and nanoseconds.
    written: (i64, i64),
    changed: (i64, i64),
}

/// The lists at `paths` in the order in which they are read: a file is one, of a directory those named
/// `*.deny`, by name.
pub(super) fn list(paths: &[PathBuf]) -> Result<Vec<Stamp>, DenylistError> {
    let mut stamps = Vec::new();
    for path in paths {
        let found = metadata(path)?;
        if !found.is_dir() {
            stamps.push(Stamp::new(path, &found));
            continue;
        }
        for file in files_in(path)? {
            let found = metadata(&file)?;
            if found.is_file() {
                stamps.push(Stamp::new(&file, &found));
            }
        }
    }
    Ok(stamps)
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>, DenylistError> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|source| DenylistError::Unreadable {
        path: dir.to_owned(),
        source,
    })?;
    let paths = entries.into_iter().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|name| name == "deny"))
        .collect();
    files.sort();
    Ok(files)
}

fn metadata(path: &Path) -> Result<Metadata, DenylistError> {
    fs::metadata(path).map_err(|source| DenylistError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

impl Stamp {
    fn new(path: &Path, found: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
            written: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}
