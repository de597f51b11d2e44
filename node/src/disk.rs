//! What store, manifest and backup ask of the file system to write. A seam: only tests replace it, to let
//! operations fail and to see what was synced.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Everything that changes files, and the free space. Reads go to the file system itself.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens or makes a file for writing.
    fn open(&self, path: &Path, options: &OpenOptions) -> io::Result<File>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// A file without a name in `dir` that shares the bytes which `source` has now, and keeps them.
    fn snapshot(&self, source: &File, dir: &Path) -> io::Result<File>;
    /// Has `to` hold the bytes of a range: shared where the file system can, and copied elsewhere.
    fn copy_range(&self, range: FileRange<'_>, to: &File, offset: u64) -> io::Result<()>;
    /// Cuts the file.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()>;
    /// Makes the file's bytes and length durable.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Makes new, renamed and removed entries of `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a directory for its owner only, and those above it.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file another name.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Bytes that may still be written below `dir`.
    fn free(&self, dir: &Path) -> io::Result<u64>;
}

/// Bytes of a file.
#[derive(Clone, Copy, Debug)]
pub struct FileRange<'a> {
    /// The file.
    pub file: &'a File,
    /// From which byte on.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

/// The file system itself.
#[derive(Debug)]
pub struct FileSystem;

impl Disk for FileSystem {
    fn open(&self, path: &Path, options: &OpenOptions) -> io::Result<File> {
        options.open(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn snapshot(&self, source: &File, dir: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options.custom_flags(OFlags::TMPFILE.bits().cast_signed());
        let snapshot = options.open(dir)?;
        rustix::fs::ioctl_ficlone(&snapshot, source)?;
        Ok(snapshot)
    }

    fn copy_range(&self, range: FileRange<'_>, to: &File, mut offset: u64) -> io::Result<()> {
        let mut from = range.offset;
        let end = range.offset + range.len;
        while from < end {
            let left = usize::try_from(end - from).unwrap_or(usize::MAX);
            let copied = rustix::fs::copy_file_range(
                range.file,
                Some(&mut from),
                to,
                Some(&mut offset),
                left,
            );
            match copied {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// What removing something came to: gone is gone, whoever did it.
pub(crate) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes `dir` and what is missing above it, for its owner only, with durable names.
pub(crate) fn make_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let missing = dir.ancestors().take_while(|above| !above.is_dir());
    let missing = missing.take_while(|above| !above.as_os_str().is_empty());
    let made = missing.count();
    disk.make_dir(dir)?;
    // Whoever made `dir` before may have been killed before its name was synced.
    for dir in dir.ancestors().take(made.max(1)) {
        let above = match dir.parent() {
            None => dir,
            Some(above) if above.as_os_str().is_empty() => Path::new("."),
            Some(above) => above,
        };
        match disk.sync_dir(above) {
            // What others made in a directory of theirs.
            Err(error) if made == 0 && error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Whether an error means that there is no room: worth trying again later.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether [`Disk::snapshot`] failed because the two cannot share bytes.
pub(crate) fn cannot_share(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        // `ISDIR` is for the file without a name.
        Some(
            Errno::OPNOTSUPP
                | Errno::XDEV
                | Errno::INVAL
                | Errno::NOTTY
                | Errno::NOSYS
                | Errno::ISDIR
        )
    )
}

/// Writes a file from its start to its end.
#[derive(Debug)]
pub(crate) struct Sequential<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) file: File,
    pub(crate) at: u64,
}

impl Write for Sequential<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write_at(&self.file, bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
