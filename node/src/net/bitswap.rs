//! Bitswap 1.0, 1.1 and 1.2 (specs.ipfs.tech/bitswap-protocol), client and server.
//!
//! ```text
//!  swarm ── Behaviour, Handler ──── streams ───▶ reader (one task per inbound stream)
//!              ▲                                   │ verified blocks, presences   │ wants
//!              │ dial, disconnect                  ▼                              ▼
//!  Session ──▶ Client (wants, sessions) ─┐       Client                Server + Ledger of the peer
//!                                        ▼                                        ▼
//!                          writer of wants (1 per peer)         writers of answers (16 per peer)
//! ```
//!
//! - [`Behaviour`] only negotiates streams. All I/O runs in tasks outside the swarm, so a block
//!   never waits for a DHT query nor the other way round.
//! - The protocol that a stream negotiated decides what is written to it: 1.0 blocks without
//!   prefix, 1.1 with it, 1.2 also HAVE and DONT_HAVE.
//! - The client (`client.rs`) and each peer's ledger (`ledger.rs`) are sync state machines behind
//!   short locks; no two of them are held together, and none over I/O.
//! - A peer exists from its first connection to the end of its last; with it go its tasks, its
//!   ledger and what it was asked. Nothing here survives a restart, nor needs to.
//!
//! Bounds, for each peer: 256 inbound streams, 12 MiB of messages being read, messages of 4 MiB,
//! the configured wantlist and outbox, 960 blocks that we wait for. Over all peers: one message to
//! each and 128 more in memory, 8 of them read from the store at once, in turn; 64 MiB of long
//! messages from peers that we never asked, which may also open 32 streams only. Every wait has an
//! end: a message must arrive or leave at 16 KiB/s at least, idle streams close after a minute. A peer
//! whose streams break is tried again after pauses of 250 ms to 8 s; after six in a row what it
//! wants is dropped, and what was wanted from it is pursued elsewhere. The number of our own wants is bounded by those who call
//! [`Session::fetch`](crate::source::BlockSource::fetch).
//!
//! `node/DESIGN.md`, "Bitswap", says why.

mod behaviour;
mod client;
mod engine;
pub(crate) mod fuzz;
mod ledger;
mod message;
mod metrics;
mod peer;
mod question;
mod reader;
mod server;
mod session;
mod writer;

use std::sync::Arc;

use cid::Cid;
use duka_config::LimitsConfig;
use libp2p::PeerId;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::served::Served;
use engine::Engine;
use server::Server;

pub use behaviour::Behaviour;
pub use client::LastReceived;
pub(crate) use client::Said;
pub use session::Session;

/// Dials and disconnects that wait for the swarm.
const MAX_COMMANDS: usize = 256;

/// Makes the engine: a [`Behaviour`] for the swarm and the handle to it. Peers get what
/// `served` has, also those who wait for what is put into its store later. Needs a Tokio runtime: the
/// engine's tasks run in `tasks` and end when `stop` is cancelled.
pub fn new(
    limits: &LimitsConfig,
    served: Served,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> (Behaviour, Bitswap) {
    let outbox = usize::try_from(limits.outbox_per_peer.as_u64()).unwrap_or(usize::MAX);
    let store = served.store().clone();
    let server = Server::new(served, outbox);
    let (sender, commands) = mpsc::channel(MAX_COMMANDS);
    let engine = Engine::start(server, limits.wantlist_per_peer, sender, tasks, stop);
    let behaviour = Behaviour::new(Arc::clone(&engine), commands);
    let (told, runtime) = (Arc::downgrade(&engine), Handle::current());
    store.on_put(move |blocks| {
        if let Some(engine) = told.upgrade() {
            // Imports put from threads outside of the runtime.
            let _runtime = runtime.enter();
            let cids: Vec<Cid> = blocks.iter().map(|block| *block.cid()).collect();
            engine.notify(&cids);
        }
    });
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
}

#[cfg(test)]
mod tests;
