//! Directories, plain or HAMT: building them from entries, and looking names up.

use cid::Cid;

use super::import::Profile;
use super::unixfs::Metadata;
use crate::block::Block;

/// An entry of a directory to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name, UTF-8.
    pub name: String,
    /// Target.
    pub cid: Cid,
    /// Cumulative size of the target DAG in bytes.
    pub tsize: u64,
}

/// A built directory: its blocks, root last, and the cumulative size of its DAG.
#[derive(Clone, Debug)]
pub struct BuiltDirectory {
    /// All nodes of the directory itself.
    pub blocks: Vec<Block>,
    /// The root.
    pub root: Cid,
    /// Cumulative size in bytes, the `Tsize` of a link to it.
    pub tsize: u64,
}

/// Builds a directory as `ipfs add` with the same profile would: plain while small, else a HAMT.
pub fn build_directory(
    _entries: Vec<Entry>,
    _metadata: Metadata,
    _profile: Profile,
) -> BuiltDirectory {
    todo!()
}
