//! Depth-first walk over a DAG: exact DFS order with bounded read-ahead.

use cid::Cid;
use futures::stream::{self, Stream};

use super::DagError;
use crate::block::Block;
use crate::source::BlockSource;

/// How a walk goes.
#[derive(Clone, Copy, Debug)]
pub struct WalkOptions {
    /// Yield each CID once (`true`), or at each visit.
    pub unique: bool,
    /// How many blocks may be in flight ahead of the reader.
    pub window: usize,
    /// Deepest level before [`DagError::Limit`].
    pub max_depth: usize,
}

/// Every block below and including `root`, in depth-first order.
pub fn walk<S: BlockSource + Clone>(
    _source: &S,
    _root: Cid,
    _options: WalkOptions,
) -> impl Stream<Item = Result<Block, DagError>> + Send + 'static + use<S> {
    stream::empty()
}
