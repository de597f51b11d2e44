//! UnixFS nodes: the dag-pb node and the `Data` message inside it (UnixFS spec, specs.ipfs.tech).

use bytes::Bytes;
use cid::Cid;

use super::DagError;
use crate::block::Block;

/// A link of a dag-pb node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Target.
    pub cid: Cid,
    /// Name; empty for the chunks of a file.
    pub name: Vec<u8>,
    /// Cumulative size of the target DAG in bytes, as its author claims.
    pub tsize: u64,
}

/// A decoded node, by what a reader does with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixFs {
    /// A file: `data` inline, then the chunks.
    File(FileNode),
    /// A plain directory; links in stored order.
    Directory(DirNode),
    /// One shard of a HAMT directory.
    Shard(ShardNode),
    /// A symbolic link.
    Symlink {
        /// The target, any bytes.
        target: Bytes,
    },
}

/// Mode and mtime of UnixFS 1.5, where the author kept them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Unix permission bits.
    pub mode: Option<u32>,
    /// Seconds and nanoseconds since 1970.
    pub mtime: Option<(i64, u32)>,
}

/// A file node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNode {
    /// Bytes held in this node itself, before those of the children.
    pub data: Bytes,
    /// Children with the number of file bytes below each.
    pub children: Vec<(Cid, u64)>,
    /// Length of the file in bytes: `data` and all children.
    pub size: u64,
    /// Mode and mtime.
    pub metadata: Metadata,
}

/// A plain directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirNode {
    /// Entries.
    pub links: Vec<Link>,
    /// Mode and mtime.
    pub metadata: Metadata,
}

/// A HAMT shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardNode {
    /// Entries and sub-shards, names with their hex prefix.
    pub links: Vec<Link>,
    /// Fanout: a power of two up to 1,024.
    pub fanout: u64,
    /// The bit field.
    pub bitfield: Bytes,
    /// Mode and mtime.
    pub metadata: Metadata,
}

/// Decodes a dag-pb or raw block as UnixFS. A raw block is a file of one chunk.
///
/// # Errors
/// [`DagError::Malformed`] when the bytes are not UnixFS, [`DagError::Limit`] on absurd fanout.
pub fn decode(_block: &Block) -> Result<UnixFs, DagError> {
    todo!()
}

/// The links of a dag-pb block; `None` for another codec or a malformed block.
pub fn links_of(_block: &Block) -> Option<Vec<Link>> {
    todo!()
}
