//! Which files share their bytes with the store.

use std::collections::HashSet;
use std::fs::{File, Metadata as Stat};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use parking_lot::Mutex;

use super::plan::read_error;
use super::{ImportError, ImportOptions, Sink};
use crate::disk;
use crate::store::{Snapshot, Store};

/// Shorter files are copied: a snapshot costs more than that.
const SHARED_FROM: u64 = 1 << 20;

/// Whether stored bytes share the room that the files of an import take on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reflink {
    /// Where the file system can.
    #[default]
    Auto,
    /// It is an error where the file system cannot. Files of less than 1 MiB are copied.
    Always,
    /// They are copied.
    Never,
}

/// Takes snapshots of the files of one import.
pub(super) struct Snapshots<'a> {
    /// None are taken without one.
    store: Option<&'a Store>,
    must: bool,
    /// Devices that share nothing with the store.
    refusing: Mutex<HashSet<u64>>,
}

impl<'a> Snapshots<'a> {
    pub(super) fn new(sink: &'a Sink, options: &ImportOptions) -> Self {
        let store = match sink {
            Sink::Store(store, _) if options.reflink != Reflink::Never => Some(store),
            _ => None,
        };
        Self {
            // Only blocks that are bytes of the file can be shared.
            store: store.filter(|_| options.raw_leaves()),
            must: options.reflink == Reflink::Always,
            refusing: Mutex::default(),
        }
    }

    /// A snapshot of a file, `None` when it is to be copied.
    pub(super) fn of(
        &self,
        file: &File,
        path: &Path,
        stat: &Stat,
    ) -> Result<Option<Snapshot>, ImportError> {
        let Some(store) = self.store.filter(|_| stat.len() >= SHARED_FROM) else {
            return Ok(None);
        };
        if self.refusing.lock().contains(&stat.dev()) {
            return Ok(None);
        }
        match store.snapshot(file) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(source) if disk::cannot_share(&source) => {
                if self.must {
                    let path = path.to_owned();
                    return Err(ImportError::NoReflinks { path, source });
                }
                self.refusing.lock().insert(stat.dev());
                Ok(None)
            }
            Err(error) if self.must => Err(read_error(path, error)),
            Err(_) => Ok(None),
        }
    }
}
