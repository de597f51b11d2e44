//! Choosing whom to ask for a want.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::super::message::{Presence, WantEntry, WantKind};
use super::peers::{ClientPeer, MAX_OUTSTANDING};
use super::{Ask, AskState, Client, Said, Want};
use crate::block::Multihash;

/// Peers that are asked whether they have one block.
const MAX_BROADCAST: usize = 64;
/// Peers that are asked on the side while a holder is asked for the block.
const MAX_DISCOVERY: usize = 8;
/// The first wants of a session look for more holders on the side.
const DISCOVERY_WANTS: u64 = 2;
/// After them one want of so many does.
const DISCOVERY_INTERVAL: u64 = 64;
/// DONT_HAVE in a row after which a peer no longer counts as a holder.
const MAX_MISSES: u32 = 16;
/// An ask counts as lost when the peer answered so many more than were before it.
const LOST_MARGIN: u64 = 64;
/// Pause before everybody is asked again; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Times that [`FIRST_PAUSE`] is doubled, to 32 s.
const MAX_PAUSE_DOUBLINGS: u32 = 5;

impl Client {
    /// Makes a want active, or exhausted.
    pub(super) fn pursue(&mut self, hash: &Multihash, now: Instant) {
        let Some(want) = self.wants.get(hash) else {
            return;
        };
        if want.waits_for(WantKind::Block) {
            return;
        }
        match self.best_holder(want, now) {
            Holder::Free(peer) => return self.ask(hash, &[peer], WantKind::Block, now),
            Holder::AllFull => return self.postpone(hash),
            Holder::None => {}
        }
        if want.waits_for(WantKind::Have) {
            return;
        }
        let candidates = self.candidates(want, MAX_BROADCAST, now);
        if candidates.is_empty() {
            self.exhaust(hash, now);
        } else {
            self.ask(hash, &candidates, WantKind::Have, now);
        }
    }

    /// Pursues wants that waited for a holder to become free.
    pub(super) fn pursue_backlog(&mut self, now: Instant) {
        for _ in 0..self.backlog.len() {
            let Some(hash) = self.backlog.pop_front() else {
                return;
            };
            let left = self.backlog.len();
            if let Some(want) = self.wants.get_mut(&hash) {
                want.postponed = false;
                self.pursue(&hash, now);
            }
            if self.backlog.len() > left {
                // Postponed again: the holders are full.
                return;
            }
        }
    }

    /// Asks a few peers on the side whether they have a block, so that a session finds more holders
    /// than its first.
    pub(super) fn discover(&mut self, hash: &Multihash, nth: u64, now: Instant) {
        if nth >= DISCOVERY_WANTS && !nth.is_multiple_of(DISCOVERY_INTERVAL) {
            return;
        }
        let Some(want) = self.wants.get(hash) else {
            return;
        };
        let candidates = self.candidates(want, MAX_DISCOVERY, now);
        self.ask(hash, &candidates, WantKind::Have, now);
    }

    /// A peer connected: it may be a holder that was lost, or have what nobody else has. It is
    /// asked about every want that nobody sends, and about one of the others.
    pub(super) fn offer_wants_to(&mut self, id: PeerId, now: Instant) {
        let hashes: Vec<Multihash> = self.wants.keys().copied().collect();
        let mut offered = 0;
        for hash in hashes {
            let Some(want) = self.wants.get(&hash) else {
                continue;
            };
            let is_sent = want.waits_for(WantKind::Block);
            if !is_sent && self.is_holder(want, &id) {
                self.pursue(&hash, now);
            } else if offered == 0 || !is_sent && offered < MAX_OUTSTANDING {
                offered += 1;
                self.ask(&hash, &[id], WantKind::Have, now);
            }
        }
    }

    /// A peer said what it has.
    pub(in super::super) fn on_presences(
        &mut self,
        from: PeerId,
        presences: &[Presence],
        now: Instant,
    ) {
        for presence in presences {
            let hash = presence.cid.hash();
            let said = match presence.have {
                true => Said::Have,
                false => Said::DontHave,
            };
            self.answer_question(from, hash, said);
            let Some(want) = self.wants.get_mut(hash) else {
                continue;
            };
            let Some(ask) = want.ask_of_mut(&from) else {
                continue;
            };
            if presence.have && ask.kind == WantKind::Block {
                // It was asked for the block since then.
                continue;
            }
            let state = match presence.have {
                true => AskState::Have,
                false => AskState::Failed,
            };
            ask.settle(&mut self.peers, state, true);
            for waiter in &want.waiters {
                if let Some(session) = self.sessions.get_mut(&waiter.session)
                    && let Some(peer) = session.peer(from)
                {
                    peer.misses = if presence.have { 0 } else { peer.misses + 1 };
                    peer.holder = presence.have || peer.holder && peer.misses < MAX_MISSES;
                }
            }
            self.pursue(hash, now);
        }
    }

    /// Sends a want to peers.
    pub(super) fn ask(&mut self, hash: &Multihash, peers: &[PeerId], kind: WantKind, now: Instant) {
        let Some(want) = self.wants.get_mut(hash) else {
            return;
        };
        for id in peers {
            let Some(peer) = self.peers.get_mut(id) else {
                continue;
            };
            if let Some(position) = want.asks.iter().position(|ask| ask.peer == *id) {
                let old = want.asks.swap_remove(position);
                peer.outstanding -= usize::from(old.is_outstanding());
            }
            let queued = u64::try_from(peer.outstanding).unwrap_or(u64::MAX);
            want.asks.push(Ask {
                peer: *id,
                kind,
                state: AskState::Waiting,
                since: now,
                lost_after: peer.answered + 2 * queued + LOST_MARGIN,
            });
            peer.push(WantEntry::want(want.cid, kind));
            peer.set_asked(*hash);
            if kind == WantKind::Block {
                if peer.outstanding == 0 {
                    peer.busy_since = now;
                }
                peer.outstanding += 1;
            }
            want.exhausted_until = None;
            self.effects.wake(&peer.handle);
        }
    }

    /// A want has ended: takes it back from the peers that still know of it. The one that sent the
    /// block has struck it off itself.
    pub(super) fn end_asks(&mut self, hash: &Multihash, want: &Want, sender: Option<PeerId>) {
        for ask in &want.asks {
            let Some(peer) = self.peers.get_mut(&ask.peer) else {
                continue;
            };
            peer.unset_asked(hash);
            peer.outstanding -= usize::from(ask.is_outstanding());
            if sender == Some(ask.peer) {
                peer.answered += 1;
                continue;
            }
            if ask.kind == WantKind::Have && ask.state == AskState::Have {
                // HAVE has ended it.
                continue;
            }
            peer.push(WantEntry {
                cancel: true,
                send_dont_have: false,
                ..WantEntry::want(want.cid, ask.kind)
            });
            self.effects.wake(&peer.handle);
        }
    }

    /// Asks everybody again for the wants whose pause is over.
    pub(super) fn retry_exhausted(&mut self, now: Instant) {
        let due: Vec<Multihash> = self
            .wants
            .iter()
            .filter(|(_, want)| want.exhausted_until.is_some_and(|until| until <= now))
            .map(|(hash, _)| *hash)
            .collect();
        for hash in due {
            if let Some(want) = self.wants.get_mut(&hash) {
                want.exhausted_until = None;
                for ask in &mut want.asks {
                    ask.state = AskState::Stale;
                }
            }
            self.pursue(&hash, now);
        }
    }

    fn postpone(&mut self, hash: &Multihash) {
        if let Some(want) = self.wants.get_mut(hash)
            && !want.postponed
        {
            want.postponed = true;
            self.backlog.push_back(*hash);
        }
    }

    fn exhaust(&mut self, hash: &Multihash, now: Instant) {
        let Some(want) = self.wants.get_mut(hash) else {
            return;
        };
        if want.exhausted_until.is_some() {
            return;
        }
        want.exhausted_until = Some(now + FIRST_PAUSE * 2_u32.pow(want.rounds));
        want.rounds = (want.rounds + 1).min(MAX_PAUSE_DOUBLINGS);
        for waiter in &want.waiters {
            if let Some(session) = self.sessions.get(&waiter.session) {
                session.starved.notify_waiters();
            }
        }
    }

    /// Whether the peer said HAVE, or a session that wants the block knows it as a holder.
    pub(super) fn is_holder(&self, want: &Want, id: &PeerId) -> bool {
        let ask = want.ask_of(id);
        ask.is_some_and(|ask| ask.state == AskState::Have)
            || want.waiters.iter().any(|waiter| {
                let session = self.sessions.get(&waiter.session);
                let peer = session.and_then(|session| session.peers.get(id));
                peer.is_some_and(|peer| peer.holder)
            })
    }

    /// The holder that will probably answer first.
    fn best_holder(&self, want: &Want, now: Instant) -> Holder {
        let told = want.asks.iter().filter(|ask| ask.state == AskState::Have);
        let sessions = want.waiters.iter().map(|waiter| waiter.session);
        let known = sessions
            .filter_map(|session| self.sessions.get(&session))
            .flat_map(|session| session.peers.iter().filter(|(_, peer)| peer.holder));
        let mut best: Option<((bool, f64), PeerId)> = None;
        let mut full = false;
        for id in told.map(|ask| ask.peer).chain(known.map(|(id, _)| *id)) {
            let Some(peer) = self.peers.get(&id) else {
                continue;
            };
            let failed = want.ask_of(&id).map(|ask| ask.state) == Some(AskState::Failed);
            if failed || self.is_penalised(&id, now) {
                continue;
            }
            if peer.outstanding >= MAX_OUTSTANDING {
                full = true;
                continue;
            }
            let time = (peer.stalled, peer.expected_time());
            if best.is_none_or(|(least, _)| time < least) {
                best = Some((time, id));
            }
        }
        match best {
            Some((_, id)) => Holder::Free(id),
            None if full => Holder::AllFull,
            None => Holder::None,
        }
    }

    /// Connected peers that may be asked about a want.
    fn candidates(&self, want: &Want, max: usize, now: Instant) -> Vec<PeerId> {
        self.peers
            .iter()
            .filter(|(id, peer)| {
                let ask = want.ask_of(id);
                ask.is_none_or(|ask| ask.state == AskState::Stale)
                    && peer.asked.len() < MAX_OUTSTANDING
                    && !self.is_penalised(id, now)
            })
            .map(|(id, _)| *id)
            .take(max)
            .collect()
    }
}

/// What [`Client::best_holder`] found.
enum Holder {
    Free(PeerId),
    /// There are holders, all with as much to do as they may.
    AllFull,
    None,
}

impl Ask {
    /// Whether it counts among the blocks expected from the peer.
    pub(super) fn is_outstanding(&self) -> bool {
        self.kind == WantKind::Block && self.state == AskState::Waiting
    }

    /// Ends the waiting; `answered` by the peer, or given up.
    pub(super) fn settle(
        &mut self,
        peers: &mut HashMap<PeerId, ClientPeer>,
        state: AskState,
        answered: bool,
    ) {
        if self.is_outstanding()
            && let Some(peer) = peers.get_mut(&self.peer)
        {
            peer.outstanding -= 1;
            peer.answered += u64::from(answered);
        }
        self.state = state;
    }
}

impl ClientPeer {
    /// Time until it has answered one block more, on a scale of its own.
    fn expected_time(&self) -> f64 {
        /// Bytes per second that a peer which was not measured yet is taken for.
        const PRESUMED_RATE: f64 = 1e9;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let blocks = (self.outstanding + 1) as f64;
        blocks / self.rate.unwrap_or(PRESUMED_RATE).max(1.0)
    }
}
