//! DNSLink: where domains lead to (<https://dnslink.dev/>).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use duka_node::dag::path::{ContentPath, PathError};

use super::dns::{Dns, Silent};
use super::resolve::Freshness;

/// Longest label of a DNS name (RFC 1035, section 2.3.4).
pub(crate) const MAX_LABEL_LEN: usize = 63;
/// Longest domain that has room for `_dnslink.` in front.
const MAX_DOMAIN_LEN: usize = 244;
/// Last labels that are no business of a DNS server (RFCs 6761, 6762 and 7686).
const NOT_IN_THE_DNS: [&str; 4] = ["localhost", "local", "invalid", "onion"];

/// Where a domain leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dnslink {
    pub(crate) path: ContentPath,
    pub(crate) freshness: Freshness,
}

/// The DNSLinks of domains: those of the configuration, then those in the DNS.
#[derive(Debug)]
pub(crate) struct Dnslinks {
    configured: BTreeMap<String, ContentPath>,
    dns: Option<Dns>,
}

impl Dnslinks {
    /// Reads `gateway.dnslink`. Without `dns` that is all.
    ///
    /// # Errors
    /// The first domain whose value is no content path.
    pub(crate) fn new(
        configured: &BTreeMap<String, String>,
        dns: Option<Dns>,
    ) -> Result<Self, (String, PathError)> {
        let read = |(domain, path): (&String, &String)| match ContentPath::parse(path) {
            Ok(path) => Ok((domain.to_ascii_lowercase(), path)),
            Err(error) => Err((domain.clone(), error)),
        };
        let configured = configured.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { configured, dns })
    }

    /// Where the domain leads to.
    ///
    /// # Errors
    /// When no DNS server answers.
    pub(crate) async fn find(&self, domain: &str) -> Result<Option<Dnslink>, Silent> {
        if let Some(path) = self.configured.get(domain) {
            return Ok(Some(Dnslink {
                path: path.clone(),
                freshness: Freshness::Unknown,
            }));
        }
        let Some(dns) = self.dns.as_ref().filter(|_| is_domain(domain)) else {
            return Ok(None);
        };
        let link = Box::pin(dns.dnslink(domain)).await?;
        Ok(link.map(|link| Dnslink {
            path: link.path,
            freshness: Freshness::Seconds(link.seconds),
        }))
    }

    /// Whether a host has pages of its own.
    ///
    /// # Errors
    /// When no DNS server answers.
    pub(crate) async fn is_site(&self, host: &str) -> Result<bool, Silent> {
        Ok(self.find(host).await?.is_some())
    }
}

/// Where a domain leads to, asked once; `server` is asked instead of the system's.
///
/// # Errors
/// When no DNS server answers.
pub(crate) async fn look_up(
    domain: &str,
    configured: &BTreeMap<String, String>,
    server: Option<SocketAddr>,
) -> Result<Option<ContentPath>, Silent> {
    let configured = configured.get(domain);
    if let Some(path) = configured.and_then(|path| ContentPath::parse(path).ok()) {
        return Ok(Some(path));
    }
    let links = Dnslinks {
        configured: BTreeMap::new(),
        dns: Dns::new(server),
    };
    Ok(links.find(domain).await?.map(|link| link.path))
}

/// Whether a DNS server may know the name: an address, a single label or `localhost` it does not.
pub(crate) fn is_domain(name: &str) -> bool {
    let Some((_, top)) = name.rsplit_once('.') else {
        return false;
    };
    let is_label = |label: &str| (1..=MAX_LABEL_LEN).contains(&label.len());
    name.len() <= MAX_DOMAIN_LEN
        && name.split('.').all(is_label)
        && !top.bytes().all(|b| b.is_ascii_digit())
        && !NOT_IN_THE_DNS.contains(&top)
}

/// A domain as one DNS label.
pub(crate) fn inline(domain: &str) -> String {
    domain.replace('-', "--").replace('.', "-")
}

/// The domain that was written as one label.
pub(crate) fn uninline(label: &str) -> String {
    let parts: Vec<String> = label
        .split("--")
        .map(|part| part.replace('-', "."))
        .collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn inlined_domain_is_one_label_and_comes_back() {
        let label = inline("en.wikipedia-on-ipfs.org");
        assert_eq!(label, "en-wikipedia--on--ipfs-org");
        assert_eq!(uninline(&label), "en.wikipedia-on-ipfs.org");
    }

    #[test]
    fn value_that_is_no_path_names_its_domain() {
        let map = BTreeMap::from([("a.example".to_owned(), "/ipfs/nonsense".to_owned())]);
        assert_eq!(Dnslinks::new(&map, None).unwrap_err().0, "a.example");
    }

    #[test]
    fn what_no_dns_server_knows_is_no_domain() {
        let long = format!("{}.example", "a.".repeat(120));
        for name in [
            "127.0.0.1",
            "shop",
            "bafy.ipfs.localhost",
            "printer.local",
            "a..example",
            ".example",
            &format!("{}.example", "a".repeat(64)),
            &long,
        ] {
            assert!(!is_domain(name), "{name}");
        }
        assert!(is_domain("shop.example") && is_domain("_a.1.shop-2.example"));
    }

    proptest! {
        #[test]
        fn every_domain_survives_inlining(
            domain in "[a-z0-9]{1,4}(-[a-z0-9]{1,3})?(\\.[a-z0-9]{1,4}(-[a-z0-9]{1,3})?){1,3}"
        ) {
            prop_assert_eq!(uninline(&inline(&domain)), domain);
        }
    }
}
