//! Where one request reads its blocks: what this node has, and only on a miss the network.
//!
//! The first block that is not here takes one of the gateway's retrieval permits and keeps it as
//! long as the request; without a permit the request ends with 429. Local hits need none.

use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use duka_node::block::Block;
use duka_node::source::{BlockSource, FetchError};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Backend;

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
    timeout: Duration,
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

    /// Reads what is here, then asks the network, `timeout` for each block.
    pub(super) fn with_network(backend: &B, permits: &Arc<Semaphore>, timeout: Duration) -> Self {
        let remote = backend.may_retrieve().then(|| {
            Arc::new(Remote {
                backend: backend.clone(),
                permits: Arc::clone(permits),
                timeout,
                retrieval: Mutex::new(None),
            })
        });
        Self {
            local: backend.local(),
            remote,
        }
    }
}

impl<B: Backend> Remote<B> {
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
        match tokio::time::timeout(missing.timeout, source.fetch(cid)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchError::TimedOut {
                cid: *cid,
                tried: format!("the network, for {} s", missing.timeout.as_secs()),
            }),
        }
    }
}
