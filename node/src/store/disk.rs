//! What the store asks of the file system to write. A seam: tests inject faults here.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Writes and syncs of pack files, and the free space behind them.
pub(super) trait Disk: fmt::Debug + Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file's bytes and length durable.
    fn sync_data(&self, file: &File) -> io::Result<()>;
    /// Bytes that may still be written below `dir`.
    fn free(&self, dir: &Path) -> io::Result<u64>;
}

/// The file system itself.
#[derive(Debug)]
pub(super) struct FileSystem;

impl Disk for FileSystem {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Opens a pack for writing past the page cache where the file system can.
pub(super) fn open_direct(path: &Path, create_new: bool) -> io::Result<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
    let direct = OpenOptions::new()
        .write(true)
        .create_new(create_new)
        .custom_flags(flags)
        .open(path);
    match direct {
        // The file may have been made before the flag was refused.
        Err(error) if refuses_direct(&error) => OpenOptions::new()
            .write(true)
            .create(create_new)
            .truncate(false)
            .open(path),
        opened => opened,
    }
}

/// Opens a pack for writing through the page cache.
pub(super) fn open_buffered(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

/// Whether an error means that direct I/O is not possible here.
pub(super) fn refuses_direct(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}

/// Whether an error means that there is no room: worth trying again later.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Makes new and renamed entries of `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
