//! The engine behind [`super::Behaviour`] and [`super::Bitswap`]: connected peers, both sides'
//! state, and the tasks that do the I/O.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, Stream};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::behaviour::SwarmCommand;
use super::client::{Client, Received};
use super::message::{Message, ReceivedBlock};
use super::peer::{Lane, Peer, StrangerBudget, StreamRequest};
use super::server::Server;
use super::{metrics, reader, writer};
use crate::block::Multihash;
use crate::blocking::blocking;
use crate::buffer::BufferPool;

/// Bytes of buffers for messages that are kept while anybody waits for a block.
const MAX_FREE_BUFFERS: usize = 64 << 20;
/// How often time passes for the client while anybody waits for a block.
const TICK: Duration = Duration::from_millis(250);
/// Messages with more bytes of blocks are hashed off the runtime: the connection that the next
/// message comes from must not wait for that.
const HASHED_AT_ONCE: usize = 64 << 10;

/// State that the swarm, the sessions and the tasks share.
pub(super) struct Engine {
    peers: Mutex<HashMap<PeerId, Arc<Peer>>>,
    client: Mutex<Client>,
    /// Wakes the ticker when the first want comes.
    wanted: Notify,
    pub(super) server: Server,
    /// Keeps buffers while anybody waits for a block.
    pool: BufferPool,
    /// Keeps none.
    no_pool: BufferPool,
    pub(super) strangers: StrangerBudget,
    commands: mpsc::Sender<SwarmCommand>,
    wantlist_limit: usize,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Makes the engine and starts its ticker.
    pub(super) fn start(
        server: Server,
        wantlist_limit: usize,
        commands: mpsc::Sender<SwarmCommand>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let engine = Arc::new(Self {
            peers: Mutex::default(),
            client: Mutex::default(),
            wanted: Notify::new(),
            server,
            pool: BufferPool::new(0),
            no_pool: BufferPool::new(0),
            strangers: StrangerBudget::default(),
            commands,
            wantlist_limit,
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        let ticking = Arc::clone(&engine);
        tasks.spawn(async move {
            stop.run_until_cancelled(ticking.tick()).await;
        });
        engine
    }

    /// So many of the connected peers at most.
    pub(super) fn peer_ids(&self, most: usize) -> Vec<PeerId> {
        self.peers.lock().keys().copied().take(most).collect()
    }

    /// The peer, while it is connected.
    pub(super) fn peer(&self, id: &PeerId) -> Option<Arc<Peer>> {
        self.peers.lock().get(id).cloned()
    }

    /// A connection with a peer is about to be established. Streams may arrive on it before
    /// [`Engine::on_connection`] is called.
    pub(super) fn expect_connection(&self, id: PeerId) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        let peer = peers
            .entry(id)
            .or_insert_with(|| Peer::new(id, self.wantlist_limit, self.stop.child_token()));
        peer.expect_connection();
        Arc::clone(peer)
    }

    /// An expected connection with a peer is established.
    pub(super) fn on_connection(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        connection: ConnectionId,
        requests: mpsc::Sender<StreamRequest>,
    ) {
        if peer.add_connection(connection, requests) {
            self.with_client(|client, now| client.on_connected(peer, now));
        }
    }

    /// An expected connection with a peer was refused.
    pub(super) fn on_connection_refused(self: &Arc<Self>, peer: &Peer) {
        self.end_peer_if(peer.id, Peer::refuse_connection);
    }

    /// A connection with a peer has ended.
    pub(super) fn on_connection_closed(self: &Arc<Self>, id: PeerId, connection: ConnectionId) {
        self.end_peer_if(id, |peer| peer.remove_connection(connection));
    }

    /// Forgets a peer when `is_last` says that its last connection is gone.
    fn end_peer_if(self: &Arc<Self>, id: PeerId, is_last: impl FnOnce(&Peer) -> bool) {
        let gone = {
            let mut peers = self.peers.lock();
            let was_last = peers.get(&id).is_some_and(|peer| is_last(peer));
            if was_last { peers.remove(&id) } else { None }
        };
        if let Some(peer) = gone {
            peer.gone.cancel();
            self.server.forget(&peer);
            self.with_client(|client, now| client.on_disconnected(&id, now));
        }
    }

    /// The peer does not speak bitswap, or takes no streams: it is not asked any more.
    pub(super) fn on_unreachable(self: &Arc<Self>, id: &PeerId) {
        self.with_client(|client, now| client.on_disconnected(id, now));
    }

    /// Runs `event` on the client's state, then does what came of it.
    pub(super) fn with_client<R>(
        self: &Arc<Self>,
        event: impl FnOnce(&mut Client, Instant) -> R,
    ) -> R {
        let (result, effects) = {
            let mut client = self.client.lock();
            let result = event(&mut client, Instant::now());
            (result, client.take_effects())
        };
        for peer in effects.wake {
            self.start_once(&peer.wants, || {
                self.tasks
                    .spawn(writer::write_wants(Arc::clone(self), Arc::clone(&peer)));
            });
            peer.wants.wake.notify_one();
        }
        for command in effects.commands {
            // Full only when the swarm is overwhelmed; a lost dial is tried again.
            if let Err(error) = self.commands.try_send(command) {
                tracing::debug!(%error, ?command, "swarm does not take commands");
            }
        }
        result
    }

    /// Runs a future; `None` when the engine stops first.
    pub(super) async fn until_stopped<F: Future>(&self, future: F) -> Option<F::Output> {
        self.stop.run_until_cancelled(future).await
    }

    /// Lets the ticker run: there is a want.
    pub(super) fn wake_ticker(&self) {
        self.wanted.notify_one();
    }

    /// Buffers for the messages of a peer: only those that bring what is waited for are used again,
    /// so that others cannot fill the pool.
    pub(super) fn pool_for(&self, peer: &Peer) -> &BufferPool {
        match peer.expected.load(Relaxed) {
            0 => &self.no_pool,
            _ => &self.pool,
        }
    }

    #[cfg(test)]
    pub(super) fn pooled_bytes(&self) -> usize {
        self.pool.free_bytes()
    }

    /// Reads messages from a stream that the peer opened.
    pub(super) fn read_stream(self: &Arc<Self>, peer: &Arc<Peer>, stream: Stream) {
        match peer.admit_stream() {
            Some(admitted) => {
                let reading = reader::read_messages(Arc::clone(self), admitted, stream);
                let gone = peer.gone.clone();
                self.tasks.spawn(async move {
                    gone.run_until_cancelled(reading).await;
                });
            }
            None => tracing::debug!(peer = %peer.id, "reset a stream: too many are open"),
        }
    }

    /// Wakes the writers of a peer that has answers to be sent.
    pub(super) fn wake_answers(self: &Arc<Self>, peer: &Arc<Peer>) {
        self.start_once(&peer.answers, || {
            for nth in 0..self.server.writers {
                let writer = writer::write_answers(Arc::clone(self), Arc::clone(peer), nth == 0);
                self.tasks.spawn(writer);
            }
        });
        peer.answers.wake.notify_one();
    }

    /// Blocks are in the store now: answers those who wait for them.
    pub(super) fn notify(self: &Arc<Self>, cids: &[cid::Cid]) {
        for id in self.server.arrived(cids, |id| self.peer(id)) {
            self.wake_answers(&id);
        }
    }

    /// Handles one message.
    pub(super) async fn on_message(self: &Arc<Self>, peer: &Arc<Peer>, message: Message) {
        if !message.blocks.is_empty() {
            self.on_blocks(peer, message.blocks).await;
        }
        if !message.presences.is_empty() {
            self.with_client(|client, now| {
                client.on_presences(peer.id, &message.presences, now);
            });
        }
        if message.full || !message.wants.is_empty() {
            metrics::wants_received(message.wants.len());
            let engine = Arc::clone(self);
            let from = Arc::clone(peer);
            let noting = peer.noting.lock().await;
            // The index is asked about every entry, which may touch the disk.
            blocking(move || engine.server.on_wants(&from, &message.wants, message.full)).await;
            drop(noting);
            if peer.ledger.lock().has_answers() {
                self.wake_answers(peer);
            }
        }
    }

    /// Verifies the blocks of a message and hands them to those who wait.
    async fn on_blocks(self: &Arc<Self>, peer: &Arc<Peer>, blocks: Vec<ReceivedBlock>) {
        let count = blocks.len();
        let bytes: usize = blocks.iter().map(|block| block.data.len()).sum();
        let verified = if !peer.was_asked.load(Relaxed) {
            // A peer that was never asked is not worth the hashing.
            Vec::new()
        } else if bytes <= HASHED_AT_ONCE {
            hashed(blocks)
        } else {
            blocking(move || hashed(blocks)).await
        };
        let unhashed = count - verified.len();
        let received = self.with_client(|client, now| {
            let mut received = client.on_blocks(peer.id, verified, now);
            received.unwanted += unhashed;
            client.strike(&peer.id, received.unwanted, now);
            received
        });
        metrics::blocks_received(bytes, &received);
        if received
            != (Received {
                useful: count,
                ..Received::default()
            })
        {
            tracing::debug!(peer = %peer.id, ?received, "blocks nobody waits for");
        }
    }

    fn start_once(&self, lane: &Lane, start: impl FnOnce()) {
        if !lane.started.swap(true, Relaxed) {
            start();
        }
    }

    async fn tick(self: Arc<Self>) {
        loop {
            self.wanted.notified().await;
            self.pool.keep(MAX_FREE_BUFFERS);
            let mut interval = tokio::time::interval(TICK);
            let mut last = interval.tick().await;
            loop {
                let at = interval.tick().await;
                let elapsed = at - last;
                last = at;
                let idle = self.with_client(|client, now| {
                    client.on_tick(elapsed, now);
                    client.is_idle()
                });
                if idle {
                    self.pool.keep(0);
                    break;
                }
            }
        }
    }
}

/// The blocks under their hashes, without those that cannot be hashed.
fn hashed(blocks: Vec<ReceivedBlock>) -> Vec<(Multihash, Bytes)> {
    let hashes = blocks.into_iter().map(|block| (block.hash(), block.data));
    hashes
        .filter_map(|(hash, data)| Some((hash?, data)))
        .collect()
}
