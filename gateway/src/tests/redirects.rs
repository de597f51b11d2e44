//! `_redirects` of a site with an origin of its own.

use duka_config::{GatewayConfig, HostConfig};
use duka_node::block::{DAG_PB, RAW, cid_of};

use super::memory::{MemoryBackend, folder};
use super::{HELLO, PLAIN, Reply, TestServer, config};

const RULES: &[u8] = b"/dir /plain 200\n/gone /page.txt 410\n/* /page.txt 200\n";

/// A server, and the host of a site with [`RULES`].
async fn site() -> (TestServer, String) {
    let mut backend = MemoryBackend::with_test_data();
    let rules = backend.add(RAW, RULES);
    let root = backend.add(
        DAG_PB,
        folder(&[
            ("_redirects", &rules),
            ("page.txt", &HELLO.parse().unwrap()),
            ("plain", &PLAIN.parse().unwrap()),
        ]),
    );
    let subdomains = HostConfig {
        subdomains: true,
        ..HostConfig::default()
    };
    let config = GatewayConfig {
        hosts: [("host.example".to_owned(), subdomains)].into(),
        ..config()
    };
    let server = TestServer::with(config, backend).await;
    (server, format!("{root}.ipfs.host.example"))
}

async fn ask(server: &TestServer, host: &str, path: &str, header: (&str, &str)) -> Reply {
    server.get_with(path, &[("host", host), header]).await
}

#[tokio::test]
async fn rewritten_path_is_the_target_under_the_path_that_was_asked() {
    let (server, host) = site().await;
    let reply = ask(&server, &host, "/a/b.json", ("accept", "*/*")).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "hello world"));
    assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
    let root = host.split('.').next().unwrap();
    assert_eq!(
        reply.header("x-ipfs-path"),
        format!("/ipfs/{root}/a/b.json")
    );
    assert_eq!(reply.header("etag"), format!("\"{HELLO}\""));
    let known = ("if-none-match", reply.header("etag"));
    assert_eq!(ask(&server, &host, "/c", known).await.status, 304);
}

#[tokio::test]
async fn page_of_an_error_is_whole_whatever_is_asked() {
    let (server, host) = site().await;
    let etag = format!("\"{HELLO}\"");
    for header in [("range", "bytes=0-1"), ("if-none-match", &etag)] {
        let reply = ask(&server, &host, "/gone", header).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (410, "hello world"));
        assert_eq!(reply.header("content-range"), "");
    }
}

#[tokio::test]
async fn rewrite_to_a_folder_is_no_loop_of_redirects() {
    let (server, host) = site().await;
    let reply = ask(&server, &host, "/dir", ("accept", "*/*")).await;
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("Index of"), "{}", reply.text());
}

#[tokio::test]
async fn rules_do_not_count_where_sites_share_an_origin() {
    let (server, host) = site().await;
    let root = host.split('.').next().unwrap();
    let reply = server.get(&format!("/ipfs/{root}/a")).await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn rules_that_are_not_here_are_an_error_and_not_ignored() {
    let mut backend = MemoryBackend::with_test_data();
    let root = backend.add(DAG_PB, folder(&[("_redirects", &cid_of(RAW, RULES))]));
    let linked = ("site.example".to_owned(), format!("/ipfs/{root}"));
    let config = GatewayConfig {
        dnslink: [linked].into(),
        ..config()
    };
    let server = TestServer::with(config, backend).await;
    let reply = server.get_with("/gone", &[("host", "site.example")]).await;
    assert_eq!(reply.status, 404);
    let missing = cid_of(RAW, RULES).to_string();
    assert!(reply.text().contains(&missing), "{}", reply.text());
}
