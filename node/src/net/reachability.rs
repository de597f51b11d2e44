//! Whether others can reach this node, and under which addresses.

use std::collections::{BTreeSet, HashSet};

use libp2p::{Multiaddr, PeerId};

use super::address::{self, Scope};

/// Failed tests by different peers after which this node counts as unreachable.
const FAILURES: usize = 3;

/// Whether others can reach this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// Not known yet, or nobody to ask.
    Unknown,
    /// A peer confirmed these addresses (AutoNAT v2), or the router forwards them (UPnP).
    Public(Vec<Multiaddr>),
    /// Only on this machine or its local network.
    Private,
    /// Only over a relay.
    Relayed(Vec<Multiaddr>),
}

/// What has been found out.
#[derive(Debug, Default)]
pub(super) struct Findings {
    listening: BTreeSet<Multiaddr>,
    confirmed: BTreeSet<Multiaddr>,
    failed_with: HashSet<PeerId>,
}

impl Findings {
    pub(super) fn listening(&mut self, address: Multiaddr) {
        self.listening.insert(address);
    }

    pub(super) fn not_listening(&mut self, address: &Multiaddr) {
        self.listening.remove(address);
    }

    /// A peer has dialed the address, or the router forwards it.
    pub(super) fn confirmed(&mut self, address: Multiaddr) {
        if Scope::Wan.admits(&address) {
            self.failed_with.clear();
            self.confirmed.insert(address);
        }
    }

    pub(super) fn expired(&mut self, address: &Multiaddr) {
        self.confirmed.remove(address);
    }

    /// A peer could not dial the address.
    pub(super) fn failed(&mut self, address: &Multiaddr, server: PeerId) {
        if Scope::Wan.admits(address) && self.failed_with.len() < FAILURES {
            self.failed_with.insert(server);
        }
    }

    /// Whether a relay is needed for others to reach this node.
    pub(super) fn is_unreachable(&self) -> bool {
        self.confirmed.is_empty() && self.failed_with.len() >= FAILURES
    }

    /// The verdict.
    pub(super) fn verdict(&self) -> Reachability {
        let relayed = || self.listening.iter().filter(|a| address::is_relayed(a));
        if !self.confirmed.is_empty() {
            Reachability::Public(self.confirmed.iter().cloned().collect())
        } else if relayed().next().is_some() {
            Reachability::Relayed(relayed().cloned().collect())
        } else if self.is_unreachable() || self.listening.iter().all(address::is_loopback) {
            Reachability::Private
        } else {
            Reachability::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_on_loopback_only_is_private() {
        let mut findings = Findings::default();
        findings.listening(address("/ip4/127.0.0.1/tcp/4001"));
        assert_eq!(findings.verdict(), Reachability::Private);
    }

    #[test]
    fn three_peers_that_fail_make_a_node_private_and_one_that_succeeds_public() {
        let mut findings = Findings::default();
        findings.listening(address("/ip4/192.168.1.2/tcp/4001"));
        let public = address("/ip4/1.2.3.4/tcp/4001");
        let first = PeerId::random();
        findings.failed(&public, first);
        findings.failed(&public, first);
        findings.failed(&public, PeerId::random());
        assert_eq!(findings.verdict(), Reachability::Unknown);
        findings.failed(&public, PeerId::random());
        assert_eq!(findings.verdict(), Reachability::Private);
        findings.confirmed(public.clone());
        assert_eq!(findings.verdict(), Reachability::Public(vec![public]));
    }

    #[test]
    fn a_private_address_is_never_proof_of_being_public() {
        let mut findings = Findings::default();
        findings.listening(address("/ip4/192.168.1.2/tcp/4001"));
        findings.confirmed(address("/ip4/192.168.1.2/tcp/4001"));
        assert_eq!(findings.verdict(), Reachability::Unknown);
    }
}
