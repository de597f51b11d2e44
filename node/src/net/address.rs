//! What an address is good for: whether it can be dialed at all, and which DHT it belongs to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// One of the two DHTs, and the addresses that belong to it.
///
/// The public one (`/ipfs/kad/1.0.0`) must never carry private addresses: they mean another
/// machine to everyone who reads them. The local one (`/ipfs/lan/kad/1.0.0`) carries only those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// The public DHT.
    Wan,
    /// The DHT of this machine and its local network.
    Lan,
}

impl Scope {
    /// Both DHTs.
    pub(super) const ALL: [Self; 2] = [Self::Wan, Self::Lan];

    /// As in metrics and logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Wan => "wan",
            Self::Lan => "lan",
        }
    }

    /// [`Scope::admits`] of this scope.
    pub(super) fn filter(self) -> fn(&Multiaddr) -> bool {
        match self {
            Self::Wan => |address| Self::Wan.admits(address),
            Self::Lan => |address| Self::Lan.admits(address),
        }
    }

    /// Whether the address belongs into this DHT.
    pub(super) fn admits(self, address: &Multiaddr) -> bool {
        match host(address) {
            Some(Host::Ip(ip)) if !dialable_ip(ip) => false,
            Some(Host::Ip(ip)) => is_public(ip) == (self == Self::Wan),
            Some(Host::Name(local)) => local == (self == Self::Lan),
            None => false,
        }
    }
}

/// The host part of an address; names tell whether they are local ones.
enum Host {
    Ip(IpAddr),
    Name(bool),
}

fn host(address: &Multiaddr) -> Option<Host> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(Host::Ip(ip.into())),
        Protocol::Ip6(ip) => Some(Host::Ip(ip.into())),
        Protocol::Dns(name)
        | Protocol::Dns4(name)
        | Protocol::Dns6(name)
        | Protocol::Dnsaddr(name) => {
            let name = name.trim_end_matches('.');
            Some(Host::Name(
                name.eq_ignore_ascii_case("localhost")
                    || name.to_ascii_lowercase().ends_with(".local"),
            ))
        }
        _ => None,
    }
}

/// Whether dialing the address can lead to a peer: not the wildcard, a multicast or reserved
/// address, or port 0. Names are judged once they are resolved.
pub(super) fn is_dialable(address: &Multiaddr) -> bool {
    address.iter().all(|part| match part {
        Protocol::Ip4(ip) => dialable_ip(ip.into()),
        Protocol::Ip6(ip) => dialable_ip(ip.into()),
        Protocol::Tcp(port) | Protocol::Udp(port) => port != 0,
        _ => true,
    })
}

fn dialable_ip(ip: IpAddr) -> bool {
    match unmapped(ip) {
        IpAddr::V4(ip) => ip.octets()[0] != 0 && ip.octets()[0] < 224,
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

/// Whether the address is one of this machine only.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    match host(address) {
        Some(Host::Ip(ip)) => unmapped(ip).is_loopback(),
        Some(Host::Name(_)) | None => false,
    }
}

/// Whether a peer can be asked to dial the address, to see if that works.
pub(super) fn is_testable(address: &Multiaddr) -> bool {
    Scope::Wan.admits(address) && !is_relayed(address)
}

/// Whether the address leads through a relay.
pub(super) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

fn unmapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// Globally routable unicast, as the IANA special-purpose registries have it.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match unmapped(ip) {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    let protocol = (a, b, c) == (192, 0, 0);
    dialable_ip(ip.into())
        && !ip.is_private()
        && !ip.is_loopback()
        && !ip.is_link_local()
        && !ip.is_documentation()
        && !shared
        && !benchmark
        && !protocol
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, .., y, z] = ip.segments();
    let documentation = (a, b) == (0x2001, 0xdb8);
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        // NAT64 and 6to4 addresses stand for IPv4 ones.
        (0x64, 0xff9b) => is_public_v4(v4(y, z)),
        (0x2002, _) => is_public_v4(v4(b, c)),
        // 2000::/3 is all that is given out.
        _ => (a & 0xe000) == 0x2000 && !documentation,
    }
}

/// The peer that the address ends with.
pub(super) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// The address without the peer it ends with.
pub(super) fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if peer_of(&address).is_some() {
        address.pop();
    }
    address
}

/// The address with the peer at its end.
pub(super) fn with_peer(address: Multiaddr, peer: PeerId) -> Multiaddr {
    match address.with_p2p(peer) {
        Ok(address) | Err(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_belongs_to_one_dht_at_most() {
        for (text, wan, lan) in [
            ("/ip4/1.1.1.1/tcp/4001", true, false),
            ("/ip4/127.0.0.1/tcp/4001", false, true),
            ("/ip4/192.168.1.2/udp/4001/quic-v1", false, true),
            ("/ip4/100.64.0.1/tcp/1", false, true),
            ("/ip4/169.254.3.3/tcp/1", false, true),
            ("/ip6/::1/tcp/4001", false, true),
            ("/ip6/fe80::1/tcp/4001", false, true),
            ("/ip6/fd00::1/tcp/4001", false, true),
            ("/ip6/2606:4700::1111/tcp/4001", true, false),
            ("/ip6/::ffff:10.0.0.1/tcp/4001", false, true),
            ("/ip6/2001:db8::1/tcp/4001", false, true),
            ("/dns4/example.com/tcp/4001", true, false),
            ("/dns4/localhost/tcp/4001", false, true),
            ("/ip4/0.0.0.0/tcp/4001", false, false),
            ("/ip4/224.0.0.251/udp/5353", false, false),
            ("/ip6/ff02::1/tcp/1", false, false),
            ("/memory/1", false, false),
        ] {
            let parsed = address(text);
            assert_eq!(Scope::Wan.admits(&parsed), wan, "{text}");
            assert_eq!(Scope::Lan.admits(&parsed), lan, "{text}");
        }
    }

    #[test]
    fn wildcards_multicast_and_port_zero_are_not_dialed() {
        for text in [
            "/ip4/0.0.0.0/tcp/1",
            "/ip6/::/tcp/1",
            "/ip4/127.0.0.1/tcp/0",
            "/ip4/239.1.1.1/tcp/1",
            "/ip4/255.255.255.255/tcp/1",
        ] {
            assert!(!is_dialable(&address(text)), "{text}");
        }
        assert!(is_dialable(&address("/ip4/127.0.0.1/tcp/1")));
        assert!(is_dialable(&address("/dns4/example.com/tcp/443/wss")));
    }
}
