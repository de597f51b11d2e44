//! The protocols this node speaks, as one behaviour, built from the configuration.

use std::num::NonZeroUsize;
use std::time::Duration;

use duka_config::{DhtMode, LimitsConfig, NetworkConfig};
use libp2p::connection_limits::ConnectionLimits;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, autonat, connection_limits, dcutr, identify, kad, mdns,
    memory_connection_limits, ping, relay, upnp,
};

use super::address::{Scope, is_testable};
use super::bitswap;
use super::census::{self, Census};
use super::gossip::fetch::{self, Fetch};
use super::gossip::{self, Gossip};
use super::records::Records;
use super::scoped::Scoped;
use crate::served::Served;

/// Longest a DHT query may take.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Peers that get each record: the K of the IPFS DHTs.
const REPLICATION: NonZeroUsize = NonZeroUsize::new(20).expect("20 is not 0");
/// Kademlia messages are small: at most 20 peers with their addresses, or one record of 10 KiB.
const KAD_MESSAGE_LIMIT: usize = 64 * 1024;
/// Addresses of peers that identify keeps for dialing them again.
const KNOWN_PEERS: usize = 1024;

/// One DHT.
pub(super) type Dht = Scoped<kad::Behaviour<Records>>;

/// All protocols. Limits come first: they refuse a connection before anything else sees it.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) memory: memory_connection_limits::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) identify: identify::Behaviour,
    pub(super) wan: Toggle<Dht>,
    pub(super) lan: Toggle<Dht>,
    pub(super) bitswap: bitswap::Behaviour,
    pub(super) gossip: Toggle<Gossip>,
    pub(super) record_fetch: Toggle<Fetch>,
    pub(super) census: Census,
    pub(super) relay: relay::client::Behaviour,
    pub(super) hole_punching: Toggle<dcutr::Behaviour>,
    pub(super) reachability: Scoped<autonat::v2::client::Behaviour>,
    pub(super) dial_back: autonat::v2::server::Behaviour,
    pub(super) upnp: Toggle<upnp::tokio::Behaviour>,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
}

/// Builds all protocols.
///
/// # Errors
/// When mDNS is on and cannot have its sockets.
pub(super) fn build(
    config: &NetworkConfig,
    key: &Keypair,
    relay: relay::client::Behaviour,
    bitswap: bitswap::Behaviour,
    served: Served,
    wan: Records,
    lan: Records,
) -> std::io::Result<Behaviour> {
    let peer = key.public().to_peer_id();
    let agent = format!("duka/{}", env!("CARGO_PKG_VERSION"));
    let identify = identify::Config::new("ipfs/0.1.0".into(), key.public())
        .with_agent_version(agent)
        .with_cache_size(KNOWN_PEERS)
        .with_push_listen_addr_updates(true);
    let mdns = config
        .mdns
        .then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), peer))
        .transpose()?;
    let memory = usize::try_from(config.limits.memory.as_u64()).unwrap_or(usize::MAX);
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(connection_limits(&config.limits)),
        memory: memory_connection_limits::Behaviour::with_max_bytes(memory),
        ping: ping::Behaviour::new(ping::Config::new()),
        identify: identify::Behaviour::new(identify),
        wan: dht(config, Scope::Wan, peer, wan).into(),
        lan: dht(config, Scope::Lan, peer, lan).into(),
        bitswap,
        gossip: config.gossip.then(|| gossip::build(key)).into(),
        record_fetch: config.gossip.then(fetch::build).into(),
        census: census::build(served),
        relay,
        hole_punching: config.relay.then(|| dcutr::Behaviour::new(peer)).into(),
        reachability: Scoped::new(is_testable, autonat::v2::client::Behaviour::default()),
        dial_back: autonat::v2::server::Behaviour::default(),
        upnp: config.upnp.then(upnp::tokio::Behaviour::default).into(),
        mdns: mdns.into(),
    })
}

/// A quarter of the connections is kept for those that this node opens: peers that dial in must
/// not be able to cut it off from the DHT and from providers.
fn connection_limits(config: &LimitsConfig) -> ConnectionLimits {
    let total = config.connections.max(2);
    ConnectionLimits::default()
        .with_max_established(Some(total))
        .with_max_established_incoming(Some(total - total.div_ceil(4)))
        .with_max_established_per_peer(Some(config.connections_per_peer.max(1)))
        .with_max_pending_incoming(Some(total.div_ceil(2)))
        .with_max_pending_outgoing(Some(total.div_ceil(2)))
}

/// One of the two DHTs. Its own timers are all off: re-announcing is `provide.rs` and
/// `republish.rs`, refreshing is the event loop's.
fn dht(config: &NetworkConfig, scope: Scope, peer: PeerId, records: Records) -> Option<Dht> {
    let lifetime = Some(config.record_lifetime);
    let (protocol, mode) = match (scope, config.dht) {
        (_, DhtMode::Off) => return None,
        (Scope::Wan, mode) => ("/ipfs/kad/1.0.0", kad_mode(mode, None)),
        // Whoever is on the local network can reach this node, so it always answers there.
        (Scope::Lan, mode) => (
            "/ipfs/lan/kad/1.0.0",
            kad_mode(mode, Some(kad::Mode::Server)),
        ),
    };
    let mut config = kad::Config::new(StreamProtocol::new(protocol));
    config
        .set_query_timeout(QUERY_TIMEOUT)
        .set_replication_factor(REPLICATION)
        .set_record_ttl(lifetime)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_record_ttl(lifetime)
        .set_provider_publication_interval(None)
        .set_periodic_bootstrap_interval(None)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_caching(kad::Caching::Disabled)
        .set_max_packet_size(KAD_MESSAGE_LIMIT);
    let mut dht = kad::Behaviour::with_config(peer, records, config);
    dht.set_mode(mode);
    Some(Scoped::new(scope.filter(), dht))
}

/// `None` lets Kademlia switch: server while this node has a confirmed address of the scope.
fn kad_mode(mode: DhtMode, auto: Option<kad::Mode>) -> Option<kad::Mode> {
    match mode {
        DhtMode::Server => Some(kad::Mode::Server),
        DhtMode::Client => Some(kad::Mode::Client),
        DhtMode::Auto | DhtMode::Off => auto,
    }
}
