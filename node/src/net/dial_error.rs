//! Why a peer could not be dialed, in words: libp2p nests the errors of all attempts.

use std::error::Error;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::swarm::DialError;

const NOT_SUPPORTED: &str = "no transport dials such an address";

pub(super) fn in_words(error: &DialError) -> String {
    match error {
        DialError::NoAddresses => "no address of the peer is known".to_owned(),
        DialError::LocalPeerId { .. } => "that is this node itself".to_owned(),
        DialError::WrongPeerId { obtained, .. } => format!("the peer there is {obtained}"),
        DialError::Denied { .. } => "a limit of connections is reached".to_owned(),
        DialError::DialPeerConditionFalse(_) => "it is being dialed already".to_owned(),
        DialError::Aborted => "the attempt was broken off".to_owned(),
        DialError::Transport(attempts) => match attempts.last() {
            Some((_, TransportError::Other(error))) => innermost(error),
            Some((_, TransportError::MultiaddrNotSupported(_))) | None => NOT_SUPPORTED.to_owned(),
        },
    }
}

/// The cause of all, without what libp2p and the system wrap around it.
fn innermost(error: &io::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text = cause.to_string();
    // Several attempts are a list, one a line.
    let last = text.lines().next_back().unwrap_or_default();
    let last = last.trim_start_matches(" - ").trim_end_matches('.');
    if last.starts_with("Unsupported resolved address") {
        return NOT_SUPPORTED.to_owned();
    }
    if last.starts_with("no records found") {
        return "its name has no address".to_owned();
    }
    match last.split_once(" (os error") {
        Some((message, _)) => message.to_lowercase(),
        None => last.to_owned(),
    }
}
