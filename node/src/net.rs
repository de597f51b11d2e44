//! The network: libp2p swarm, bitswap, DHT, IPNS. The only files that name libp2p's network types.
//!
//! [`Network`] is a cheap handle; one task owns the swarm and takes commands over a bounded channel.

pub mod bitswap;
pub mod yamux;

use std::time::Duration;

use cid::Cid;
use duka_config::NetworkConfig;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio_util::sync::CancellationToken;

use crate::ipns::Record;
use crate::keys::Name;
use crate::manifest::Manifest;
use crate::store::Store;

/// Handle to the network. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Network {}

/// Why a network operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// `--offline`, or the node is shutting down.
    #[error("the network is off")]
    Off,
    /// An address to listen on could not be had.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
    /// Not a multiaddr, or one this node cannot dial.
    #[error("{address:?} is not a peer address: {reason}")]
    Address {
        /// What was given.
        address: String,
        /// Why.
        reason: String,
    },
    /// The peer could not be reached.
    #[error("cannot connect to {address}: {reason}")]
    Dial {
        /// The address.
        address: Multiaddr,
        /// Why.
        reason: String,
    },
    /// Nobody answered in time.
    #[error("the DHT gave no answer within {}s", after.as_secs())]
    TimedOut {
        /// How long it took.
        after: Duration,
    },
    /// No peer of the DHT could store the record.
    #[error("no peer of the DHT took the record: {reason}")]
    NotStored {
        /// Why.
        reason: String,
    },
}

/// A connected peer.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// Over which address.
    pub address: Multiaddr,
    /// What it calls itself (identify).
    pub agent: Option<String>,
    /// Last ping.
    pub round_trip: Option<Duration>,
}

/// Whether others can reach this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// Not known yet, or nobody to ask.
    Unknown,
    /// A peer confirmed these addresses (AutoNAT v2).
    Public(Vec<Multiaddr>),
    /// Only on this machine or its local network.
    Private,
    /// Only over a relay.
    Relayed(Vec<Multiaddr>),
}

impl Network {
    /// Starts the swarm and listens. Returns the handle and the future that runs the swarm until
    /// `stop` is cancelled; the caller spawns it.
    pub async fn start(
        _config: &NetworkConfig,
        _peer_key: Keypair,
        _store: Store,
        _manifest: Manifest,
        _stop: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), NetError> {
        Ok((todo!(), async {}))
    }

    /// This node.
    pub fn peer_id(&self) -> PeerId {
        todo!()
    }

    /// Addresses peers can dial, each with `/p2p/<peer id>`: listeners and confirmed external ones.
    pub async fn addresses(&self) -> Result<Vec<Multiaddr>, NetError> {
        todo!()
    }

    /// Whether others can reach this node.
    pub async fn reachability(&self) -> Result<Reachability, NetError> {
        todo!()
    }

    /// Connects to a peer and remembers its address.
    pub async fn connect(&self, _address: Multiaddr) -> Result<PeerId, NetError> {
        todo!()
    }

    /// Connected peers.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, NetError> {
        todo!()
    }

    /// Bitswap.
    pub fn bitswap(&self) -> &bitswap::Bitswap {
        todo!()
    }

    /// Peers that the DHT says have the block; up to `limit`, connected to before they are returned.
    pub async fn find_providers(&self, _cid: &Cid, _limit: usize) -> Result<Vec<PeerId>, NetError> {
        todo!()
    }

    /// Tells the DHT that this node has the block. Returns when at least one peer has the record.
    pub async fn provide(&self, _cid: &Cid) -> Result<(), NetError> {
        todo!()
    }

    /// Puts a signed record into the DHT.
    pub async fn put_record(&self, _name: &Name, _record: &Record) -> Result<(), NetError> {
        todo!()
    }

    /// The best valid record that the DHT has: highest sequence, then latest validity.
    pub async fn get_record(&self, _name: &Name) -> Result<Option<Record>, NetError> {
        todo!()
    }
}
