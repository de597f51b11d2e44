//! Bitswap 1.0, 1.1 and 1.2 (specs.ipfs.tech/bitswap-protocol), client and server.

pub mod behaviour;

use cid::Cid;
use duka_config::LimitsConfig;
use libp2p::PeerId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::block::Block;
use crate::source::{BlockSource, FetchError};
use crate::store::Store;

pub use behaviour::Behaviour;

/// Makes the engine: a [`Behaviour`] for the swarm and the handle to it. Blocks are served from
/// `store`. Needs a Tokio runtime: the engine's tasks run in `tasks` and end when `stop` is
/// cancelled.
pub fn new(
    _limits: &LimitsConfig,
    _store: Store,
    _tasks: TaskTracker,
    _stop: CancellationToken,
) -> (Behaviour, Bitswap) {
    (Behaviour {}, Bitswap {})
}

/// Handle to the engine: makes sessions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bitswap {}

impl Bitswap {
    /// A session: blocks of one DAG are likely to be with the same peers. Asks connected peers
    /// first; `providers` are asked with WANT-BLOCK at once.
    pub fn session(&self, _providers: Vec<PeerId>) -> Session {
        todo!()
    }

    /// Tells the server side that these blocks are now in the store, so that peers who wait for
    /// them get them.
    pub fn notify(&self, _cids: &[Cid]) {
        todo!()
    }
}

/// One fetch from bitswap peers. Cheap to clone; the wants end when the last clone drops.
#[derive(Clone, Debug)]
pub struct Session {}

impl Session {
    /// Adds peers that are said to have the blocks.
    pub fn add_providers(&self, _providers: &[PeerId]) {
        todo!()
    }

    /// Resolves when every peer of the session has said DONT_HAVE, or there is none: the time to
    /// look for more providers.
    pub async fn starved(&self) {
        todo!()
    }

    /// Bytes and blocks received from each peer.
    pub fn stats(&self) -> Vec<(PeerId, u64, u64)> {
        todo!()
    }
}

impl BlockSource for Session {
    /// Wants one block; many may be wanted at once. Waits until it arrives: the caller sets the
    /// deadline. The block is verified but not stored.
    async fn fetch(&self, _cid: &Cid) -> Result<Block, FetchError> {
        todo!()
    }
}
