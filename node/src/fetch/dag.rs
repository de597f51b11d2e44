//! Fetches whole DAGs into the store.

use std::collections::HashSet;
use std::time::Duration;

use cid::Cid;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::{FuturesUnordered, Stream};
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::{Fetcher, Obtained};
use crate::block::{Block, RAW};
use crate::blocking::blocking;
use crate::dag::DagError;
use crate::dag::links::links;
use crate::source::FetchError;
use crate::store::StoreError;

/// Bytes of blocks that are put into the store at once.
const PUT_BATCH: usize = 4 << 20;
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
/// Memory grows with the number of inner blocks below `root` (about 100 bytes each), and with the
/// links of the blocks on the way to the current one.
pub fn fetch_dag(
    fetcher: Fetcher,
    root: Cid,
    window: usize,
) -> impl Stream<Item = Result<Progress, DagError>> + Send {
    let window = window.max(1);
    // Refilled a quarter at a time, so that wants travel together.
    let refill_at = (window - window / 4).min(window - 1);
    async_stream::try_stream! {
        let mut progress = Progress::default();
        let mut reported = Instant::now();
        let mut todo = Todo::default();
        todo.push(vec![root]);
        let mut in_flight = FuturesUnordered::new();
        let mut unstored = Vec::new();
        let mut unstored_bytes = 0;
        let mut storing: OptionFuture<BoxFuture<'static, _>> = None.into();
        let mut is_storing = false;
        loop {
            if in_flight.len() <= refill_at && !todo.is_empty() {
                for (cid, place) in look_up(&fetcher, todo.take(window - in_flight.len())).await? {
                    if place.held && cid.codec() == RAW {
                        progress.blocks += 1;
                        progress.bytes += place.len.map_or(0, u64::from);
                        todo.forget_leaf(&cid);
                    } else {
                        in_flight.push(obtain(fetcher.clone(), cid, place));
                    }
                }
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
                    let (Obtained { block, from_outside }, place) = fetched?;
                    if *block.cid() == root {
                        progress.total = claimed_total(&block);
                    }
                    todo.push(links(&block)?);
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

/// What is to be fetched, depth first, which keeps it short.
#[derive(Default)]
struct Todo {
    stack: Vec<Cid>,
    /// What needs no second visit: inner blocks, and leaves until they are in the store.
    seen: HashSet<Cid>,
}

impl Todo {
    fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    fn push(&mut self, cids: Vec<Cid>) {
        let new = cids.into_iter().rev().filter(|cid| self.seen.insert(*cid));
        self.stack.extend(new);
    }

    /// Up to `count` of what comes next, in order.
    fn take(&mut self, count: usize) -> Vec<Cid> {
        let rest = self.stack.len().saturating_sub(count);
        let mut taken = self.stack.split_off(rest);
        taken.reverse();
        taken
    }

    /// The block is in the store now, where it is found when it comes again.
    fn forget_leaf(&mut self, cid: &Cid) {
        if cid.codec() == RAW {
            self.seen.remove(cid);
        }
    }
}

enum Event {
    Stored(Result<Vec<Cid>, FetchError>),
    Fetched(Result<(Obtained, Place), FetchError>),
}

/// Where a block is, by the index.
#[derive(Clone, Copy)]
struct Place {
    /// Where this request wants it.
    held: bool,
    /// Its length where it is here at all.
    len: Option<u32>,
}

async fn look_up(fetcher: &Fetcher, cids: Vec<Cid>) -> Result<Vec<(Cid, Place)>, FetchError> {
    let (store, kind) = (fetcher.store.clone(), fetcher.kind);
    let places = move || {
        cids.into_iter()
            .map(|cid| {
                let held = store.holds(kind, &cid)?;
                let len = store.block_len(&cid)?;
                Ok((cid, Place { held, len }))
            })
            .collect::<Result<Vec<_>, StoreError>>()
    };
    Ok(blocking(places).await?)
}

async fn obtain(fetcher: Fetcher, cid: Cid, place: Place) -> Result<(Obtained, Place), FetchError> {
    let obtained = match place.len {
        Some(_) => fetcher.obtain(&cid).await?,
        None => fetcher.obtain_outside(&cid).await?,
    };
    Ok((obtained, place))
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
