//! Bytes of a UnixFS file, whole or any range, with bounded read-ahead.

use std::ops::Range;

use bytes::Bytes;
use cid::Cid;
use futures::stream::{self, Stream};

use super::DagError;
use super::unixfs::{Link, UnixFs};
use crate::source::BlockSource;

/// Streams `range` (bytes, end-exclusive, already clamped to the file) of the file under `cid`.
///
/// Only the blocks that overlap the range are fetched; at most a fixed number ahead of the reader.
/// Every item is a slice of one verified block. An error ends the stream.
pub fn read_range<S: BlockSource + Clone>(
    _source: &S,
    _cid: Cid,
    _range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, DagError>> + Send + 'static + use<S> {
    stream::empty()
}

/// Loads and decodes the node under `cid`.
pub async fn load<S: BlockSource>(_source: &S, _cid: &Cid) -> Result<UnixFs, DagError> {
    todo!()
}

/// Entries of a directory, plain or HAMT, in stored order (HAMT: in hash order), names plain.
/// Children themselves are not fetched.
pub fn list<S: BlockSource + Clone>(
    _source: &S,
    _cid: Cid,
) -> impl Stream<Item = Result<Link, DagError>> + Send + 'static + use<S> {
    stream::empty()
}
