//! Whether others can reach this node, and under which addresses.

use std::collections::BTreeSet;

use libp2p::Multiaddr;
use tokio::sync::watch;

use super::address::{self, Scope};

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

/// What has been found out, and everyone who wants to know it.
#[derive(Debug)]
pub(super) struct Findings {
    listening: BTreeSet<Multiaddr>,
    confirmed: BTreeSet<Multiaddr>,
    failed: bool,
    verdict: watch::Sender<Reachability>,
}

impl Findings {
    pub(super) fn new(verdict: watch::Sender<Reachability>) -> Self {
        Self {
            listening: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            failed: false,
            verdict,
        }
    }

    pub(super) fn listening(&mut self, address: Multiaddr) {
        self.listening.insert(address);
        self.judge();
    }

    pub(super) fn not_listening(&mut self, address: &Multiaddr) {
        self.listening.remove(address);
        self.judge();
    }

    /// A peer has dialed the address, or the router forwards it.
    pub(super) fn confirmed(&mut self, address: Multiaddr) {
        if Scope::Wan.admits(&address) {
            self.confirmed.insert(address);
            self.judge();
        }
    }

    pub(super) fn expired(&mut self, address: &Multiaddr) {
        self.confirmed.remove(address);
        self.judge();
    }

    /// A peer could not dial the address. One is enough: each address is tested once, by one peer,
    /// and a peer that lies only makes this node look for a relay that it does not need.
    pub(super) fn failed(&mut self, address: &Multiaddr) {
        if Scope::Wan.admits(address) {
            self.failed = true;
            self.judge();
        }
    }

    /// Whether a relay is needed for others to reach this node.
    pub(super) fn is_unreachable(&self) -> bool {
        self.confirmed.is_empty() && self.failed
    }

    fn judge(&self) {
        let relayed = || self.listening.iter().filter(|a| address::is_relayed(a));
        let verdict = if !self.confirmed.is_empty() {
            Reachability::Public(self.confirmed.iter().cloned().collect())
        } else if relayed().next().is_some() {
            Reachability::Relayed(relayed().cloned().collect())
        } else if self.is_unreachable() || self.listening.iter().all(address::is_loopback) {
            Reachability::Private
        } else {
            Reachability::Unknown
        };
        self.verdict.send_if_modified(|known| {
            let changed = *known != verdict;
            *known = verdict;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> (Findings, watch::Receiver<Reachability>) {
        let (verdict, seen) = watch::channel(Reachability::Unknown);
        (Findings::new(verdict), seen)
    }

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_on_loopback_only_is_private() {
        let (mut findings, seen) = findings();
        findings.listening(address("/ip4/127.0.0.1/tcp/4001"));
        assert_eq!(*seen.borrow(), Reachability::Private);
    }

    #[test]
    fn a_test_that_fails_makes_a_node_private_and_one_that_succeeds_public() {
        let (mut findings, seen) = findings();
        findings.listening(address("/ip4/192.168.1.2/tcp/4001"));
        assert_eq!(*seen.borrow(), Reachability::Unknown);
        findings.failed(&address("/ip4/1.2.3.4/udp/4001/quic-v1"));
        assert_eq!(*seen.borrow(), Reachability::Private);
        let public = address("/ip4/1.2.3.4/tcp/4001");
        findings.confirmed(public.clone());
        assert_eq!(*seen.borrow(), Reachability::Public(vec![public]));
    }

    #[test]
    fn a_private_address_is_never_proof_of_being_public_nor_of_the_contrary() {
        let (mut findings, seen) = findings();
        findings.listening(address("/ip4/192.168.1.2/tcp/4001"));
        findings.confirmed(address("/ip4/192.168.1.2/tcp/4001"));
        findings.failed(&address("/ip4/192.168.1.2/tcp/4001"));
        assert_eq!(*seen.borrow(), Reachability::Unknown);
    }

    #[test]
    fn only_a_change_wakes_those_who_wait() {
        let (mut findings, mut seen) = findings();
        findings.listening(address("/ip4/192.168.1.2/tcp/4001"));
        assert!(!seen.has_changed().unwrap());
        findings.failed(&address("/ip4/1.2.3.4/tcp/4001"));
        assert!(seen.has_changed().unwrap());
        seen.mark_unchanged();
        findings.failed(&address("/ip4/1.2.3.4/udp/4001/quic-v1"));
        assert!(!seen.has_changed().unwrap());
    }
}
