//! Where a gateway is, however its URL is written.

use std::net::IpAddr;

use url::{Host, Url};

/// The same for all URLs that are seen to lead to the same gateway: with a slash at the end or without one, over
/// HTTP or HTTPS, by any name of this machine.
pub(crate) fn place_of(gateway: &Url) -> String {
    let host = match gateway.host() {
        Some(Host::Domain(name)) => match name.trim_end_matches('.') {
            "localhost" => None,
            name => Some(name.to_owned()),
        },
        Some(Host::Ipv4(ip)) => outside(ip.into()),
        Some(Host::Ipv6(ip)) => outside(ip.to_canonical()),
        None => None,
    };
    let host = host.unwrap_or_else(|| "this machine".to_owned());
    let port = gateway.port().map(|port| format!(":{port}"));
    let path = gateway.path().trim_end_matches('/');
    format!("{host}{}{path}", port.unwrap_or_default())
}

fn outside(ip: IpAddr) -> Option<String> {
    let is_here = ip.is_loopback() || ip.is_unspecified();
    (!is_here).then(|| ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_gateway_are_one_place_and_others_are_not() {
        let place = |text: &str| place_of(&text.parse().unwrap());
        for (one, other) in [
            ("https://one.example", "https://ONE.example/"),
            ("https://one.example", "https://one.example.:443"),
            ("https://one.example", "http://one.example:80/"),
            (
                "https://one.example/ipfs-gateway",
                "https://one.example/ipfs-gateway/",
            ),
            ("http://127.0.0.1:8080", "http://localhost:8080/"),
            ("http://127.0.0.1:8080", "http://[::1]:8080"),
            ("http://127.0.0.1:8080", "http://[::ffff:127.0.0.1]:8080"),
        ] {
            assert_eq!(place(one), place(other), "{one} {other}");
        }
        for (one, other) in [
            ("https://one.example", "https://two.example"),
            ("https://one.example", "https://one.example:8443"),
            ("https://one.example", "https://one.example/ipfs-gateway"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8081"),
            ("http://127.0.0.1", "http://192.0.2.1"),
        ] {
            assert_ne!(place(one), place(other), "{one} {other}");
        }
    }
}
