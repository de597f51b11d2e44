//! The names that this node hears of, and the newest record known of each.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use jiff::Timestamp;
use libp2p::PeerId;
use libp2p::gossipsub::TopicHash;
use libp2p::request_response::OutboundRequestId;
use lru::LruCache;
use tokio::sync::oneshot;

use super::{Heard, Inbox, topic_of};
use crate::ipns::{self, Record, RecordError};
use crate::keys::Name;

/// Names that are followed because somebody asked for them; those asked for longest ago go first.
const ASKED: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Names that are followed on purpose: the own ones, and those of mirrored shops.
const KEPT: usize = 4096;
/// Peers asked at once for the record of one name.
const ASKED_PEERS: usize = 8;
/// Peers asked at once.
const FETCHES: usize = 128;
/// Invalid records after which a peer is not listened to.
const FAULTS: u8 = 8;
/// Peers whose faults are counted.
const FAULTY_PEERS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Verdict {
    /// A valid record, newer than the one known.
    Newer,
    /// Nothing new.
    Known,
    /// Not a record of that name, or not signed by its key.
    Invalid,
}

#[derive(Debug)]
struct Topic {
    name: Name,
    /// What is told and answered. Of a name that is followed on purpose it is what this node says that
    /// it is: what is heard may be refused.
    known: Option<Record>,
    /// The newest one that was heard since, of a name that is followed on purpose.
    heard: Option<Record>,
    /// Peers that are being asked.
    asking: usize,
    waiting: Vec<Waiting>,
}

/// Somebody who asks for the record of a name.
#[derive(Debug)]
struct Waiting {
    patience: Patience,
    done: oneshot::Sender<Option<Record>>,
}

/// What an answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Patience {
    /// The first valid record.
    First,
    /// All who were asked.
    All,
}

/// All topics this node is in.
#[derive(Debug)]
pub(in crate::net) struct Topics {
    kept: HashMap<TopicHash, Topic>,
    asked: LruCache<TopicHash, Topic>,
    fetches: HashMap<OutboundRequestId, (TopicHash, PeerId)>,
    faults: LruCache<PeerId, u8>,
    inbox: Arc<Inbox>,
}

impl Topics {
    pub(in crate::net) fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            kept: HashMap::new(),
            asked: LruCache::unbounded(),
            fetches: HashMap::new(),
            faults: LruCache::new(FAULTY_PEERS),
            inbox,
        }
    }

    /// Where newer records go.
    pub(in crate::net) fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// Follows a name until [`Topics::leave`]; `known` is told and answered from now on, whatever was heard.
    /// Returns whether it is followed.
    pub(in crate::net) fn keep(&mut self, name: &Name, known: Option<Record>) -> bool {
        let topic = topic_of(name).hash();
        if !self.kept.contains_key(&topic) {
            if self.kept.len() >= KEPT {
                return false;
            }
            let entry = match self.asked.pop(&topic) {
                Some(asked) => Topic {
                    heard: asked.known,
                    known: None,
                    ..asked
                },
                None => Topic::of(name),
            };
            self.kept.insert(topic.clone(), entry);
        }
        if let (Some(known), Some(entry)) = (known, self.entry(&topic)) {
            entry.known = Some(known);
        }
        true
    }

    /// Follows a name because somebody asked for it. Returns whether that is new, and the topic that had
    /// to go for it.
    pub(in crate::net) fn ask(&mut self, name: &Name) -> (bool, Option<TopicHash>) {
        let topic = topic_of(name).hash();
        if self.kept.contains_key(&topic) || self.asked.get(&topic).is_some() {
            return (false, None);
        }
        self.asked.put(topic, Topic::of(name));
        let gone = (self.asked.len() > ASKED.get())
            .then(|| self.asked.pop_lru())
            .flatten();
        (true, gone.map(|(topic, _)| topic))
    }

    /// Ends [`Topics::keep`].
    pub(in crate::net) fn leave(&mut self, name: &Name) -> bool {
        self.kept.remove(&topic_of(name).hash()).is_some()
    }

    fn entry(&mut self, topic: &TopicHash) -> Option<&mut Topic> {
        match self.kept.get_mut(topic) {
            Some(entry) => Some(entry),
            None => self.asked.peek_mut(topic),
        }
    }

    fn peek(&self, topic: &TopicHash) -> Option<&Topic> {
        self.kept.get(topic).or_else(|| self.asked.peek(topic))
    }

    /// Whether this node is in the topic.
    pub(in crate::net) fn has(&self, topic: &TopicHash) -> bool {
        self.peek(topic).is_some()
    }

    /// The valid record that is known of a name.
    pub(in crate::net) fn known(&self, name: &Name) -> Option<&Record> {
        self.peek(&topic_of(name).hash())?.valid()
    }

    /// The valid record that is known in a topic.
    pub(in crate::net) fn to_tell(&self, topic: &TopicHash) -> Option<Vec<u8>> {
        Some(self.peek(topic)?.valid()?.bytes.clone())
    }

    /// Topics followed on purpose.
    pub(in crate::net) fn kept(&self) -> impl Iterator<Item = &TopicHash> {
        self.kept.keys()
    }

    /// Judges what a peer says is the record of a topic; a newer one is put into the inbox.
    pub(in crate::net) fn judge(
        &mut self,
        topic: &TopicHash,
        data: &[u8],
        from: PeerId,
    ) -> Verdict {
        let inbox = Arc::clone(&self.inbox);
        let is_kept = self.kept.contains_key(topic);
        let Some(entry) = self.entry(topic) else {
            return Verdict::Known;
        };
        let mut seen = entry.known.iter().chain(&entry.heard);
        if seen.any(|seen| seen.bytes == data) {
            return Verdict::Known;
        }
        let record = match ipns::verify(&entry.name, data, Timestamp::now()) {
            Ok(record) => record,
            // Clocks differ.
            Err(RecordError::Expired(_)) => return Verdict::Known,
            Err(_) => return Verdict::Invalid,
        };
        if entry
            .valid()
            .is_some_and(|known| !ipns::newer(&record, known))
        {
            return Verdict::Known;
        }
        match is_kept {
            true => entry.hear(record.clone()),
            false => entry.known = Some(record.clone()),
        }
        let hasty = |waiting: &mut Waiting| waiting.patience == Patience::First;
        for waiting in entry.waiting.extract_if(.., hasty) {
            waiting.done.send(Some(record.clone())).ok();
        }
        let name = entry.name.clone();
        inbox.put(Heard { name, record, from });
        Verdict::Newer
    }

    /// Counts an invalid record. Returns whether that was one too many.
    pub(in crate::net) fn fault(&mut self, peer: PeerId) -> bool {
        let faults = self.faults.get_or_insert_mut(peer, || 0);
        *faults = faults.saturating_add(1);
        *faults >= FAULTS
    }

    /// Whether one more peer may be asked for the record of the topic.
    pub(in crate::net) fn may_ask(&self, topic: &TopicHash) -> bool {
        let room = self.fetches.len() < FETCHES;
        room && self
            .peek(topic)
            .is_some_and(|entry| entry.asking < ASKED_PEERS)
    }

    /// The key of the topic's name, to ask for.
    pub(in crate::net) fn name(&self, topic: &TopicHash) -> Option<&Name> {
        self.peek(topic).map(|entry| &entry.name)
    }

    /// A peer is being asked.
    pub(in crate::net) fn asking(&mut self, id: OutboundRequestId, topic: TopicHash, peer: PeerId) {
        if let Some(entry) = self.entry(&topic) {
            entry.asking += 1;
        }
        self.fetches.insert(id, (topic, peer));
    }

    /// A peer has answered, or will not. Returns whom it was and what about.
    pub(in crate::net) fn answered(
        &mut self,
        id: OutboundRequestId,
    ) -> Option<(TopicHash, PeerId)> {
        let (topic, peer) = self.fetches.remove(&id)?;
        if let Some(entry) = self.entry(&topic) {
            entry.asking = entry.asking.saturating_sub(1);
        }
        Some((topic, peer))
    }

    /// Answers all who wait for a record, once nobody is asked any more.
    pub(in crate::net) fn settle(&mut self, topic: &TopicHash) {
        if let Some(entry) = self.entry(topic)
            && entry.asking == 0
        {
            let newest = entry.newest().cloned();
            for waiting in entry.waiting.drain(..) {
                waiting.done.send(newest.clone()).ok();
            }
        }
    }

    /// Answers with the newest record that was heard, as soon as there is one, or once all have answered.
    pub(in crate::net) fn wait(
        &mut self,
        name: &Name,
        patience: Patience,
        done: oneshot::Sender<Option<Record>>,
    ) {
        let Some(entry) = self.entry(&topic_of(name).hash()) else {
            return;
        };
        match entry.newest() {
            Some(newest) if patience == Patience::First => {
                done.send(Some(newest.clone())).ok();
            }
            _ => {
                entry.waiting.retain(|waiting| !waiting.done.is_closed());
                entry.waiting.push(Waiting { patience, done });
            }
        }
    }
}

impl Topic {
    fn of(name: &Name) -> Self {
        Self {
            name: name.clone(),
            known: None,
            heard: None,
            asking: 0,
            waiting: Vec::new(),
        }
    }

    fn valid(&self) -> Option<&Record> {
        valid(self.known.as_ref())
    }

    /// The newest one that is known or was heard.
    fn newest(&self) -> Option<&Record> {
        match (self.valid(), valid(self.heard.as_ref())) {
            (Some(known), Some(heard)) if ipns::newer(heard, known) => Some(heard),
            (None, heard) => heard,
            (known, _) => known,
        }
    }

    fn hear(&mut self, record: Record) {
        let last = valid(self.heard.as_ref());
        if last.is_none_or(|last| ipns::newer(&record, last)) {
            self.heard = Some(record);
        }
    }
}

fn valid(record: Option<&Record>) -> Option<&Record> {
    let now = Timestamp::now();
    record.filter(|record| record.validity >= now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::ToSpan;
    use libp2p::identity::Keypair;

    use super::*;
    use crate::keys::name_of;

    fn record(key: &Keypair, sequence: u64, left: i64) -> Record {
        let validity = Timestamp::now() + left.seconds();
        ipns::sign(key, "/ipfs/bafkqaaa", sequence, validity, Duration::ZERO)
    }

    #[test]
    fn only_newer_valid_records_go_on() {
        let (key, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (name, peer) = (name_of(&key), PeerId::random());
        let mut topics = Topics::new(Arc::default());
        let topic = topic_of(&name).hash();
        let mut judge = |record: &Record| topics.judge(&topic, &record.bytes, peer);
        // Nobody follows it.
        assert_eq!(judge(&record(&key, 1, 60)), Verdict::Known);
        assert!(topics.keep(&name, Some(record(&key, 2, 60))));
        let mut judge = |record: &Record| topics.judge(&topic, &record.bytes, peer);
        assert_eq!(judge(&record(&key, 1, 600)), Verdict::Known);
        assert_eq!(judge(&record(&other, 9, 60)), Verdict::Invalid);
        assert_eq!(judge(&record(&key, 9, -60)), Verdict::Known);
        let newer = record(&key, 3, 60);
        assert_eq!(judge(&newer), Verdict::Newer);
        assert_eq!(judge(&newer), Verdict::Known);
        // Signed again, for longer.
        assert_eq!(judge(&record(&key, 3, 600)), Verdict::Newer);
    }

    #[test]
    fn of_a_name_that_is_followed_on_purpose_only_what_this_node_says_is_told() {
        let key = Keypair::generate_ed25519();
        let name = name_of(&key);
        let mut topics = Topics::new(Arc::default());
        let topic = topic_of(&name).hash();
        topics.keep(&name, Some(record(&key, 2, 60)));
        let far = record(&key, u64::MAX, 60);
        let peer = PeerId::random();
        assert_eq!(topics.judge(&topic, &far.bytes, peer), Verdict::Newer);
        assert_eq!(topics.known(&name).unwrap().sequence, 2);
        assert_eq!(topics.judge(&topic, &far.bytes, peer), Verdict::Known);
        // It keeps nobody from what is newer than the known one.
        let next = record(&key, 3, 60);
        assert_eq!(topics.judge(&topic, &next.bytes, peer), Verdict::Newer);
        topics.keep(&name, Some(next.clone()));
        assert_eq!(topics.to_tell(&topic), Some(next.bytes));
    }

    #[test]
    fn who_has_patience_gets_the_newest_of_all_answers() {
        let key = Keypair::generate_ed25519();
        let name = name_of(&key);
        let mut topics = Topics::new(Arc::default());
        let topic = topic_of(&name).hash();
        topics.keep(&name, Some(record(&key, 2, 60)));
        topics.entry(&topic).unwrap().asking = 2;
        let (first, mut answered) = oneshot::channel();
        topics.wait(&name, Patience::First, first);
        assert_eq!(answered.try_recv().unwrap().unwrap().sequence, 2);

        let (all, mut answered) = oneshot::channel();
        topics.wait(&name, Patience::All, all);
        let longer = record(&key, 2, 600);
        topics.judge(&topic, &longer.bytes, PeerId::random());
        topics.settle(&topic);
        assert!(answered.try_recv().is_err());
        topics.entry(&topic).unwrap().asking = 0;
        topics.settle(&topic);
        assert_eq!(answered.try_recv().unwrap(), Some(longer));
    }

    #[test]
    fn an_expired_record_gives_way_to_any_valid_one() {
        let key = Keypair::generate_ed25519();
        let name = name_of(&key);
        let mut topics = Topics::new(Arc::default());
        topics.keep(&name, Some(record(&key, 5, -60)));
        assert!(topics.known(&name).is_none());
        let older = record(&key, 4, 60);
        let verdict = topics.judge(&topic_of(&name).hash(), &older.bytes, PeerId::random());
        assert_eq!(verdict, Verdict::Newer);
    }

    #[test]
    fn names_asked_for_are_bounded_and_those_kept_stay() {
        let mut topics = Topics::new(Arc::default());
        let names: Vec<Name> = (0..=ASKED.get())
            .map(|_| Name::of_peer(&PeerId::random()))
            .collect();
        let kept = Name::of_peer(&PeerId::random());
        assert_eq!(topics.ask(&kept), (true, None));
        assert!(topics.keep(&kept, None));
        for name in &names[..ASKED.get()] {
            assert_eq!(topics.ask(name), (true, None));
        }
        // Asked for again: it is the second one that goes.
        assert_eq!(topics.ask(&names[0]), (false, None));
        let gone = topic_of(&names[1]).hash();
        assert_eq!(topics.ask(&names[ASKED.get()]), (true, Some(gone)));
        assert!(topics.has(&topic_of(&kept).hash()));
        assert!(topics.leave(&kept));
        assert!(!topics.has(&topic_of(&kept).hash()));
    }

    #[test]
    fn a_peer_that_sends_invalid_records_is_not_heard_for_long() {
        let mut topics = Topics::new(Arc::default());
        let peer = PeerId::random();
        let counted: Vec<bool> = (0..FAULTS).map(|_| topics.fault(peer)).collect();
        assert_eq!(counted.iter().filter(|last| **last).count(), 1);
        assert!(counted.last().unwrap());
        assert!(!topics.fault(PeerId::random()));
    }
}
