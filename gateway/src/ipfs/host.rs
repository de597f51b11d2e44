//! Phase zero: which host a request is for, and what is served there (subdomain and DNSLink
//! gateways, <https://specs.ipfs.tech/http-gateways/subdomain-gateway/>).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use duka_config::{GatewayConfig, HostConfig, Namespace};
use http::header::{self, HeaderName};
use http::request::Parts;
use ipnet::IpNet;

use super::dns::Silent;
use super::dnslink::{self, Dnslinks, uninline};
use crate::server::Peer;

static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Longest host name that is looked at: a CID that is too long for a label must be told so.
const MAX_HOST_LEN: usize = 1024;

/// What a host is to the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// `/ipfs/…` and `/ipns/…` of any host or address.
    Anywhere,
    /// Those of a host that is configured.
    Known(KnownHost),
    /// One root of a configured host: `<label>.<namespace>.<host>`.
    Subdomain {
        /// The configured host.
        host: KnownHost,
        /// `ipfs` or `ipns`.
        namespace: Namespace,
        /// CID, key, or domain, which may have dots.
        label: String,
    },
    /// A domain with a DNSLink.
    Domain {
        /// The domain.
        domain: String,
        /// With the port.
        authority: String,
    },
    /// A domain that may have a DNSLink, which no DNS server says.
    Unknown {
        /// The domain.
        domain: String,
        /// Who was asked.
        tried: Arc<str>,
    },
}

impl Site {
    /// Whether all paths of the host are below one root.
    pub(crate) fn is_one_root(&self) -> bool {
        matches!(self, Self::Subdomain { .. } | Self::Domain { .. })
    }
}

/// A configured host, as a request reached it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownHost {
    /// Name and port, as they belong into links.
    pub(crate) authority: String,
    /// The client came over HTTPS.
    pub(crate) https: bool,
    /// What is configured.
    pub(crate) config: HostConfig,
}

/// The hosts that are configured, and the proxies that are believed.
#[derive(Debug)]
pub(crate) struct Hosts {
    known: BTreeMap<String, HostConfig>,
    proxies: Vec<IpNet>,
}

impl Hosts {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let lower =
            |(name, host): (&String, &HostConfig)| (name.to_ascii_lowercase(), host.clone());
        Self {
            known: config.hosts.iter().map(lower).collect(),
            proxies: config.trusted_proxies.clone(),
        }
    }

    /// What the host of a request is, which came from `peer`. Only a host that is not configured, and that
    /// can be a domain, is looked up.
    pub(crate) async fn site(&self, parts: &Parts, peer: Peer, dnslinks: &Dnslinks) -> Site {
        let trusted = self.trusts(peer);
        let Some(authority) = authority(parts, trusted) else {
            return Site::Anywhere;
        };
        let https = is_https(parts, peer, trusted);
        let known = |host: &Authority<'_>| {
            let config = self.known(host)?.clone();
            let authority = host.to_string();
            Some(KnownHost {
                authority,
                https,
                config,
            })
        };
        if let Some(host) = known(&authority) {
            return Site::Known(host);
        }
        if let Some((label, namespace, host)) = authority.split(known) {
            let is_inlined = namespace == Namespace::Ipns && !label.contains('.');
            let domain = is_inlined.then(|| uninline(label));
            let domain = domain.filter(|domain| dnslink::is_domain(domain));
            return Site::Subdomain {
                host,
                namespace,
                label: domain.unwrap_or_else(|| label.to_owned()),
            };
        }
        match dnslinks.is_site(&authority.name).await {
            Ok(false) => Site::Anywhere,
            Ok(true) => Site::Domain {
                authority: authority.to_string(),
                domain: authority.name.into_owned(),
            },
            Err(Silent { tried }) => Site::Unknown {
                domain: authority.name.into_owned(),
                tried,
            },
        }
    }

    /// Scheme and host under which a client reached the gateway; [`Peer`] is in the extensions.
    pub(crate) fn origin(&self, parts: &Parts) -> Option<String> {
        let peer = *parts.extensions.get::<Peer>()?;
        let trusted = self.trusts(peer);
        let scheme = if is_https(parts, peer, trusted) {
            "https"
        } else {
            "http"
        };
        let authority = authority(parts, trusted)?;
        Some(format!("{scheme}://{authority}"))
    }

    fn trusts(&self, peer: Peer) -> bool {
        self.proxies.iter().any(|net| net.contains(&peer.address))
    }

    fn known(&self, host: &Authority<'_>) -> Option<&HostConfig> {
        if self.known.is_empty() {
            return None;
        }
        let with_port = |name: &str| self.known.get(&format!("{name}{}", host.port));
        let exact = with_port(&host.name).or_else(|| self.known.get(&*host.name));
        exact.or_else(|| {
            let (_, parent) = host.name.split_once('.')?;
            let wildcard = format!("*.{parent}");
            with_port(&wildcard).or_else(|| self.known.get(&wildcard))
        })
    }
}

/// A host name in lower case.
#[derive(Debug)]
struct Authority<'a> {
    name: Cow<'a, str>,
    /// `:8080`, or nothing.
    port: &'a str,
}

impl<'a> Authority<'a> {
    /// `None` for what is no host name.
    fn parse(text: &'a str) -> Option<Self> {
        let (name, port) = text.split_at(text.rfind(':').unwrap_or(text.len()));
        let digits = port.strip_prefix(':').unwrap_or_default();
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let valid = !name.is_empty()
            && name.len() <= MAX_HOST_LEN
            && port.len() <= 6
            && name.bytes().all(is_host_byte);
        let is_lower = || !name.bytes().any(|b| b.is_ascii_uppercase());
        valid.then(|| Self {
            name: match is_lower() {
                true => Cow::Borrowed(name),
                false => Cow::Owned(name.to_ascii_lowercase()),
            },
            port,
        })
    }

    /// `<label>.<namespace>.<host>`, the shortest host that `known` knows and that has subdomains.
    fn split(
        &self,
        known: impl Fn(&Authority<'_>) -> Option<KnownHost>,
    ) -> Option<(&str, Namespace, KnownHost)> {
        self.name.rmatch_indices('.').find_map(|(dot, _)| {
            let (before, host) = (self.name.get(..dot)?, self.name.get(dot + 1..)?);
            let (label, namespace) = before.rsplit_once('.')?;
            let namespace = match namespace {
                "ipfs" => Namespace::Ipfs,
                "ipns" => Namespace::Ipns,
                _ => return None,
            };
            let host = known(&Authority {
                name: Cow::Borrowed(host),
                port: self.port,
            })?;
            host.config.subdomains.then_some((label, namespace, host))
        })
    }
}

impl std::fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.name, self.port)
    }
}

/// Whether the client uses HTTPS: with a trusted proxy where that says so, or with this gateway.
fn is_https(parts: &Parts, peer: Peer, trusted: bool) -> bool {
    let forwarded = parts.headers.get(&FORWARDED_PROTO).filter(|_| trusted);
    forwarded.map_or(peer.https, |proto| proto == "https")
}

/// The host that the client asked for: what a trusted proxy says, the target's, or `Host`.
fn authority(parts: &Parts, trusted: bool) -> Option<Authority<'_>> {
    let text = |name: &HeaderName| parts.headers.get(name)?.to_str().ok();
    let forwarded = trusted
        .then(|| text(&FORWARDED_HOST)?.split(',').next())
        .flatten();
    let target = || parts.uri.authority().map(http::uri::Authority::as_str);
    let asked = forwarded.or_else(target).or_else(|| text(&header::HOST))?;
    Authority::parse(asked.trim())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures::FutureExt;

    use super::*;

    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn site_for(uri: &str, headers: &[(&str, &str)], address: IpAddr) -> Site {
        let peer = Peer {
            address,
            https: false,
        };
        site_of(uri, headers, peer)
    }

    fn site_of(uri: &str, headers: &[(&str, &str)], peer: Peer) -> Site {
        let subdomains = HostConfig {
            subdomains: true,
            ..HostConfig::default()
        };
        let config = GatewayConfig {
            hosts: [
                ("example.com".to_owned(), subdomains.clone()),
                ("*.wild.example".to_owned(), subdomains),
                ("Paths.example:8080".to_owned(), HostConfig::default()),
            ]
            .into(),
            ..duka_config::Config::default().gateway
        };
        let links = [("a-b.example".to_owned(), "/ipfs/bafkqaaa".to_owned())];
        let dnslinks = Dnslinks::new(&links.into(), None).unwrap();
        let mut request = http::Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let hosts = Hosts::new(&config);
        let site = hosts.site(&parts, peer, &dnslinks).now_or_never();
        site.expect("nothing is looked up")
    }

    fn site(host: &str) -> Site {
        site_for("/", &[("host", host)], CLIENT)
    }

    fn subdomain(host: &str) -> (String, Namespace, String) {
        match site(host) {
            Site::Subdomain {
                host,
                namespace,
                label,
            } => (label, namespace, host.authority),
            other => panic!("{host} is {other:?}"),
        }
    }

    fn authority_of(site: Site) -> String {
        match site {
            Site::Known(host) => host.authority,
            other => panic!("{other:?} is not known"),
        }
    }

    #[test]
    fn host_is_found_with_any_port_in_any_case_and_by_wildcard() {
        for host in ["example.com", "EXAMPLE.com.", "example.com:8080"] {
            let expected = host.to_lowercase().replace("com.", "com");
            assert_eq!(authority_of(site(host)), expected);
        }
        assert_eq!(authority_of(site("x.wild.example")), "x.wild.example");
        assert_eq!(
            authority_of(site("paths.example:8080")),
            "paths.example:8080"
        );
        for host in [
            "paths.example",
            "a.b.wild.example",
            "wild.example",
            "x.example.com",
        ] {
            assert_eq!(site(host), Site::Anywhere, "{host}");
        }
    }

    #[test]
    fn root_and_namespace_are_told_from_the_host() {
        let found =
            |label: &str, namespace, host: &str| (label.to_owned(), namespace, host.to_owned());
        let cid = subdomain("BAFKQAAA.ipfs.example.com:80");
        assert_eq!(cid, found("bafkqaaa", Namespace::Ipfs, "example.com:80"));
        let dotted = subdomain("a-b.example.ipns.example.com");
        assert_eq!(dotted, found("a-b.example", Namespace::Ipns, "example.com"));
        let inlined = subdomain("a--b-example.ipns.x.wild.example");
        assert_eq!(
            inlined,
            found("a-b.example", Namespace::Ipns, "x.wild.example")
        );
        let key = subdomain("k51qzi.ipns.example.com");
        assert_eq!(key, found("k51qzi", Namespace::Ipns, "example.com"));
        assert_eq!(site("bafkqaaa.ipfs.paths.example:8080"), Site::Anywhere);
        assert_eq!(site("ipfs.example.com"), Site::Anywhere);
    }

    #[test]
    fn domain_with_a_dnslink_is_a_site() {
        let domain = Site::Domain {
            domain: "a-b.example".to_owned(),
            authority: "a-b.example:99".to_owned(),
        };
        assert_eq!(site("a-b.example:99"), domain);
        assert_eq!(site("b.example"), Site::Anywhere);
    }

    #[test]
    fn what_is_no_host_name_is_nobodys() {
        for host in [
            "127.0.0.1:80",
            "[::1]:80",
            "",
            "a b",
            "<x>.example.com",
            "example.com:x",
        ] {
            assert_eq!(site(host), Site::Anywhere, "{host}");
        }
    }

    #[test]
    fn target_goes_before_host_and_a_trusted_proxy_before_both() {
        let host = ("host", "other.example");
        let absolute = site_for("http://example.com:1/x", &[host], CLIENT);
        assert_eq!(authority_of(absolute), "example.com:1");
        let forwarded = [
            host,
            ("x-forwarded-host", "example.com"),
            ("x-forwarded-proto", "https"),
        ];
        assert!(matches!(
            site_for("/", &forwarded, PROXY),
            Site::Known(KnownHost { https: true, .. })
        ));
        assert_eq!(site_for("/", &forwarded, CLIENT), Site::Anywhere);
        let known = [("host", "example.com"), ("x-forwarded-proto", "https")];
        assert!(matches!(
            site_for("/", &known, CLIENT),
            Site::Known(KnownHost { https: false, .. })
        ));
    }

    #[test]
    fn encrypted_connection_is_https_unless_a_trusted_proxy_says_otherwise() {
        let https = |address, proto: &[(&str, &str)]| {
            let headers = [&[("host", "example.com")], proto].concat();
            let https = true;
            match site_of("/", &headers, Peer { address, https }) {
                Site::Known(host) => host.https,
                site => panic!("{site:?}"),
            }
        };
        let http = [("x-forwarded-proto", "http")];
        assert!(https(CLIENT, &[]));
        assert!(https(CLIENT, &http));
        assert!(!https(PROXY, &http));
    }
}
