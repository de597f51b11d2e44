//! Closes connections that nobody uses before there are so many that new ones are refused.

use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use super::EventLoop;
use crate::net::address::Scope;

/// Pause between two rounds.
const PAUSE: Duration = Duration::from_secs(5);
/// A peer is not disconnected before this: identify, a DHT query or a first want may be under way.
const GRACE: Duration = Duration::from_secs(20);

/// When to close connections, and how many stay.
#[derive(Debug)]
pub(super) struct Trimming {
    /// As many connections start a round.
    most: u32,
    /// It ends with as many.
    enough: u32,
    next: Instant,
}

impl Trimming {
    /// For at most `limit` connections.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            most: limit - limit / 4,
            enough: limit / 2,
            next: Instant::now(),
        }
    }

    /// When the next round may be.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Whether there are enough connections for a round.
    pub(super) fn is_due(&self, connections: u32) -> bool {
        connections >= self.most
    }
}

/// What speaks for and against a peer.
#[derive(Clone, Debug)]
struct Candidate {
    peer: PeerId,
    connections: u32,
    /// Blocks are under way, or it relays for this node.
    is_busy: bool,
    /// In a routing table, or in a topic with this node.
    is_neighbour: bool,
    /// When it connected.
    since: Instant,
    /// When it was last of use.
    used: Instant,
}

impl EventLoop {
    /// Disconnects peers that are of no use now, down to half of the limit.
    pub(super) fn trim(&mut self) {
        let now = Instant::now();
        self.trimming.next = now + PAUSE;
        let excess = self.connections().saturating_sub(self.trimming.enough);
        let peers: Vec<_> = self
            .peers
            .iter()
            .map(|(id, peer)| (*id, peer.since))
            .collect();
        let candidates = peers
            .into_iter()
            .map(|(peer, since)| self.candidate(peer, since))
            .collect();
        for peer in least_useful(candidates, excess, now) {
            tracing::debug!(%peer, "disconnected: too many connections");
            // Fails when it has just gone.
            self.swarm.disconnect_peer_id(peer).ok();
        }
    }

    fn candidate(&mut self, peer: PeerId, since: Instant) -> Candidate {
        let is_neighbour = Scope::ALL.into_iter().any(|scope| {
            let bucket = self.dht(scope).and_then(|dht| dht.kbucket(peer));
            bucket.is_some_and(|bucket| bucket.iter().any(|e| *e.node.key.preimage() == peer))
        }) || self.is_in_topic(&peer);
        let bitswap = &self.swarm.behaviour().bitswap;
        let used = bitswap.last_received(&peer).map(Instant::from_std);
        Candidate {
            peer,
            connections: self.peers.get(&peer).map_or(0, |p| {
                u32::try_from(p.connections.len()).unwrap_or(u32::MAX)
            }),
            is_busy: bitswap.is_busy(&peer) || self.relays.values().any(|relay| *relay == peer),
            is_neighbour,
            since,
            used: used.unwrap_or(since),
        }
    }
}

/// The peers to disconnect so that `excess` connections close, or as many as may be: neighbours in
/// the DHT last, and those first that were unused for longest.
fn least_useful(mut peers: Vec<Candidate>, excess: u32, now: Instant) -> Vec<PeerId> {
    peers.retain(|peer| !peer.is_busy && now.duration_since(peer.since) >= GRACE);
    peers.sort_by_key(|peer| (peer.is_neighbour, peer.used));
    let mut closed = 0;
    let mut chosen = Vec::new();
    for peer in peers {
        if closed >= excess {
            break;
        }
        closed += peer.connections;
        chosen.push(peer.peer);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that connected `since` seconds ago and was last used `used` seconds ago.
    fn peer(now: Instant, since: u64, used: u64) -> Candidate {
        Candidate {
            peer: PeerId::random(),
            connections: 1,
            is_busy: false,
            is_neighbour: false,
            since: now - Duration::from_secs(since),
            used: now - Duration::from_secs(used),
        }
    }

    #[test]
    fn unused_peers_go_first_then_neighbours_and_never_busy_or_new_ones() {
        let now = Instant::now() + Duration::from_secs(1000);
        let idle = peer(now, 300, 300);
        let recent = peer(now, 300, 10);
        let new = peer(now, 19, 19);
        let neighbour = Candidate {
            is_neighbour: true,
            ..peer(now, 900, 900)
        };
        let busy = Candidate {
            is_busy: true,
            ..peer(now, 900, 900)
        };
        let all = vec![neighbour.clone(), recent.clone(), busy, new, idle.clone()];
        assert_eq!(least_useful(all.clone(), 0, now), []);
        assert_eq!(least_useful(all.clone(), 1, now), [idle.peer]);
        let order = [idle.peer, recent.peer, neighbour.peer];
        assert_eq!(least_useful(all, 9, now), order);
    }

    #[test]
    fn each_connection_of_a_peer_counts() {
        let now = Instant::now() + Duration::from_secs(1000);
        let twice = Candidate {
            connections: 2,
            ..peer(now, 300, 300)
        };
        let other = peer(now, 300, 100);
        assert_eq!(
            least_useful(vec![other, twice.clone()], 2, now),
            [twice.peer]
        );
    }

    #[test]
    fn a_round_is_due_at_three_quarters_of_the_limit() {
        let trimming = Trimming::new(100);
        assert!(!trimming.is_due(74));
        assert!(trimming.is_due(75));
    }
}
