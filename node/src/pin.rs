//! PIN: fetch what is missing → one durable commit of the blocks → one manifest commit of the pin.

use cid::Cid;
use futures::StreamExt;
use futures::stream::Stream;
use jiff::Timestamp;

use crate::dag::DagError;
use crate::fetch::{FetchOptions, Progress, fetch_dag};
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Expect, Op};
use crate::manifest::record::Pin;
use crate::node::Node;
use crate::source::{BlockSource, FetchError};
use crate::store::{PackKind, StoreError};

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

/// Why nothing was pinned.
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
        let pin = Pin { recursive, name, created: Timestamp::now() };
        let change = Change { expect: Vec::new(), ops: vec![Op::PutPin(cid, pin)] };
        node.manifest().commit(change).await?;
        node.offer(cid);
    }
}

/// Removes a pin. Its blocks stay until GC.
///
/// # Errors
/// [`ManifestError::Conflict`] when it is not pinned.
pub async fn remove(node: &Node, cid: Cid) -> Result<(), ManifestError> {
    let change = Change {
        expect: vec![Expect::Pinned(cid)],
        ops: vec![Op::DeletePin(cid)],
    };
    node.manifest().commit(change).await?;
    Ok(())
}
