//! Names over gossipsub, in the topics and the format of Kubo's `Ipns.UsePubsub`: each name has a topic,
//! a message is a signed record and nothing else. Who comes later asks a subscriber for the record it
//! has ([`fetch`]).
//!
//! A record is verified before it is kept or passed on. One that is not newer than what is known goes no
//! further; one that is invalid counts against the peer that sent it.

pub(super) mod fetch;
mod inbox;
mod outgoing;
mod topics;

use cid::Cid;
use libp2p::gossipsub::{
    self, CallbackSubscriptionFilter, ConfigBuilder, IdentTopic, IdentityTransform,
    MaxCountSubscriptionFilter, Message, MessageAuthenticity, MessageId, TopicHash, ValidationMode,
};
use libp2p::identity::Keypair;
use multibase::Base;

use super::records::key_of_name;
use crate::block::{RAW, cid_of};
use crate::keys::Name;

pub(crate) use inbox::{Heard, Inbox};
pub(super) use outgoing::Outgoing;
pub(super) use topics::{Patience, Topics, Verdict};

/// What topics of names begin with.
const TOPIC_PREFIX: &str = "/record/";
/// Longest topic: the prefix and the base64 of the longest key.
const TOPIC_LIMIT: usize = 256;
/// Subscriptions remembered of one peer, and taken in one message.
const SUBSCRIPTIONS: usize = 4096;
/// Largest message: one may carry all subscriptions of a peer (Kubo's limit).
const MESSAGE_LIMIT: usize = 1 << 20;
/// Messages that wait for one peer.
const QUEUE: usize = 256;
/// Control messages in one exchange.
const CONTROL_LIMIT: usize = 500;
/// How long messages are remembered as seen (Kubo's `Pubsub.SeenMessagesTTL`).
const SEEN: std::time::Duration = std::time::Duration::from_secs(120);

type Filter = MaxCountSubscriptionFilter<CallbackSubscriptionFilter<fn(&TopicHash) -> bool>>;
/// Gossipsub for names only.
pub(super) type Gossip = gossipsub::Behaviour<IdentityTransform, Filter>;

/// Gossipsub as Kubo sets it up, but for topics of names only.
pub(super) fn build(key: &Keypair) -> Gossip {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(message_id)
        .duplicate_cache_time(SEEN)
        .max_transmit_size(MESSAGE_LIMIT)
        .connection_handler_queue_len(QUEUE)
        .max_publish_messages(CONTROL_LIMIT)
        .max_control_messages_sent(CONTROL_LIMIT)
        .build()
        .expect("the mesh has the default sizes");
    let filter = MaxCountSubscriptionFilter {
        filter: CallbackSubscriptionFilter(is_topic_of_name as fn(&TopicHash) -> bool),
        max_subscribed_topics: SUBSCRIPTIONS,
        max_subscriptions_per_request: SUBSCRIPTIONS,
    };
    let signed = MessageAuthenticity::Signed(key.clone());
    Gossip::new_with_subscription_filter_and_transform(signed, config, filter, IdentityTransform)
        .expect("messages are signed, and checked to be")
}

/// As go-libp2p's, so that peers agree on what they have seen.
fn message_id(message: &Message) -> MessageId {
    let mut id = message.source.map_or_else(Vec::new, |peer| peer.to_bytes());
    let number = message.sequence_number.unwrap_or_default();
    id.extend_from_slice(&number.to_be_bytes());
    MessageId::from(id)
}

fn is_topic_of_name(topic: &TopicHash) -> bool {
    topic.as_str().len() <= TOPIC_LIMIT && topic.as_str().starts_with(TOPIC_PREFIX)
}

/// The topic of a name.
pub(super) fn topic_of(name: &Name) -> IdentTopic {
    let key = Base::Base64Url.encode(key_of_name(name));
    IdentTopic::new(format!("{TOPIC_PREFIX}{key}"))
}

/// What subscribers of a name's topic provide in the DHT, so that they find one another.
pub(crate) fn rendezvous(name: &Name) -> Cid {
    let topic = topic_of(name);
    cid_of(RAW, format!("floodsub:{}", topic.hash()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_is_the_base64_of_the_key_in_the_dht() {
        let name = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8";
        let topic = topic_of(&name.parse().unwrap()).hash();
        let expected = "/record/L2lwbnMvACQIARIglAqyRTZeOVJXNy9z-IMPqjh2Px4Dkxj7uv3PtVKkBv8";
        assert_eq!(topic.as_str().len(), expected.len());
        assert!(topic.as_str().starts_with("/record/L2lwbnMvACQIARIg"));
        assert!(is_topic_of_name(&topic));
        assert!(!is_topic_of_name(&IdentTopic::new("chat").hash()));
    }
}
