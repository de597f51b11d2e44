//! NAME: resolve, put and publish IPNS names: local record → DHT and gateways; the newest valid one
//! wins and is kept. Check first, then persist.

use crate::ipns::{Record, RecordError};
use crate::keys::Name;
use crate::manifest::ManifestError;
use crate::net::NetError;

/// Why a name did not resolve, or a record was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nobody who was asked has a valid record.
    #[error("no valid record of {name} was found ({tried})")]
    NotFound {
        /// The name.
        name: Name,
        /// Where it was looked for, in words.
        tried: String,
    },
    /// The record is not valid.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record with a higher sequence number is known.
    #[error("a record with sequence {known} is known; this one has {given}")]
    Rollback {
        /// Known.
        known: u64,
        /// Given.
        given: u64,
    },
    /// Names point to names without end.
    #[error("{name} goes through more than 32 names")]
    Loop {
        /// The first name.
        name: Name,
    },
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The network failed.
    #[error(transparent)]
    Net(#[from] NetError),
}

/// A resolved name.
#[derive(Clone, Debug)]
pub struct ResolvedName {
    /// The record of the name itself.
    pub record: Record,
    /// Where it leads in the end: `/ipfs/<cid>[/path]`, after all further names.
    pub path: String,
    /// Seconds this may be cached: the least of all TTLs and remaining validities on the way.
    pub max_age: u64,
}
