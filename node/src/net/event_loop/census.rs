//! The event loop's part in the census: passes questions and answers on.

use libp2p::request_response::{Event, Message};
use libp2p::{PeerId, request_response};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::EventLoop;
use crate::net::census::{Question, Reply};

impl EventLoop {
    /// Asks a peer; a dropped channel says that there is no answer.
    pub(super) fn challenge(
        &mut self,
        peer: PeerId,
        question: Question,
        done: oneshot::Sender<Option<Vec<u8>>>,
    ) {
        let id = self
            .swarm
            .behaviour_mut()
            .census
            .send_request(&peer, question);
        self.challenges.insert(id, done);
    }

    pub(super) fn census_event(&mut self, event: request_response::Event<Question, Reply>) {
        match event {
            Event::Message {
                peer,
                message:
                    Message::Request {
                        request, channel, ..
                    },
                ..
            } => {
                let reply = match self.asked.may(peer, Instant::now()) {
                    true => Reply::To(request),
                    false => Reply::Nothing,
                };
                // Fails when the peer has gone.
                self.swarm
                    .behaviour_mut()
                    .census
                    .send_response(channel, reply)
                    .ok();
            }
            Event::Message {
                message:
                    Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
                if let Some(done) = self.challenges.remove(&request_id) {
                    let digest = match response {
                        Reply::Digest(digest) => Some(digest),
                        _ => None,
                    };
                    done.send(digest).ok();
                }
            }
            Event::OutboundFailure { request_id, .. } => {
                self.challenges.remove(&request_id);
            }
            _ => {}
        }
    }
}
