//! Bitswap 1.0, 1.1 and 1.2 (specs.ipfs.tech/bitswap-protocol), client and server.

mod behaviour;
mod buffer;
mod client;
mod engine;
mod ledger;
mod message;
mod metrics;
mod peer;
mod reader;
mod server;
mod session;
mod writer;

use std::sync::Arc;

use cid::Cid;
use duka_config::LimitsConfig;
use libp2p::PeerId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::store::Store;
use engine::Engine;
use server::Server;

pub use behaviour::Behaviour;
pub use session::Session;

/// Dials and disconnects that wait for the swarm.
const MAX_COMMANDS: usize = 256;

/// Makes the engine: a [`Behaviour`] for the swarm and the handle to it. Blocks are served from
/// `store`. Needs a Tokio runtime: the engine's tasks run in `tasks` and end when `stop` is
/// cancelled.
pub fn new(
    limits: &LimitsConfig,
    store: Store,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> (Behaviour, Bitswap) {
    let outbox = usize::try_from(limits.outbox_per_peer.as_u64()).unwrap_or(usize::MAX);
    let server = Server::new(store, outbox, engine::ANSWER_WRITERS);
    let (sender, commands) = mpsc::channel(MAX_COMMANDS);
    let engine = Engine::start(server, limits.wantlist_per_peer, sender, tasks, stop);
    let behaviour = Behaviour::new(Arc::clone(&engine), commands);
    (behaviour, Bitswap { engine })
}

/// Handle to the engine: makes sessions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bitswap {
    engine: Arc<Engine>,
}

impl Bitswap {
    /// A session: blocks of one DAG are likely to be with the same peers. Asks connected peers
    /// first; `providers` are asked with WANT-BLOCK at once.
    pub fn session(&self, providers: Vec<PeerId>) -> Session {
        Session::open(Arc::clone(&self.engine), &providers)
    }

    /// Tells the server side that these blocks are now in the store, so that peers who wait for
    /// them get them.
    pub fn notify(&self, cids: &[Cid]) {
        self.engine.notify(cids);
    }
}

#[cfg(test)]
mod tests;
