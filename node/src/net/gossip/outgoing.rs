//! The topics whose record is to be told, one after the other.
//!
//! Kubo takes a message only if its number is above those of all earlier ones of the same peer, and
//! validates messages at the same time: of two that come at once it may take the second and drop the
//! first. So there is a pause between two.

use std::collections::VecDeque;
use std::time::Duration;

use libp2p::gossipsub::TopicHash;
use tokio::time::Instant;

/// Pause between two messages.
const PAUSE: Duration = Duration::from_millis(300);

/// What waits to be told. Each topic waits once, and is told with what is known then.
#[derive(Debug)]
pub(in crate::net) struct Outgoing {
    waiting: VecDeque<TopicHash>,
    next: Instant,
}

impl Outgoing {
    pub(in crate::net) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            next: Instant::now(),
        }
    }

    pub(in crate::net) fn push(&mut self, topic: TopicHash) {
        if !self.waiting.contains(&topic) {
            self.waiting.push_back(topic);
        }
    }

    /// When [`Outgoing::pop`] has the next topic.
    pub(in crate::net) fn next(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next)
    }

    /// The topic to tell now.
    pub(in crate::net) fn pop(&mut self, now: Instant) -> Option<TopicHash> {
        if now < self.next {
            return None;
        }
        let topic = self.waiting.pop_front()?;
        self.next = now + PAUSE;
        Some(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_a_pause_between_them_and_no_topic_waits_twice() {
        let mut outgoing = Outgoing::new();
        let now = Instant::now();
        let topics = ["a", "b"].map(TopicHash::from_raw);
        for topic in topics.iter().chain(&topics) {
            outgoing.push(topic.clone());
        }
        assert_eq!(outgoing.pop(now).as_ref(), Some(&topics[0]));
        assert_eq!(outgoing.pop(now), None);
        let later = outgoing.next().unwrap();
        assert_eq!(later, now + PAUSE);
        assert_eq!(outgoing.pop(later).as_ref(), Some(&topics[1]));
        assert_eq!(outgoing.next(), None);
    }
}
