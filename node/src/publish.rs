//! PUBLISH, top to bottom: import under a temp pin → one durable commit of the blocks → one manifest
//! commit {product, release, pin, jobs}. Nothing is visible before that commit.

use cid::Cid;
use serde::{Deserialize, Serialize};

/// One line of a release's file list (JSON lines, one file each, in path order).
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct FileEntry {
    /// Path inside the release, segments joined by `/`; empty when the release is one file.
    pub path: String,
    /// The file's own root.
    pub cid: String,
    /// Length in bytes.
    pub size: u64,
    /// Whether it is executable.
    pub executable: bool,
}

/// The CID type, re-exported for callers that only publish.
pub type Root = Cid;
