//! Bytes of a UnixFS file, whole or any range, with bounded read-ahead; and names of a directory.

use std::ops::Range;

use bytes::Bytes;
use cid::Cid;
use futures::stream::{self, Stream};

use super::ahead::{Ahead, Step, Visit};
use super::unixfs::{FileNode, Link, ShardNode, UnixFs, decode};
use super::{DagError, DagLimits, hamt};
use crate::block::Block;
use crate::source::BlockSource;

/// Blocks that are fetched ahead of the reader: 8 MiB of a file of 1 MiB chunks.
const READ_AHEAD: usize = 8;
/// Shards of a HAMT directory that are fetched ahead of the reader.
const LIST_AHEAD: usize = 32;
/// Most shards of one directory: enough for 100 million entries, and an end to DAGs that link to
/// the same shard again and again.
const MAX_SHARDS: usize = 1 << 20;

/// Streams `range` (bytes, end-exclusive, already clamped to the file) of the file under `cid`.
///
/// Only the blocks that overlap the range are fetched; at most a fixed number ahead of the reader.
/// Every item is a slice of one verified block. An error ends the stream.
pub fn read_range<S: BlockSource + Clone>(
    source: &S,
    cid: Cid,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, DagError>> + Send + 'static + use<S> {
    let root = Place {
        start: 0,
        claimed: None,
        depth: 0,
    };
    in_order(Ahead::new(source, Reader { range }, READ_AHEAD, cid, root))
}

/// Loads and decodes the node under `cid`.
pub async fn load<S: BlockSource>(source: &S, cid: &Cid) -> Result<UnixFs, DagError> {
    decode(&fetch(source, cid).await?)
}

/// Fetches a block; an identity CID is its own block.
pub(super) async fn fetch<S: BlockSource>(source: &S, cid: &Cid) -> Result<Block, DagError> {
    match Block::inlined(cid) {
        Ok(Some(block)) => Ok(block),
        Ok(None) => Ok(source.fetch(cid).await?),
        Err(err) => Err(DagError::Fetch(err.into())),
    }
}

/// Entries of a directory, plain or HAMT, in stored order (HAMT: in hash order), names plain.
/// Children themselves are not fetched.
pub fn list<S: BlockSource + Clone>(
    source: &S,
    cid: Cid,
) -> impl Stream<Item = Result<Link, DagError>> + Send + 'static + use<S> {
    in_order(Ahead::new(source, Lister { shards: 0 }, LIST_AHEAD, cid, 0))
}

fn in_order<S: BlockSource + Clone, V: Visit + 'static>(
    ahead: Ahead<S, V>,
) -> impl Stream<Item = Result<V::Output, DagError>> + Send + 'static {
    stream::unfold(ahead, |mut ahead| async {
        Some((ahead.next().await?, ahead))
    })
}

struct Reader {
    range: Range<u64>,
}

/// Where in the file a node is.
struct Place {
    /// Offset of its first byte.
    start: u64,
    /// How many bytes its parent says it has.
    claimed: Option<u64>,
    depth: usize,
}

impl Visit for Reader {
    type Context = Place;
    type Output = Bytes;

    fn visit(&mut self, place: Place, block: Block) -> Result<Vec<Step<Self>>, DagError> {
        let cid = *block.cid();
        let file = match decode(&block)? {
            UnixFs::File(file) => file,
            other => {
                return Err(DagError::WrongKind {
                    cid,
                    found: kind(&other),
                    wanted: "a file",
                });
            }
        };
        if place.claimed.is_some_and(|claimed| claimed != file.size) {
            return Err(DagError::Malformed {
                cid,
                what: "UnixFS",
                reason: "it does not have the size that its parent says".to_owned(),
            });
        }
        let most = DagLimits::current().depth;
        if place.depth > most {
            return Err(DagError::Limit {
                cid,
                limit: format!("{most} levels of a file"),
            });
        }
        Ok(self.steps(&place, file))
    }
}

impl Reader {
    fn steps(&self, place: &Place, file: FileNode) -> Vec<Step<Self>> {
        let mut steps = Vec::new();
        let inline = self.overlap(place.start, file.data.len() as u64);
        if let Some(Range { start, end }) = inline {
            let [start, end] =
                [start, end].map(|at| usize::try_from(at).expect("within the data of a block"));
            steps.push(Step::Output(file.data.slice(start..end)));
        }
        // No sum here overflows: the node's size was checked, and lies below its parent's.
        let mut start = place.start + file.data.len() as u64;
        for (cid, size) in file.children {
            if self.overlap(start, size).is_some() {
                let place = Place {
                    start,
                    claimed: Some(size),
                    depth: place.depth + 1,
                };
                steps.push(Step::Fetch(cid, place));
            }
            start += size;
        }
        steps
    }

    /// The part of `len` bytes at `start` that is wanted, relative to `start`.
    fn overlap(&self, start: u64, len: u64) -> Option<Range<u64>> {
        let from = self.range.start.saturating_sub(start).min(len);
        let to = self.range.end.saturating_sub(start).min(len);
        (from < to).then_some(from..to)
    }
}

struct Lister {
    shards: usize,
}

impl Visit for Lister {
    /// Bits of the hash that lead to the node.
    type Context = u32;
    type Output = Link;

    fn visit(&mut self, bits: u32, block: Block) -> Result<Vec<Step<Self>>, DagError> {
        let cid = *block.cid();
        match decode(&block)? {
            UnixFs::Directory(directory) if bits == 0 => {
                Ok(directory.links.into_iter().map(Step::Output).collect())
            }
            UnixFs::Shard(shard) => {
                self.shards += 1;
                let bits = bits + shard.fanout.trailing_zeros();
                if self.shards > MAX_SHARDS || bits > u64::BITS {
                    return Err(DagError::Limit {
                        cid,
                        limit: format!("{MAX_SHARDS} shards, and 64 bits of hash"),
                    });
                }
                shard_steps(cid, shard, bits)
            }
            other => Err(DagError::WrongKind {
                cid,
                found: kind(&other),
                wanted: if bits == 0 {
                    "a directory"
                } else {
                    "a HAMT shard"
                },
            }),
        }
    }
}

fn shard_steps(cid: Cid, shard: ShardNode, bits: u32) -> Result<Vec<Step<Lister>>, DagError> {
    let width = hamt::prefix_len(shard.fanout);
    let step = |link: Link| {
        let name = link.name.get(width..).ok_or(DagError::Malformed {
            cid,
            what: "HAMT shard",
            reason: "a link has no prefix".to_owned(),
        })?;
        Ok(if name.is_empty() {
            Step::Fetch(link.cid, bits)
        } else {
            Step::Output(Link {
                name: name.to_vec(),
                ..link
            })
        })
    };
    shard.links.into_iter().map(step).collect()
}

/// What a node is, in words.
pub(super) fn kind(node: &UnixFs) -> &'static str {
    match node {
        UnixFs::File(_) => "a file",
        UnixFs::Directory(_) | UnixFs::Shard(_) => "a directory",
        UnixFs::Symlink { .. } => "a symlink",
    }
}

#[cfg(test)]
mod tests;
