//! The client's view of connected peers: what is queued for them, what they owe, how fast they are.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::super::behaviour::SwarmCommand;
use super::super::message::WantEntry;
use super::super::peer::Peer;
use super::Client;
use crate::block::Multihash;

/// Blocks that one peer is asked for at once. Peers keep a bounded wantlist, Kubo 1,024 entries.
pub(super) const MAX_OUTSTANDING: usize = 960;
/// Nothing arrives from a peer for this long: its wants are pursued elsewhere. Doubles each time.
pub(super) const FIRST_PATIENCE: Duration = Duration::from_secs(5);
/// Wrong or unwanted blocks after which a peer is disconnected.
const MAX_STRIKES: u32 = 8;
/// How long such a peer is not asked.
const PENALTY: Duration = Duration::from_secs(600);
/// First pause before a lost holder is dialled again; doubles each time.
const FIRST_REDIAL: Duration = Duration::from_secs(1);
/// Attempts to reach a lost holder.
const MAX_REDIALS: u32 = 6;
/// How much a new measurement counts in the rate of a peer.
const RATE_WEIGHT: f64 = 0.3;

/// A connected peer.
pub(super) struct ClientPeer {
    pub(super) handle: Arc<Peer>,
    /// Entries to send, at most one for each hash, in order.
    queue: VecDeque<Multihash>,
    queued: HashMap<Multihash, WantEntry>,
    /// Wants that the peer was asked about and still knows of.
    pub(super) asked: HashSet<Multihash>,
    /// Asks for blocks in state `Waiting`.
    pub(super) outstanding: usize,
    /// When `outstanding` rose from zero, or the peer was found silent.
    pub(super) busy_since: Instant,
    /// Asks for blocks that were answered.
    pub(super) answered: u64,
    /// How long it may be silent.
    pub(super) patience: Duration,
    /// It was silent for too long and has sent no block since.
    pub(super) stalled: bool,
    /// Bytes per second while it had something to do.
    pub(super) rate: Option<f64>,
    bytes_since_tick: usize,
    strikes: u32,
}

impl ClientPeer {
    fn new(handle: Arc<Peer>, now: Instant) -> Self {
        Self {
            handle,
            queue: VecDeque::new(),
            queued: HashMap::new(),
            asked: HashSet::new(),
            outstanding: 0,
            busy_since: now,
            answered: 0,
            patience: FIRST_PATIENCE,
            stalled: false,
            rate: None,
            bytes_since_tick: 0,
            strikes: 0,
        }
    }

    /// Queues an entry; a later one for the same block replaces an earlier one that was not sent.
    /// (Within one message Kubo lets a cancel win over a want, whatever their order.)
    pub(super) fn push(&mut self, entry: WantEntry) {
        let hash = *entry.cid.hash();
        if self.queued.insert(hash, entry).is_none() {
            self.queue.push_back(hash);
        }
    }

    pub(super) fn set_asked(&mut self, hash: Multihash) {
        self.asked.insert(hash);
        self.handle.was_asked.store(true, Relaxed);
        self.handle.expected.store(self.asked.len(), Relaxed);
    }

    pub(super) fn unset_asked(&mut self, hash: &Multihash) {
        self.asked.remove(hash);
        self.handle.expected.store(self.asked.len(), Relaxed);
    }

    /// Counts a block that it sent.
    pub(super) fn note_block(&mut self, len: usize) {
        self.bytes_since_tick += len;
        self.patience = FIRST_PATIENCE;
        self.stalled = false;
    }

    /// Measures the rate over the time since the last tick.
    pub(super) fn measure(&mut self, elapsed: Duration) {
        let bytes = std::mem::take(&mut self.bytes_since_tick);
        if self.outstanding == 0 && bytes == 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let rate = bytes as f64 / elapsed.as_secs_f64().max(0.001);
        self.rate = Some(match self.rate {
            Some(old) => old + RATE_WEIGHT * (rate - old),
            None => rate,
        });
    }
}

impl Client {
    /// The first connection with a peer.
    pub(in super::super) fn on_connected(&mut self, handle: Arc<Peer>, now: Instant) {
        let id = handle.id;
        self.peers.insert(id, ClientPeer::new(handle, now));
        if self.is_penalised(&id, now) {
            return;
        }
        for session in self.sessions.values_mut() {
            if let Some(peer) = session.peers.get_mut(&id) {
                peer.redial_at = None;
            }
        }
        self.offer_wants_to(id, now);
    }

    /// The last connection with a peer has closed.
    pub(in super::super) fn on_disconnected(&mut self, id: &PeerId, now: Instant) {
        self.drop_questions_to(id);
        let Some(peer) = self.peers.remove(id) else {
            return;
        };
        for session in self.sessions.values_mut() {
            if let Some(known) = session.peers.get_mut(id)
                && known.holder
            {
                known.redial_at = Some(now);
            }
        }
        for hash in peer.asked {
            if let Some(want) = self.wants.get_mut(&hash) {
                want.asks.retain(|ask| ask.peer != *id);
            }
            self.pursue(&hash, now);
        }
        self.redial(now);
    }

    /// Takes up to `max` entries to send to a peer. `full` gives everything it should know, for a
    /// stream that was opened anew: what was sent before may be lost.
    pub(in super::super) fn take_entries(
        &mut self,
        id: &PeerId,
        max: usize,
        full: bool,
    ) -> Vec<WantEntry> {
        let questions = match full {
            true => self.questions_to(id),
            false => Vec::new(),
        };
        let Some(peer) = self.peers.get_mut(id) else {
            return Vec::new();
        };
        if full {
            peer.queue.clear();
            peer.queued.clear();
            let asks = peer.asked.iter().filter_map(|hash| {
                let want = self.wants.get(hash)?;
                Some((want, want.ask_of(id)?))
            });
            let entries: Vec<_> = asks
                .map(|(want, ask)| WantEntry::want(want.cid, ask.kind))
                .chain(questions)
                .collect();
            for entry in entries {
                peer.push(entry);
            }
        }
        let count = peer.queue.len().min(max);
        let taken = peer.queue.drain(..count);
        taken.filter_map(|hash| peer.queued.remove(&hash)).collect()
    }

    /// Entries that are to be sent to a peer, and blocks that are expected from it.
    pub(in super::super) fn load_of(&self, id: &PeerId) -> (usize, usize) {
        self.peers
            .get(id)
            .map_or((0, 0), |peer| (peer.queue.len(), peer.outstanding))
    }

    /// Counts blocks that nobody wanted against a peer; too many end the connection and put it on
    /// the list of those not to ask.
    pub(in super::super) fn strike(&mut self, id: &PeerId, count: usize, now: Instant) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let before = peer.strikes;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        peer.strikes = before.saturating_add(count);
        if before >= MAX_STRIKES || peer.strikes < MAX_STRIKES {
            return;
        }
        tracing::info!(peer = %id, "disconnecting a peer that sends wrong blocks");
        self.penalised.put(*id, now);
        self.effects.commands.push(SwarmCommand::Disconnect(*id));
        for session in self.sessions.values_mut() {
            session.peers.remove(id);
        }
    }

    /// Whether a peer is not to be asked.
    pub(super) fn is_penalised(&self, id: &PeerId, now: Instant) -> bool {
        self.penalised
            .peek(id)
            .is_some_and(|since| now.saturating_duration_since(*since) < PENALTY)
    }

    /// Dials holders that were lost while their session wants blocks.
    pub(super) fn redial(&mut self, now: Instant) {
        for (id, session) in &mut self.sessions {
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            if !session.peers.values().any(|peer| due(peer.redial_at))
                || !self.wants.values().any(|want| want.is_of(*id))
            {
                continue;
            }
            for (peer, known) in &mut session.peers {
                if !due(known.redial_at) {
                    continue;
                }
                self.effects.commands.push(SwarmCommand::Dial(*peer));
                known.redials += 1;
                known.redial_at = (known.redials < MAX_REDIALS)
                    .then(|| now + FIRST_REDIAL * 2_u32.pow(known.redials - 1));
            }
        }
    }
}
