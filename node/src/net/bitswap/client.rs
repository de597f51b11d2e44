//! What we want, and whom we ask: the session algorithm.
//!
//! Sync and without I/O. Events go in (a want, a block, a presence, a connection, time); what comes
//! out is queued as wantlist entries per peer, which a writer takes with
//! [`Client::take_entries`], and as peers to wake and swarm commands in [`Effects`].
//!
//! A want is *active* while some peer is expected to answer it. [`Client::pursue`] makes it active:
//!
//! 1. WANT-BLOCK to the best *holder*: a peer that a session was told of, that said HAVE, or that
//!    sent blocks of the session before; best is fewest outstanding blocks for its rate.
//! 2. No holder left: WANT-HAVE to connected peers that were not asked yet.
//! 3. Nobody left: the want is *exhausted*. The session's owner is told, so that it finds
//!    providers; everybody is asked again after a pause that doubles.
//!
//! An ask ends by the block, by DONT_HAVE, by the end of the connection, or by silence: nothing
//! arrives from the peer, or much that was asked later did. Then the want is pursued elsewhere, but
//! the peer's answer still counts when it comes. So no want is ever lost.

mod asking;
mod peers;
mod questions;
#[cfg(test)]
mod tests;
mod ticking;

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cid::Cid;
use libp2p::PeerId;
use lru::LruCache;
use tokio::sync::{Notify, oneshot};

use super::behaviour::SwarmCommand;
use super::message::WantKind;
use super::peer::Peer;
use crate::block::{Block, Multihash};
use peers::ClientPeer;
use questions::Question;
pub(crate) use questions::Said;

/// Hashes that were wanted not long ago: blocks for them are late, not wrong.
const RECENT_WANTS: NonZeroUsize = NonZeroUsize::new(16 << 10).expect("not zero");
/// Peers that are not asked for a while because they sent wrong blocks.
const PENALISED_PEERS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// Peers that one session remembers.
const MAX_SESSION_PEERS: usize = 256;

/// Names a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionId(u64);

/// Names one waiter of a want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaiterId(u64);

/// State of the client side.
pub(super) struct Client {
    wants: HashMap<Multihash, Want>,
    sessions: HashMap<SessionId, SessionState>,
    peers: HashMap<PeerId, ClientPeer>,
    recent: LruCache<Multihash, ()>,
    penalised: LruCache<PeerId, Instant>,
    /// Wants whose holders all have as much to do as they may.
    backlog: VecDeque<Multihash>,
    /// What single peers were asked outside of sessions.
    questions: HashMap<(PeerId, Multihash), Question>,
    next_id: u64,
    effects: Effects,
}

/// When the peers of a session last sent something.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastReceived {
    /// Bytes of any message, from a peer that has the blocks.
    pub bytes: Option<Instant>,
    /// A block for the session.
    pub block: Option<Instant>,
}

/// What the caller has to do after an event.
#[derive(Default)]
pub(super) struct Effects {
    /// Peers with new entries to send.
    pub(super) wake: Vec<Arc<Peer>>,
    /// For the swarm.
    pub(super) commands: Vec<SwarmCommand>,
}

/// A block that somebody waits for.
struct Want {
    /// As it is asked for; waiters may know it under another codec or version.
    cid: Cid,
    waiters: Vec<Waiter>,
    asks: Vec<Ask>,
    /// Times that everybody was asked in vain.
    rounds: u32,
    /// Nobody is left to ask until this time.
    exhausted_until: Option<Instant>,
    /// In the backlog.
    postponed: bool,
}

struct Waiter {
    id: WaiterId,
    session: SessionId,
    cid: Cid,
    reply: oneshot::Sender<Block>,
}

/// What a peer was asked about a want, and what it said. The peer keeps the want until it answers
/// with the block or we cancel.
struct Ask {
    peer: PeerId,
    kind: WantKind,
    state: AskState,
    since: Instant,
    /// The ask counts as lost when the peer has answered this many asks.
    lost_after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskState {
    /// An answer is expected.
    Waiting,
    /// The peer has the block.
    Have,
    /// The peer has not said yet whether it has the block; others do not wait for it.
    Late,
    /// The peer does not have the block, or did not send it in time.
    Failed,
    /// It was asked some time ago and may be asked again.
    Stale,
}

/// One session.
struct SessionState {
    peers: HashMap<PeerId, SessionPeer>,
    /// Wants of the session so far.
    wants: u64,
    last_block: Option<Instant>,
    starved: Arc<Notify>,
}

/// What a session knows of a peer.
#[derive(Clone, Copy, Debug, Default)]
struct SessionPeer {
    holder: bool,
    /// DONT_HAVE since the last block or HAVE.
    misses: u32,
    blocks: u64,
    bytes: u64,
    /// Failed attempts to connect to it again, and when to try next.
    redials: u32,
    redial_at: Option<Instant>,
}

/// What came of a message's blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// Blocks that were waited for.
    pub(super) useful: usize,
    /// Blocks that were wanted before.
    pub(super) duplicate: usize,
    /// Blocks that were never wanted.
    pub(super) unwanted: usize,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            wants: HashMap::new(),
            sessions: HashMap::new(),
            peers: HashMap::new(),
            recent: LruCache::new(RECENT_WANTS),
            penalised: LruCache::new(PENALISED_PEERS),
            backlog: VecDeque::new(),
            questions: HashMap::new(),
            next_id: 0,
            effects: Effects::default(),
        }
    }
}

impl Client {
    /// Takes what the events since the last call ask for.
    pub(super) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Whether anybody waits for a block.
    pub(super) fn is_idle(&self) -> bool {
        self.wants.is_empty()
    }

    #[cfg(test)]
    pub(super) fn knows(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Starts a session. `starved` is notified when one of its wants is exhausted.
    pub(super) fn open_session(&mut self, starved: Arc<Notify>) -> SessionId {
        let id = SessionId(self.new_id());
        self.sessions.insert(
            id,
            SessionState {
                peers: HashMap::new(),
                wants: 0,
                last_block: None,
                starved,
            },
        );
        id
    }

    /// Ends a session. Its wants have ended before: each holds the session.
    pub(super) fn close_session(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// Adds peers that are said to have the blocks of a session.
    pub(super) fn add_holders(&mut self, session: SessionId, holders: &[PeerId], now: Instant) {
        let Some(state) = self.sessions.get_mut(&session) else {
            return;
        };
        for holder in holders {
            if let Some(peer) = state.peer(*holder) {
                peer.holder = true;
                peer.misses = 0;
                peer.redials = 0;
                if !self.peers.contains_key(holder) {
                    self.effects.commands.push(SwarmCommand::Dial(*holder));
                }
            }
        }
        // A provider that just said it does not have the block is worth another question.
        for want in self.wants.values_mut() {
            if want.is_of(session) && want.exhausted_until.is_some() {
                want.exhausted_until = Some(now);
            }
        }
        self.retry_exhausted(now);
    }

    /// Whether a want of the session is exhausted.
    pub(super) fn is_starved(&self, session: SessionId) -> bool {
        self.wants
            .values()
            .any(|want| want.exhausted_until.is_some() && want.is_of(session))
    }

    /// Whether nobody is left to ask for a block.
    pub(super) fn is_exhausted(&self, cid: &Cid) -> bool {
        let want = self.wants.get(cid.hash());
        want.is_some_and(|want| want.exhausted_until.is_some())
    }

    /// When the peers of a session last sent something.
    pub(super) fn last_received(&self, session: SessionId) -> LastReceived {
        let Some(state) = self.sessions.get(&session) else {
            return LastReceived::default();
        };
        let holders = state.peers.iter().filter(|(_, peer)| peer.holder);
        let connected = holders.filter_map(|(id, _)| self.peers.get(id));
        LastReceived {
            bytes: connected.map(|peer| peer.handle.last_received()).max(),
            block: state.last_block,
        }
    }

    /// Bytes and blocks that the session received from each peer.
    pub(super) fn session_stats(&self, session: SessionId) -> Vec<(PeerId, u64, u64)> {
        let peers = self.sessions.get(&session).map(|state| &state.peers);
        peers
            .into_iter()
            .flatten()
            .filter(|(_, stats)| stats.blocks > 0)
            .map(|(peer, stats)| (*peer, stats.bytes, stats.blocks))
            .collect()
    }

    /// Adds a waiter for a block.
    pub(super) fn want(
        &mut self,
        session: SessionId,
        cid: Cid,
        now: Instant,
    ) -> (WaiterId, oneshot::Receiver<Block>) {
        let id = WaiterId(self.new_id());
        let (reply, block) = oneshot::channel();
        let hash = *cid.hash();
        let want = self.wants.entry(hash).or_insert_with(|| Want {
            cid,
            waiters: Vec::new(),
            asks: Vec::new(),
            rounds: 0,
            exhausted_until: None,
            postponed: false,
        });
        want.waiters.push(Waiter {
            id,
            session,
            cid,
            reply,
        });
        let mut nth = 0;
        if let Some(state) = self.sessions.get_mut(&session) {
            nth = state.wants;
            state.wants += 1;
        }
        self.pursue(&hash, now);
        self.discover(&hash, nth, now);
        (id, block)
    }

    /// Removes a waiter that gave up; the last one takes the want along.
    pub(super) fn unwant(&mut self, cid: &Cid, waiter: WaiterId) {
        let Some(want) = self.wants.get_mut(cid.hash()) else {
            return;
        };
        want.waiters.retain(|other| other.id != waiter);
        if want.waiters.is_empty()
            && let Some(want) = self.wants.remove(cid.hash())
        {
            self.end_asks(cid.hash(), &want, None);
            self.recent.put(*cid.hash(), ());
        }
    }

    /// Blocks arrived, each under the hash of its bytes.
    pub(super) fn on_blocks(
        &mut self,
        from: PeerId,
        blocks: Vec<(Multihash, Bytes)>,
        now: Instant,
    ) -> Received {
        let mut received = Received::default();
        for (hash, data) in blocks {
            let is_answer = self.answer_question(from, &hash, Said::Block(data.clone()));
            let Some(want) = self.wants.remove(&hash) else {
                if is_answer {
                    received.useful += 1;
                } else if self.recent.contains(&hash) {
                    received.duplicate += 1;
                } else {
                    received.unwanted += 1;
                }
                continue;
            };
            received.useful += 1;
            self.recent.put(hash, ());
            self.note_block(from, &want, data.len(), now);
            self.end_asks(&hash, &want, Some(from));
            for waiter in want.waiters {
                // Fails when the waiter has just given up.
                drop(waiter.reply.send(Block::trusted(waiter.cid, data.clone())));
            }
        }
        if received.useful > 0 {
            self.pursue_backlog(now);
        }
        received
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Counts a block that `from` sent for a want.
    fn note_block(&mut self, from: PeerId, want: &Want, len: usize, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.note_block(len);
        }
        let mut counted: Option<SessionId> = None;
        for waiter in &want.waiters {
            if counted == Some(waiter.session) {
                continue;
            }
            counted = Some(waiter.session);
            let Some(state) = self.sessions.get_mut(&waiter.session) else {
                continue;
            };
            state.last_block = Some(now);
            if let Some(peer) = state.peer(from) {
                peer.holder = true;
                peer.misses = 0;
                peer.redials = 0;
                peer.blocks += 1;
                peer.bytes += len as u64;
            }
        }
    }
}

impl Effects {
    fn wake(&mut self, peer: &Arc<Peer>) {
        if !self.wake.iter().any(|other| Arc::ptr_eq(other, peer)) {
            self.wake.push(Arc::clone(peer));
        }
    }
}

impl Want {
    fn is_of(&self, session: SessionId) -> bool {
        self.waiters.iter().any(|waiter| waiter.session == session)
    }

    fn ask_of(&self, peer: &PeerId) -> Option<&Ask> {
        self.asks.iter().find(|ask| ask.peer == *peer)
    }

    fn ask_of_mut(&mut self, peer: &PeerId) -> Option<&mut Ask> {
        self.asks.iter_mut().find(|ask| ask.peer == *peer)
    }

    fn waits_for(&self, kind: WantKind) -> bool {
        self.asks
            .iter()
            .any(|ask| ask.kind == kind && ask.state == AskState::Waiting)
    }
}

impl SessionState {
    /// The entry of a peer; `None` when the session knows too many.
    fn peer(&mut self, peer: PeerId) -> Option<&mut SessionPeer> {
        if self.peers.len() >= MAX_SESSION_PEERS && !self.peers.contains_key(&peer) {
            return None;
        }
        Some(self.peers.entry(peer).or_default())
    }
}
