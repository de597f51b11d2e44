//! `/ipfs/<cid>/<segments>`: parsing, and resolving segments to a node.

use cid::Cid;

use super::DagError;
use crate::keys::Name;
use crate::source::BlockSource;

/// `/ipfs/<cid>/…` or `/ipns/<name>/…`, or a bare CID with an optional path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentPath {
    /// Where it begins.
    pub root: Root,
    /// The segments below, not empty, as they are in the DAG (not percent-encoded).
    pub segments: Vec<String>,
}

/// Where a path begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// `/ipfs/<cid>`.
    Cid(Cid),
    /// `/ipns/<key>`.
    Name(Name),
    /// `/ipns/<domain>`: a DNSLink.
    Domain(String),
}

/// Why a text is not a content path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a CID or an IPFS path: {reason}")]
pub struct PathError {
    /// What was given.
    pub text: String,
    /// Why.
    pub reason: String,
}

impl ContentPath {
    /// Parses a path or a bare CID.
    ///
    /// # Errors
    /// [`PathError`] says what is wrong.
    pub fn parse(_text: &str) -> Result<Self, PathError> {
        todo!()
    }
}

impl std::fmt::Display for ContentPath {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

/// What a path resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The CID of the last node reached.
    pub cid: Cid,
    /// One CID per path segment, from the root down: logical roots only, no HAMT shards.
    pub roots: Vec<Cid>,
    /// Every block that was read on the way, in order, HAMT shards included: the path part of a CAR.
    pub visited: Vec<Cid>,
    /// Segments that could not be followed because they lead inside a block of a codec other than
    /// UnixFS (dag-cbor and dag-json values that are no links).
    pub remainder: Vec<String>,
}

/// Follows `segments` from `root` through UnixFS directories, HAMTs and IPLD links.
///
/// # Errors
/// [`DagError::NoLink`] names the missing segment.
pub async fn resolve<S: BlockSource>(
    _source: &S,
    _root: Cid,
    _segments: &[String],
) -> Result<Resolved, DagError> {
    todo!()
}
