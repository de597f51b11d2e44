//! Metalinks, links to mirrors, and digests.

use duka_config::GatewayConfig;
use duka_node::block::{RAW, cid_of};

use super::memory::MemoryBackend;
use super::{BIG, HAMT, HELLO, TREE, TestServer, big, config};

/// `sha256sum big.bin`
const SHA256_OF_BIG: &str = "84da64d152bbf93d3d574d1cdc40ce85e1a37a3a6f54b821c6f46d6754ea10af";

async fn mirrored() -> TestServer {
    let mirrors = ["https://mirror.example", "http://mirror.example:81/below/"];
    let config = GatewayConfig {
        mirrors: mirrors.map(str::to_owned).to_vec(),
        ..config()
    };
    TestServer::with(config, MemoryBackend::with_test_data()).await
}

#[tokio::test]
async fn metalink_lists_the_mirrors_of_a_file_with_its_hashes() {
    let server = mirrored().await;
    let path = format!("/ipfs/{TREE}/big.bin");
    let host = [("host", "gateway.example:99")];
    let reply = server
        .get_with(&format!("{path}?format=meta4"), &host)
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/metalink4+xml");
    let xml = reply.text();
    for part in [
        "<file name=\"big.bin\">".to_owned(),
        "<size>10007</size>".to_owned(),
        format!(
            "<hash type=\"sha-256\">{SHA256_OF_BIG}</hash>\n<pieces length=\"1000\" type=\"sha-256\">"
        ),
        format!("<url priority=\"1\">http://gateway.example:99{path}</url>"),
        format!("<url priority=\"1\">https://mirror.example/ipfs/{BIG}?filename=big.bin</url>"),
        format!(
            "<url priority=\"1\">http://mirror.example:81/below/ipfs/{BIG}?filename=big.bin</url>"
        ),
    ] {
        assert!(xml.contains(&part), "{part} is not in {xml}");
    }
    let pieces: Vec<String> = big()
        .chunks(1000)
        .map(|piece| hex::encode(cid_of(RAW, piece).hash().digest()))
        .collect();
    let listed = xml
        .split("<pieces")
        .nth(1)
        .unwrap()
        .matches("<hash>")
        .count();
    assert_eq!(listed, pieces.len());
    assert!(xml.contains(&format!("<hash>{}</hash>", pieces[10])));
}

#[tokio::test]
async fn large_file_tells_of_its_mirrors_and_of_its_metalink() {
    let server = mirrored().await;
    let path = format!("/ipfs/{TREE}/big.bin");
    let reply = server.get(&path).await;
    let links: Vec<_> = reply.headers.get_all("link").iter().collect();
    let mirror = format!("<https://mirror.example/ipfs/{BIG}?filename=big.bin>; rel=duplicate");
    assert_eq!(links[0], mirror.as_str());
    assert_eq!(links.len(), 3);
    let metalink =
        format!("<{path}?format=meta4>; rel=describedby; type=\"application/metalink4+xml\"");
    assert_eq!(links[2], metalink.as_str());
    let small = server.get(&format!("/ipfs/{TREE}/hello.txt")).await;
    assert_eq!(small.header("link"), "");
}

#[tokio::test]
async fn digest_is_told_where_it_is_known() {
    let server = TestServer::start().await;
    // printf 'hello world' | sha256sum | xxd -r -p | base64
    let digest = "sha-256=:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=:";
    let hello = format!("/ipfs/{TREE}/hello.txt");
    let whole = server.get(&hello).await;
    assert_eq!(whole.header("repr-digest"), digest);
    assert_eq!(whole.header("content-digest"), digest);
    let part = server.get_with(&hello, &[("range", "bytes=0-1")]).await;
    assert_eq!(part.header("repr-digest"), digest);
    assert_eq!(part.header("content-digest"), "");
    let etag = whole.header("etag");
    let known = server.get_with(&hello, &[("if-none-match", etag)]).await;
    assert_eq!(known.status, 304);
    assert_eq!(known.header("repr-digest"), digest);
    assert_eq!(known.header("content-digest"), "", "nothing is sent");
    let path = format!("/ipfs/{TREE}/big.bin");
    assert_eq!(server.get(&path).await.header("repr-digest"), "");
    server.get(&format!("{path}?format=meta4")).await;
    let known = server.get(&path).await;
    assert_eq!(
        known.header("repr-digest"),
        "sha-256=:hNpk0VK7+T09V00c3EDOheGjejpvVLghxvRtZ1TqEK8=:"
    );
}

#[tokio::test]
async fn metalink_is_of_one_file_under_a_name_that_is_one() {
    let server = TestServer::start().await;
    let folder = server.get(&format!("/ipfs/{HAMT}?format=meta4")).await;
    assert_eq!(folder.status, 406);
    let asked = format!("/ipfs/{HELLO}?format=meta4&filename=..%2F..%2Fa%3C%22.txt");
    let reply = server.get(&asked).await;
    assert!(
        reply.text().contains("<file name=\"a&#60;&#34;.txt\">"),
        "{}",
        reply.text()
    );
    let asked = format!("/ipfs/{HELLO}?format=meta4&filename=a%2F..");
    let reply = server.get(&asked).await;
    assert!(reply.text().contains(&format!("<file name=\"{HELLO}\">")));
}

#[tokio::test]
async fn metalink_of_a_file_with_a_hole_is_an_error() {
    let missing = cid_of(RAW, &big()[5000..6000]).to_string();
    let server = TestServer::with(config(), MemoryBackend::without(&[&missing])).await;
    let path = format!("/ipfs/{BIG}?format=meta4");
    assert_eq!(server.get(&path).await.status, 404);
    // For its header alone the file is not read.
    let head = server.ask("HEAD", &path, &[]).await;
    assert_eq!(head.status, 200);
    let whole = TestServer::start().await.get(&path).await;
    assert_eq!(head.header("etag"), whole.header("etag"));
    let etag = [("if-none-match", whole.header("etag"))];
    assert_eq!(server.get_with(&path, &etag).await.status, 304);
}
