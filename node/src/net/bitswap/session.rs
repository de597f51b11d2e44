//! One fetch from bitswap peers.

use std::sync::Arc;

use cid::Cid;
use libp2p::PeerId;
use multihash_codetable::Code;
use tokio::sync::Notify;

use super::client::{Client, LastReceived, SessionId, WaiterId};
use super::engine::Engine;
use crate::block::{Block, BlockError, SHA2_256};
use crate::source::{BlockSource, FetchError};

/// One fetch from bitswap peers. Cheap to clone; the wants end when the last clone drops.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Arc<Engine>,
    id: SessionId,
    starved: Arc<Notify>,
}

impl Session {
    pub(super) fn open(engine: Arc<Engine>, providers: &[PeerId]) -> Self {
        let starved = Arc::new(Notify::new());
        let id = engine.with_client(|client, now| {
            let id = client.open_session(Arc::clone(&starved));
            client.add_holders(id, providers, now);
            id
        });
        Self {
            inner: Arc::new(Inner {
                engine,
                id,
                starved,
            }),
        }
    }

    /// Adds peers that are said to have the blocks. Those that are not connected are dialled at the
    /// addresses that the swarm knows.
    pub fn add_providers(&self, providers: &[PeerId]) {
        let Inner { engine, id, .. } = &*self.inner;
        engine.with_client(|client, now| client.add_holders(*id, providers, now));
    }

    /// Resolves when every peer of the session has said DONT_HAVE to some wanted block, or there is
    /// none to ask: the time to look for more providers. Resolves at once for as long as that is
    /// so: pause between calls when no provider was found.
    pub async fn starved(&self) {
        let id = self.inner.id;
        self.until(|client| client.is_starved(id)).await;
    }

    /// The same for one block that is wanted.
    pub async fn starved_of(&self, cid: &Cid) {
        self.until(|client| client.is_exhausted(cid)).await;
    }

    async fn until(&self, is_starved: impl Fn(&Client) -> bool) {
        let Inner {
            engine, starved, ..
        } = &*self.inner;
        loop {
            let notified = starved.notified();
            tokio::pin!(notified);
            // Enabled before looking, so that nothing is missed between the two.
            notified.as_mut().enable();
            if engine.with_client(|client, _| is_starved(client)) {
                return;
            }
            notified.await;
        }
    }

    /// When the peers that have the blocks last sent something.
    pub fn received(&self) -> LastReceived {
        let Inner { engine, id, .. } = &*self.inner;
        engine.with_client(|client, _| client.last_received(*id))
    }

    /// Bytes and blocks received from each peer.
    pub fn stats(&self) -> Vec<(PeerId, u64, u64)> {
        let Inner { engine, id, .. } = &*self.inner;
        engine.with_client(|client, _| client.session_stats(*id))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.engine
            .with_client(|client, _| client.close_session(self.id));
    }
}

impl BlockSource for Session {
    /// Wants one block; many may be wanted at once. Waits until it arrives: the caller sets the
    /// deadline. The block is verified but not stored.
    ///
    /// # Cancel safety
    /// Dropping the future takes the want back, from the peers too.
    async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        if let Some(block) = Block::inlined(cid)? {
            return Ok(block);
        }
        let code = cid.hash().code();
        if code != SHA2_256 && Code::try_from(code).is_err() {
            return Err(BlockError::UnsupportedHash { cid: *cid, code }.into());
        }
        let Inner { engine, id, .. } = &*self.inner;
        let (waiter, block) = engine.with_client(|client, now| client.want(*id, *cid, now));
        engine.wake_ticker();
        let want = PendingWant {
            engine,
            cid: *cid,
            waiter,
        };
        let Some(Ok(block)) = engine.until_stopped(block).await else {
            return Err(FetchError::TimedOut {
                cid: *cid,
                tried: "the node is shutting down".to_owned(),
            });
        };
        // The want has ended with the block.
        std::mem::forget(want);
        Ok(block)
    }
}

/// Takes the want back when its future is dropped.
struct PendingWant<'a> {
    engine: &'a Arc<Engine>,
    cid: Cid,
    waiter: WaiterId,
}

impl Drop for PendingWant<'_> {
    fn drop(&mut self) {
        self.engine
            .with_client(|client, _| client.unwant(&self.cid, self.waiter));
    }
}
