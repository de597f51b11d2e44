//! Hears of names over gossip, and keeps what is newer; meets others who follow the same names.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{keep_if_newer, kept};
use crate::announce;
use crate::ipns::Record;
use crate::keys::Name;
use crate::manifest::ManifestError;
use crate::net::gossip::{Heard, rendezvous};
use crate::net::{NetError, Network};
use crate::node::Node;

/// How often others are looked for.
const MEET: Duration = Duration::from_secs(10 * 60);
/// How often this node says in the DHT that it follows a name. Others keep that for two days.
const PROVIDE: Duration = Duration::from_secs(12 * 60 * 60);
/// With so many subscribers connected nobody is looked for.
const ENOUGH: usize = 6;

/// Follows the own names until `stop`, and keeps newer records of all names that are followed.
pub(crate) async fn run(node: Node, stop: CancellationToken) {
    let Some(network) = node.network().cloned() else {
        return;
    };
    let hears = async {
        for name in node.keys().names() {
            if follow(&network, &node, &name).await.is_err() {
                return;
            }
        }
        loop {
            for heard in network.heard().take().await {
                hear(&node, heard).await;
            }
        }
    };
    let both = async { tokio::join!(hears, meet(&network, &node)) };
    stop.run_until_cancelled(both).await;
}

async fn hear(node: &Node, heard: Heard) {
    let Heard { name, record, from } = heard;
    if node.mirrors().hear(&name, &record, format!("peer {from}")) {
        return;
    }
    tracing::debug!(%name, %from, sequence = record.sequence, "heard of a name");
    if let Err(error) = keep_if_newer(node, &name, Some(record)).await {
        tracing::warn!(%name, %error, "a record that was heard is not kept");
    }
    if let Some(network) = node.network()
        && node.keys().names().contains(&name)
    {
        // A network that has stopped needs no more names.
        let _stopped = follow(network, node, &name).await;
    }
}

/// Hears of an own name, and answers others with the record that is kept.
async fn follow(network: &Network, node: &Node, name: &Name) -> Result<(), NetError> {
    let known = told(node, name).unwrap_or_else(|error| {
        tracing::warn!(%name, %error, "cannot read the record of a name");
        None
    });
    network.follow(name, known).await
}

/// What others are told of an own name. A restored shop asks them for its head.
fn told(node: &Node, name: &Name) -> Result<Option<Record>, ManifestError> {
    if announce::is_publishing(node, name)? && announce::is_restored(node)? {
        return Ok(None);
    }
    kept(node, name)
}

/// Connects to others who follow the names, again and again.
async fn meet(network: &Network, node: &Node) {
    let mut provided: Option<Instant> = None;
    loop {
        let is_due = provided.is_none_or(|at| at.elapsed() >= PROVIDE);
        let mut all = true;
        for name in &node.keys().names() {
            match meet_at(network, name, is_due).await {
                Ok(done) => all &= done,
                Err(_) => return,
            }
        }
        if is_due && all {
            provided = Some(Instant::now());
        }
        tokio::time::sleep(MEET).await;
    }
}

/// Returns whether the DHT knows that this node follows the name.
async fn meet_at(network: &Network, name: &Name, provide: bool) -> Result<bool, NetError> {
    let point = rendezvous(name);
    if network.subscribers(name).await?.len() < ENOUGH {
        // Connects to those it finds; they say themselves what they follow.
        network.find_providers(&point, ENOUGH).await?;
    }
    if !provide {
        return Ok(true);
    }
    match network.provide(&point).await {
        Err(NetError::NotStored { .. }) => Ok(false),
        provided => provided.map(|()| true),
    }
}
