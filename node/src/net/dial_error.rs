//! Why a peer could not be dialed, in words: libp2p nests the errors of all attempts.

use std::error::Error;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::swarm::DialError;

const NOT_SUPPORTED: &str = "no transport dials such an address";

/// What kind of reason kept a peer from being dialed, so what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialErrorKind {
    /// Nobody answers there, or not in time.
    Unreachable,
    /// No address of the peer is known.
    NoAddress,
    /// Another peer answers there.
    WrongPeer,
    /// No transport dials such an address.
    NotSupported,
    /// The address is this node's own.
    Itself,
    /// A limit of connections is reached.
    Limit,
}

/// Why a dial failed.
#[derive(Debug)]
pub(super) struct DialFailure {
    pub(super) kind: DialErrorKind,
    pub(super) reason: String,
}

impl DialFailure {
    pub(super) fn no_address() -> Self {
        Self {
            kind: DialErrorKind::NoAddress,
            reason: "no address of the peer is known".to_owned(),
        }
    }

    pub(super) fn itself() -> Self {
        Self {
            kind: DialErrorKind::Itself,
            reason: "that is this node itself".to_owned(),
        }
    }

    pub(super) fn of(error: &DialError) -> Self {
        let (kind, reason) = match error {
            DialError::NoAddresses => return Self::no_address(),
            DialError::LocalPeerId { .. } => return Self::itself(),
            DialError::WrongPeerId { obtained, .. } => (
                DialErrorKind::WrongPeer,
                format!("the peer there is {obtained}"),
            ),
            DialError::Denied { .. } => (
                DialErrorKind::Limit,
                "a limit of connections is reached".to_owned(),
            ),
            DialError::DialPeerConditionFalse(_) => (
                DialErrorKind::Unreachable,
                "it is being dialed already".to_owned(),
            ),
            DialError::Aborted => (
                DialErrorKind::Unreachable,
                "the attempt was broken off".to_owned(),
            ),
            DialError::Transport(attempts) => {
                let reasons = attempts.iter().map(|(_, error)| match error {
                    TransportError::Other(error) => innermost(error),
                    TransportError::MultiaddrNotSupported(_) => NOT_SUPPORTED.to_owned(),
                });
                // The last one says most, but for addresses that nothing dials.
                match reasons.filter(|reason| reason != NOT_SUPPORTED).last() {
                    Some(reason) => (DialErrorKind::Unreachable, reason),
                    None => (DialErrorKind::NotSupported, NOT_SUPPORTED.to_owned()),
                }
            }
        };
        Self { kind, reason }
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
