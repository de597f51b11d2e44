//! VERIFY: does a file or folder on disk have this CID?
//!
//! The same bytes have different CIDs under different import settings, so the profile is found from
//! the CID: version 0 → `unixfs-v0-2015`, version 1 → `unixfs-v1-2025`.

use std::path::Path;

use cid::Cid;

use crate::dag::import::{ImportError, OnProgress};

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The CID that the path has under the profile.
    pub found: Cid,
    /// Whether it is the wanted one.
    pub matches: bool,
    /// Bytes hashed.
    pub bytes: u64,
}

/// Hashes `path` and compares. Blocking; stores nothing.
pub fn verify(_path: &Path, _cid: &Cid, _progress: &OnProgress) -> Result<Verdict, ImportError> {
    todo!()
}
