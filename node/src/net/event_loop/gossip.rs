//! The event loop's part in gossip: joins topics, judges messages, asks subscribers and answers them.

use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance, TopicHash};
use libp2p::{PeerId, request_response};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::EventLoop;
use crate::ipns::Record;
use crate::keys::Name;
use crate::net::gossip::{Patience, Verdict, fetch, topic_of};
use crate::net::records::{key_of_name, name_of_key};

/// What is asked of gossip.
#[derive(Debug)]
pub(in crate::net) enum GossipCommand {
    /// Hear of a name from now on.
    Follow(Name, Option<Record>),
    /// No longer.
    Leave(Name),
    /// Tell all subscribers, and hear of the name from now on.
    Tell(Name, Record),
    /// The record that subscribers have: the one that is known, if there is one.
    Ask(Name, oneshot::Sender<Option<Record>>),
    /// The newest record that subscribers have now.
    AskAll(Name, oneshot::Sender<Option<Record>>),
    /// Connected peers that follow the name.
    Subscribers(Name, oneshot::Sender<Vec<PeerId>>),
}

impl EventLoop {
    pub(super) fn gossip(&mut self, command: GossipCommand) {
        if !self.swarm.behaviour().gossip.is_enabled() {
            // Dropped reply channels say that there is no answer.
            return;
        }
        match command {
            GossipCommand::Follow(name, known) => self.follow(&name, known),
            GossipCommand::Leave(name) => {
                if self.topics.leave(&name) {
                    self.unsubscribe(&topic_of(&name));
                }
            }
            GossipCommand::Tell(name, record) => {
                self.follow(&name, Some(record));
                self.outgoing.push(topic_of(&name).hash());
            }
            GossipCommand::Ask(name, done) => self.ask(&name, Patience::First, done),
            GossipCommand::AskAll(name, done) => self.ask(&name, Patience::All, done),
            GossipCommand::Subscribers(name, done) => {
                done.send(self.subscribers(&topic_of(&name).hash())).ok();
            }
        }
    }

    fn follow(&mut self, name: &Name, known: Option<Record>) {
        if self.topics.keep(name, known) {
            self.subscribe(name);
        } else {
            tracing::warn!(%name, "too many names are followed: nothing is heard of this one");
        }
    }

    fn ask(&mut self, name: &Name, patience: Patience, done: oneshot::Sender<Option<Record>>) {
        let (is_new, gone) = self.topics.ask(name);
        if let Some(gone) = gone {
            self.unsubscribe(&IdentTopic::new(gone.into_string()));
        }
        let topic = topic_of(name).hash();
        if is_new {
            self.subscribe(name);
        } else if patience == Patience::All {
            self.fetch_all(&topic);
        }
        self.topics.wait(name, patience, done);
        self.topics.settle(&topic);
    }

    fn fetch_all(&mut self, topic: &TopicHash) {
        for peer in self.subscribers(topic) {
            self.fetch(peer, topic.clone());
        }
    }

    /// Joins the topic of a name, and asks those who are in it for what they have.
    fn subscribe(&mut self, name: &Name) {
        let topic = topic_of(name);
        let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() else {
            return;
        };
        match gossip.subscribe(&topic) {
            Ok(true) => self.fetch_all(&topic.hash()),
            Ok(false) => {}
            Err(error) => tracing::debug!(%name, %error, "cannot hear of a name"),
        }
    }

    fn unsubscribe(&mut self, topic: &IdentTopic) {
        if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
            gossip.unsubscribe(topic);
        }
    }

    /// Tells what is known in the topic whose turn it is.
    pub(super) fn tell_next(&mut self) {
        let Some(topic) = self.outgoing.pop(Instant::now()) else {
            return;
        };
        if let Some(record) = self.topics.to_tell(&topic)
            && let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut()
            && let Err(error) = gossip.publish(topic, record)
        {
            tracing::debug!(%error, "nobody was told of a name");
        }
    }

    /// Says again what is known of the names that are followed on purpose: a message may have been lost.
    pub(super) fn tell_again(&mut self) {
        for topic in self.topics.kept() {
            self.outgoing.push(topic.clone());
        }
    }

    pub(super) fn subscribers(&self, topic: &TopicHash) -> Vec<PeerId> {
        let Some(gossip) = self.swarm.behaviour().gossip.as_ref() else {
            return Vec::new();
        };
        let is_in = |topics: Vec<&TopicHash>| topics.contains(&topic);
        gossip
            .all_peers()
            .filter_map(|(peer, topics)| is_in(topics).then_some(*peer))
            .collect()
    }

    /// Whether a peer is in a topic that this node is in.
    pub(super) fn is_in_topic(&self, peer: &PeerId) -> bool {
        let gossip = self.swarm.behaviour().gossip.as_ref();
        gossip.is_some_and(|gossip| {
            let mut peers = gossip.all_peers();
            peers.any(|(id, topics)| id == peer && topics.iter().any(|t| self.topics.has(t)))
        })
    }

    fn fetch(&mut self, peer: PeerId, topic: TopicHash) {
        if !self.topics.may_ask(&topic) {
            return;
        }
        let Some(name) = self.topics.name(&topic) else {
            return;
        };
        let key = key_of_name(name).to_vec();
        if let Some(fetches) = self.swarm.behaviour_mut().record_fetch.as_mut() {
            let id = fetches.send_request(&peer, fetch::Request { key });
            self.topics.asking(id, topic, peer);
        }
    }

    pub(super) fn gossip_event(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            } => {
                let verdict = self.judge(&message.topic, &message.data, propagation_source);
                let acceptance = match verdict {
                    Verdict::Newer => MessageAcceptance::Accept,
                    Verdict::Known => MessageAcceptance::Ignore,
                    Verdict::Invalid => MessageAcceptance::Reject,
                };
                if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
                    gossip.report_message_validation_result(
                        &message_id,
                        &propagation_source,
                        acceptance,
                    );
                }
            }
            gossipsub::Event::Subscribed { peer_id, topic } if self.topics.has(&topic) => {
                self.fetch(peer_id, topic);
            }
            _ => {}
        }
    }

    fn judge(&mut self, topic: &TopicHash, data: &[u8], from: PeerId) -> Verdict {
        let verdict = self.topics.judge(topic, data, from);
        if verdict == Verdict::Invalid
            && self.topics.fault(from)
            && let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut()
        {
            tracing::debug!(peer = %from, "sends invalid records: it is not listened to any more");
            gossip.blacklist_peer(&from);
        }
        verdict
    }

    pub(super) fn fetch_event(
        &mut self,
        event: request_response::Event<fetch::Request, fetch::Answer>,
    ) {
        use request_response::{Event, Message};

        match event {
            Event::Message {
                message:
                    Message::Request {
                        request, channel, ..
                    },
                ..
            } => {
                let known = name_of_key(&request.key).and_then(|name| self.topics.known(&name));
                let answer = fetch::Answer::of(known.map(|record| record.bytes.clone()));
                if let Some(fetches) = self.swarm.behaviour_mut().record_fetch.as_mut() {
                    // Fails when the peer has gone.
                    fetches.send_response(channel, answer).ok();
                }
            }
            Event::Message {
                message:
                    Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
                if let Some((topic, peer)) = self.topics.answered(request_id) {
                    if let Some(record) = response.into_record() {
                        self.judge(&topic, &record, peer);
                    }
                    self.topics.settle(&topic);
                }
            }
            Event::OutboundFailure { request_id, .. } => {
                if let Some((topic, _)) = self.topics.answered(request_id) {
                    self.topics.settle(&topic);
                }
            }
            _ => {}
        }
    }
}
