//! Where blocks come from.
//!
//! Everything that reads a DAG (paths, byte ranges, CAR, `get`) is written against [`BlockSource`].
//! Its implementations: the local store, bitswap peers, trustless gateways, and
//! [`crate::fetch::Fetcher`], which asks them in that order.

pub(crate) mod delegated;
pub(crate) mod guard;
pub mod local;
#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod place;
#[cfg(test)]
pub(crate) mod test_gateway;
pub mod trustless;

use std::future::Future;

use cid::Cid;

use crate::block::{Block, BlockError};
use crate::denylist::Denied;
use crate::store::StoreError;

/// Yields verified blocks.
pub trait BlockSource: Send + Sync + 'static {
    /// Fetches one block.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the want; nothing is stored.
    fn fetch(&self, cid: &Cid) -> impl Future<Output = Result<Block, FetchError>> + Send;

    /// The same, and whether it came from outside of this machine: a source without a store of its own is
    /// all outside.
    fn obtain(&self, cid: &Cid) -> impl Future<Output = Result<Obtained, FetchError>> + Send {
        async {
            Ok(Obtained {
                block: self.fetch(cid).await?,
                from_outside: true,
            })
        }
    }
}

/// A block, and whether it came from outside.
#[derive(Clone, Debug)]
pub struct Obtained {
    /// The block.
    pub block: Block,
    /// It was not here.
    pub from_outside: bool,
}

/// Why a block could not be had.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Every place that was asked does not have it.
    #[error("block {cid} was not found ({tried})")]
    NotFound {
        /// The block.
        cid: Cid,
        /// Where it was looked for, in words: `not in the local store`, `3 peers, 2 gateways`.
        tried: String,
    },
    /// Nobody answered in time.
    #[error("block {cid} did not arrive in time ({tried})")]
    TimedOut {
        /// The block.
        cid: Cid,
        /// Where it was looked for, in words.
        tried: String,
    },
    /// Those that were asked could not answer now: the connection failed, or broke off.
    #[error("block {cid} could not be fetched now ({tried})")]
    Failed {
        /// The block.
        cid: Cid,
        /// Where it was looked for, in words.
        tried: String,
    },
    /// A source answered with bytes that are not the block.
    #[error("{source_name} sent bytes that are not the block asked for")]
    Lied {
        /// The gateway URL or peer id.
        source_name: String,
        /// How the bytes were wrong.
        #[source]
        source: BlockError,
    },
    /// The caller's limit on concurrent retrievals is reached; nobody was asked.
    #[error("block {cid} was not asked for: too many retrievals are under way")]
    Busy {
        /// The block.
        cid: Cid,
    },
    /// The request has fetched as much as one may.
    #[error("block {cid} was not fetched: {limit}")]
    OverBudget {
        /// The block.
        cid: Cid,
        /// How much that is, in words.
        limit: String,
    },
    /// A denylist names it: it is neither looked for nor served.
    #[error("block {cid} is not served here")]
    Denied {
        /// The block.
        cid: Cid,
        /// Which list.
        source: Denied,
    },
    /// The CID itself cannot be fetched.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
