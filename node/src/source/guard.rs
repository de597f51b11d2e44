//! The addresses of gateways: a name in the public DNS never leads to a machine that only this one, or its
//! network, can reach. Else whoever owns the name could have this node ask its router.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
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
