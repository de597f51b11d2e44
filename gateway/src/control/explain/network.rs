//! Errors of names, peers and the control socket.

use duka_node::ipns::RecordError;
use duka_node::name::NameError;
use duka_node::net::{DialErrorKind, NetError};

use super::{Explain, TRY_AGAIN};
use crate::control::client::ClientError;
use crate::control::failure::Code;

impl Explain for RecordError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        (Code::Signature, None)
    }
}

impl Explain for NameError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::NotFound { .. } => (
                Code::NotFound,
                Some("check the name; `duka get --mirror URL` adds places to ask"),
            ),
            Self::Silent { .. } => (Code::Temporary, TRY_AGAIN),
            Self::Record(error) => error.explain(),
            Self::Rollback { .. } => (Code::Signature, Some("get the newest record of the name")),
            Self::Own { .. } => (
                Code::Permanent,
                Some(
                    "nothing was changed; `duka key rotate` replaces a publishing key that was stolen",
                ),
            ),
            Self::Loop { .. } => (Code::Limit, None),
            Self::Manifest(error) => error.explain(),
            Self::Net(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for NetError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Off => (
                Code::Permanent,
                Some("run it without --offline and with `network.offline = false`"),
            ),
            Self::Listen { .. } => (
                Code::Other,
                Some("give --listen another address, or port 0"),
            ),
            Self::NoTransport { .. } => (
                Code::Usage,
                Some("give an address that ends in /tcp/…, /udp/…/quic-v1 or /ws"),
            ),
            Self::Address { .. } => (
                Code::Usage,
                Some("an address looks like /ip4/203.0.113.5/tcp/4101/p2p/12D3KooW…"),
            ),
            Self::Dial { kind, .. } => of_dial(*kind),
            Self::TimedOut { .. } | Self::NotStored { .. } => {
                (Code::Temporary, Some("try again when the network is there"))
            }
            _ => (Code::Other, None),
        }
    }
}

fn of_dial(kind: DialErrorKind) -> (Code, Option<&'static str>) {
    match kind {
        DialErrorKind::NoAddress => (
            Code::Temporary,
            Some("give an address of it, such as /ip4/203.0.113.5/tcp/4101/p2p/12D3KooW…"),
        ),
        DialErrorKind::WrongPeer => (
            Code::Permanent,
            Some("its address has changed, or it has a new peer id: ask who runs it"),
        ),
        DialErrorKind::NotSupported => (
            Code::Usage,
            Some("give an address that ends in /tcp/…, /udp/…/quic-v1 or /ws, and the peer id"),
        ),
        DialErrorKind::Itself => (Code::Usage, Some("give the address of another node")),
        DialErrorKind::Limit => (
            Code::Temporary,
            Some("try again later, or raise `network.limits.connections`"),
        ),
        _ => (Code::Temporary, Some("try again when the network is there")),
    }
}

impl Explain for ClientError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Connect { .. } => (Code::Other, None),
            Self::OtherUser { .. } => (Code::Permanent, None),
        }
    }
}
