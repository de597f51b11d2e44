//! REPAIR: what is damaged or missing here is fetched again from peers and gateways.

use std::collections::BTreeSet;

use cid::Cid;
use futures::StreamExt;

use crate::fetch::{FetchOptions, fetch_dag};
use crate::node::Node;
use crate::source::BlockSource;
use crate::store::StoreError;

/// Blocks that are asked for at the same time.
const AT_ONCE: usize = 16;

/// Fetches blocks that are damaged here, and stores them to be kept. Returns those that nobody has.
///
/// # Cancel safety
/// A dropped future leaves some of them repaired.
pub(crate) async fn blocks(node: &Node, damaged: Vec<Cid>) -> Result<Vec<Cid>, StoreError> {
    if damaged.is_empty() {
        return Ok(Vec::new());
    }
    let fetcher = node.fetcher(FetchOptions::kept());
    let fetched = futures::stream::iter(damaged).map(|cid| {
        let fetcher = fetcher.clone();
        async move { (cid, fetcher.fetch(&cid).await) }
    });
    let mut fetched = fetched.buffer_unordered(AT_ONCE);
    let mut left = Vec::new();
    while let Some((cid, block)) = fetched.next().await {
        if let Err(error) = block {
            tracing::debug!(%cid, %error, "a damaged block cannot be had from anybody");
            left.push(cid);
        }
    }
    node.commit_blocks().await?;
    Ok(left)
}

/// Fetches what is missing or damaged below `roots`.
///
/// # Cancel safety
/// A dropped future leaves some of it repaired.
pub(crate) async fn trees(node: &Node, roots: BTreeSet<Cid>) -> Result<(), StoreError> {
    let window = node.config().network.limits.window;
    for root in roots {
        let fetcher = node.fetcher(FetchOptions::kept());
        let mut progress = std::pin::pin!(fetch_dag(fetcher, root, window));
        while let Some(step) = progress.next().await {
            if let Err(error) = step {
                tracing::debug!(%root, %error, "a tree that is promised to be kept cannot be completed");
                break;
            }
        }
    }
    node.commit_blocks().await
}
