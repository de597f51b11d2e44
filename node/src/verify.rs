//! VERIFY: does a file or folder on disk have this CID?
//!
//! The same bytes have different CIDs under different import settings, so the profile is found from
//! the CID: version 0 → `unixfs-v0-2015`, version 1 → `unixfs-v1-2025`.

use std::path::Path;

use cid::{Cid, Version};

use crate::dag::import::{ImportError, ImportOptions, OnProgress, Profile, Sink, import_path};

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

/// Hashes `path` and compares. Names that begin with a dot count: they are on the disk, so they are
/// part of what is verified. Blocking; stores nothing.
pub fn verify(path: &Path, cid: &Cid, progress: &OnProgress) -> Result<Verdict, ImportError> {
    let options = ImportOptions {
        profile: match cid.version() {
            Version::V0 => Profile::UnixfsV0_2015,
            Version::V1 => Profile::UnixfsV1_2025,
        },
        hidden: true,
        ..ImportOptions::default()
    };
    let imported = import_path(&Sink::Discard, path, &options, progress)?;
    Ok(Verdict {
        found: imported.root,
        matches: imported.root == *cid,
        bytes: imported.bytes,
    })
}
