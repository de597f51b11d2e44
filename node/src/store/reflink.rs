//! Blocks that share the bytes of the file they were added from, on file systems with reflinks.
//!
//! A snapshot of the file is hashed, and its ranges are what the pack gets: whatever happens to the file
//! meanwhile, they are the same bytes. A file system shares whole blocks only, so these start at a page of the
//! pack.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::catalog::{Catalog, Located};
use super::layout::ALIGN;
use super::{Store, StoreError};

/// Shorter blocks are copied: up to a page leads to the page that a shared one starts at, and it would take too
/// much of the pack.
const MIN_LEN: u64 = 32 << 10;

/// A file whose bytes nobody changes: as one was, under no name.
#[derive(Clone, Debug)]
pub struct Snapshot(Arc<File>);

impl Snapshot {
    #[cfg(test)]
    pub(super) fn of(file: Arc<File>) -> Self {
        Self(file)
    }

    /// To read from.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.0)
    }
}

/// Bytes that a pack may share.
#[derive(Clone, Debug)]
pub struct Extent {
    /// In which file.
    pub snapshot: Snapshot,
    /// From which byte on.
    pub offset: u64,
}

impl Extent {
    /// Whether a block of `len` bytes can be shared, and is worth it.
    pub(super) fn is_shareable(&self, len: u64) -> bool {
        len >= MIN_LEN && len.is_multiple_of(ALIGN) && self.offset.is_multiple_of(ALIGN)
    }

    /// The bytes of a block that is in a pack. Nothing is written to these bytes any more.
    pub(super) fn in_pack(catalog: &Catalog, located: &Located) -> Result<Self, StoreError> {
        let path = located.pack.pack_path(catalog.dir());
        let file = catalog
            .file(&path)
            .map_err(|source| StoreError::io("reading", &path, source))?;
        Ok(Self {
            snapshot: Snapshot(file),
            offset: located.place.offset,
        })
    }
}

impl Store {
    /// Takes a snapshot of a file, which costs no room: blocks that are put with its ranges share its bytes.
    /// Blocking.
    ///
    /// # Errors
    /// Where the store and the file are not on one file system with reflinks.
    pub fn snapshot(&self, source: &File) -> io::Result<Snapshot> {
        let catalog = &self.inner.shared.catalog;
        if rustix::fs::statvfs(catalog.dir())?.f_bsize > ALIGN {
            // Its blocks are larger than pages of a pack: nothing would be shared.
            return Err(Errno::OPNOTSUPP.into());
        }
        let snapshot = catalog.disk().snapshot(source, catalog.dir())?;
        Ok(Snapshot(Arc::new(snapshot)))
    }
}
