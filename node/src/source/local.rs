//! The local store as a source: what is on this disk, nothing else.

use cid::Cid;

use super::{BlockSource, FetchError};
use crate::block::Block;
use crate::store::Store;

/// Reads blocks from the local store only.
#[derive(Clone, Debug)]
pub struct LocalSource {
    store: Store,
}

impl LocalSource {
    /// Reads from `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

impl BlockSource for LocalSource {
    async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        if let Some(block) = Block::inlined(cid)? {
            return Ok(block);
        }
        self.store
            .read(cid)
            .await?
            .ok_or_else(|| FetchError::NotFound {
                cid: *cid,
                tried: "not in the local store, and the network was not asked".to_owned(),
            })
    }
}
