//! Fetches whole DAGs into the store.

use std::collections::HashSet;
use std::time::Duration;

use cid::Cid;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::{FuturesUnordered, Stream};
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::Fetcher;
use crate::block::{Block, RAW};
use crate::blocking::blocking;
use crate::dag::DagError;
use crate::dag::links::links;
use crate::dag::walk::key;
use crate::source::{FetchError, Obtained};
use crate::store::StoreError;

/// Bytes of blocks that are put into the store at once.
const PUT_BATCH: usize = 4 << 20;
/// What one fetch may take, so that a DAG made to do harm ends in an error and not in all memory.
const LIMITS: Limits = Limits {
    waiting: 1 << 20,
    depth: 1024,
    seen: 1 << 25,
    bytes: u64::MAX,
};
/// Least time between two reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Progress of [`fetch_dag`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blocks seen, local ones included.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that came from outside.
    pub fetched: u64,
    /// Bytes of the whole DAG as its root claims, where the root is dag-pb.
    pub total: Option<u64>,
}

/// Fetches everything below `root` that is not in the store, `window` blocks in flight. Yields
/// progress; ends when all is in the store. The caller commits and pins.
///
/// Memory grows with the number of inner blocks below `root` (about 30 bytes each), and with the
/// links of the blocks on the way to the current one (about 100 bytes each). A DAG that is deeper
/// than 1,024 levels, or has more than 1,048,576 links on the way to a block, or more than 33
/// million inner blocks, is [`DagError::Limit`].
pub fn fetch_dag(
    fetcher: Fetcher,
    root: Cid,
    window: usize,
) -> impl Stream<Item = Result<Progress, DagError>> + Send {
    fetch_within(fetcher, root, window, LIMITS)
}

/// [`fetch_dag`] that ends as soon as the blocks have more than `most` bytes, which the last progress tells.
/// Of what it fetched no more than `most` is in the store.
pub(crate) fn fetch_dag_up_to(
    fetcher: Fetcher,
    root: Cid,
    window: usize,
    most: u64,
) -> impl Stream<Item = Result<Progress, DagError>> + Send {
    let limits = Limits {
        bytes: most,
        ..LIMITS
    };
    fetch_within(fetcher, root, window, limits)
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Links that wait: about 100 bytes each.
    waiting: usize,
    /// Levels below the root.
    depth: usize,
    /// Inner blocks, and leaves that are not stored yet: about 30 bytes each.
    seen: usize,
    /// Bytes of blocks, past which nothing more is fetched or stored.
    bytes: u64,
}

fn fetch_within(
    fetcher: Fetcher,
    root: Cid,
    window: usize,
    limits: Limits,
) -> impl Stream<Item = Result<Progress, DagError>> + Send {
    let window = window.max(1);
    // Refilled a quarter at a time, so that wants travel together.
    let refill_at = (window - window / 4).min(window - 1);
    async_stream::try_stream! {
        let mut progress = Progress::default();
        let mut reported = Instant::now();
        let mut todo = Todo::new(root, limits);
        let mut in_flight = FuturesUnordered::new();
        let mut unstored = Vec::new();
        let mut unstored_bytes = 0;
        let mut storing: OptionFuture<BoxFuture<'static, _>> = None.into();
        let mut is_storing = false;
        while progress.bytes <= limits.bytes {
            if in_flight.len() <= refill_at && todo.has_next(in_flight.len()) {
                let wants = todo.take(window, in_flight.len());
                for (want, place) in look_up(&fetcher, wants).await? {
                    if place.held && want.is_leaf() {
                        progress.blocks += 1;
                        progress.bytes += place.len.map_or(0, u64::from);
                        todo.forget_leaf(&want.cid);
                    } else {
                        in_flight.push(obtain(fetcher.clone(), want, place));
                    }
                }
                todo.open()?;
                continue;
            }
            let is_due = unstored_bytes >= PUT_BATCH || in_flight.is_empty();
            if is_due && !is_storing && !unstored.is_empty() {
                let blocks = std::mem::take(&mut unstored);
                unstored_bytes = 0;
                storing = Some(store(fetcher.clone(), blocks).boxed()).into();
                is_storing = true;
            }
            let event = tokio::select! {
                biased;
                Some(stored) = &mut storing => Event::Stored(stored),
                Some(fetched) = in_flight.next(), if unstored_bytes < 2 * PUT_BATCH => {
                    Event::Fetched(fetched)
                }
                else => break,
            };
            match event {
                Event::Stored(stored) => {
                    storing = None.into();
                    is_storing = false;
                    for cid in stored? {
                        todo.forget_leaf(&cid);
                    }
                }
                Event::Fetched(fetched) => {
                    let (Obtained { block, from_outside }, want, place) = fetched?;
                    if *block.cid() == root {
                        progress.total = claimed_total(&block);
                    }
                    todo.arrived(&block, want)?;
                    let len = block.data().len();
                    progress.blocks += 1;
                    progress.bytes += len as u64;
                    if from_outside {
                        progress.fetched += len as u64;
                    }
                    if from_outside || !place.held {
                        unstored_bytes += len;
                        unstored.push(block);
                    }
                }
            }
            if reported.elapsed() >= REPORT_INTERVAL {
                reported = Instant::now();
                yield progress;
            }
        }
        yield progress;
    }
}

/// A block to be had, so many levels below the root.
#[derive(Clone, Copy, Debug)]
struct Want {
    cid: Cid,
    depth: usize,
    /// No other inner block is under way: its links may take the last room.
    alone: bool,
}

impl Want {
    fn is_leaf(&self) -> bool {
        self.cid.codec() == RAW
    }
}

/// What is to be fetched, depth first, which keeps it short.
struct Todo {
    limits: Limits,
    stack: Vec<Want>,
    /// Inner blocks whose links have no room yet, with the number of their links. While there are
    /// any, leaves and one inner block at a time are fetched, so they are no more than a window.
    closed: Vec<(Block, usize, usize)>,
    /// What needs no second visit: inner blocks, and leaves until they are in the store.
    seen: HashSet<u128>,
}

impl Todo {
    fn new(root: Cid, limits: Limits) -> Self {
        Self {
            limits,
            stack: vec![Want {
                cid: root,
                depth: 0,
                alone: false,
            }],
            closed: Vec::new(),
            seen: HashSet::from([key(&root)]),
        }
    }

    /// Takes note of the links of a block.
    fn arrived(&mut self, block: &Block, want: Want) -> Result<(), DagError> {
        let links = links(block)?;
        if !links.is_empty() && want.depth >= self.limits.depth {
            return Err(limit(block, format!("{} levels", self.limits.depth)));
        }
        if self.has_room(links.len()) {
            return self.push(block, want.depth + 1, links);
        }
        if !want.alone {
            self.closed.push((block.clone(), want.depth, links.len()));
            return Ok(());
        }
        let waiting = self.limits.waiting;
        if self.stack.len() + links.len() > waiting {
            return Err(limit(block, format!("{waiting} links on the way to it")));
        }
        self.push(block, want.depth + 1, links)
    }

    /// Puts links on the stack that had no room before.
    fn open(&mut self) -> Result<(), DagError> {
        while let Some((_, _, count)) = self.closed.last()
            && self.has_room(*count)
            && let Some((block, depth, _)) = self.closed.pop()
        {
            self.push(&block, depth + 1, links(&block)?)?;
        }
        Ok(())
    }

    /// Whether so many links may wait besides. Half is kept for the way down, one block at a time.
    fn has_room(&self, links: usize) -> bool {
        self.stack.is_empty() || self.stack.len() + links <= self.limits.waiting / 2
    }

    fn push(&mut self, parent: &Block, depth: usize, cids: Vec<Cid>) -> Result<(), DagError> {
        let new = cids
            .into_iter()
            .rev()
            .filter(|cid| self.seen.insert(key(cid)));
        self.stack.extend(new.map(|cid| Want {
            cid,
            depth,
            alone: false,
        }));
        debug_assert!(self.stack.len() <= self.limits.waiting, "bounded");
        if self.seen.len() > self.limits.seen {
            return Err(limit(parent, format!("{} blocks", self.limits.seen)));
        }
        Ok(())
    }

    /// Whether something can be fetched besides so many others.
    fn has_next(&self, in_flight: usize) -> bool {
        let next = self.stack.last();
        next.is_some_and(|want| want.is_leaf() || self.closed.is_empty() || in_flight == 0)
    }

    /// What comes next, in order, so that at most `window` are under way.
    fn take(&mut self, window: usize, in_flight: usize) -> Vec<Want> {
        let mut taken = Vec::new();
        while in_flight + taken.len() < window
            && self.has_next(in_flight + taken.len())
            && let Some(mut want) = self.stack.pop()
        {
            want.alone = !self.closed.is_empty();
            taken.push(want);
        }
        taken
    }

    /// The block is in the store now, where it is found when it comes again.
    fn forget_leaf(&mut self, cid: &Cid) {
        if cid.codec() == RAW {
            self.seen.remove(&key(cid));
        }
    }
}

fn limit(block: &Block, limit: String) -> DagError {
    DagError::Limit {
        cid: *block.cid(),
        limit,
    }
}

enum Event {
    Stored(Result<Vec<Cid>, FetchError>),
    Fetched(Result<(Obtained, Want, Place), FetchError>),
}

/// Where a block is, by the index.
#[derive(Clone, Copy)]
struct Place {
    /// Where this request wants it.
    held: bool,
    /// Its length where it is here at all.
    len: Option<u32>,
}

async fn look_up(fetcher: &Fetcher, wants: Vec<Want>) -> Result<Vec<(Want, Place)>, FetchError> {
    let (store, kind) = (fetcher.store.clone(), fetcher.kind);
    let places = move || {
        wants
            .into_iter()
            .map(|want| {
                let held = store.holds(kind, &want.cid)?;
                let len = store.block_len(&want.cid)?;
                Ok((want, Place { held, len }))
            })
            .collect::<Result<Vec<_>, StoreError>>()
    };
    Ok(blocking(places).await?)
}

async fn obtain(
    fetcher: Fetcher,
    want: Want,
    place: Place,
) -> Result<(Obtained, Want, Place), FetchError> {
    let obtained = match place.len {
        Some(_) => fetcher.look_for(&want.cid).await?,
        None => fetcher.obtain_outside(&want.cid).await?,
    };
    Ok((obtained, want, place))
}

async fn store(fetcher: Fetcher, blocks: Vec<Block>) -> Result<Vec<Cid>, FetchError> {
    let cids = blocks.iter().map(|block| *block.cid()).collect();
    fetcher.put(blocks).await?;
    Ok(cids)
}

/// The root's own length and what its links claim to hold.
fn claimed_total(root: &Block) -> Option<u64> {
    let links = crate::dag::unixfs::links_of(root)?;
    let below = links
        .iter()
        .fold(0u64, |sum, link| sum.saturating_add(link.tsize));
    Some(below.saturating_add(root.data().len() as u64))
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;
    use crate::block::DAG_CBOR;
    use crate::store::{PackKind, Store, StoreOptions};

    fn list(cids: &[Cid]) -> Block {
        let links: Vec<_> = cids
            .iter()
            .copied()
            .map(ipld_core::ipld::Ipld::Link)
            .collect();
        let bytes = serde_ipld_dagcbor::to_vec(&links).unwrap();
        Block::of(DAG_CBOR, bytes.into())
    }

    fn leaf(n: u8) -> Block {
        Block::of(RAW, vec![n; 100].into())
    }

    /// Three lists of leaves; the last list comes twice, and its leaf five times.
    fn dag() -> (Cid, Vec<Block>) {
        let leaves: Vec<Block> = (0..20).map(leaf).collect();
        let cids: Vec<Cid> = leaves.iter().map(|leaf| *leaf.cid()).collect();
        let [first, second] = [list(&cids[..10]), list(&cids[10..])];
        let third = list(&[cids[7]; 5]);
        let root = list(&[*first.cid(), *second.cid(), *third.cid(), *third.cid()]);
        let cid = *root.cid();
        let mut blocks = leaves;
        blocks.extend([first, second, third, root]);
        (cid, blocks)
    }

    fn store_with(dir: &std::path::Path, blocks: &[Block]) -> Store {
        let options = StoreOptions {
            reserve: 0,
            ..StoreOptions::default()
        };
        let (store, _) = Store::open(dir, options).unwrap();
        store.put(PackKind::Cache, blocks).unwrap();
        store
    }

    #[tokio::test]
    async fn every_block_is_kept_whatever_the_window() {
        let (root, blocks) = dag();
        for window in [0, 1, 2, 3, 4, 5, 128] {
            let dir = tempfile::tempdir().unwrap();
            let store = store_with(dir.path(), &blocks);
            let fetcher = Fetcher::new(store.clone(), PackKind::Kept, None);
            let progress: Vec<Progress> = fetch_dag(fetcher, root, window)
                .try_collect()
                .await
                .unwrap();
            let kept = |block: &Block| store.holds(PackKind::Kept, block.cid()).unwrap();
            assert!(blocks.iter().all(kept), "window {window}");
            let last = progress.last().unwrap();
            assert!(last.blocks >= blocks.len() as u64);
            assert_eq!(last.fetched, 0);
        }
    }

    #[tokio::test]
    async fn no_more_bytes_are_kept_than_may_come() {
        let (root, blocks) = dag();
        for most in [0, 99, 1000, 2500, 1 << 20] {
            let dir = tempfile::tempdir().unwrap();
            let store = store_with(dir.path(), &blocks);
            let fetcher = Fetcher::new(store.clone(), PackKind::Kept, None);
            let tree = fetch_dag_up_to(fetcher, root, 3, most);
            let progress: Vec<Progress> = tree.try_collect().await.unwrap();
            let kept = |block: &&Block| store.holds(PackKind::Kept, block.cid()).unwrap();
            let kept: Vec<&Block> = blocks.iter().filter(kept).collect();
            let bytes: usize = kept.iter().map(|block| block.data().len()).sum();
            assert!(bytes as u64 <= most, "{bytes} of {most}");
            let is_whole = progress.last().unwrap().bytes <= most;
            assert_eq!(is_whole, kept.len() == blocks.len(), "{most}");
            assert_eq!(is_whole, most == 1 << 20);
        }
    }

    const SMALL: Limits = Limits {
        waiting: 150,
        depth: 10,
        seen: 1000,
        bytes: u64::MAX,
    };

    /// Fetches what is all in the cache, and says whether a limit was reached.
    async fn is_over_limit(root: Cid, blocks: &[Block], limits: Limits) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let store = store_with(dir.path(), blocks);
        let fetcher = Fetcher::new(store.clone(), PackKind::Kept, None);
        let done: Result<Vec<Progress>, _> =
            fetch_within(fetcher, root, 16, limits).try_collect().await;
        match done {
            Ok(_) => {
                let kept = |block: &Block| store.holds(PackKind::Kept, block.cid()).unwrap();
                assert!(blocks.iter().all(kept));
                false
            }
            Err(DagError::Limit { .. }) => true,
            Err(error) => panic!("{error}"),
        }
    }

    /// Lists below one another, each with `width` lists of its own that are empty but for a number.
    fn comb(salt: u32, levels: u32, width: u32) -> (Cid, Vec<Block>) {
        let mut blocks: Vec<Block> = Vec::new();
        let mut below = None;
        for level in 0..levels {
            let numbered = |n| serde_ipld_dagcbor::to_vec(&[salt, level, n]).unwrap();
            let side = (0..width).map(|n| Block::of(DAG_CBOR, numbered(n).into()));
            let side: Vec<Block> = side.collect();
            let cids: Vec<Cid> = below
                .into_iter()
                .chain(side.iter().map(|b| *b.cid()))
                .collect();
            let list = list(&cids);
            below = Some(*list.cid());
            blocks.extend(side);
            blocks.push(list);
        }
        (below.unwrap(), blocks)
    }

    #[tokio::test]
    async fn a_chain_without_end_is_an_error() {
        let (root, blocks) = comb(0, 11, 1);
        assert!(is_over_limit(root, &blocks, SMALL).await);
        let (root, blocks) = comb(0, 10, 1);
        assert!(!is_over_limit(root, &blocks, SMALL).await);
    }

    #[tokio::test]
    async fn deep_and_wide_lists_wait_for_one_another() {
        let (root, blocks) = comb(0, 9, 40);
        assert!(!is_over_limit(root, &blocks, SMALL).await);
    }

    /// While one of them waits, the links on the way down another one have no room.
    #[tokio::test]
    async fn many_deep_and_wide_lists_are_an_error() {
        let (roots, blocks): (Vec<Cid>, Vec<Vec<Block>>) =
            (0..4).map(|salt| comb(salt, 9, 40)).unzip();
        let root = list(&roots);
        let blocks: Vec<Block> = blocks.into_iter().flatten().chain([root.clone()]).collect();
        assert!(is_over_limit(*root.cid(), &blocks, SMALL).await);
    }

    #[tokio::test]
    async fn more_blocks_than_can_be_remembered_are_an_error() {
        let (root, blocks) = comb(0, 9, 10);
        let limits = Limits { seen: 50, ..SMALL };
        assert!(is_over_limit(root, &blocks, limits).await);
    }

    /// One wave of lists brings ten times the links that may wait; they come in one after another.
    #[tokio::test]
    async fn wide_lists_beside_one_another_are_no_error() {
        for codec in [RAW, DAG_CBOR] {
            let mut blocks = Vec::new();
            let mut lists = Vec::new();
            for n in 0..16_u8 {
                // 0x18: a number of one byte follows.
                let items: Vec<Block> = (0..50)
                    .map(|i| Block::of(codec, vec![0x82, 0x18, 100 + n, 0x18, 100 + i].into()))
                    .collect();
                let cids: Vec<Cid> = items.iter().map(|item| *item.cid()).collect();
                let list = list(&cids);
                lists.push(*list.cid());
                blocks.push(list);
                blocks.extend(items);
            }
            let root = list(&lists);
            let cid = *root.cid();
            blocks.push(root);
            assert!(!is_over_limit(cid, &blocks, SMALL).await);
        }
    }

    #[tokio::test]
    async fn a_missing_leaf_fails_the_fetch() {
        let (root, blocks) = dag();
        let dir = tempfile::tempdir().unwrap();
        let store = store_with(dir.path(), &blocks[1..]);
        let fetcher = Fetcher::new(store, PackKind::Kept, None);
        let fetched: Result<Vec<Progress>, _> = fetch_dag(fetcher, root, 4).try_collect().await;
        let error = fetched.unwrap_err();
        assert!(
            error.to_string().contains(&blocks[0].cid().to_string()),
            "{error}"
        );
    }
}
