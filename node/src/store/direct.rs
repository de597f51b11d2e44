//! Packs are written and read past the page cache where the file system can.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::disk::Disk;

/// Opens a pack for writing past the page cache where the file system can.
pub(super) fn open_direct(disk: &dyn Disk, path: &Path, create_new: bool) -> io::Result<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    options.write(true).create_new(create_new);
    options.custom_flags(flags);
    match disk.open(path, &options) {
        // The file may have been made before the flag was refused.
        Err(error) if refuses_direct(&error) => {
            let mut options = OpenOptions::new();
            disk.open(path, options.write(true).create(create_new).truncate(false))
        }
        opened => opened,
    }
}

/// Opens a pack for reading past the page cache; `None` where the file system cannot.
pub(super) fn open_to_read(path: &Path) -> io::Result<Option<File>> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    match opened {
        Err(error) if refuses_direct(&error) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Opens a pack for writing through the page cache.
pub(super) fn open_buffered(disk: &dyn Disk, path: &Path) -> io::Result<File> {
    disk.open(path, OpenOptions::new().write(true))
}

/// Whether an error means that direct I/O is not possible here.
pub(super) fn refuses_direct(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}
