//! Which blocks a CAR holds below the path (`dag-scope` and `entity-bytes`, IPIP-402).

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use cid::Cid;
use duka_node::block::{Block, DAG_PB, RAW};
use duka_node::dag::DagError;
use duka_node::dag::unixfs::{self, FileNode, ShardNode, UnixFs};
use duka_node::dag::walk::{WalkOptions, walk};
use duka_node::source::BlockSource;
use futures::stream::{self, BoxStream, StreamExt};

/// Blocks read ahead of the client.
const WINDOW: usize = 16;
/// Deepest DAG that is walked.
const MAX_DEPTH: usize = 1024;

/// What follows the blocks of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The node at the end, alone.
    Block,
    /// What the node is: all of a file, or so many bytes of it; a directory without its children.
    Entity(Option<ByteSpan>),
    /// Everything below.
    All,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block => f.write_str("block"),
            Self::Entity(None) => f.write_str("entity"),
            Self::Entity(Some(ByteSpan { from, to: None })) => write!(f, "entity.{from}:*"),
            Self::Entity(Some(ByteSpan { from, to: Some(to) })) => write!(f, "entity.{from}:{to}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// `entity-bytes`: `from:to`, both inclusive; negative numbers count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByteSpan {
    from: i64,
    /// `None`: to the end.
    to: Option<i64>,
}

impl ByteSpan {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once(':')?;
        let from: i64 = from.parse().ok()?;
        let to: Option<i64> = match to {
            "*" => None,
            number => Some(number.parse().ok()?),
        };
        match to {
            Some(to) if (from < 0) == (to < 0) && from > to => None,
            _ => Some(Self { from, to }),
        }
    }

    /// The bytes of a file of `size` bytes, end-exclusive; empty when all are outside.
    fn within(self, size: u64) -> Range<u64> {
        let at = |offset: i64| match u64::try_from(offset) {
            Ok(offset) => offset,
            Err(_) => size.saturating_sub(offset.unsigned_abs()),
        };
        let start = at(self.from).min(size);
        let end = match self.to {
            None => size,
            // The last byte that is counted from the end may lie before the beginning.
            Some(to) if to < 0 && to.unsigned_abs() > size => 0,
            Some(to) => at(to).saturating_add(1).min(size),
        };
        start..end.max(start)
    }
}

/// The blocks of `scope` from `root` down, depth first.
pub(super) fn blocks<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    scope: Scope,
    duplicates: bool,
) -> BoxStream<'static, Result<Block, DagError>> {
    match scope {
        Scope::All => {
            let options = WalkOptions {
                unique: !duplicates,
                window: WINDOW,
                max_depth: MAX_DEPTH,
            };
            walk(source, root, options).boxed()
        }
        Scope::Entity(None) if root.codec() == RAW => block(source, root),
        Scope::Entity(span) => entity(source, root, span, duplicates),
        Scope::Block => block(source, root),
    }
}

fn block<S: BlockSource + Clone>(
    source: &S,
    cid: Cid,
) -> BoxStream<'static, Result<Block, DagError>> {
    let source = source.clone();
    stream::once(async move { Ok(source.fetch(&cid).await?) }).boxed()
}

/// A block that is still to be visited.
struct Visit {
    cid: Cid,
    role: Role,
    depth: usize,
}

/// What a block is to the entity.
enum Role {
    Root,
    Shard,
    /// Part of the file, beginning at this byte.
    Part(u64),
}

fn entity<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    span: Option<ByteSpan>,
    duplicates: bool,
) -> BoxStream<'static, Result<Block, DagError>> {
    let walk = EntityWalk {
        source: source.clone(),
        span,
        bytes: 0..u64::MAX,
        duplicates,
        seen: HashSet::new(),
        stack: vec![Visit {
            cid: root,
            role: Role::Root,
            depth: 0,
        }],
    };
    stream::try_unfold(walk, |mut walk| async move {
        let block = walk.next().await?;
        Ok(block.map(|block| (block, walk)))
    })
    .boxed()
}

struct EntityWalk<S> {
    source: S,
    span: Option<ByteSpan>,
    /// The bytes that are wanted, once the file's size is known.
    bytes: Range<u64>,
    duplicates: bool,
    seen: HashSet<Cid>,
    /// Next visit last.
    stack: Vec<Visit>,
}

impl<S: BlockSource> EntityWalk<S> {
    async fn next(&mut self) -> Result<Option<Block>, DagError> {
        while let Some(visit) = self.stack.pop() {
            if !self.duplicates && !self.seen.insert(visit.cid) {
                continue;
            }
            if visit.depth > MAX_DEPTH {
                let limit = format!("{MAX_DEPTH} levels");
                return Err(DagError::Limit {
                    cid: visit.cid,
                    limit,
                });
            }
            let block = self.source.fetch(&visit.cid).await?;
            self.descend(&block, &visit)?;
            return Ok(Some(block));
        }
        Ok(None)
    }

    fn descend(&mut self, block: &Block, visit: &Visit) -> Result<(), DagError> {
        if block.cid().codec() != DAG_PB {
            return Ok(());
        }
        let node = unixfs::decode(block)?;
        match (node, &visit.role) {
            (UnixFs::File(node), Role::Root) => {
                if let Some(span) = self.span {
                    self.bytes = span.within(node.size);
                }
                self.parts(&node, 0, visit.depth);
            }
            (UnixFs::File(node), Role::Part(start)) => self.parts(&node, *start, visit.depth),
            (UnixFs::Shard(node), Role::Root | Role::Shard) => self.shards(&node, visit.depth),
            _ => {}
        }
        Ok(())
    }

    /// The children that hold wanted bytes, first one on top.
    fn parts(&mut self, node: &FileNode, start: u64, depth: usize) {
        let mut at = start.saturating_add(node.data.len() as u64);
        let first = self.stack.len();
        for (cid, len) in &node.children {
            let end = at.saturating_add(*len);
            let wanted = self.span.is_none() || (at < self.bytes.end && end > self.bytes.start);
            if wanted {
                self.stack.push(Visit {
                    cid: *cid,
                    role: Role::Part(at),
                    depth: depth + 1,
                });
            }
            at = end;
        }
        self.reverse_from(first);
    }

    /// The sub-shards: links whose name is the prefix alone.
    fn shards(&mut self, node: &ShardNode, depth: usize) {
        let width = format!("{:X}", node.fanout.saturating_sub(1)).len();
        let first = self.stack.len();
        for link in node.links.iter().filter(|link| link.name.len() == width) {
            self.stack.push(Visit {
                cid: link.cid,
                role: Role::Shard,
                depth: depth + 1,
            });
        }
        self.reverse_from(first);
    }

    fn reverse_from(&mut self, first: usize) {
        if let Some(pushed) = self.stack.get_mut(first..) {
            pushed.reverse();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn within(text: &str, size: u64) -> Range<u64> {
        ByteSpan::parse(text).unwrap().within(size)
    }

    #[test]
    fn spans_are_inclusive_and_clamped() {
        assert_eq!(within("0:*", 10), 0..10);
        assert_eq!(within("2:4", 10), 2..5);
        assert_eq!(within("0:99", 10), 0..10);
        assert_eq!(within("-3:*", 10), 7..10);
        assert_eq!(within("-99:-8", 10), 0..3);
        assert_eq!(within("2:-1", 10), 2..10);
    }

    #[test]
    fn span_outside_the_file_is_empty() {
        assert!(within("10:*", 10).is_empty());
        assert!(within("-99:-20", 10).is_empty());
        assert!(within("8:-9", 10).is_empty());
    }

    #[test]
    fn reversed_spans_of_one_sign_are_refused() {
        assert_eq!(ByteSpan::parse("5:2"), None);
        assert_eq!(ByteSpan::parse("-2:-5"), None);
        assert_eq!(ByteSpan::parse("5"), None);
        assert_eq!(ByteSpan::parse("*:5"), None);
        assert!(ByteSpan::parse("5:-2").is_some());
    }

    proptest! {
        #[test]
        fn any_span_stays_inside_the_file(from: i64, to: Option<i64>, size: u64) {
            let range = ByteSpan { from, to }.within(size);
            prop_assert!(range.start <= range.end && range.end <= size);
        }
    }
}
