//! One connected peer: its connections, what it wants, and how its tasks are woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, Stream};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::message::ProtocolVersion;

/// Bytes of messages that may be read from one peer at once, over all its streams: three of
/// the largest, or the eight of about 1 MiB that Kubo sends side by side.
const RECEIVE_BUDGET: usize = 12 << 20;
/// Bytes of messages that may be read at once from all peers that only ask. Those that were asked
/// are as many as our own requests chose.
const STRANGER_BUDGET: usize = 64 << 20;
/// Shorter messages do not count there, so that strangers with long ones cannot lock others out.
const FREE_LEN: usize = 64 << 10;
/// Budgets are counted in units of this many bytes.
const BUDGET_UNIT: usize = 1 << 10;
/// Streams that a peer which was asked for blocks may have open to us. Kubo opens one for each
/// message, so this is room for a burst; only as many are read at once as the receive budget
/// allows, and each of the others may hold its first 256 KiB.
const MAX_INBOUND_STREAMS: usize = 256;
/// The same for a peer that only asks.
const MAX_STRANGER_STREAMS: usize = 32;
/// Writers of answers that work side by side while none of them waits for the peer.
const BASE_WRITERS: usize = 3;
/// Streams that may be asked for on one connection and are not open yet.
pub(super) const MAX_STREAM_REQUESTS: usize = 8;

/// Asks a connection for a stream. Dropped when the stream cannot be had.
pub(super) type StreamRequest = oneshot::Sender<(Stream, ProtocolVersion)>;

/// A connected peer. Lives from its first connection to the end of its last.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    /// Cancelled when the last connection has closed, or the engine stops.
    pub(super) gone: CancellationToken,
    connections: Mutex<Connections>,
    /// What the peer wants from us.
    pub(super) ledger: Mutex<Ledger>,
    /// Held while wants are noted: ledger and the list of those who wait change together.
    pub(super) noting: tokio::sync::Mutex<()>,
    /// Wakes the writer of our wants.
    pub(super) wants: Lane,
    /// Wakes the writers of answers.
    pub(super) answers: Lane,
    /// Writers of answers at work.
    writing: AtomicUsize,
    /// Blocks that we wait for from this peer.
    pub(super) expected: AtomicUsize,
    /// Whether we ever wanted anything from it.
    pub(super) was_asked: AtomicBool,
    received_at: AtomicU64,
    connected_at: Instant,
    receive_budget: Semaphore,
    inbound_streams: AtomicUsize,
}

#[derive(Debug, Default)]
struct Connections {
    /// Streams may arrive on them, but another behaviour may still refuse them.
    pending: usize,
    established: Vec<(ConnectionId, mpsc::Sender<StreamRequest>)>,
    /// The client was told of the peer.
    announced: bool,
}

/// Wakes writers of one kind, which are started at the first wake.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) wake: Notify,
    pub(super) started: AtomicBool,
    /// Messages that its writers have sent.
    pub(super) sent: AtomicU64,
}

impl Peer {
    /// A peer without connections.
    pub(super) fn new(id: PeerId, wantlist_limit: usize, gone: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            id,
            gone,
            connections: Mutex::default(),
            ledger: Mutex::new(Ledger::new(wantlist_limit)),
            noting: tokio::sync::Mutex::default(),
            wants: Lane::default(),
            answers: Lane::default(),
            writing: AtomicUsize::new(0),
            expected: AtomicUsize::new(0),
            was_asked: AtomicBool::new(false),
            received_at: AtomicU64::new(0),
            connected_at: Instant::now(),
            receive_budget: Semaphore::new(RECEIVE_BUDGET / BUDGET_UNIT),
            inbound_streams: AtomicUsize::new(0),
        })
    }

    /// Expects a connection.
    pub(super) fn expect_connection(&self) {
        self.connections.lock().pending += 1;
    }

    /// An expected connection is established. Returns whether it is the first one.
    pub(super) fn add_connection(
        &self,
        id: ConnectionId,
        requests: mpsc::Sender<StreamRequest>,
    ) -> bool {
        let mut connections = self.connections.lock();
        connections.pending -= 1;
        connections.established.push((id, requests));
        !std::mem::replace(&mut connections.announced, true)
    }

    /// An expected connection was refused. Returns whether none is left.
    pub(super) fn refuse_connection(&self) -> bool {
        let mut connections = self.connections.lock();
        connections.pending -= 1;
        connections.pending == 0 && connections.established.is_empty()
    }

    /// A connection has closed. Returns whether none is left.
    pub(super) fn remove_connection(&self, id: ConnectionId) -> bool {
        let mut connections = self.connections.lock();
        connections
            .established
            .retain(|(connection, _)| *connection != id);
        connections.pending == 0 && connections.established.is_empty()
    }

    /// Opens a stream on the oldest connection that still gives one. `None` when the peer is gone
    /// or does not speak bitswap.
    pub(super) async fn open_stream(&self) -> Option<(Stream, ProtocolVersion)> {
        let connections = self.connections.lock().established.clone();
        for (_, requests) in connections {
            let (reply, stream) = oneshot::channel();
            if requests.send(reply).await.is_ok()
                && let Ok((mut stream, version)) = stream.await
            {
                stream.ignore_for_keep_alive();
                return Some((stream, version));
            }
        }
        None
    }

    /// Whether the connection is of use right now: we wait for blocks or have answers to send.
    pub(super) fn is_busy(&self) -> bool {
        self.expected.load(Relaxed) > 0 || self.ledger.lock().has_answers()
    }

    /// Counts an inbound stream. `None` when there are too many.
    pub(super) fn admit_stream(self: &Arc<Self>) -> Option<InboundStream> {
        let limit = match self.was_asked.load(Relaxed) {
            true => MAX_INBOUND_STREAMS,
            false => MAX_STRANGER_STREAMS,
        };
        let admitted = self
            .inbound_streams
            .fetch_update(Relaxed, Relaxed, |open| (open < limit).then_some(open + 1))
            .is_ok();
        admitted.then(|| InboundStream(Arc::clone(self)))
    }

    /// Waits until a message of `len` bytes may be read. The permits are held until the message has
    /// been handled.
    pub(super) async fn admit_message<'a>(
        &'a self,
        len: usize,
        strangers: &'a StrangerBudget,
    ) -> Admitted<'a> {
        let own = self.receive_budget.acquire_many(units(len)).await;
        let shared = match self.was_asked.load(Relaxed) || len <= FREE_LEN {
            true => None,
            false => strangers.0.acquire_many(units(len)).await.ok(),
        };
        Admitted {
            _own: own.ok(),
            _shared: shared,
        }
    }

    /// Counts a writer of answers among those at work, and wakes another one when there is work for
    /// it and few are at work.
    pub(super) fn begin_writing(&self) -> Writing<'_> {
        let writing = self.writing.fetch_add(1, Relaxed) + 1;
        if writing < BASE_WRITERS {
            self.wake_writer(writing);
        }
        Writing(self)
    }

    /// A writer waits for credit: more streams carry more at once.
    pub(super) fn on_stalled(&self) {
        self.wake_writer(self.writing.load(Relaxed));
    }

    fn wake_writer(&self, writing: usize) {
        if self.ledger.lock().answers() > writing {
            self.answers.wake.notify_one();
        }
    }

    /// Notes that bytes of a message arrived.
    pub(super) fn note_received(&self) {
        let millis = self.connected_at.elapsed().as_millis();
        self.received_at
            .store(u64::try_from(millis).unwrap_or(u64::MAX), Relaxed);
    }

    /// When bytes of a message arrived last.
    pub(super) fn last_received(&self) -> Instant {
        self.connected_at + Duration::from_millis(self.received_at.load(Relaxed))
    }
}

fn units(len: usize) -> u32 {
    u32::try_from(len.min(RECEIVE_BUDGET).div_ceil(BUDGET_UNIT)).expect("the budget has few units")
}

/// What all peers together that only ask may send at once.
#[derive(Debug)]
pub(super) struct StrangerBudget(Semaphore);

impl Default for StrangerBudget {
    fn default() -> Self {
        Self(Semaphore::new(STRANGER_BUDGET / BUDGET_UNIT))
    }
}

/// A message that may be read.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    _own: Option<SemaphorePermit<'a>>,
    _shared: Option<SemaphorePermit<'a>>,
}

/// An admitted inbound stream; counted until dropped.
#[derive(Debug)]
pub(super) struct InboundStream(Arc<Peer>);

impl InboundStream {
    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.0
    }
}

impl Drop for InboundStream {
    fn drop(&mut self) {
        self.0.inbound_streams.fetch_sub(1, Relaxed);
    }
}

/// A writer of answers at work; counted until dropped.
#[derive(Debug)]
pub(super) struct Writing<'a>(&'a Peer);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writing.fetch_sub(1, Relaxed);
    }
}
