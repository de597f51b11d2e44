//! Asks single peers about single blocks, outside of sessions.

use std::sync::Arc;

use cid::Cid;
use libp2p::PeerId;

use super::Bitswap;
use super::client::Said;
use super::engine::Engine;
use super::message::WantKind;

impl Bitswap {
    /// Connected peers that speak bitswap, so many at most.
    pub(crate) fn connected(&self, most: usize) -> Vec<PeerId> {
        self.engine.peer_ids(most)
    }

    /// Whether a peer has a block; `None` without an answer.
    ///
    /// # Cancel safety
    /// Dropping the future takes the question back.
    pub(crate) async fn has(&self, peer: PeerId, cid: Cid) -> Option<bool> {
        let said = self.ask(peer, cid, WantKind::Have).await?;
        Some(said != Said::DontHave)
    }

    /// Has a peer send a block, which is not stored; `None` without an answer.
    ///
    /// # Cancel safety
    /// Dropping the future takes the question back.
    pub(crate) async fn send(&self, peer: PeerId, cid: Cid) -> Option<Said> {
        self.ask(peer, cid, WantKind::Block).await
    }

    async fn ask(&self, peer: PeerId, cid: Cid, kind: WantKind) -> Option<Said> {
        let engine = &self.engine;
        let said = engine.with_client(|client, _| client.question(peer, cid, kind))?;
        let _asked = Asked { engine, peer, cid };
        engine.until_stopped(said).await?.ok()
    }
}

/// Takes the question back when its future is dropped.
struct Asked<'a> {
    engine: &'a Arc<Engine>,
    peer: PeerId,
    cid: Cid,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.engine
            .with_client(|client, _| client.end_question(self.peer, &self.cid));
    }
}
