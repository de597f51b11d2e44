//! FETCH: local → peers → trustless gateways; yields verified blocks only.

use cid::Cid;
use futures::stream::{self, Stream};
use libp2p::PeerId;

use crate::block::Block;
use crate::dag::DagError;
use crate::source::{BlockSource, FetchError};
use crate::store::PackKind;

/// Fetches blocks for one request: local store first, then one bitswap session and the gateways.
/// What comes from outside is stored (not durable before the next commit). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fetcher {}

impl BlockSource for Fetcher {
    async fn fetch(&self, _cid: &Cid) -> Result<Block, FetchError> {
        todo!()
    }
}

/// Progress of [`fetch_dag`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blocks seen, local ones included.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that came from outside.
    pub fetched: u64,
}

/// Fetches everything below `root` that is not in the store, breadth first, `window` blocks in
/// flight. Yields progress; ends when all is stored. The caller commits and pins.
pub fn fetch_dag(
    _fetcher: Fetcher,
    _kind: PackKind,
    _root: Cid,
    _window: usize,
) -> impl Stream<Item = Result<Progress, DagError>> + Send {
    stream::empty()
}

/// Options of [`crate::node::Node::fetcher`].
#[derive(Clone, Debug, Default)]
pub struct FetchOptions {
    /// Local store only.
    pub offline: bool,
    /// Peers that are said to have the DAG.
    pub providers: Vec<PeerId>,
    /// Trustless gateways to ask besides the configured ones.
    pub gateways: Vec<url::Url>,
}
