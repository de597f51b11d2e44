//! Where one request reads its blocks: what this node has, and only on a miss the network.
//!
//! The first block that is not here takes one of the gateway's retrieval permits and keeps it as
//! long as the request; without a permit the request ends with 429. Local hits need none. What a request
//! may fetch from the network has a limit in blocks and in bytes.

use std::sync::Arc;

use bytesize::ByteSize;
use cid::Cid;
use duka_config::GatewayConfig;
use duka_node::block::Block;
use duka_node::source::{BlockSource, FetchError};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Backend;

/// What one request may fetch from the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    blocks: u64,
    bytes: u64,
}

impl Budget {
    pub(super) fn new(config: &GatewayConfig) -> Self {
        Self {
            blocks: config.retrieval_blocks,
            bytes: config.retrieval_bytes.as_u64(),
        }
    }
}

/// The source of one request. Cheap to clone; all clones share one retrieval.
#[derive(Debug)]
pub(crate) struct RequestSource<B: Backend> {
    local: B::Local,
    remote: Option<Arc<Remote<B>>>,
}

#[derive(Debug)]
struct Remote<B: Backend> {
    backend: B,
    permits: Arc<Semaphore>,
    budget: Budget,
    spent: Mutex<Budget>,
    retrieval: Mutex<Option<Retrieval<B>>>,
}

#[derive(Debug)]
struct Retrieval<B: Backend> {
    source: B::Remote,
    _permit: OwnedSemaphorePermit,
}

impl<B: Backend> Clone for RequestSource<B> {
    fn clone(&self) -> Self {
        Self {
            local: self.local.clone(),
            remote: self.remote.clone(),
        }
    }
}

impl<B: Backend> RequestSource<B> {
    /// Reads what is here, nothing else.
    pub(super) fn local(backend: &B) -> Self {
        Self {
            local: backend.local(),
            remote: None,
        }
    }

    /// Reads what is here, then asks the network, within `budget`.
    pub(super) fn with_network(backend: &B, permits: &Arc<Semaphore>, budget: Budget) -> Self {
        let remote = backend.may_retrieve().then(|| {
            Arc::new(Remote {
                backend: backend.clone(),
                permits: Arc::clone(permits),
                budget,
                spent: Mutex::new(Budget {
                    blocks: 0,
                    bytes: 0,
                }),
                retrieval: Mutex::new(None),
            })
        });
        Self {
            local: backend.local(),
            remote,
        }
    }

    /// Whether it goes on where this machine has not what is asked for.
    pub(super) fn asks_the_network(&self) -> bool {
        self.remote.is_some()
    }
}

impl<B: Backend> Remote<B> {
    /// Counts a block that is to be fetched, if the request may.
    fn begin(&self, cid: &Cid) -> Result<(), FetchError> {
        let Budget { blocks, bytes } = self.budget;
        let mut spent = self.spent.lock();
        if spent.blocks >= blocks || spent.bytes >= bytes {
            let bytes = ByteSize::b(bytes);
            return Err(FetchError::OverBudget {
                cid: *cid,
                limit: format!(
                    "one request may fetch {blocks} blocks and {bytes} from the network"
                ),
            });
        }
        spent.blocks += 1;
        Ok(())
    }

    fn arrived(&self, block: &Block) {
        let mut spent = self.spent.lock();
        spent.bytes = spent.bytes.saturating_add(block.data().len() as u64);
    }

    fn source(&self, cid: &Cid) -> Result<B::Remote, FetchError> {
        let mut retrieval = self.retrieval.lock();
        if let Some(started) = &*retrieval {
            return Ok(started.source.clone());
        }
        let permit = Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| FetchError::Busy { cid: *cid })?;
        let source = self.backend.remote();
        *retrieval = Some(Retrieval {
            source: source.clone(),
            _permit: permit,
        });
        Ok(source)
    }
}

impl<B: Backend> BlockSource for RequestSource<B> {
    async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        let missing = match (self.local.fetch(cid).await, &self.remote) {
            (Err(FetchError::NotFound { .. }), Some(remote)) => remote,
            (local, _) => return local,
        };
        let source = missing.source(cid)?;
        missing.begin(cid)?;
        // On the heap: most requests never ask the network.
        let block = Box::pin(source.fetch(cid)).await?;
        missing.arrived(&block);
        Ok(block)
    }
}
