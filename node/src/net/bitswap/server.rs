//! Answers to what peers want: from the index at once, with blocks as fast as the peer takes them.

use std::collections::HashMap;
use std::sync::Arc;

use cid::Cid;
use libp2p::PeerId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::ledger::{Answer, Noted};
use super::message::{OutgoingMessage, Presence, ProtocolVersion, WantEntry, WantKind};
use super::peer::Peer;
use crate::block::{IDENTITY, Multihash};
use crate::served::Served;

/// A message with blocks ends when it has this many bytes; a larger block has one for itself.
const MESSAGE_TARGET: usize = 1 << 20;
/// Messages in a second when the rate is limited: it is kept to in steps of one message.
const MESSAGES_A_SECOND: u64 = 4;
/// Most streams that carry answers to one peer. A stream begins with 256 KiB of credit, so what a
/// distant peer gets in its first round trips grows with their number.
const MAX_WRITERS: usize = 16;
/// Messages in memory over all peers, besides one for each peer.
const SHARED_OUTBOX: usize = 128;
/// HAVE and DONT_HAVE in one message.
const MAX_PRESENCES: usize = 2048;
/// Messages that are read from the store at once, over all peers. The semaphore is fair, so peers
/// that want blocks take turns.
const CONCURRENT_READS: usize = 8;

/// State of the server side.
pub(super) struct Server {
    served: Served,
    message_target: usize,
    /// Who waits for a block that is not here.
    waiting: Mutex<HashMap<Multihash, Vec<(PeerId, Cid)>>>,
    pub(super) reads: Semaphore,
    /// Streams that carry answers to one peer.
    pub(super) writers: usize,
    /// Messages that may be in memory besides the first one for each peer.
    pub(super) shared_outbox: Semaphore,
}

impl Server {
    /// `outbox` is the most block data, in bytes, that is in memory for one
    /// peer.
    pub(super) fn new(served: Served, outbox: usize) -> Self {
        let of_rate = served.rate().map_or(usize::MAX, |rate| {
            usize::try_from(rate.bytes_per_second() / MESSAGES_A_SECOND).unwrap_or(usize::MAX)
        });
        Self {
            served,
            message_target: MESSAGE_TARGET.min(outbox).min(of_rate).max(1),
            waiting: Mutex::default(),
            reads: Semaphore::new(CONCURRENT_READS),
            writers: (outbox / MESSAGE_TARGET).clamp(1, MAX_WRITERS),
            shared_outbox: Semaphore::new(SHARED_OUTBOX),
        }
    }

    /// Waits until so many bytes may be sent.
    pub(super) async fn take_rate(&self, bytes: usize) {
        if let Some(rate) = self.served.rate() {
            rate.take(bytes as u64).await;
        }
    }

    /// Notes what a peer wants. Blocking: asks the index.
    pub(super) fn on_wants(&self, peer: &Peer, entries: &[WantEntry], full: bool) {
        if full {
            self.forget(peer);
        }
        for entry in entries {
            // Some implementations ask for identity CIDs, which carry their data themselves.
            if entry.cid.hash().code() == IDENTITY {
                continue;
            }
            if entry.cancel {
                if peer.ledger.lock().cancel(&entry.cid) {
                    self.stop_waiting(&peer.id, &entry.cid);
                }
                continue;
            }
            let len = self.block_len(&entry.cid);
            let (noted, evicted) = peer.ledger.lock().want(entry, len);
            if let Some(evicted) = evicted {
                self.stop_waiting(&peer.id, &evicted);
            }
            if noted == Noted::Waiting {
                self.start_waiting(peer, &entry.cid);
            }
        }
        // A peer that left meanwhile was forgotten before these wants were noted.
        if peer.gone.is_cancelled() {
            self.forget(peer);
        }
    }

    /// Blocks are in the store now. Returns the peers that have answers because of it.
    pub(super) fn arrived(
        &self,
        cids: &[Cid],
        connected: impl Fn(&PeerId) -> Option<Arc<Peer>>,
    ) -> Vec<Arc<Peer>> {
        let wanted: Vec<Cid> = {
            let waiting = self.waiting.lock();
            let wanted = |cid: &&Cid| waiting.contains_key(cid.hash());
            cids.iter().filter(wanted).copied().collect()
        };
        // Who waits for a block that is here and not served goes on waiting.
        let served: Vec<&Cid> = wanted
            .iter()
            .filter(|cid| self.block_len(cid).is_some())
            .collect();
        let waiters: Vec<(PeerId, Cid)> = {
            let mut waiting = self.waiting.lock();
            let waiters = served.iter().filter_map(|cid| waiting.remove(cid.hash()));
            waiters.flatten().collect()
        };
        let mut answered: HashMap<PeerId, Arc<Peer>> = HashMap::new();
        for (id, cid) in waiters {
            if let Some(peer) = connected(&id)
                && let Some(len) = self.block_len(&cid)
                && peer.ledger.lock().arrived(&cid, len)
            {
                answered.insert(id, peer);
            }
        }
        answered.into_values().collect()
    }

    /// Drops everything that a peer wants.
    pub(super) fn forget(&self, peer: &Peer) {
        let waiting = peer.ledger.lock().clear();
        for cid in waiting {
            self.stop_waiting(&peer.id, &cid);
        }
    }

    /// The next message of answers for a peer, empty when there are none, and the blocks in it.
    /// Blocking: reads blocks.
    pub(super) fn next_message(
        &self,
        peer: &Peer,
        version: ProtocolVersion,
    ) -> (OutgoingMessage, Vec<Cid>) {
        let mut message = OutgoingMessage::default();
        let mut blocks = Vec::new();
        let mut presences = 0;
        while message.len() < self.message_target && presences < MAX_PRESENCES {
            let room = self.message_target - message.len();
            let max_len = match message.blocks() {
                0 => u32::MAX,
                _ => u32::try_from(room).unwrap_or(u32::MAX),
            };
            let Some(answer) = peer.ledger.lock().next_answer(max_len) else {
                break;
            };
            let presence = match answer {
                Answer::Have(cid) => Presence { cid, have: true },
                Answer::DontHave(cid) => Presence { cid, have: false },
                Answer::Block {
                    cid,
                    send_dont_have,
                    ..
                } => {
                    if let Some(data) = self.read(&cid) {
                        message.push_block(&cid, data, version);
                        blocks.push(cid);
                        continue;
                    }
                    peer.ledger.lock().sent(&[cid]);
                    if !send_dont_have {
                        continue;
                    }
                    Presence { cid, have: false }
                }
            };
            presences += 1;
            if version == ProtocolVersion::V1_2 {
                message.push_presence(presence);
            }
        }
        (message, blocks)
    }

    /// Queues blocks again that did not reach the peer, without those that it has taken back
    /// meanwhile. Blocking: asks the index.
    pub(super) fn resend(&self, peer: &Peer, blocks: &[Cid]) {
        let unsent = peer.ledger.lock().unsent(blocks);
        let entries: Vec<_> = unsent
            .into_iter()
            .map(|cid| WantEntry::want(cid, WantKind::Block))
            .collect();
        self.on_wants(peer, &entries, false);
    }

    #[cfg(test)]
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.lock().values().map(Vec::len).sum()
    }

    #[cfg(test)]
    pub(super) fn is_anybody_waiting(&self) -> bool {
        self.waiting_count() > 0
    }

    fn start_waiting(&self, peer: &Peer, cid: &Cid) {
        {
            let mut waiting = self.waiting.lock();
            let peers = waiting.entry(*cid.hash()).or_default();
            let entry = (peer.id, *cid);
            if !peers.contains(&entry) {
                peers.push(entry);
            }
        }
        // It may have arrived after the index was asked and before the peer counted as waiting.
        if let Some(len) = self.block_len(cid) {
            peer.ledger.lock().arrived(cid, len);
        }
        // That, or the peer was forgotten meanwhile.
        if !peer.ledger.lock().is_waiting(cid) {
            self.stop_waiting(&peer.id, cid);
        }
    }

    fn stop_waiting(&self, peer: &PeerId, cid: &Cid) {
        let mut waiting = self.waiting.lock();
        if let Some(peers) = waiting.get_mut(cid.hash()) {
            peers.retain(|entry| entry != &(*peer, *cid));
            if peers.is_empty() {
                waiting.remove(cid.hash());
            }
        }
    }

    fn block_len(&self, cid: &Cid) -> Option<u32> {
        self.served.block_len(cid).unwrap_or_else(|error| {
            tracing::warn!(%cid, %error, "cannot look up a wanted block");
            None
        })
    }

    fn read(&self, cid: &Cid) -> Option<bytes::Bytes> {
        match self.served.get(cid) {
            Ok(block) => block.map(crate::block::Block::into_data),
            Err(error) => {
                tracing::warn!(%cid, %error, "cannot serve a block");
                None
            }
        }
    }
}
