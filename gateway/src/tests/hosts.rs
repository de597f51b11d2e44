//! Configured hosts, their subdomains, and domains.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use duka_config::{GatewayConfig, HostConfig, Namespace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::memory::MemoryBackend;
use super::{HELLO, PLAIN, TREE, TestServer, config};
use crate::server::{Inherited, Server, ServerError};

const KEY: &str = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam";

fn host(subdomains: bool) -> HostConfig {
    HostConfig {
        subdomains,
        ..HostConfig::default()
    }
}

fn hosts() -> GatewayConfig {
    let inlining = HostConfig {
        inline_dnslink: true,
        ..host(true)
    };
    let ipns_only = HostConfig {
        paths: vec![Namespace::Ipns],
        ..host(true)
    };
    let trustless = HostConfig {
        trustless_only: true,
        ..host(false)
    };
    let hosts = [
        ("dotted.example", host(true)),
        ("*.inlining.example", inlining),
        ("names.example", ipns_only),
        ("trustless.example", trustless),
    ];
    let links = [
        ("site.example", format!("/ipfs/{TREE}/site")),
        ("loop.example", "/ipns/loop.example".to_owned()),
        ("chain.example", "/ipns/site.example/style.css".to_owned()),
    ];
    let named = |(name, host): (&str, HostConfig)| (name.to_owned(), host);
    let linked = |(name, path): (&str, String)| (name.to_owned(), path);
    GatewayConfig {
        hosts: hosts.map(named).into(),
        dnslink: links.map(linked).into(),
        ..config()
    }
}

async fn server() -> TestServer {
    TestServer::with(hosts(), MemoryBackend::with_test_data()).await
}

/// Status, and `Location` if there is one.
async fn answer(server: &TestServer, host: &str, path: &str) -> (u16, String) {
    let reply = server.get_with(path, &[("host", host)]).await;
    (reply.status.as_u16(), reply.header("location").to_owned())
}

#[tokio::test]
async fn roots_of_a_host_with_subdomains_get_hosts_of_their_own() {
    let server = server().await;
    let moved = |location: &str| (301, location.to_owned());
    for (host, path, location) in [
        (
            "dotted.example:80",
            format!("/ipfs/{TREE}/a%20b/?x=%20y"),
            format!("http://{TREE}.ipfs.dotted.example:80/a%20b/?x=%20y"),
        ),
        (
            "dotted.example",
            "/ipns/my-site.example/a".to_owned(),
            "http://my-site.example.ipns.dotted.example/a".to_owned(),
        ),
        (
            "x.inlining.example",
            "/ipns/my-site.example".to_owned(),
            "http://my--site-example.ipns.x.inlining.example/".to_owned(),
        ),
        (
            "names.example",
            format!("/ipns/{KEY}"),
            format!("http://{KEY}.ipns.names.example/"),
        ),
    ] {
        assert_eq!(answer(&server, host, &path).await, moved(&location));
    }
    let https = [("host", "dotted.example"), ("x-forwarded-proto", "https")];
    let reply = server.get_with("/ipns/my-site.example", &https).await;
    let expected = "https://my--site-example.ipns.dotted.example/";
    assert_eq!(
        reply.header("location"),
        expected,
        "TLS knows one label only"
    );
}

#[tokio::test]
async fn namespace_that_a_host_does_not_serve_is_404() {
    let server = server().await;
    let path = format!("/ipfs/{HELLO}");
    assert_eq!(answer(&server, "names.example", &path).await.0, 404);
    let subdomain = format!("{HELLO}.ipfs.names.example");
    assert_eq!(answer(&server, &subdomain, "/").await.0, 404);
}

#[tokio::test]
async fn trustless_host_serves_only_what_clients_verify() {
    let server = server().await;
    for (path, status) in [
        (format!("/ipfs/{HELLO}"), 406),
        (format!("/ipfs/{TREE}/?format=tar"), 406),
        (format!("/ipfs/{HELLO}?format=raw"), 200),
        (format!("/ipfs/{TREE}/hello.txt?format=raw"), 406),
        (format!("/ipfs/{TREE}/hello.txt?format=car"), 200),
        (format!("/ipns/{KEY}?format=ipns-record"), 500),
    ] {
        let found = answer(&server, "trustless.example", &path).await;
        assert_eq!(found.0, status, "{path}");
    }
}

#[tokio::test]
async fn site_of_a_domain_is_served_at_its_root() {
    let server = server().await;
    for host in ["site.example", "site-example.ipns.x.inlining.example"] {
        let reply = server.get_with("/style.css", &[("host", host)]).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "body{}"));
        assert_eq!(reply.header("x-ipfs-path"), "/ipns/site.example/style.css");
        assert_eq!(reply.header("cache-control"), "", "nobody knows how long");
        let path = format!("/ipfs/{HELLO}");
        assert_eq!(answer(&server, host, &path).await.0, 404);
    }
    let reply = server.get("/ipns/chain.example").await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "body{}"));
    assert_eq!(server.get("/ipns/loop.example").await.status, 400);
}

#[tokio::test]
async fn service_worker_may_have_a_subdomain() {
    let server = server().await;
    let host = format!("{HELLO}.ipfs.dotted.example");
    let worker = [("host", host.as_str()), ("service-worker", "script")];
    assert_eq!(server.get_with("/", &worker).await.status, 200);
}

#[tokio::test]
async fn listing_of_a_subdomain_links_to_the_gateway_for_other_roots() {
    let server = server().await;
    let host = format!("{PLAIN}.ipfs.dotted.example:80");
    let reply = server.get_with("/", &[("host", &host)]).await;
    let page = reply.text();
    assert!(page.contains("<a href=\"/two.txt\">two.txt</a>"), "{page}");
    let crumb = format!("/ipfs/<a href=\"//dotted.example:80/ipfs/{PLAIN}\">");
    assert!(page.contains(&crumb), "{page}");
}

/// Sends requests on one connection, and reads until the server closes it.
async fn converse(server: &TestServer, requests: &str) -> String {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    answers
}

#[tokio::test]
async fn connection_goes_on_after_a_connect() {
    let server = server().await;
    let connect = "CONNECT site.example:80 HTTP/1.1\r\nHost: site.example:80\r\n\r\n";
    let end = "Connection: close\r\n\r\n";
    for get in [
        "GET /style.css HTTP/1.1\r\nHost: site.example\r\n",
        "GET http://site.example/style.css HTTP/1.1\r\nHost: x\r\n",
    ] {
        let answers = converse(&server, &format!("{connect}{get}{end}")).await;
        assert_eq!(
            answers.matches("HTTP/1.1 200 OK\r\n").count(),
            2,
            "{answers}"
        );
        assert!(answers.ends_with("\r\n\r\nbody{}"), "{answers}");
    }
    let nested = connect.replace("\r\n\r\n", &format!("\r\n{end}"));
    let answers = converse(&server, &format!("{connect}{nested}")).await;
    assert!(answers.contains("HTTP/1.1 405"), "one is enough: {answers}");
}

#[tokio::test]
async fn idle_connection_is_closed_after_a_connect_too() {
    let config = GatewayConfig {
        idle_timeout: Duration::from_millis(200),
        ..hosts()
    };
    let server = TestServer::with(config, MemoryBackend::with_test_data()).await;
    let connect = "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n";
    let answers = converse(&server, connect).await;
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
}

#[tokio::test]
async fn dnslink_that_is_no_path_is_refused() {
    let config = GatewayConfig {
        dnslink: BTreeMap::from([("a.example".to_owned(), "nonsense".to_owned())]),
        ..config()
    };
    let bound = Server::bind_backend(
        &config,
        MemoryBackend::with_test_data(),
        None,
        Inherited::default(),
        Path::new("nowhere"),
    )
    .await;
    assert!(matches!(bound, Err(ServerError::Dnslink { domain, .. }) if domain == "a.example"));
}
