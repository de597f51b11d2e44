//! Rarest first: of the releases that come next, those that fewer of the connected peers have.
//!
//! Peers are asked by WANT-HAVE for the root of a release: a claim, which costs nobody a block. So many
//! releases are asked about at a time, while the ones before them are fetched.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use futures::stream::{FuturesUnordered, StreamExt};
use libp2p::PeerId;

use super::plan::Wanted;
use crate::keys::Name;
use crate::net::Network;

/// Releases that are put in order together; before all others come those that are newer.
pub(super) const TOGETHER: usize = 64;
/// Peers that are asked.
const MAX_PEERS: usize = 16;
/// Who says nothing for this long is not counted.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same releases, first those that the fewest peers have; else in their order.
pub(super) async fn first(
    network: Option<&Network>,
    shop: &Name,
    releases: &[Arc<Wanted>],
) -> Vec<Arc<Wanted>> {
    let mut ordered = releases.to_vec();
    if let Some(network) = network
        && releases.len() > 1
    {
        let holders = holders(network, shop, releases).await;
        ordered.sort_by_key(|release| holders.get(&release.root).copied().unwrap_or(0));
    }
    ordered
}

/// Those that follow the shop, then others that are connected.
async fn peers(network: &Network, shop: &Name) -> Vec<PeerId> {
    let mut peers = network.subscribers(shop).await.unwrap_or_default();
    for peer in network.bitswap().connected(MAX_PEERS) {
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    peers.truncate(MAX_PEERS);
    peers
}

/// How many peers say that they have each release.
async fn holders(network: &Network, shop: &Name, releases: &[Arc<Wanted>]) -> HashMap<Cid, usize> {
    let bitswap = network.bitswap();
    let mut asked = FuturesUnordered::new();
    for peer in peers(network, shop).await {
        for release in releases {
            let root = release.root;
            asked.push(async move { (root, bitswap.has(peer, root).await) });
        }
    }
    let mut holders = HashMap::new();
    let counting = async {
        while let Some((root, has)) = asked.next().await {
            if has == Some(true) {
                *holders.entry(root).or_default() += 1;
            }
        }
    };
    // What was counted until then counts.
    tokio::time::timeout(PATIENCE, counting).await.ok();
    drop(asked);
    holders
}
