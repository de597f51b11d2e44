//! What an operation tells while it runs, and in the end. The command line prints these as they are
//! with `--json`.

mod item;
mod mirror;
mod outcome;
mod shop;
mod store;

use bytes::Bytes;
use duka_node::source::trustless::Given;
use serde::{Deserialize, Serialize};

use super::failure::Failure;

pub use item::{Item, PinSize};
pub use mirror::{Mirror, MirrorHead, MirrorKeeps, MirrorProduct, MirrorSource, RefusedHead};
pub use outcome::Outcome;
pub use shop::{ChannelMove, Head, Product, Release, Shop, ShopHead};
pub use store::{Scrub, Stat};

/// One event of an operation.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "events are few, and gone soon")]
pub enum Event {
    /// How far it is.
    Progress(Progress),
    /// Something the user should know; the operation goes on.
    Warning {
        /// One sentence.
        message: String,
    },
    /// One entry of a list.
    Item(Item),
    /// Bytes of a file.
    #[serde(skip)]
    Data(Bytes),
    /// It is done. The last event.
    Result(Outcome),
    /// It failed. The last event.
    Error(Failure),
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub bytes: u64,
    /// Bytes in all, once known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub total: Option<u64>,
    /// Who gave something so far.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub givers: Option<Givers>,
}

impl Progress {
    /// How far something is that nobody gives.
    pub fn new(bytes: u64, total: Option<u64>) -> Self {
        Self {
            bytes,
            total,
            givers: None,
        }
    }
}

/// Who gave something of a download.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Givers {
    /// Gateways.
    pub gateways: u32,
    /// Peers.
    pub peers: u32,
}

impl Givers {
    /// Counts those that gave something.
    pub fn of(given: &[Given]) -> Self {
        let mut givers = Self::default();
        for given in given.iter().filter(|given| given.blocks > 0) {
            match given.is_gateway {
                true => givers.gateways += 1,
                false => givers.peers += 1,
            }
        }
        givers
    }
}

/// What a gateway or peer gave.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Source {
    /// The URL of the gateway, or the peer id.
    pub source: String,
    /// Verified blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests that failed.
    pub errors: u64,
    /// It sent wrong bytes and was dropped.
    pub lied: bool,
}

impl From<Given> for Source {
    fn from(given: Given) -> Self {
        Self {
            source: given.source,
            blocks: given.blocks,
            bytes: given.bytes,
            errors: given.errors,
            lied: given.lied,
        }
    }
}
