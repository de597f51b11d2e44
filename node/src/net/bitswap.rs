//! Bitswap 1.0, 1.1 and 1.2 (specs.ipfs.tech/bitswap-protocol), client and server.

use cid::Cid;
use libp2p::PeerId;

use crate::block::Block;
use crate::source::{BlockSource, FetchError};

/// Handle to the engine: makes sessions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bitswap {}

impl Bitswap {
    /// A session: blocks of one DAG are likely to be with the same peers. Asks connected peers
    /// first; `providers` are asked with WANT-BLOCK at once.
    pub fn session(&self, _providers: Vec<PeerId>) -> Session {
        todo!()
    }

    /// Tells the server side that these blocks are now in the store, so that peers who wait for
    /// them get them.
    pub fn notify(&self, _cids: &[Cid]) {
        todo!()
    }
}

/// One fetch from bitswap peers. Cheap to clone; the wants end when the last clone drops.
#[derive(Clone, Debug)]
pub struct Session {}

impl Session {
    /// Adds peers that are said to have the blocks.
    pub fn add_providers(&self, _providers: &[PeerId]) {
        todo!()
    }

    /// Resolves when every peer of the session has said DONT_HAVE, or there is none: the time to
    /// look for more providers.
    pub async fn starved(&self) {
        todo!()
    }

    /// Bytes and blocks received from each peer.
    pub fn stats(&self) -> Vec<(PeerId, u64, u64)> {
        todo!()
    }
}

impl BlockSource for Session {
    /// Wants one block; many may be wanted at once. Waits until it arrives: the caller sets the
    /// deadline. The block is verified but not stored.
    async fn fetch(&self, _cid: &Cid) -> Result<Block, FetchError> {
        todo!()
    }
}
