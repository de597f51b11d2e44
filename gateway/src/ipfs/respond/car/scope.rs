//! Which blocks a CAR holds below the path (`dag-scope` and `entity-bytes`, IPIP-402).

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use cid::Cid;
use duka_node::block::{Block, DAG_PB, RAW};
use duka_node::dag::unixfs::{self, FileNode, ShardNode, UnixFs};
use duka_node::dag::walk::{self, WalkOptions, walk};
use duka_node::dag::{DagError, DagLimits};
use duka_node::source::BlockSource;
use futures::stream::{self, BoxStream, StreamExt};

/// Blocks read ahead of the client.
const WINDOW: usize = 16;
/// Most blocks of an entity that are yielded once each: 4 TiB in parts of 1 MiB, and 128 MiB of memory.
const MAX_SEEN: usize = 1 << 22;
/// Most blocks of an entity that wait for their turn, about 150 bytes each. An honest one has at most
/// some thousand links per node and few levels.
const MAX_WAITING: usize = 1 << 18;

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
                max_depth: DagLimits::current().depth,
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
        limits: Limits {
            seen: MAX_SEEN,
            waiting: MAX_WAITING,
        },
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

/// A walk over the blocks of one file or directory. What is deeper, or has more blocks than the limits
/// allow, ends in [`DagError::Limit`], which breaks the CAR off.
struct EntityWalk<S> {
    source: S,
    span: Option<ByteSpan>,
    /// The bytes that are wanted, once the file's size is known.
    bytes: Range<u64>,
    duplicates: bool,
    limits: Limits,
    /// Keys of what was yielded, unless that may be repeated.
    seen: HashSet<u128>,
    /// Next visit last.
    stack: Vec<Visit>,
}

/// What a walk may remember.
struct Limits {
    seen: usize,
    waiting: usize,
}

impl<S: BlockSource> EntityWalk<S> {
    async fn next(&mut self) -> Result<Option<Block>, DagError> {
        while let Some(visit) = self.stack.pop() {
            let cid = visit.cid;
            if !self.duplicates && !self.seen.insert(walk::key(&cid)) {
                continue;
            }
            check(cid, visit.depth, DagLimits::current().depth, "levels")?;
            check(
                cid,
                self.seen.len(),
                self.limits.seen,
                "blocks of one entity",
            )?;
            let block = self.source.fetch(&cid).await?;
            self.descend(&block, &visit)?;
            let waiting = self.limits.waiting;
            check(
                cid,
                self.stack.len(),
                waiting,
                "blocks that wait for their turn",
            )?;
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
            let shared = at.max(self.bytes.start)..end.min(self.bytes.end);
            let wanted = self.span.is_none() || !shared.is_empty();
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

fn check(cid: Cid, number: usize, most: usize, what: &str) -> Result<(), DagError> {
    if number > most {
        let limit = format!("{most} {what}");
        return Err(DagError::Limit { cid, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use duka_node::source::FetchError;
    use proptest::prelude::*;

    use super::*;

    struct Blocks(Vec<Block>);

    impl BlockSource for Blocks {
        async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
            let block = self.0.iter().find(|block| block.cid() == cid);
            Ok(block.expect("all blocks are there").clone())
        }
    }

    /// A file of one byte for each part.
    fn file(parts: &[Cid]) -> Vec<u8> {
        let link = |part: &Cid| {
            let cid = part.to_bytes();
            let len = u8::try_from(cid.len()).unwrap();
            [&[0x12, len + 2, 0x0a, len][..], &cid].concat()
        };
        let size = u8::try_from(parts.len()).unwrap();
        let sizes = [0x20, 1].repeat(parts.len());
        let data = [&[8, 2, 0x18, size], &sizes[..]].concat();
        let head = [0x0a, u8::try_from(data.len()).unwrap()];
        let links: Vec<u8> = parts.iter().flat_map(link).collect();
        [&links[..], &head, &data].concat()
    }

    /// Blocks of a walk over a file of 9 parts, two of which are the same, and how it ends.
    async fn walked(duplicates: bool, limits: Limits) -> (usize, Result<(), DagError>) {
        let bytes = [0, 1, 2, 3, 4, 5, 6, 7, 7];
        let mut blocks = bytes.map(|byte| Block::of(RAW, vec![byte].into())).to_vec();
        let parts: Vec<Cid> = blocks.iter().map(|block| *block.cid()).collect();
        let root = Block::of(DAG_PB, file(&parts).into());
        let cid = *root.cid();
        blocks.push(root);
        let mut walk = EntityWalk {
            source: Blocks(blocks),
            span: None,
            bytes: 0..u64::MAX,
            duplicates,
            limits,
            seen: HashSet::new(),
            stack: vec![Visit {
                cid,
                role: Role::Root,
                depth: 0,
            }],
        };
        let mut blocks = 0;
        loop {
            match walk.next().await {
                Ok(Some(_)) => blocks += 1,
                Ok(None) => return (blocks, Ok(())),
                Err(error) => return (blocks, Err(error)),
            }
        }
    }

    #[tokio::test]
    async fn entity_that_is_too_much_to_remember_ends_in_an_error() {
        let limits = |seen, waiting| Limits { seen, waiting };
        assert!(matches!(walked(false, limits(9, 9)).await, (9, Ok(()))));
        assert!(matches!(walked(true, limits(0, 9)).await, (10, Ok(()))));
        let too_many = walked(false, limits(8, 9)).await;
        assert!(matches!(too_many, (8, Err(DagError::Limit { .. }))));
        let too_wide = walked(false, limits(9, 8)).await;
        assert!(matches!(too_wide, (0, Err(DagError::Limit { .. }))));
    }

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
