//! What one peer wants from us.
//!
//! Sync and without I/O: the server fills it from wantlists and from blocks that arrive later, a
//! writer drains it. Bounded by `limit` wants; what a peer asks beyond that is ignored, as Kubo
//! does, except that a want we can serve takes the place of one we cannot.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};

use cid::Cid;

use super::message::{WantEntry, WantKind};

/// Blocks up to this length are sent in answer to WANT-HAVE (as Kubo).
const INLINED_BLOCK_LEN: u32 = 1024;

/// Wants of one peer and the answers queued for it.
#[derive(Debug)]
pub(super) struct Ledger {
    wants: HashMap<Cid, Want>,
    /// Wants in state [`State::Queued`] in order of arrival, among others that were cancelled.
    queue: VecDeque<Cid>,
    dont_haves: VecDeque<Cid>,
    /// Wants in state [`State::Waiting`].
    waiting: usize,
    /// Blocks in messages that are being written and were not taken back, with the number of those
    /// messages.
    sending: HashMap<Cid, usize>,
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
struct Want {
    kind: WantKind,
    send_dont_have: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// We do not have the block.
    Waiting,
    /// We have it, it has this many bytes, and the answer is in the queue.
    Queued(u32),
}

/// What [`Ledger::want`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// An answer is queued.
    Queued,
    /// The peer waits for the block; perhaps a DONT_HAVE is queued.
    Waiting,
    /// The peer wants too much already.
    Ignored,
}

/// The next answer for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Send the block, which has this many bytes.
    Block {
        cid: Cid,
        len: u32,
        send_dont_have: bool,
    },
    /// Say HAVE.
    Have(Cid),
    /// Say DONT_HAVE.
    DontHave(Cid),
}

impl Ledger {
    /// A ledger that keeps up to `limit` wants.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            wants: HashMap::new(),
            queue: VecDeque::new(),
            dont_haves: VecDeque::new(),
            waiting: 0,
            sending: HashMap::new(),
            limit,
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.wants.is_empty() && self.sending.is_empty()
    }

    /// Whether there is something to send.
    pub(super) fn has_answers(&self) -> bool {
        self.answers() > 0
    }

    /// Answers to be sent, cancelled ones included.
    pub(super) fn answers(&self) -> usize {
        self.queue.len() + self.dont_haves.len()
    }

    /// Notes that the peer wants a block that has `len` bytes here, or is not here.
    ///
    /// Returns also the want that was given up to make room.
    pub(super) fn want(&mut self, entry: &WantEntry, len: Option<u32>) -> (Noted, Option<Cid>) {
        let mut evicted = None;
        if !self.wants.contains_key(&entry.cid) && self.wants.len() >= self.limit {
            if len.is_some() && self.waiting > 0 {
                evicted = self.evict_waiting();
            }
            if evicted.is_none() {
                if len.is_none() {
                    self.queue_dont_have(entry);
                }
                return (Noted::Ignored, None);
            }
        }
        let state = len.map_or(State::Waiting, State::Queued);
        let old = self.wants.get(&entry.cid).copied();
        // A peer that asked for the block and then whether we have it still waits for the block.
        let kind = match old.map(|old| old.kind) {
            Some(WantKind::Block) => WantKind::Block,
            _ => entry.kind,
        };
        self.forget_state(old);
        self.wants.insert(
            entry.cid,
            Want {
                kind,
                send_dont_have: entry.send_dont_have,
                state,
            },
        );
        match state {
            State::Waiting => {
                self.waiting += 1;
                self.queue_dont_have(entry);
                (Noted::Waiting, evicted)
            }
            State::Queued(_) => {
                if !matches!(old.map(|old| old.state), Some(State::Queued(_))) {
                    self.enqueue(entry.cid);
                }
                (Noted::Queued, evicted)
            }
        }
    }

    /// Takes a want back. Returns whether the peer was waiting for the block.
    pub(super) fn cancel(&mut self, cid: &Cid) -> bool {
        self.sending.remove(cid);
        let old = self.wants.remove(cid);
        self.forget_state(old);
        matches!(old.map(|old| old.state), Some(State::Waiting))
    }

    /// Whether the peer waits for the block.
    pub(super) fn is_waiting(&self, cid: &Cid) -> bool {
        let want = self.wants.get(cid);
        want.is_some_and(|want| want.state == State::Waiting)
    }

    /// Takes all wants back; returns those that were waiting for a block.
    pub(super) fn clear(&mut self) -> Vec<Cid> {
        self.queue.clear();
        self.dont_haves.clear();
        self.sending.clear();
        self.waiting = 0;
        self.wants
            .drain()
            .filter(|(_, want)| want.state == State::Waiting)
            .map(|(cid, _)| cid)
            .collect()
    }

    /// A block is here now. Returns whether the peer was waiting for it.
    pub(super) fn arrived(&mut self, cid: &Cid, len: u32) -> bool {
        let Some(want) = self.wants.get_mut(cid) else {
            return false;
        };
        if want.state != State::Waiting {
            return false;
        }
        want.state = State::Queued(len);
        self.waiting -= 1;
        self.enqueue(*cid);
        true
    }

    /// Takes the next answer; its want ends with it, except after DONT_HAVE. A block is taken only
    /// when it has up to `max_len` bytes, and it counts as being sent until [`Ledger::sent`] or
    /// [`Ledger::unsent`].
    pub(super) fn next_answer(&mut self, max_len: u32) -> Option<Answer> {
        if let Some(cid) = self.dont_haves.pop_front() {
            return Some(Answer::DontHave(cid));
        }
        while let Some(cid) = self.queue.front().copied() {
            let Some(Want {
                kind,
                send_dont_have,
                state: State::Queued(len),
            }) = self.wants.get(&cid).copied()
            else {
                self.queue.pop_front();
                continue;
            };
            let answer = if kind == WantKind::Block || len <= INLINED_BLOCK_LEN {
                if len > max_len {
                    return None;
                }
                *self.sending.entry(cid).or_default() += 1;
                Answer::Block {
                    cid,
                    len,
                    send_dont_have,
                }
            } else {
                Answer::Have(cid)
            };
            self.queue.pop_front();
            self.wants.remove(&cid);
            return Some(answer);
        }
        None
    }

    /// A message with these blocks was written.
    pub(super) fn sent(&mut self, blocks: &[Cid]) {
        self.unsent(blocks);
    }

    /// A message with these blocks was not written. Returns those that the peer has not taken back.
    pub(super) fn unsent(&mut self, blocks: &[Cid]) -> Vec<Cid> {
        let mut kept = Vec::new();
        for cid in blocks {
            if let Entry::Occupied(mut messages) = self.sending.entry(*cid) {
                kept.push(*cid);
                *messages.get_mut() -= 1;
                if *messages.get() == 0 {
                    messages.remove();
                }
            }
        }
        kept
    }

    fn enqueue(&mut self, cid: Cid) {
        // Cancelled wants leave their places behind; without this a peer that wants and cancels the
        // same block for ever would grow the queue. Each want keeps its first place.
        if self.queue.len() >= self.limit.saturating_mul(2) {
            let (wants, mut seen) = (&self.wants, HashSet::new());
            self.queue.retain(|cid| {
                let want = wants.get(cid);
                want.is_some_and(|want| matches!(want.state, State::Queued(_))) && seen.insert(*cid)
            });
        }
        self.queue.push_back(cid);
    }

    fn queue_dont_have(&mut self, entry: &WantEntry) {
        if entry.send_dont_have && self.dont_haves.len() < self.limit.saturating_mul(4) {
            self.dont_haves.push_back(entry.cid);
        }
    }

    fn evict_waiting(&mut self) -> Option<Cid> {
        let (cid, _) = self
            .wants
            .iter()
            .find(|(_, want)| want.state == State::Waiting)?;
        let cid = *cid;
        self.cancel(&cid);
        Some(cid)
    }

    fn forget_state(&mut self, want: Option<Want>) {
        if matches!(want.map(|want| want.state), Some(State::Waiting)) {
            self.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::block::{Block, RAW};

    fn cid(n: u32) -> Cid {
        *Block::of(RAW, Bytes::copy_from_slice(&n.to_be_bytes())).cid()
    }

    fn want(n: u32, kind: WantKind) -> WantEntry {
        WantEntry {
            cid: cid(n),
            kind,
            cancel: false,
            send_dont_have: true,
        }
    }

    #[test]
    fn small_block_is_sent_for_want_have_and_large_is_only_told() {
        let mut ledger = Ledger::new(10);
        ledger.want(&want(1, WantKind::Have), Some(1024));
        ledger.want(&want(2, WantKind::Have), Some(1025));
        assert!(matches!(
            ledger.next_answer(u32::MAX),
            Some(Answer::Block { len: 1024, .. })
        ));
        assert_eq!(ledger.next_answer(u32::MAX), Some(Answer::Have(cid(2))));
        assert_eq!(ledger.next_answer(u32::MAX), None);
    }

    #[test]
    fn late_block_is_answered_once_after_dont_have() {
        let mut ledger = Ledger::new(10);
        assert_eq!(
            ledger.want(&want(1, WantKind::Block), None).0,
            Noted::Waiting
        );
        assert_eq!(ledger.next_answer(u32::MAX), Some(Answer::DontHave(cid(1))));
        assert!(ledger.arrived(&cid(1), 5000));
        assert!(!ledger.arrived(&cid(1), 5000));
        assert!(matches!(
            ledger.next_answer(u32::MAX),
            Some(Answer::Block { len: 5000, .. })
        ));
        assert_eq!(ledger.next_answer(u32::MAX), None);
        assert!(!ledger.arrived(&cid(1), 5000));
    }

    #[test]
    fn cancelled_want_is_not_answered() {
        let mut ledger = Ledger::new(10);
        ledger.want(&want(1, WantKind::Block), Some(1));
        ledger.want(&want(2, WantKind::Block), Some(1));
        assert!(!ledger.cancel(&cid(1)));
        assert!(
            matches!(ledger.next_answer(u32::MAX), Some(Answer::Block { cid: c, .. }) if c == cid(2))
        );
        assert_eq!(ledger.next_answer(u32::MAX), None);
    }

    #[test]
    fn want_is_answered_although_another_was_cancelled_and_wanted_again_and_again() {
        let mut ledger = Ledger::new(2);
        for _ in 0..3 {
            ledger.cancel(&cid(1));
            ledger.want(&want(1, WantKind::Block), Some(1));
        }
        ledger.want(&want(2, WantKind::Block), Some(1));
        for _ in 0..100 {
            ledger.cancel(&cid(1));
            ledger.want(&want(1, WantKind::Block), Some(1));
            assert!(ledger.queue.len() <= 5);
        }
        let answered: Vec<_> = std::iter::from_fn(|| ledger.next_answer(u32::MAX)).collect();
        let of = |n| Answer::Block {
            cid: cid(n),
            len: 1,
            send_dont_have: true,
        };
        assert_eq!(answered, [of(1), of(2)]);
    }

    #[test]
    fn block_that_does_not_fit_stays_first() {
        let mut ledger = Ledger::new(10);
        ledger.want(&want(1, WantKind::Block), Some(2000));
        assert_eq!(ledger.next_answer(1999), None);
        assert!(ledger.next_answer(2000).is_some());
    }

    #[test]
    fn flood_of_wants_is_bounded_and_servable_wants_win() {
        let mut ledger = Ledger::new(100);
        for n in 0..5000 {
            ledger.want(&want(n, WantKind::Block), None);
        }
        assert_eq!(ledger.wants.len(), 100);
        assert!(ledger.dont_haves.len() <= 400);
        for n in 5000..5050 {
            let (noted, evicted) = ledger.want(&want(n, WantKind::Block), Some(1));
            assert_eq!(noted, Noted::Queued);
            assert!(evicted.is_some());
        }
        assert_eq!((ledger.wants.len(), ledger.waiting), (100, 50));
    }

    #[test]
    fn wanting_and_cancelling_for_ever_is_bounded() {
        let mut ledger = Ledger::new(10);
        for n in 0..10_000 {
            ledger.want(&want(n, WantKind::Block), Some(1));
            ledger.cancel(&cid(n));
        }
        assert!(ledger.queue.len() <= 20);
        ledger.want(&want(7, WantKind::Block), Some(1));
        assert!(ledger.next_answer(u32::MAX).is_some());
    }

    #[test]
    fn want_block_after_want_have_gets_the_block_once() {
        let mut ledger = Ledger::new(10);
        ledger.want(&want(1, WantKind::Have), Some(5000));
        ledger.want(&want(1, WantKind::Block), Some(5000));
        assert!(matches!(
            ledger.next_answer(u32::MAX),
            Some(Answer::Block { .. })
        ));
        assert_eq!(ledger.next_answer(u32::MAX), None);
    }
}
