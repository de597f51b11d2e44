//! Questions to one peer about one block, outside of sessions: has it the block, or can it send it now?
//! Nobody else is asked, and the answer is not stored.

use bytes::Bytes;
use cid::Cid;
use libp2p::PeerId;
use tokio::sync::oneshot;

use super::super::message::{WantEntry, WantKind};
use super::Client;
use crate::block::Multihash;

/// What a peer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It has the block.
    Have,
    /// It does not.
    DontHave,
    /// The bytes, which have the hash that was asked for.
    Block(Bytes),
}

/// A question that is not answered yet.
pub(super) struct Question {
    pub(super) entry: WantEntry,
    pub(super) reply: oneshot::Sender<Said>,
}

impl Client {
    /// Asks a peer. `None` when it is not connected, or when the block is wanted or asked for anyway.
    pub(in super::super) fn question(
        &mut self,
        id: PeerId,
        cid: Cid,
        kind: WantKind,
    ) -> Option<oneshot::Receiver<Said>> {
        let key = (id, *cid.hash());
        if self.wants.contains_key(cid.hash()) || self.questions.contains_key(&key) {
            return None;
        }
        let peer = self.peers.get_mut(&id)?;
        let (reply, said) = oneshot::channel();
        let entry = WantEntry::want(cid, kind);
        peer.push(entry);
        peer.set_asked(*cid.hash());
        self.effects.wake(&peer.handle);
        self.questions.insert(key, Question { entry, reply });
        Some(said)
    }

    /// Nobody waits for the answer any more.
    pub(in super::super) fn end_question(&mut self, id: PeerId, cid: &Cid) {
        let Some(question) = self.questions.remove(&(id, *cid.hash())) else {
            return;
        };
        // A late answer is no offence.
        self.recent.put(*cid.hash(), ());
        // Somebody else wants it meanwhile.
        if self.wants.contains_key(cid.hash()) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.unset_asked(cid.hash());
            peer.push(WantEntry {
                cancel: true,
                send_dont_have: false,
                ..question.entry
            });
            self.effects.wake(&peer.handle);
        }
    }

    /// Hands an answer to who asked; `false` when nobody did.
    pub(super) fn answer_question(&mut self, from: PeerId, hash: &Multihash, said: Said) -> bool {
        let Some(question) = self.questions.remove(&(from, *hash)) else {
            return false;
        };
        if !self.wants.contains_key(hash)
            && let Some(peer) = self.peers.get_mut(&from)
        {
            peer.unset_asked(hash);
        }
        // Fails when nobody waits any more.
        question.reply.send(said).ok();
        true
    }

    /// Who asked a peer that has left gets no answer.
    pub(super) fn drop_questions_to(&mut self, id: &PeerId) {
        self.questions.retain(|(peer, _), _| peer != id);
    }

    /// Questions that a peer should know of.
    pub(super) fn questions_to(&self, id: &PeerId) -> Vec<WantEntry> {
        let questions = self.questions.iter().filter(|((peer, _), _)| peer == id);
        questions.map(|(_, question)| question.entry).collect()
    }
}
