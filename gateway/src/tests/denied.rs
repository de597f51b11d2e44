//! What is on a denylist: 410, or 451 where the list says so, and nothing of it is sent.

use duka_node::keys::Name;
use duka_node::name::ResolvedName;

use super::caching::named;
use super::memory::{MemoryBackend, sections};
use super::{BIG, HELLO, PLAIN, SITE, TREE, TestServer, config};

async fn denying(lines: &str) -> TestServer {
    let mut backend = MemoryBackend::with_test_data();
    backend.deny(lines);
    TestServer::with(config(), backend).await
}

#[tokio::test]
async fn denied_content_is_410_or_451_and_never_cached() {
    let lines = format!(
        "name: Test list\n---\n/ipfs/{HELLO}\n/ipfs/{SITE}/* gateway_status:451\n\
         /ipfs/{TREE}/docs*\n!/ipfs/{TREE}/docs/*\n/ipfs/{TREE}/docs/guide.txt\n"
    );
    let server = denying(&lines).await;
    for (path, status) in [
        (format!("/ipfs/{HELLO}"), 410),
        (format!("/ipfs/{HELLO}?format=raw"), 410),
        (format!("/ipfs/{HELLO}?format=car"), 410),
        // On the way, and at its end.
        (format!("/ipfs/{TREE}/hello.txt"), 410),
        (format!("/ipfs/{TREE}/site/"), 451),
        (format!("/ipfs/{TREE}/site/style.css"), 451),
        (format!("/ipfs/{SITE}/style.css"), 451),
        (format!("/ipfs/{TREE}/docs/guide.txt"), 410),
        (format!("/ipfs/{TREE}/big.bin"), 200),
        (format!("/ipfs/{PLAIN}/"), 200),
    ] {
        for method in ["GET", "HEAD"] {
            let reply = server.ask(method, &path, &[]).await;
            assert_eq!(reply.status, status, "{method} {path}");
            if status != 200 {
                assert_eq!(reply.header("etag"), "", "{path}");
                assert_eq!(reply.header("cache-control"), "", "{path}");
            }
        }
    }
    let page = server
        .get_with(&format!("/ipfs/{HELLO}"), &[("accept", "text/html")])
        .await;
    assert!(page.text().contains("Test list"), "{}", page.text());
}

#[tokio::test]
async fn denied_content_is_not_modified_for_nobody() {
    let server = denying(&format!("/ipfs/{HELLO}\n/ipfs/{SITE}")).await;
    for (path, etag) in [
        (format!("/ipfs/{HELLO}"), HELLO),
        (format!("/ipfs/{TREE}/hello.txt"), HELLO),
        (format!("/ipfs/{TREE}/site/"), SITE),
    ] {
        let known = format!("\"{etag}\"");
        let headers = [("if-none-match", known.as_str())];
        assert_eq!(server.get_with(&path, &headers).await.status, 410, "{path}");
    }
}

#[tokio::test]
async fn denied_block_inside_a_dag_breaks_the_stream_off() {
    let part = duka_node::block::cid_of(0x55, &super::big()[5000..6000]);
    let server = denying(&format!("/ipfs/{part}")).await;
    let file = server.get(&format!("/ipfs/{BIG}?filename=big.bin")).await;
    assert_eq!((file.status.as_u16(), file.complete), (200, false));
    assert_eq!(file.body, super::big()[..file.body.len()]);
    assert!(file.body.len() <= 5000, "{}", file.body.len());
    let car = server.get(&format!("/ipfs/{BIG}?format=car")).await;
    assert_eq!((car.status.as_u16(), car.complete), (200, false));
    let sent = sections(&car.body);
    assert!(!sent.is_empty() && sent.iter().all(|(cid, _)| *cid != part));
    let tar = server.get(&format!("/ipfs/{TREE}?format=tar")).await;
    assert_eq!((tar.status.as_u16(), tar.complete), (200, false));
    // Listings name what they link to, and read none of it.
    let listing = server.get(&format!("/ipfs/{TREE}/")).await;
    assert_eq!(listing.status, 200);
}

#[tokio::test]
async fn denied_names_and_what_names_lead_to_are_refused() {
    let (name, resolved) = named(format!("/ipfs/{TREE}/site"), 1800);
    let other: Name = "k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf"
        .parse()
        .unwrap();
    let through = ResolvedName {
        path: format!("/ipns/{name}"),
        ..resolved.clone()
    };
    for (lines, direct, indirect, below) in [
        (format!("/ipns/{name}"), 410, 410, 200),
        (format!("/ipns/{name}/style.css"), 200, 200, 410),
        (format!("/ipns/{other}"), 200, 410, 200),
        (format!("/ipfs/{TREE}/site"), 410, 410, 200),
        (format!("/ipfs/{SITE}"), 410, 410, 410),
    ] {
        let mut backend = MemoryBackend::with_test_data();
        backend.add_name(name.clone(), resolved.clone());
        backend.add_name(other.clone(), through.clone());
        backend.deny(&lines);
        let server = TestServer::with(config(), backend).await;
        for (path, status) in [
            (format!("/ipns/{name}/"), direct),
            (format!("/ipns/{other}/"), indirect),
            (format!("/ipns/{name}/style.css"), below),
        ] {
            assert_eq!(server.get(&path).await.status, status, "{lines}: {path}");
        }
    }
}
