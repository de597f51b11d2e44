//! Where a shop can be had: gateways that the operator and the head name, and peers.

use cid::Cid;
use libp2p::{Multiaddr, PeerId};
use url::Url;

use crate::fetch::FetchOptions;
use crate::keys::Name;
use crate::net::Network;
use crate::node::Node;
use crate::shop::json::{self, MAX_SHOP_LEN, ShopJson};
use crate::shop::read::read_small;
use crate::source::delegated;
use crate::source::guard::{is_public, is_public_address};
use crate::source::trustless::gateway_url;

/// Gateways of one shop that are asked.
pub(super) const MAX_GATEWAYS: usize = 16;
/// Mirrors of one head that are dialed.
const MAX_MIRRORS: usize = 16;

/// Gateways of one shop; none while the node is offline.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The operator's, then those of the head.
    pub(super) gateways: Vec<Url>,
    /// The operator named one in a local network. Else a head that strangers signed leads into none, nor
    /// does a gateway.
    may_be_local: bool,
}

impl Places {
    /// Those that the operator names.
    pub(super) fn given(node: &Node, gateways: &[String]) -> Self {
        match node.config().network.offline {
            true => Self::of(&[]),
            false => Self::of(gateways),
        }
    }

    /// Those of the own shop, which its operator named.
    pub(super) fn own(node: &Node, head: Option<&ShopJson>) -> Self {
        let gateways = head.map_or(&[][..], |head| &head.gateways);
        Self {
            may_be_local: true,
            ..Self::given(node, gateways)
        }
    }

    /// And those that the head names.
    pub(super) fn and(self, node: &Node, head: Option<&ShopJson>) -> Self {
        match head {
            Some(head) if !node.config().network.offline => self.named(&head.gateways),
            _ => self,
        }
    }

    fn of(gateways: &[String]) -> Self {
        let gateways = urls(gateways);
        Self {
            may_be_local: !gateways.iter().all(is_public),
            gateways,
        }
    }

    fn named(mut self, gateways: &[String]) -> Self {
        for url in urls(gateways) {
            let is_new = self.gateways.len() < MAX_GATEWAYS && !self.gateways.contains(&url);
            if is_new && (self.may_be_local || is_public(&url)) {
                self.gateways.push(url);
            }
        }
        self
    }

    /// How blocks of the shop are fetched: to be kept, from the gateways and from peers that follow the
    /// names.
    pub(super) async fn options(&self, node: &Node, names: &[&Name]) -> FetchOptions {
        FetchOptions {
            gateways: self.gateways.clone(),
            providers: peers(node, names).await,
            ..FetchOptions::kept()
        }
    }

    /// Connects to the mirrors that the head names.
    pub(super) async fn connect_mirrors(&self, network: &Network, head: &ShopJson) {
        let addresses = head.mirrors.iter().filter_map(|text| text.parse().ok());
        self.connect(network, addresses).await;
    }

    /// Connects to peers that the gateways say have the head.
    pub(super) async fn connect_providers(&self, network: &Network, root: Cid) {
        let asked = self
            .gateways
            .iter()
            .map(|gateway| delegated::providers(gateway, &root));
        let found = futures::future::join_all(asked).await;
        self.connect(network, found.into_iter().flatten()).await;
    }

    async fn connect(&self, network: &Network, addresses: impl Iterator<Item = Multiaddr>) {
        let dials = addresses.take(MAX_MIRRORS).map(|address| async move {
            if !self.may_be_local && !is_public_address(&address).await {
                tracing::debug!(%address, "leads into a local network: it is not dialed");
                return;
            }
            if let Err(error) = network.connect(address).await {
                tracing::debug!(%error, "a peer of a mirrored shop is not reached");
            }
        });
        futures::future::join_all(dials).await;
    }
}

/// Those that are URLs of gateways.
fn urls(gateways: &[String]) -> Vec<Url> {
    let urls = gateways.iter().filter_map(|url| gateway_url(url));
    urls.take(MAX_GATEWAYS).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_leads_into_a_local_network_only_where_the_operator_named_one() {
        let named = [
            "http://192.168.1.1",
            "http://router.lan",
            "http://printer.local:631",
            "http://db.internal",
            "http://nas.home.arpa",
            "http://localhost.",
            "http://nas",
            "https://mirror.example",
        ];
        let named = named.map(str::to_owned);
        let of = |given: &str| Places::of(&[given.to_owned()]).named(&named).gateways;
        let hosts: Vec<String> = of("https://a.example").iter().map(Url::to_string).collect();
        assert_eq!(hosts, ["https://a.example/", "https://mirror.example/"]);
        assert_eq!(of("http://10.0.0.1:8080").len(), 1 + named.len());
    }
}
