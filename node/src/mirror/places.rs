//! Where a shop can be had: gateways that the operator and the head name, and peers.

use std::net::IpAddr;

use cid::Cid;
use libp2p::PeerId;
use url::{Host, Url};

use crate::fetch::FetchOptions;
use crate::keys::Name;
use crate::net::is_public_ip;
use crate::node::Node;
use crate::shop::json::{self, MAX_SHOP_LEN, ShopJson};
use crate::shop::read::read_small;
use crate::source::delegated;
use crate::source::trustless::gateway_url;

/// Gateways of one shop that are asked.
const MAX_GATEWAYS: usize = 16;
/// Mirrors of one head that are dialed.
const MAX_MIRRORS: usize = 16;

/// Those that are URLs of gateways.
pub(super) fn urls(gateways: &[String]) -> Vec<Url> {
    let urls = gateways.iter().filter_map(|url| gateway_url(url));
    urls.take(MAX_GATEWAYS).collect()
}

/// The operator's gateways, then those of the head. A head that strangers signed leads into a local
/// network only if the operator named a gateway there, too.
pub(super) fn gateways(given: &[String], head: Option<&ShopJson>) -> Vec<Url> {
    let mut all = urls(given);
    let may_be_local = all.iter().any(is_local);
    for url in head.into_iter().flat_map(|head| urls(&head.gateways)) {
        let is_new = all.len() < MAX_GATEWAYS && !all.contains(&url);
        if is_new && (may_be_local || !is_local(&url)) {
            all.push(url);
        }
    }
    all
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => !is_public_ip(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => !is_public_ip(IpAddr::V6(ip)),
        Some(Host::Domain(name)) => !name.contains('.') || name.ends_with("localhost"),
        None => true,
    }
}

/// How blocks of the shop are fetched: to be kept, from the gateways and from peers that follow the names.
pub(super) async fn options(node: &Node, gateways: &[Url], names: &[&Name]) -> FetchOptions {
    FetchOptions {
        gateways: gateways.to_vec(),
        providers: peers(node, names).await,
        ..FetchOptions::kept()
    }
}

/// Connected peers that follow the names.
async fn peers(node: &Node, names: &[&Name]) -> Vec<PeerId> {
    let mut peers = Vec::new();
    let Some(network) = node.network() else {
        return peers;
    };
    for name in names {
        peers.extend(network.subscribers(name).await.unwrap_or_default());
    }
    peers.sort();
    peers.dedup();
    peers
}

/// The head at `root`, if it is here.
pub(super) async fn head_of(node: &Node, root: Cid) -> Option<ShopJson> {
    let here = node.fetcher(FetchOptions::offline());
    let links = super::root_links(&here, root).await.ok()?;
    let file = links.iter().find(|link| link.name == b"shop.json")?;
    let bytes = read_small(&here, file.cid, MAX_SHOP_LEN).await.ok()?;
    json::parse_shop(&bytes).ok()
}

/// Connects to the mirrors that the head names.
pub(super) async fn connect(node: &Node, head: &ShopJson) {
    let Some(network) = node.network() else {
        return;
    };
    let addresses = head.mirrors.iter().filter_map(|text| text.parse().ok());
    let dials = addresses.take(MAX_MIRRORS).map(|address| async move {
        if let Err(error) = network.connect(address).await {
            tracing::debug!(%error, "a mirror that the head names is not reached");
        }
    });
    futures::future::join_all(dials).await;
}

/// Connects to peers that the gateways say have the head.
pub(super) async fn connect_gateways(node: &Node, gateways: &[Url], root: Cid) {
    let Some(network) = node.network() else {
        return;
    };
    let asked = gateways
        .iter()
        .map(|gateway| delegated::providers(gateway, &root));
    let found = futures::future::join_all(asked).await;
    let dials = found.into_iter().flatten().take(MAX_MIRRORS);
    let dials = dials.map(|address| async move {
        if let Err(error) = network.connect(address).await {
            tracing::debug!(%error, "a peer that a gateway names is not reached");
        }
    });
    futures::future::join_all(dials).await;
}
