//! Blocks in memory, for tests.

use std::collections::HashMap;
use std::sync::Arc;

use cid::Cid;
use parking_lot::Mutex;

use super::{BlockSource, FetchError};
use crate::block::Block;

/// Blocks in memory that count how often they are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemorySource {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    blocks: HashMap<Cid, Block>,
    asked: Vec<Cid>,
}

impl MemorySource {
    pub(crate) fn extend(&self, blocks: impl IntoIterator<Item = Block>) {
        let blocks = blocks.into_iter().map(|block| (*block.cid(), block));
        self.inner.lock().blocks.extend(blocks);
    }

    /// Adds one block and gives its CID.
    pub(crate) fn put(&self, block: Block) -> Cid {
        let cid = *block.cid();
        self.extend([block]);
        cid
    }

    pub(crate) fn remove(&self, cid: &Cid) {
        self.inner.lock().blocks.remove(cid);
    }

    /// What was asked for since the last call, in order.
    pub(crate) fn take_asked(&self) -> Vec<Cid> {
        std::mem::take(&mut self.inner.lock().asked)
    }
}

impl BlockSource for MemorySource {
    async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        // Arrive out of order, as blocks from a network do.
        for _ in 0..cid.hash().digest().first().map_or(0, |byte| byte % 4) {
            tokio::task::yield_now().await;
        }
        let mut inner = self.inner.lock();
        inner.asked.push(*cid);
        inner
            .blocks
            .get(cid)
            .cloned()
            .ok_or_else(|| FetchError::NotFound {
                cid: *cid,
                tried: "not in memory".to_owned(),
            })
    }
}
