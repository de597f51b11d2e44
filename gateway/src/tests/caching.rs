//! Conditions, `only-if-cached`, names.

use std::time::Duration;

use duka_node::ipns::Record;
use duka_node::keys::Name;
use duka_node::name::ResolvedName;

use super::memory::MemoryBackend;
use super::{BIG, HELLO, PLAIN, SITE, TREE, TestServer, config};

#[tokio::test]
async fn what_the_client_has_is_304_with_its_validators() {
    let server = TestServer::start().await;
    let paths = [
        "hello.txt",
        "big.bin",
        "site/",
        "plain/",
        "hello.txt?format=raw",
        "plain?format=car",
    ];
    for path in paths {
        let path = format!("/ipfs/{TREE}/{path}");
        let full = server.get(&path).await;
        let etag = full.header("etag");
        assert_eq!(full.status, 200, "{path}");
        for condition in [
            etag.to_owned(),
            format!("\"x\", W/{}", etag.trim_start_matches("W/")),
        ] {
            let reply = server
                .get_with(&path, &[("if-none-match", &condition)])
                .await;
            assert_eq!(reply.status, 304, "{path} {condition}");
            assert!(reply.body.is_empty());
            assert_eq!(reply.header("etag"), etag);
            assert_eq!(reply.header("cache-control"), full.header("cache-control"));
        }
    }
}

#[tokio::test]
async fn etag_of_one_format_is_not_that_of_another() {
    let server = TestServer::start().await;
    let bare = format!("\"{HELLO}\"");
    let raw = format!("/ipfs/{HELLO}?format=raw");
    assert_eq!(
        server
            .get_with(&raw, &[("if-none-match", &bare)])
            .await
            .status,
        200
    );
    let listing = format!("/ipfs/{PLAIN}/");
    let bare = format!("\"{PLAIN}\"");
    assert_eq!(
        server
            .get_with(&listing, &[("if-none-match", &bare)])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn if_range_that_does_not_match_gets_everything() {
    let server = TestServer::start().await;
    let path = format!("/ipfs/{BIG}");
    let range = ("range", "bytes=0-9");
    let same = format!("\"{BIG}\"");
    assert_eq!(
        server
            .get_with(&path, &[range, ("if-range", &same)])
            .await
            .status,
        206
    );
    let reply = server
        .get_with(&path, &[range, ("if-range", "\"other\"")])
        .await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 10_007));
}

#[tokio::test]
async fn several_ranges_get_the_first() {
    let server = TestServer::start().await;
    let range = ("range", "bytes=1-2,5-6");
    let reply = server.get_with(&format!("/ipfs/{HELLO}"), &[range]).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (206, "el"));
    assert_eq!(reply.header("content-range"), "bytes 1-2/11");
}

#[tokio::test]
async fn only_if_cached_is_412_for_what_is_not_here() {
    let server = TestServer::with(config(), MemoryBackend::without(&[HELLO])).await;
    let cached = ("cache-control", "only-if-cached");
    for query in ["", "?format=raw", "?format=car"] {
        let reply = server
            .get_with(&format!("/ipfs/{HELLO}{query}"), &[cached])
            .await;
        assert_eq!(reply.status, 412, "{query}");
    }
    assert_eq!(
        server
            .get_with(&format!("/ipfs/{SITE}/"), &[cached])
            .await
            .status,
        200
    );
    assert_eq!(
        server
            .ask("HEAD", &format!("/ipfs/{HELLO}"), &[cached])
            .await
            .status,
        412
    );
}

/// A name with a record whose bytes nobody reads here.
pub(super) fn named(path: String, max_age: u64) -> (Name, ResolvedName) {
    let name: Name = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam"
        .parse()
        .unwrap();
    let record = Record {
        value: path.clone(),
        sequence: 1,
        validity: "2100-01-01T00:00:00Z".parse().unwrap(),
        ttl: Duration::from_secs(max_age),
        bytes: b"record".to_vec(),
    };
    (
        name,
        ResolvedName {
            record,
            path,
            max_age,
        },
    )
}

#[tokio::test]
async fn name_is_resolved_and_cached_for_its_ttl() {
    let mut backend = MemoryBackend::with_test_data();
    let (name, resolved) = named(format!("/ipfs/{TREE}/site"), 1800);
    backend.add_name(name.clone(), resolved);
    let server = TestServer::with(config(), backend).await;
    let reply = server.get(&format!("/ipns/{name}/style.css")).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "body{}"));
    assert_eq!(reply.header("cache-control"), "public, max-age=1800");
    assert_eq!(
        reply.header("x-ipfs-path"),
        format!("/ipns/{name}/style.css")
    );
    let reply = server.get(&format!("/ipns/{name}/")).await;
    assert_eq!(reply.header("etag"), format!("\"{SITE}\""));
    assert_eq!(reply.header("cache-control"), "public, max-age=1800");
}

#[tokio::test]
async fn other_spelling_of_a_name_is_redirected_before_it_is_resolved() {
    let server = TestServer::start().await;
    let reply = server
        .get("/ipns/12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d/a%20b?x=1")
        .await;
    assert_eq!(reply.status, 302);
    assert_eq!(
        reply.header("location"),
        "/ipns/k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam/a%20b?x=1"
    );
}

#[tokio::test]
async fn record_is_served_as_it_is() {
    let mut backend = MemoryBackend::with_test_data();
    let (name, resolved) = named(format!("/ipfs/{SITE}"), 1800);
    backend.add_name(name.clone(), resolved);
    let server = TestServer::with(config(), backend).await;
    let reply = server
        .get(&format!("/ipns/{name}?format=ipns-record"))
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body[..]),
        (200, &b"record"[..])
    );
    assert_eq!(
        reply.header("content-type"),
        "application/vnd.ipfs.ipns-record"
    );
    assert_eq!(reply.header("cache-control"), "public, max-age=1800");
    let file_name = format!("attachment; filename=\"{name}.ipns-record\"");
    assert!(reply.header("content-disposition").starts_with(&file_name));
    let below = server
        .get(&format!("/ipns/{name}/style.css?format=ipns-record"))
        .await;
    assert_eq!(below.status, 400);
}

#[tokio::test]
async fn unknown_name_is_500() {
    let server = TestServer::start().await;
    let name = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam";
    assert_eq!(server.get(&format!("/ipns/{name}/")).await.status, 500);
    assert_eq!(server.get("/ipns/example.invalid/").await.status, 500);
}
