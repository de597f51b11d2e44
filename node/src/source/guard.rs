//! The addresses of gateways: a name in the public DNS never leads to a machine that only this one, or its
//! network, can reach. Else whoever owns the name could have this node ask its router.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::net::is_public_ip;

/// Ends of names that no public DNS has (RFC 6761, 6762, 8375, and what routers use).
const LOCAL_ENDS: [&str; 6] = ["localhost", "local", "lan", "internal", "home.arpa", "test"];

type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

/// Resolves the names of gateways, each time that a connection is made.
#[derive(Clone)]
pub(super) struct Guard(Arc<Lookup>);

/// A name leads nowhere that it may lead to.
#[derive(Debug, thiserror::Error)]
#[error("{name} leads to private addresses only")]
struct Private {
    name: String,
}

impl Guard {
    /// Asks the system.
    pub(super) fn system() -> Self {
        Self::new(|name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        })
    }

    pub(super) fn new(
        lookup: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(lookup))
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let found = (self.0)(name.clone());
        Box::pin(async move {
            let mut addresses = found.await?;
            if !is_local(&name) {
                addresses.retain(|ip| is_public_ip(*ip));
                if addresses.is_empty() {
                    return Err(Private { name }.into());
                }
            }
            let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// Whether an URL leads into the public internet, as far as it tells by itself.
pub fn is_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => !is_local(name),
        Some(Host::Ipv4(ip)) => is_public_ip(ip.into()),
        Some(Host::Ipv6(ip)) => is_public_ip(ip.into()),
        None => false,
    }
}

/// Whether a peer's address leads into the public internet, now that its name is looked up. Of `/dnsaddr`
/// nobody knows before it is dialed.
pub(crate) async fn is_public_address(address: &Multiaddr) -> bool {
    for part in address {
        let is_public = match part {
            Protocol::Ip4(ip) => is_public_ip(ip.into()),
            Protocol::Ip6(ip) => is_public_ip(ip.into()),
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
                !is_local(&name) && leads_out(&name).await
            }
            Protocol::Dnsaddr(_) => false,
            _ => true,
        };
        if !is_public {
            return false;
        }
    }
    true
}

async fn leads_out(name: &str) -> bool {
    let found = tokio::net::lookup_host((name, 0)).await;
    found.is_ok_and(|mut found| found.all(|address| is_public_ip(address.ip())))
}

/// Whether only a local network knows the name: whoever configured it means that network.
fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let ends_so = |end: &str| {
        let before = name.strip_suffix(end);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    !name.contains('.') || LOCAL_ENDS.iter().any(|end| ends_so(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolve(name: &str, found: &[&str]) -> Result<Vec<String>, String> {
        let found: Vec<IpAddr> = found.iter().map(|ip| ip.parse().unwrap()).collect();
        let guard = Guard::new(move |_| Box::pin(std::future::ready(Ok(found.clone()))));
        match guard.resolve(name.parse().unwrap()).await {
            Ok(addresses) => Ok(addresses.map(|address| address.ip().to_string()).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn public_names_lead_to_public_addresses_only() {
        let public = ["1.1.1.1", "2606:4700::1111"];
        assert_eq!(resolve("gateway.example", &public).await.unwrap(), public);
        for private in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
        ] {
            let refused = resolve("gateway.example", &[private]).await;
            assert!(refused.unwrap_err().contains("private"), "{private}");
            let mixed = resolve("gateway.example", &[private, "1.1.1.1"]).await;
            assert_eq!(mixed.unwrap(), ["1.1.1.1"], "{private}");
        }
    }

    #[test]
    fn an_url_tells_whether_it_leads_into_the_local_network() {
        for (url, public) in [
            ("https://gateway.example/", true),
            ("http://1.1.1.1:8080/", true),
            ("http://[2606:4700::1111]/", true),
            ("http://127.0.0.1:8080/", false),
            ("http://[::1]/", false),
            ("http://192.168.1.1/", false),
            ("http://localhost/", false),
            ("http://nas.lan/", false),
        ] {
            assert_eq!(is_public(&url.parse().unwrap()), public, "{url}");
        }
    }

    #[tokio::test]
    async fn a_peers_address_tells_whether_it_leads_into_the_local_network() {
        for (address, public) in [
            ("/ip4/1.1.1.1/tcp/4001", true),
            ("/ip6/2606:4700::1111/udp/4001/quic-v1", true),
            ("/ip4/192.168.1.1/tcp/80", false),
            (
                "/ip4/1.1.1.1/tcp/4001/p2p-circuit/ip4/10.0.0.1/tcp/1",
                false,
            ),
            ("/ip6/::1/tcp/4001", false),
            ("/dns4/router.lan/tcp/80", false),
            ("/dns/localhost./tcp/80", false),
            ("/dnsaddr/mirror.example", false),
        ] {
            let found = is_public_address(&address.parse().unwrap()).await;
            assert_eq!(found, public, "{address}");
        }
    }

    #[tokio::test]
    async fn names_of_the_local_network_may_lead_into_it() {
        for name in [
            "localhost",
            "cid.ipfs.localhost",
            "nas",
            "nas.lan",
            "NAS.local.",
        ] {
            assert_eq!(resolve(name, &["10.1.2.3"]).await.unwrap(), ["10.1.2.3"]);
        }
        for name in ["evil-localhost.example", "notlan.notlocal", "local.example"] {
            assert!(resolve(name, &["10.1.2.3"]).await.is_err(), "{name}");
        }
    }
}
