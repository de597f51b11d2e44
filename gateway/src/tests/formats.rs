//! Raw blocks, CAR files and IPLD documents.

use cid::Cid;
use duka_node::block::{DAG_CBOR, DAG_JSON, JSON};

use super::memory::{MemoryBackend, sections};
use super::{BIG, HAMT, HELLO, PLAIN, TREE, TestServer, big, config};

const CAR: &str = "application/vnd.ipld.car; version=1; order=dfs; dups=n";

#[tokio::test]
async fn raw_block_is_an_attachment() {
    let server = TestServer::start().await;
    for reply in [
        server
            .get(&format!("/ipfs/{TREE}/hello.txt?format=raw"))
            .await,
        server
            .get_with(
                &format!("/ipfs/{TREE}/hello.txt"),
                &[("accept", "application/vnd.ipld.raw")],
            )
            .await,
    ] {
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "hello world"));
        assert_eq!(reply.header("content-type"), "application/vnd.ipld.raw");
        assert_eq!(reply.header("etag"), format!("\"{HELLO}.raw\""));
        let name = format!("attachment; filename=\"{HELLO}.bin\"");
        assert!(reply.header("content-disposition").starts_with(&name));
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
    }
    let reply = server.get(&format!("/ipfs/{TREE}?format=raw")).await;
    assert_eq!(reply.status, 200, "an explicit format never redirects");
}

#[tokio::test]
async fn probe_of_a_gateway_is_answered() {
    let server = TestServer::start().await;
    let reply = server.get("/ipfs/bafkqaaa?format=raw").await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0));
    let reply = server.get("/ipfs/bafkqaaa?format=car").await;
    assert_eq!(reply.status, 200);
    assert!(
        sections(&reply.body).is_empty(),
        "identity CIDs are never sections"
    );
    assert_eq!(
        server
            .ask("HEAD", "/ipfs/bafkqaaa?format=car", &[])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn car_is_the_one_that_kubo_exports() {
    let server = TestServer::start().await;
    for (root, golden) in [
        (TREE, &include_bytes!("../../testdata/tree.car")[..]),
        (HAMT, &include_bytes!("../../testdata/hamt.car")[..]),
    ] {
        let reply = server.get(&format!("/ipfs/{root}?format=car")).await;
        assert_eq!((reply.status.as_u16(), reply.complete), (200, true));
        assert_eq!(reply.header("content-type"), CAR);
        assert_eq!(reply.header("accept-ranges"), "none");
        assert_eq!(reply.body, golden);
    }
}

async fn car(server: &TestServer, path: &str) -> Vec<Cid> {
    let reply = server.get(path).await;
    assert_eq!(
        (reply.status.as_u16(), reply.complete),
        (200, true),
        "{path}"
    );
    sections(&reply.body)
        .into_iter()
        .map(|(cid, _)| cid)
        .collect()
}

#[tokio::test]
async fn car_of_a_path_begins_with_the_blocks_on_the_way() {
    let server = TestServer::start().await;
    let cids = car(&server, &format!("/ipfs/{TREE}/hello.txt?format=car")).await;
    assert_eq!(cids, [TREE, HELLO].map(|cid| cid.parse::<Cid>().unwrap()));
    let cids = car(&server, &format!("/ipfs/{HAMT}/entry-17.txt?format=car")).await;
    let all = car(&server, &format!("/ipfs/{HAMT}?format=car")).await;
    assert_eq!(cids.first(), all.first());
    assert!(cids.len() < 6, "only the shards on the way: {}", cids.len());
}

#[tokio::test]
async fn scopes_hold_the_entity_or_the_block() {
    let server = TestServer::start().await;
    let scope = |path: &str, scope: &str| format!("/ipfs/{path}?format=car&dag-scope={scope}");
    assert_eq!(car(&server, &scope(TREE, "block")).await.len(), 1);
    assert_eq!(car(&server, &scope(TREE, "entity")).await.len(), 1);
    assert_eq!(car(&server, &scope(PLAIN, "all")).await.len(), 3);
    let whole = car(&server, &scope(BIG, "all")).await;
    assert_eq!(car(&server, &scope(BIG, "entity")).await, whole);
    let shards = car(&server, &scope(HAMT, "entity")).await;
    let all = car(&server, &scope(HAMT, "all")).await;
    let nodes: Vec<_> = all.into_iter().filter(|cid| cid.codec() == 0x70).collect();
    assert_eq!(
        shards, nodes,
        "all shards in depth-first order, no children"
    );
    let bad = server.get(&scope(TREE, "everything")).await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn entity_bytes_hold_only_the_blocks_that_overlap() {
    let server = TestServer::start().await;
    let path = format!("/ipfs/{BIG}?format=car&entity-bytes=4500:5500");
    let leaves: Vec<_> = car(&server, &path)
        .await
        .into_iter()
        .filter(|cid| cid.codec() == 0x55)
        .collect();
    let wanted =
        [&big()[4000..5000], &big()[5000..6000]].map(|chunk| duka_node::block::cid_of(0x55, chunk));
    assert_eq!(leaves, wanted);
}

#[tokio::test]
async fn car_with_a_missing_block_breaks_off() {
    let missing = duka_node::block::cid_of(0x55, &big()[5000..6000]).to_string();
    let server = TestServer::with(config(), MemoryBackend::without(&[&missing])).await;
    let reply = server.get(&format!("/ipfs/{BIG}?format=car")).await;
    assert_eq!((reply.status.as_u16(), reply.complete), (200, false));
}

#[tokio::test]
async fn car_of_a_missing_root_is_404() {
    let server = TestServer::with(config(), MemoryBackend::without(&[HELLO])).await;
    assert_eq!(
        server
            .get(&format!("/ipfs/{HELLO}?format=car"))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn cars_that_differ_have_different_etags() {
    let server = TestServer::start().await;
    let mut etags = Vec::new();
    for query in [
        "",
        "&dag-scope=block",
        "&dag-scope=entity",
        "&entity-bytes=0:9",
        "&car-dups=y",
    ] {
        let reply = server.get(&format!("/ipfs/{BIG}?format=car{query}")).await;
        etags.push(reply.header("etag").to_owned());
    }
    etags.push(
        server
            .get(&format!("/ipfs/{TREE}/big.bin?format=car"))
            .await
            .header("etag")
            .to_owned(),
    );
    let count = etags.len();
    etags.sort();
    etags.dedup();
    assert_eq!(etags.len(), count);
    assert!(etags.iter().all(|etag| etag.starts_with("W/\"")));
}

#[tokio::test]
async fn accept_is_answered_with_a_content_location() {
    let server = TestServer::start().await;
    let reply = server
        .get_with(
            &format!("/ipfs/{PLAIN}"),
            &[("accept", "application/vnd.ipld.car")],
        )
        .await;
    assert_eq!(reply.header("content-type"), CAR);
    assert_eq!(
        reply.header("content-location"),
        format!("/ipfs/{PLAIN}?format=car")
    );
}

#[tokio::test]
async fn documents_are_served_as_they_are_and_never_converted() {
    let mut backend = MemoryBackend::with_test_data();
    let dag_json = backend.add(DAG_JSON, br#"{"a":1}"#);
    let json = backend.add(JSON, br#"{"b":2}"#);
    let dag_cbor = backend.add(DAG_CBOR, b"\xa1\x61\x61\x01");
    let server = TestServer::with(config(), backend).await;
    let get = async |cid: Cid, format: &str| {
        let reply = server.get(&format!("/ipfs/{cid}{format}")).await;
        (
            reply.status.as_u16(),
            reply.header("content-type").to_owned(),
        )
    };
    let ok = |content_type: &str| (200, content_type.to_owned());
    assert_eq!(get(dag_json, "").await, ok("application/vnd.ipld.dag-json"));
    assert_eq!(get(dag_json, "?format=json").await, ok("application/json"));
    assert_eq!(get(json, "").await, ok("application/json"));
    assert_eq!(get(dag_cbor, "").await, ok("application/vnd.ipld.dag-cbor"));
    assert_eq!(get(dag_cbor, "?format=cbor").await, ok("application/cbor"));
    for (cid, format) in [
        (dag_cbor, "json"),
        (dag_json, "dag-cbor"),
        (json, "dag-json"),
    ] {
        assert_eq!(get(cid, &format!("?format={format}")).await.0, 406);
    }
    let file = HELLO.parse().unwrap();
    assert_eq!(get(file, "?format=dag-json").await.0, 406);
    assert_eq!(get(dag_json, "/a").await.0, 501, "a value is no link");
    let unknown = [("accept", "application/vnd.ipld.nonsense")];
    assert_eq!(
        server
            .get_with(&format!("/ipfs/{HELLO}"), &unknown)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn person_gets_a_page_of_a_document_and_a_program_its_bytes() {
    let mut backend = MemoryBackend::with_test_data();
    let link = format!("{{\"to\":{{\"/\":\"{HELLO}\"}}}}");
    let cid = backend.add(DAG_JSON, link.clone());
    let server = TestServer::with(config(), backend).await;
    let browser = [("accept", "text/html,*/*;q=0.8")];
    let page = server.get_with(&format!("/ipfs/{cid}/"), &browser).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.header("etag").starts_with("\"DagIndex-"));
    assert!(page.header("cache-control").contains("604800"));
    assert_eq!(page.header("content-disposition"), "");
    assert!(page.text().contains(&format!("<a href=\"/ipfs/{HELLO}\">")));
    assert!(page.text().contains("</html>"));
    let moved = server.get_with(&format!("/ipfs/{cid}?a=b"), &browser).await;
    assert_eq!(moved.status, 301);
    assert_eq!(moved.header("location"), format!("/ipfs/{cid}/?a=b"));
    for (path, accept) in [("/", "*/*"), ("/?download=true", "text/html")] {
        let path = format!("/ipfs/{cid}{path}");
        let bytes = server.get_with(&path, &[("accept", accept)]).await;
        assert_eq!((bytes.status.as_u16(), bytes.text()), (200, link.as_str()));
    }
}
