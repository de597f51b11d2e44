//! UnixFS nodes: the dag-pb node and the `Data` message inside it (UnixFS spec, specs.ipfs.tech).

mod message;

use bytes::Bytes;
use cid::Cid;
use prost::Message;

use self::message::{Data, Timestamp};
use super::{DagError, DagLimits, dagpb};
use crate::block::{Block, DAG_PB, RAW};

/// Multihash code of the only hash function that HAMT directories use.
const MURMUR3_X64_64: u64 = 0x22;
/// The 12 permission bits of a mode.
const MODE_BITS: u32 = 0o7777;

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
/// [`DagError::Malformed`] when the bytes are not UnixFS, [`DagError::Limit`] on absurd fanout,
/// [`DagError::WrongKind`] for other codecs.
pub fn decode(block: &Block) -> Result<UnixFs, DagError> {
    match block.cid().codec() {
        RAW => Ok(UnixFs::File(FileNode {
            data: block.data().clone(),
            children: Vec::new(),
            size: block.data().len() as u64,
            metadata: Metadata::default(),
        })),
        DAG_PB => decode_dag_pb(block),
        _ => Err(DagError::WrongKind {
            cid: *block.cid(),
            found: "a node of a codec other than UnixFS",
            wanted: "UnixFS",
        }),
    }
}

/// The links of a dag-pb block; `None` for another codec or a malformed block.
pub fn links_of(block: &Block) -> Option<Vec<Link>> {
    if block.cid().codec() != DAG_PB {
        return None;
    }
    dagpb::decode(block.data()).ok().map(|node| node.links)
}

fn decode_dag_pb(block: &Block) -> Result<UnixFs, DagError> {
    let malformed = |what, reason: &str| DagError::Malformed {
        cid: *block.cid(),
        what,
        reason: reason.to_owned(),
    };
    let node = dagpb::decode(block.data()).map_err(|reason| malformed("dag-pb", reason))?;
    let data = node
        .data
        .ok_or_else(|| malformed("UnixFS", "it has no data"))?;
    let message = Data::decode(data).map_err(|err| malformed("UnixFS", &err.to_string()))?;
    let metadata = metadata(&message);
    match message.kind {
        Some(message::FILE | message::RAW) => file(node.links, message, metadata)
            .map(UnixFs::File)
            .map_err(|reason| malformed("UnixFS", reason)),
        Some(message::DIRECTORY) => Ok(UnixFs::Directory(DirNode {
            links: node.links,
            metadata,
        })),
        Some(message::HAMT_SHARD) => {
            let fanout = message.fanout.unwrap_or_default();
            let most = DagLimits::current().hamt_width;
            if fanout > most {
                return Err(DagError::Limit {
                    cid: *block.cid(),
                    limit: format!("a HAMT fanout of {fanout}, at most {most}"),
                });
            }
            shard(node.links, message, metadata)
                .map(UnixFs::Shard)
                .map_err(|reason| malformed("HAMT shard", reason))
        }
        Some(message::SYMLINK) => Ok(UnixFs::Symlink {
            target: message.data.unwrap_or_default(),
        }),
        Some(_) => Err(malformed("UnixFS", "its type is not one that can be read")),
        None => Err(malformed("UnixFS", "it has no type")),
    }
}

fn file(links: Vec<Link>, message: Data, metadata: Metadata) -> Result<FileNode, &'static str> {
    if links.len() != message.blocksizes.len() {
        return Err("the number of block sizes is not that of the links");
    }
    let data = message.data.unwrap_or_default();
    let size = message
        .blocksizes
        .iter()
        .try_fold(data.len() as u64, |sum, size| sum.checked_add(*size))
        .ok_or("the block sizes add up to more than 2^64")?;
    if message.filesize.is_some_and(|claimed| claimed != size) {
        return Err("the file size is not the sum of the block sizes");
    }
    let children = links.into_iter().map(|link| link.cid);
    Ok(FileNode {
        data,
        children: children.zip(message.blocksizes).collect(),
        size,
        metadata,
    })
}

fn shard(links: Vec<Link>, message: Data, metadata: Metadata) -> Result<ShardNode, &'static str> {
    let fanout = message.fanout.unwrap_or_default();
    if !fanout.is_power_of_two() || fanout < 8 {
        return Err("the fanout is not a power of two from 8");
    }
    if message.hash_type != Some(MURMUR3_X64_64) {
        return Err("the hash function is not murmur3-x64-64");
    }
    let bitfield = message.data.unwrap_or_default();
    if bitfield.len() as u64 > fanout / 8 {
        return Err("the bit field is wider than the fanout");
    }
    if links.len() as u64 > fanout {
        return Err("there are more links than the fanout");
    }
    Ok(ShardNode {
        links,
        fanout,
        bitfield,
        metadata,
    })
}

fn metadata(message: &Data) -> Metadata {
    let mtime = message.mtime.and_then(|mtime| {
        let nanos = mtime.nanos.unwrap_or_default();
        (nanos < 1_000_000_000).then_some((mtime.seconds?, nanos))
    });
    Metadata {
        mode: message.mode.map(|mode| mode & MODE_BITS),
        mtime,
    }
}

/// A node that holds the bytes of a file, or of one of its chunks, itself.
pub(crate) fn encode_leaf(data: Bytes, metadata: Metadata) -> Vec<u8> {
    let message = Data {
        filesize: Some(data.len() as u64),
        data: (!data.is_empty()).then_some(data),
        ..message_of(message::FILE, metadata)
    };
    dagpb::encode(&[], &message.encode_to_vec())
}

/// An inner node of a file: `links` with the number of file bytes below each.
pub(crate) fn encode_file(links: &[Link], sizes: Vec<u64>, metadata: Metadata) -> Vec<u8> {
    let message = Data {
        filesize: Some(sizes.iter().sum()),
        blocksizes: sizes,
        ..message_of(message::FILE, metadata)
    };
    dagpb::encode(links, &message.encode_to_vec())
}

/// A plain directory; `links` sorted by name.
pub(crate) fn encode_directory(links: &[Link], metadata: Metadata) -> Vec<u8> {
    let message = message_of(message::DIRECTORY, metadata);
    dagpb::encode(links, &message.encode_to_vec())
}

/// Length in bytes of [`encode_directory`]'s result.
pub(crate) fn directory_len(links: &[Link], metadata: Metadata) -> usize {
    let message = message_of(message::DIRECTORY, metadata);
    dagpb::encoded_len(links, message.encoded_len())
}

/// A HAMT shard; `links` sorted by name, `bitfield` without leading zero bytes.
pub(crate) fn encode_shard(
    links: &[Link],
    bitfield: Vec<u8>,
    fanout: u64,
    metadata: Metadata,
) -> Vec<u8> {
    let message = Data {
        data: Some(bitfield.into()),
        hash_type: Some(MURMUR3_X64_64),
        fanout: Some(fanout),
        ..message_of(message::HAMT_SHARD, metadata)
    };
    dagpb::encode(links, &message.encode_to_vec())
}

/// A symbolic link.
pub(crate) fn encode_symlink(target: Bytes, metadata: Metadata) -> Vec<u8> {
    let message = Data {
        data: Some(target),
        ..message_of(message::SYMLINK, metadata)
    };
    dagpb::encode(&[], &message.encode_to_vec())
}

fn message_of(kind: i32, metadata: Metadata) -> Data {
    Data {
        kind: Some(kind),
        mode: metadata.mode,
        mtime: metadata.mtime.map(|(seconds, nanos)| Timestamp {
            seconds: Some(seconds),
            nanos: (nanos > 0).then_some(nanos),
        }),
        ..Data::default()
    }
}

#[cfg(test)]
mod tests;
