//! Rarest first: of the releases that come next, those that fewer of the connected peers have, and last those
//! that none of them has.
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

/// Releases in the order in which they are fetched.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    /// First those that the fewest peers have; else in their order.
    pub(super) first: Vec<Arc<Wanted>>,
    /// Those that nobody is known to have, where others are known: gateways may have them.
    pub(super) last: Vec<Arc<Wanted>>,
}

/// The same releases in order.
pub(super) async fn first(
    network: Option<&Network>,
    shop: &Name,
    releases: &[Arc<Wanted>],
) -> Ordered {
    let holders = match network {
        Some(network) if releases.len() > 1 => holders(network, shop, releases).await,
        _ => HashMap::new(),
    };
    by_holders(releases, &holders)
}

fn by_holders(releases: &[Arc<Wanted>], holders: &HashMap<Cid, usize>) -> Ordered {
    let of = |release: &Arc<Wanted>| holders.get(&release.root).copied().unwrap_or(0);
    let (mut first, last): (Vec<_>, Vec<_>) = releases
        .iter()
        .cloned()
        .partition(|release| of(release) > 0);
    if first.is_empty() {
        first = last;
        return Ordered {
            first,
            ..Ordered::default()
        };
    }
    first.sort_by_key(of);
    Ordered { first, last }
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::block::{RAW, cid_of};

    #[test]
    fn the_rarest_are_first_and_those_that_nobody_has_last() {
        let release = |version: &&str| {
            Arc::new(Wanted {
                product: "album".parse().unwrap(),
                version: version.parse().unwrap(),
                root: cid_of(RAW, version.as_bytes()),
                size: 1,
                issued: Timestamp::UNIX_EPOCH,
                rank: 0,
            })
        };
        let releases: Vec<_> = ["0", "2", "1"].iter().map(release).collect();
        let versions = |releases: &[Arc<Wanted>]| -> Vec<String> {
            let versions = releases.iter().map(|release| release.version.to_string());
            versions.collect()
        };
        let holders = [("2", 2), ("1", 1)];
        let holders = holders.map(|(version, count)| (cid_of(RAW, version.as_bytes()), count));
        let ordered = by_holders(&releases, &holders.into());
        assert_eq!(versions(&ordered.first), ["1", "2"]);
        assert_eq!(versions(&ordered.last), ["0"]);
        // Where no peer is known to have any, a gateway may.
        let ordered = by_holders(&releases, &HashMap::new());
        assert_eq!(versions(&ordered.first), ["0", "2", "1"]);
        assert!(ordered.last.is_empty());
    }
}
