//! Errors of content: what is imported, found, fetched, written and compared.

use std::io;

use duka_node::dag::DagError;
use duka_node::dag::car::CarError;
use duka_node::dag::import::ImportError;
use duka_node::dag::path::PathError;
use duka_node::get::GetError;
use duka_node::ids::IdError;
use duka_node::pin::PinError;
use duka_node::source::FetchError;
use duka_node::verify::VerifyError;

use super::{Explain, TRY_AGAIN, of_io};
use crate::control::failure::Code;

impl Explain for FetchError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::NotFound { .. } => (
                Code::NotFound,
                Some(
                    "check the CID; `duka swarm connect ADDR` and `duka get --mirror URL` add places to ask",
                ),
            ),
            Self::TimedOut { .. } | Self::Failed { .. } => (Code::Temporary, TRY_AGAIN),
            Self::Lied { .. } => (Code::Corrupt, Some("ask another gateway or peer")),
            Self::Busy { .. } => (Code::Limit, Some("try again in a moment")),
            Self::Block(_) => (Code::Corrupt, None),
            Self::Store(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for DagError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Fetch(error) => error.explain(),
            Self::Malformed { .. } => (Code::Corrupt, None),
            Self::NoLink { .. } => (Code::NotFound, Some("`duka ls` shows what is there")),
            Self::WrongKind { .. } => (Code::Permanent, None),
            Self::Limit { .. } => (Code::Limit, None),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for ImportError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Read { source, .. } => {
                let denied = source.kind() == io::ErrorKind::PermissionDenied;
                (
                    of_io(source),
                    denied.then_some(
                        "make it readable, or leave it out with --ignore; nothing was published",
                    ),
                )
            }
            Self::Changed { .. } => (
                Code::Temporary,
                Some("run the command again when nothing writes to it; nothing was published"),
            ),
            Self::Name { .. } => (
                Code::Permanent,
                Some("rename it, or leave it out with --ignore"),
            ),
            Self::Special { .. } => (Code::Permanent, Some("leave it out with --ignore")),
            Self::NoReflinks { .. } => (
                Code::Permanent,
                Some("with --reflink auto it is copied where it must be"),
            ),
            Self::NotReflinked { .. } => (Code::Usage, Some("leave --reflink out")),
            Self::NotInPlace { .. } => (Code::Usage, Some("leave --in-place out")),
            Self::Store(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for PinError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Dag(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            Self::Offered { .. } => (
                Code::Permanent,
                Some("`duka yank ID VERSION` withdraws a version; then it can be unpinned"),
            ),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for CarError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::NotCar { .. } => (
                Code::Corrupt,
                Some("`duka add` imports files of other kinds"),
            ),
            Self::Truncated { .. } | Self::Section { .. } => (
                Code::Corrupt,
                Some(
                    "get the file again; the whole blocks before that place are stored, not pinned",
                ),
            ),
            Self::Io(source) | Self::Write { source, .. } => (of_io(source), None),
            Self::Store(error) => error.explain(),
            Self::Dag(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for GetError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Dag(error) => error.explain(),
            Self::Exists { .. } => (
                Code::Permanent,
                Some("give another place with -o, or --update to write into it"),
            ),
            Self::Conflict { .. } => (
                Code::Permanent,
                Some("move it away, or give another place with -o; nothing was changed"),
            ),
            Self::Record { .. } => (
                Code::Corrupt,
                Some("tell the owner of the shop; nothing was written"),
            ),
            Self::Locked { .. } => (
                Code::Locked,
                Some("wait until it has ended, or give another place with -o"),
            ),
            Self::Name { .. } | Self::Twice { .. } => (Code::Permanent, None),
            Self::Full { .. } => (
                Code::NoSpace,
                Some(
                    "free some space and run it again: it goes on; an update needs room for the old files \
                     and the new",
                ),
            ),
            Self::Write { source, .. } => (of_io(source), None),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for VerifyError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Dag(error) => error.explain(),
            Self::Import(error) => error.explain(),
            Self::Read { source, .. } => (of_io(source), None),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for PathError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        (
            Code::Usage,
            Some("write CID, CID/path, /ipfs/CID/path or /ipns/NAME/path"),
        )
    }
}

impl Explain for IdError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        (Code::Usage, None)
    }
}
