//! UnixFS and IPLD over blocks: import, read, paths, CAR.

mod ahead;
pub mod car;
mod dagpb;
pub mod document;
pub mod hamt;
pub mod import;
mod limits;
pub mod links;
pub mod path;
pub mod read;
pub(crate) mod stored;
pub mod unixfs;
pub mod walk;

use cid::Cid;

pub use self::limits::DagLimits;
use crate::source::FetchError;

/// Why a DAG could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DagError {
    /// A block could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A block is there but is not a valid node of its codec.
    #[error("block {cid} is not valid {what}: {reason}")]
    Malformed {
        /// The block.
        cid: Cid,
        /// What it should be: `dag-pb`, `UnixFS`, `dag-cbor`, `HAMT shard`.
        what: &'static str,
        /// Why it is not.
        reason: String,
    },
    /// A path segment does not exist.
    #[error("no link named {segment:?} under {parent}")]
    NoLink {
        /// The node that was looked into.
        parent: Cid,
        /// The missing segment.
        segment: String,
    },
    /// The node is of a kind that cannot do this (a file where a directory is needed, …).
    #[error("{cid} is {found}, not {wanted}")]
    WrongKind {
        /// The node.
        cid: Cid,
        /// What it is.
        found: &'static str,
        /// What is needed.
        wanted: &'static str,
    },
    /// A limit on depth, width or size was reached.
    #[error("{cid} goes over the limit: {limit}")]
    Limit {
        /// The node.
        cid: Cid,
        /// Which limit, with its value.
        limit: String,
    },
}
