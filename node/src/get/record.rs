//! What a release's record says of its files, against what came.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cid::Cid;

use super::{GetError, RecordedFile};
use crate::block::{RAW, SHA2_256};

/// The files of a record.
#[derive(Debug)]
pub(super) struct Record {
    /// Those that did not come yet.
    awaited: HashMap<PathBuf, RecordedFile>,
    /// Those that came, and whose bytes nothing has compared with the record yet.
    unread: Vec<(PathBuf, [u8; 32])>,
}

impl Record {
    pub(super) fn new(files: &[RecordedFile]) -> Self {
        let by_path = files
            .iter()
            .map(|file| (PathBuf::from(&file.path), file.clone()));
        Self {
            awaited: by_path.collect(),
            unread: Vec::new(),
        }
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        let sizes = self.awaited.values().map(|file| file.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// A file came. Whether it gets execute permission.
    pub(super) fn file(&mut self, cid: &Cid, path: &Path, size: u64) -> Result<bool, GetError> {
        let Some(file) = self.awaited.remove(path) else {
            return Err(differs(path, "it does not have"));
        };
        if file.size != size {
            return Err(differs(path, "it has another length of"));
        }
        // A file that is one raw block has its SHA-256 in its CID.
        if cid.codec() != RAW || cid.hash().code() != SHA2_256 {
            self.unread.push((path.to_owned(), file.sha256));
        } else if cid.hash().digest() != file.sha256 {
            return Err(differs(path, OTHER_BYTES));
        }
        Ok(file.executable)
    }

    /// All files came; `sha256` reads one. Blocking.
    pub(super) fn check(
        self,
        sha256: impl Fn(&Path) -> Result<[u8; 32], GetError>,
    ) -> Result<(), GetError> {
        if let Some(path) = self.awaited.keys().min() {
            return Err(differs(path, "only it has"));
        }
        for (path, wanted) in &self.unread {
            if sha256(path)? != *wanted {
                return Err(differs(path, OTHER_BYTES));
            }
        }
        Ok(())
    }
}

const OTHER_BYTES: &str = "it has another SHA-256 of";

fn differs(path: &Path, what: &'static str) -> GetError {
    let path = path.to_owned();
    GetError::Record { path, what }
}
