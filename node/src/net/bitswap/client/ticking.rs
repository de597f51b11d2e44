//! What time does: silent peers, lost asks, slow ends, retries.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::super::message::WantKind;
use super::{AskState, Client};
use crate::block::Multihash;

/// How long a peer may take to say whether it has a block before others count it out.
const HAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// Most that a peer's patience grows to.
const MAX_PATIENCE: Duration = Duration::from_secs(60);
/// A block is also asked of an idle holder when another has not sent it for this long.
const HEDGE_AFTER: Duration = Duration::from_secs(3);
/// Blocks that one idle holder takes over at once.
const MAX_HEDGED: usize = 16;

impl Client {
    /// Lets time pass. To be called a few times in a second while anybody waits for a block.
    pub(in super::super) fn on_tick(&mut self, elapsed: Duration, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.measure(elapsed);
        }
        let silent = self.silent_peers(now);
        for hash in self.fail_overdue(&silent, now) {
            self.pursue(&hash, now);
        }
        self.hedge(now);
        self.pursue_backlog(now);
        self.retry_exhausted(now);
        self.redial(now);
    }

    /// Finds the peers from which nothing arrives.
    fn silent_peers(&mut self, now: Instant) -> HashSet<PeerId> {
        let mut silent = HashSet::new();
        for (id, peer) in &mut self.peers {
            let alive = peer.handle.last_received().max(peer.busy_since);
            if peer.outstanding > 0 && now.saturating_duration_since(alive) >= peer.patience {
                tracing::debug!(peer = %id, wants = peer.outstanding, "peer is silent");
                peer.stalled = true;
                peer.patience = (peer.patience * 2).min(MAX_PATIENCE);
                peer.busy_since = now;
                silent.insert(*id);
            }
        }
        silent
    }

    /// Ends asks that will probably not be answered; returns their wants.
    fn fail_overdue(&mut self, silent: &HashSet<PeerId>, now: Instant) -> Vec<Multihash> {
        let mut failed = Vec::new();
        for (hash, want) in &mut self.wants {
            let mut changed = false;
            for ask in &mut want.asks {
                if ask.state != AskState::Waiting {
                    continue;
                }
                let (overdue, state) = match ask.kind {
                    WantKind::Have => {
                        let age = now.saturating_duration_since(ask.since);
                        (age >= HAVE_TIMEOUT, AskState::Late)
                    }
                    WantKind::Block => {
                        let peer = self.peers.get(&ask.peer);
                        let lost = peer.is_none_or(|peer| peer.answered > ask.lost_after);
                        (lost || silent.contains(&ask.peer), AskState::Failed)
                    }
                };
                if overdue {
                    ask.settle(&mut self.peers, state, false);
                    changed = true;
                }
            }
            if changed {
                failed.push(*hash);
            }
        }
        failed
    }

    /// Gives idle holders what slow ones have not sent for long.
    fn hedge(&mut self, now: Instant) {
        let idle: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.outstanding == 0 && !peer.stalled)
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            let late: Vec<Multihash> = self
                .wants
                .iter()
                .filter(|(_, want)| {
                    let failed = want.ask_of(&id).map(|ask| ask.state) == Some(AskState::Failed);
                    let is_late = want.asks.iter().any(|ask| {
                        ask.is_outstanding()
                            && now.saturating_duration_since(ask.since) >= HEDGE_AFTER
                    });
                    is_late && !failed && self.is_holder(want, &id)
                })
                .map(|(hash, _)| *hash)
                .take(MAX_HEDGED)
                .collect();
            for hash in late {
                self.ask(&hash, &[id], WantKind::Block, now);
            }
        }
    }
}
