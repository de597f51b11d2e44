//! Names, creation and durable removal of the files in the manifest's directory.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::frame::HEADER_LEN;
use super::{ManifestError, io_error};
use crate::disk::Disk;

const JOURNAL: &str = "journal-";
const CHECKPOINT: &str = "checkpoint-";
const SUFFIX: &str = ".log";
const TEMPORARY: &str = ".tmp";

/// The journal whose first entry has this sequence number.
pub(super) fn journal_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{JOURNAL}{first:020}{SUFFIX}"))
}

/// The checkpoint that holds everything up to this sequence number.
pub(super) fn checkpoint_path(dir: &Path, last: u64) -> PathBuf {
    dir.join(checkpoint_name(last))
}

/// The name of that checkpoint, as the next open looks for it.
pub(crate) fn checkpoint_name(last: u64) -> String {
    format!("{CHECKPOINT}{last:020}{SUFFIX}")
}

/// The name that a file has until it is whole.
pub(super) fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    name.into()
}

/// The sled directory.
pub(super) fn index_path(dir: &Path) -> PathBuf {
    dir.join("index")
}

/// Says that the index was closed, and is durable, with this entry applied. It is there while nothing has
/// the manifest open.
fn closed_path(dir: &Path) -> PathBuf {
    dir.join("index.closed")
}

/// Notes that the index is whole, with the entry `applied` as its last.
pub(super) fn mark_closed(disk: &dyn Disk, dir: &Path, applied: u64) -> Result<(), ManifestError> {
    let path = closed_path(dir);
    let temporary = temporary_path(&path);
    let file = create(disk, &temporary)?;
    disk.write_at(&file, applied.to_string().as_bytes(), 0)
        .map_err(|e| write_error("writing", &temporary, e))?;
    disk.sync(&file)
        .map_err(|e| write_error("syncing", &temporary, e))?;
    disk.rename(&temporary, &path)
        .map_err(|e| write_error("renaming", &temporary, e))?;
    sync_dir(disk, dir)
}

/// What [`mark_closed`] noted.
pub(super) fn closed(dir: &Path) -> Result<Option<u64>, ManifestError> {
    let path = closed_path(dir);
    match fs::read(&path) {
        Ok(text) => Ok(str::from_utf8(&text)
            .ok()
            .and_then(|text| text.parse().ok())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("reading", &path, error)),
    }
}

/// Takes the note of [`mark_closed`] away, durably: from now on the index may change.
pub(super) fn unmark_closed(disk: &dyn Disk, dir: &Path) -> Result<(), ManifestError> {
    let path = closed_path(dir);
    match disk.remove(&path) {
        Ok(()) => sync_dir(disk, dir),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("removing", &path, error)),
    }
}

/// Gives the index another name. Nothing is made of it any more.
pub(super) fn set_index_aside(disk: &dyn Disk, dir: &Path) -> Result<PathBuf, ManifestError> {
    let path = index_path(dir);
    let aside = dir.join(format!("index.broken-{}", now()));
    disk.rename(&path, &aside)
        .map_err(|e| io_error("setting aside", &path, e))?;
    Ok(aside)
}

/// Gives a damaged file a second name, under which it stays when it is replaced; `None` when there is none.
pub(super) fn keep_damaged(disk: &dyn Disk, path: &Path) -> Result<Option<PathBuf>, ManifestError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{}", now()));
    let aside = PathBuf::from(aside);
    match disk.link(path, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("setting aside", path, error)),
    }
}

/// The time, as a part of a name.
fn now() -> impl Display {
    Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ")
}

/// Whether there is neither a checkpoint nor the beginning of a journal.
pub(super) fn is_absent(dir: &Path) -> Result<bool, ManifestError> {
    if !dir.is_dir() {
        return Ok(true);
    }
    let listing = Listing::read(dir)?;
    for &first in &listing.journals {
        let path = journal_path(dir, first);
        let metadata = path.metadata().map_err(|e| io_error("reading", &path, e))?;
        if metadata.len() >= HEADER_LEN as u64 {
            return Ok(false);
        }
    }
    Ok(listing.checkpoints.is_empty())
}

/// What the directory holds, each list in ascending order.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// First sequence numbers of the journals.
    pub(super) journals: Vec<u64>,
    /// Last sequence numbers of the checkpoints.
    pub(super) checkpoints: Vec<u64>,
    /// Files that were never finished.
    pub(super) temporary: Vec<PathBuf>,
}

impl Listing {
    pub(super) fn read(dir: &Path) -> Result<Self, ManifestError> {
        let mut listing = Self::default();
        for entry in fs::read_dir(dir).map_err(|e| io_error("listing", dir, e))? {
            let entry = entry.map_err(|e| io_error("listing", dir, e))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.ends_with(TEMPORARY) {
                listing.temporary.push(entry.path());
            } else if let Some(first) = number(name, JOURNAL) {
                listing.journals.push(first);
            } else if let Some(last) = number(name, CHECKPOINT) {
                listing.checkpoints.push(last);
            }
        }
        listing.journals.sort_unstable();
        listing.checkpoints.sort_unstable();
        Ok(listing)
    }
}

fn number(name: &str, prefix: &str) -> Option<u64> {
    name.strip_prefix(prefix)?
        .strip_suffix(SUFFIX)?
        .parse()
        .ok()
}

/// Makes `dir` with mode 0700 if it is not there, durably.
pub(super) fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<(), ManifestError> {
    if dir.is_dir() {
        return Ok(());
    }
    disk.make_dir(dir).map_err(|e| io_error("making", dir, e))?;
    dir.parent().map_or(Ok(()), |parent| sync_dir(disk, parent))
}

/// Opens a new or emptied file with mode 0600 for writing.
pub(super) fn create(disk: &dyn Disk, path: &Path) -> Result<File, ManifestError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    disk.open(path, &options)
        .map_err(|e| write_error("making", path, e))
}

/// Takes the lock that one process holds on the directory until the file is closed.
pub(super) fn lock(disk: &dyn Disk, dir: &Path) -> Result<File, ManifestError> {
    let path = dir.join("lock");
    let file = create(disk, &path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(ManifestError::Locked {
            path: dir.to_owned(),
        }),
        Err(fs::TryLockError::Error(error)) => Err(io_error("locking", &path, error)),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), ManifestError> {
    disk.sync_dir(dir).map_err(|e| io_error("syncing", dir, e))
}

/// Bytes that may still be written to the disk that holds `dir`.
pub(super) fn free_bytes(disk: &dyn Disk, dir: &Path) -> Result<u64, ManifestError> {
    disk.free(dir)
        .map_err(|e| io_error("checking the free space of", dir, e))
}

/// Removes a file that nothing needs any more. It stays, and is found at the next open, when that
/// fails.
pub(super) fn remove(disk: &dyn Disk, path: &Path) {
    if let Err(error) = disk.remove(path) {
        tracing::warn!(path = %path.display(), %error, "an old manifest file could not be removed");
    }
}

/// [`ManifestError::Full`] when the cause is a full disk, else [`ManifestError::Io`].
pub(super) fn write_error(action: &'static str, path: &Path, error: io::Error) -> ManifestError {
    if is_full(&error) {
        let path = path.parent().unwrap_or(path).to_owned();
        ManifestError::Full { path }
    } else {
        io_error(action, path, error)
    }
}

/// Whether there was no room on the disk.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}
