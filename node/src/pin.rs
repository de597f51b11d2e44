//! PIN: fetch what is missing → one durable commit of the blocks → one manifest commit of the pin.

use std::collections::HashSet;

use cid::Cid;
use futures::StreamExt;
use futures::stream::Stream;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::block::RAW;
use crate::dag::DagError;
use crate::dag::links::links;
use crate::dag::walk::key;
use crate::fetch::{FetchOptions, Progress, fetch_dag};
use crate::ids::{ProductId, Version};
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Expect, Op};
use crate::manifest::record::{Pin, Release};
use crate::node::Node;
use crate::source::{BlockSource, FetchError};
use crate::store::{PackKind, Store, StoreError};

/// Most blocks of a DAG that [`measure`] counts: about 1 GiB of memory.
const MAX_COUNTED: usize = 1 << 25;

/// What to pin, and how.
#[derive(Clone, Debug)]
pub struct PinRequest {
    /// The root.
    pub cid: Cid,
    /// The whole DAG, or the one block.
    pub recursive: bool,
    /// A label.
    pub name: Option<String>,
    /// Where missing blocks come from; they go into kept packs in any case.
    pub fetch: FetchOptions,
}

/// Why nothing was pinned, or the pin stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// A block of the DAG could not be had or is malformed.
    #[error(transparent)]
    Dag(#[from] DagError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest refused or failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The shop offers it.
    #[error("{cid} stays pinned: it is {product} {version}, which the shop offers")]
    Offered {
        /// What is pinned.
        cid: Cid,
        /// The product.
        product: ProductId,
        /// The version.
        version: Version,
    },
}

impl From<FetchError> for PinError {
    fn from(error: FetchError) -> Self {
        Self::Dag(error.into())
    }
}

/// Pins, yielding progress. The pin is there when the stream has ended without an error; a DAG
/// that is not complete is never pinned.
///
/// # Cancel safety
/// A dropped stream leaves blocks that GC may take, and no pin.
pub fn add(
    node: &Node,
    request: PinRequest,
) -> impl Stream<Item = Result<Progress, PinError>> + Send {
    let node = node.clone();
    async_stream::try_stream! {
        let PinRequest { cid, recursive, name, fetch } = request;
        let mut temp_pin = node.temp_pin();
        temp_pin.hold(cid);
        let fetcher = node.fetcher(FetchOptions { kind: PackKind::Kept, ..fetch });
        if recursive {
            let window = node.config().network.limits.window;
            let mut progress = std::pin::pin!(fetch_dag(fetcher, cid, window));
            while let Some(progress) = progress.next().await {
                yield progress?;
            }
        } else {
            fetcher.fetch(&cid).await?;
        }
        node.commit_blocks().await?;
        let _turn = node.publish_turn().await;
        let pin = merged(&node, cid, recursive, name).await?;
        let change = Change { expect: Vec::new(), ops: vec![Op::PutPin(cid, pin)] };
        node.manifest().commit(change).await?;
        node.offer(cid);
    }
}

/// The new pin, with what the one that is there must keep: a whole DAG stays pinned as a whole, a
/// label stays unless there is a new one, and that of a release stays in any case.
async fn merged(
    node: &Node,
    cid: Cid,
    recursive: bool,
    name: Option<String>,
) -> Result<Pin, ManifestError> {
    let created = Timestamp::now();
    let Some(known) = node.manifest().pin(&cid)? else {
        return Ok(Pin {
            recursive,
            name,
            created,
        });
    };
    let name = match name {
        Some(name) if find_release(node, cid, |_| true).await?.is_none() => Some(name),
        _ => known.name,
    };
    Ok(Pin {
        recursive: recursive || known.recursive,
        name,
        created,
    })
}

/// What a pin keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Blocks of the DAG that are here, each once.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks that are missing or damaged; what lies below them is not known.
    pub missing_blocks: u64,
}

/// Counts what a pin keeps. Reads inner blocks only; remembers about 30 bytes a block.
///
/// # Errors
/// [`DagError::Limit`] for a DAG of more than 33 million blocks.
///
/// # Cancel safety
/// A dropped future ends the count.
pub async fn measure(node: &Node, cid: Cid, recursive: bool) -> Result<Kept, PinError> {
    let stop = node.stop_token().child_token();
    let _ends_with_this_future = stop.clone().drop_guard();
    let store = node.store().clone();
    node.blocking(move || count(&store, cid, recursive, &stop))
        .await
}

fn count(
    store: &Store,
    root: Cid,
    recursive: bool,
    stop: &CancellationToken,
) -> Result<Kept, PinError> {
    count_new(store, root, recursive, &mut HashSet::new(), stop)
}

/// Counts the blocks of a DAG that are not in `seen`, and notes them there. Where a block was seen, so
/// was all below it.
pub(crate) fn count_new(
    store: &Store,
    root: Cid,
    recursive: bool,
    seen: &mut HashSet<u128>,
    stop: &CancellationToken,
) -> Result<Kept, PinError> {
    let mut kept = Kept::default();
    let mut waiting = vec![root];
    while let Some(cid) = waiting.pop() {
        if stop.is_cancelled() || !seen.insert(key(&cid)) {
            continue;
        }
        if seen.len() > MAX_COUNTED {
            let limit = format!("{MAX_COUNTED} blocks");
            return Err(DagError::Limit { cid: root, limit }.into());
        }
        let is_leaf = !recursive || cid.codec() == RAW;
        let found = match is_leaf {
            true => store.block_len(&cid)?.map(|len| (len, Vec::new())),
            false => inner(store, &cid)?,
        };
        match found {
            Some((len, links)) => {
                kept.blocks += 1;
                kept.bytes += u64::from(len);
                waiting.extend(links);
            }
            None => kept.missing_blocks += 1,
        }
    }
    Ok(kept)
}

/// Length and links of a block; `None` when it is missing or damaged.
fn inner(store: &Store, cid: &Cid) -> Result<Option<(u32, Vec<Cid>)>, StoreError> {
    let Some(block) = store.get_whole(cid)? else {
        return Ok(None);
    };
    let len = u32::try_from(block.data().len()).unwrap_or(u32::MAX);
    // What is not valid for its codec has no links, and can be kept all the same.
    Ok(Some((len, links(&block).unwrap_or_default())))
}

/// Removes a pin. Its blocks stay until GC.
///
/// # Errors
/// [`PinError::Offered`] for the root of a release that is not yanked; [`ManifestError::Conflict`]
/// when it is not pinned.
///
/// # Cancel safety
/// A dropped future leaves the pin either there or removed.
pub async fn remove(node: &Node, cid: Cid) -> Result<(), PinError> {
    let _turn = node.publish_turn().await;
    let offered = |release: &Release| release.yanked.is_none();
    if let Some((product, version)) = find_release(node, cid, offered).await? {
        return Err(PinError::Offered {
            cid,
            product,
            version,
        });
    }
    let change = Change {
        expect: vec![Expect::Pinned(cid)],
        ops: vec![Op::DeletePin(cid)],
    };
    node.manifest().commit(change).await?;
    Ok(())
}

/// A release with this root for which `wanted` holds. Reads all releases, off the runtime: pins are
/// seldom changed by hand, and a publish should not pay for an index of roots.
async fn find_release(
    node: &Node,
    root: Cid,
    wanted: impl Fn(&Release) -> bool + Send + 'static,
) -> Result<Option<(ProductId, Version)>, ManifestError> {
    let manifest = node.manifest().clone();
    node.blocking(move || {
        for row in manifest.products() {
            let (product, _) = row?;
            for row in manifest.releases(&product) {
                let (version, release) = row?;
                if release.root == root && wanted(&release) {
                    return Ok(Some((product, version)));
                }
            }
        }
        Ok(None)
    })
    .await
}
