//! Who this node is, and whom it knows.

use duka_node::net::{NetError, Network};
use duka_node::node::Node;

use crate::control::event::{Item, Outcome};
use crate::control::failure::Failure;
use crate::control::sink::EventSink;

pub(super) async fn id(node: &Node) -> Result<Outcome, Failure> {
    let addresses = match node.network() {
        Some(network) => network.addresses().await?,
        None => Vec::new(),
    };
    Ok(Outcome::Id {
        peer_id: node.keys().peer.public().to_peer_id().to_string(),
        name: node.shop_name().to_string(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
    })
}

pub(super) async fn peers(node: &Node, sink: &EventSink) -> Result<Outcome, Failure> {
    let peers = network(node)?.peers().await?;
    let count = peers.len() as u64;
    for peer in peers {
        sink.item(Item::Peer {
            peer_id: peer.peer.to_string(),
            address: peer.address.to_string(),
            agent: peer.agent,
            round_trip_seconds: peer.round_trip.map(|time| time.as_secs_f64()),
        })
        .await;
    }
    Ok(Outcome::List { count })
}

pub(super) async fn connect(node: &Node, address: &str) -> Result<Outcome, Failure> {
    let parsed = address.parse().map_err(|error| NetError::Address {
        address: address.to_owned(),
        reason: format!("{error}"),
    })?;
    let peer = network(node)?.connect(parsed).await?;
    Ok(Outcome::SwarmConnect {
        peer_id: peer.to_string(),
    })
}

fn network(node: &Node) -> Result<&Network, NetError> {
    node.network().ok_or(NetError::Off)
}
