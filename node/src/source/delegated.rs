//! `/routing/v1/providers`: asks a gateway for the addresses of peers that have a block (specs.ipfs.tech,
//! "delegated routing").

use std::time::Duration;

use cid::Cid;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use reqwest::Client;
use serde::Deserialize;
use url::Url;

use super::guard::Guard;
use crate::block::{IDENTITY, Multihash, RAW};

/// Time for the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer, in bytes.
const ANSWER_LIMIT: usize = 256 << 10;
/// Addresses taken of one answer.
const MAX_ADDRESSES: usize = 64;

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Providers", default)]
    providers: Option<Vec<Provider>>,
}

#[derive(Deserialize)]
struct Provider {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Addrs", default)]
    addresses: Option<Vec<String>>,
}

/// Addresses of peers that the gateway says have the block, each with its peer id. A gateway that does not
/// answer knows none.
///
/// # Cancel safety
/// Dropping the future gives up the request.
pub(crate) async fn providers(gateway: &Url, cid: &Cid) -> Vec<Multiaddr> {
    let asked = tokio::time::timeout(TIMEOUT, ask(gateway, cid)).await;
    match asked {
        Ok(Some(answer)) => addresses(answer),
        _ => {
            tracing::debug!(%gateway, "names no peers");
            Vec::new()
        }
    }
}

/// The node behind a gateway, if it says so: only it provides a block that is nowhere else, as its CID has all
/// of it and was never used.
///
/// # Cancel safety
/// Dropping the future gives up the request.
pub(crate) async fn node_of(gateway: &Url) -> Option<PeerId> {
    let nonce = Multihash::wrap(IDENTITY, &rand::random::<[u8; 16]>()).ok()?;
    let cid = Cid::new_v1(RAW, nonce);
    let answer = tokio::time::timeout(TIMEOUT, ask(gateway, &cid)).await;
    match answer.ok()??.providers?.as_slice() {
        [only] => only.id.parse().ok(),
        _ => None,
    }
}

async fn ask(gateway: &Url, cid: &Cid) -> Option<Answer> {
    let url = gateway.join(&format!("/routing/v1/providers/{cid}")).ok()?;
    let client = Client::builder()
        .user_agent(concat!("duka/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Guard::system())
        .no_proxy()
        .build()
        .ok()?;
    let request = client.get(url).header("accept", "application/json");
    let mut response = request.send().await.ok()?.error_for_status().ok()?;
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.ok()? {
        body.extend_from_slice(&part);
        if body.len() > ANSWER_LIMIT {
            return None;
        }
    }
    serde_json::from_slice(&body).ok()
}

fn addresses(answer: Answer) -> Vec<Multiaddr> {
    let providers = answer.providers.unwrap_or_default();
    let all = providers.into_iter().filter_map(|provider| {
        let peer: PeerId = provider.id.parse().ok()?;
        let addresses = provider.addresses.unwrap_or_default();
        Some((peer, addresses))
    });
    let parsed = all.flat_map(|(peer, addresses)| {
        addresses.into_iter().filter_map(move |text| {
            let mut address: Multiaddr = text.parse().ok()?;
            if !address.iter().any(|part| matches!(part, Protocol::P2p(_))) {
                address.push(Protocol::P2p(peer));
            }
            Some(address)
        })
    });
    parsed.take(MAX_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_id_of_their_peer_and_others_are_left_out() {
        let peer = libp2p::PeerId::random();
        let text = format!(
            r#"{{"Providers":[
                {{"Schema":"peer","ID":"{peer}","Addrs":["/ip4/1.2.3.4/tcp/1","not one",
                 "/ip4/1.2.3.4/udp/1/quic-v1/p2p/{peer}"],"Protocols":["transport-bitswap"]}},
                {{"Schema":"peer","ID":"nobody","Addrs":["/ip4/1.2.3.4/tcp/2"]}},
                {{"Schema":"other"}}]}}"#
        );
        let found = addresses(serde_json::from_str(&text).unwrap());
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        let expected = [
            format!("/ip4/1.2.3.4/tcp/1/p2p/{peer}"),
            format!("/ip4/1.2.3.4/udp/1/quic-v1/p2p/{peer}"),
        ];
        assert_eq!(found, expected);
        let none = addresses(serde_json::from_str(r#"{"Providers":null}"#).unwrap());
        assert_eq!(none, []);
    }
}
