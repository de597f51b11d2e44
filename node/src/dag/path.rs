//! `/ipfs/<cid>/<segments>`: parsing, and resolving segments to a node.

use cid::Cid;

use super::DagError;
use crate::source::BlockSource;

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
