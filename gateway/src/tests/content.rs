//! Files, directories, links and errors.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::memory::{MemoryBackend, sections};
use super::{BIG, DOCS, HAMT, HELLO, PLAIN, SITE, TREE, TestServer, big, config};

#[tokio::test]
async fn file_comes_with_the_headers_of_the_specification() {
    let server = TestServer::start().await;
    let reply = server.get(&format!("/ipfs/{TREE}/hello.txt")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.text(), "hello world");
    assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(reply.header("content-length"), "11");
    assert_eq!(reply.header("accept-ranges"), "bytes");
    assert_eq!(reply.header("etag"), format!("\"{HELLO}\""));
    assert_eq!(
        reply.header("cache-control"),
        "public, max-age=29030400, immutable"
    );
    assert_eq!(
        reply.header("x-ipfs-path"),
        format!("/ipfs/{TREE}/hello.txt")
    );
    assert_eq!(reply.header("x-ipfs-roots"), format!("{TREE},{HELLO}"));
    assert_eq!(reply.header("access-control-allow-origin"), "*");
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let server = TestServer::start().await;
    let paths = [
        "hello.txt".to_owned(),
        "big.bin".to_owned(),
        "big.bin?format=raw".to_owned(),
        "noext".to_owned(),
        "plain/".to_owned(),
        "plain".to_owned(),
        "site/".to_owned(),
        "docs/link".to_owned(),
        "nothing/here".to_owned(),
    ];
    for path in paths {
        let path = format!("/ipfs/{TREE}/{path}");
        let get = server.get(&path).await;
        let head = server.ask("HEAD", &path, &[]).await;
        let plain = |mut headers: http::HeaderMap| {
            headers.remove("date");
            headers.remove("transfer-encoding");
            headers
        };
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(plain(head.headers), plain(get.headers), "{path}");
        assert!(head.body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn head_of_a_sharded_listing_reads_no_shard_but_to_look_for_an_index() {
    let whole = TestServer::start().await;
    let car = format!("/ipfs/{HAMT}?format=car&dag-scope=entity");
    let shards = sections(&whole.get(&car).await.body);
    let (last, _) = shards.last().unwrap();
    let backend = MemoryBackend::without(&[&last.to_string()]);
    let server = TestServer::with(config(), backend).await;
    let listing = format!("/ipfs/{HAMT}/");
    assert_eq!(server.get(&listing).await.status, 404);
    let head = server.ask("HEAD", &listing, &[]).await;
    assert_eq!(head.status, 200);
    assert!(head.header("etag").starts_with("\"DirIndex-"), "{head:?}");
    // It follows from the page.
    assert!(!head.headers.contains_key("content-length"), "{head:?}");
}

#[tokio::test]
async fn file_of_many_blocks_is_whole() {
    let server = TestServer::start().await;
    let reply = server.get(&format!("/ipfs/{BIG}")).await;
    assert_eq!((reply.status.as_u16(), reply.complete), (200, true));
    assert_eq!(reply.header("content-length"), "10007");
    assert_eq!(reply.body, big());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_range_of_a_file_equals_the_slice() {
    let server = TestServer::start().await;
    let content = big();
    let handle = tokio::runtime::Handle::current();
    let cases = (0u64..10_100, 0u64..10_100);
    tokio::task::block_in_place(|| {
        TestRunner::new(ProptestConfig::with_cases(64)).run(&cases, |(a, b)| {
            let (from, to) = (a.min(b), a.max(b));
            let range = format!("bytes={from}-{to}");
            let reply = handle.block_on(server.get_with(
                &format!("/ipfs/{BIG}?filename=big.bin"),
                &[("range", &range)],
            ));
            let slice = content
                .get(usize::try_from(from).unwrap()..)
                .map(|rest| &rest[..rest.len().min(usize::try_from(to - from + 1).unwrap())]);
            match slice {
                Some(slice) if !slice.is_empty() => {
                    prop_assert_eq!(reply.status, 206);
                    prop_assert_eq!(&reply.body, slice);
                    let last = from + slice.len() as u64 - 1;
                    prop_assert_eq!(
                        reply.header("content-range"),
                        format!("bytes {from}-{last}/10007")
                    );
                }
                _ => {
                    prop_assert_eq!(reply.status, 416);
                    prop_assert_eq!(reply.header("content-range"), "bytes */10007");
                }
            }
            Ok(())
        })
    })
    .unwrap();
}

/// The chunk of `big.bin` that holds the bytes 5000 to 5999.
fn middle_chunk() -> String {
    duka_node::block::cid_of(duka_node::block::RAW, &big()[5000..6000]).to_string()
}

#[tokio::test]
async fn missing_block_in_the_middle_cuts_the_stream() {
    let backend = MemoryBackend::without(&[&middle_chunk()]);
    let server = TestServer::with(config(), backend).await;
    let reply = server.get(&format!("/ipfs/{BIG}")).await;
    assert_eq!(reply.status, 200);
    assert!(!reply.complete);
    assert!(big().starts_with(&reply.body));
}

#[tokio::test]
async fn ranges_beside_a_missing_block_are_served() {
    let backend = MemoryBackend::without(&[&middle_chunk()]);
    let server = TestServer::with(config(), backend).await;
    for (range, slice) in [("bytes=0-4999", 0..5000), ("bytes=6000-", 6000..10_007)] {
        let reply = server
            .get_with(&format!("/ipfs/{BIG}"), &[("range", range)])
            .await;
        assert_eq!((reply.status.as_u16(), reply.complete), (206, true));
        assert_eq!(reply.body, big()[slice]);
    }
}

#[tokio::test]
async fn missing_first_block_is_404_and_names_what_was_tried() {
    let first = duka_node::block::cid_of(duka_node::block::RAW, &big()[..1000]).to_string();
    let server = TestServer::with(config(), MemoryBackend::without(&[&first])).await;
    let reply = server.get(&format!("/ipfs/{BIG}")).await;
    assert_eq!(reply.status, 404);
    assert!(reply.text().contains("not in memory"), "{}", reply.text());
    assert_eq!(reply.header("etag"), "");
}

#[tokio::test]
async fn missing_link_is_404_and_named() {
    let server = TestServer::start().await;
    let reply = server.get(&format!("/ipfs/{TREE}/plain/nope/x")).await;
    assert_eq!(reply.status, 404);
    assert!(
        reply.text().contains("no link named \"nope\""),
        "{}",
        reply.text()
    );
    assert_eq!(reply.header("cache-control"), "");
}

#[tokio::test]
async fn error_is_a_page_for_browsers() {
    let server = TestServer::start().await;
    let path = format!("/ipfs/{TREE}/%3Cscript%3E");
    let reply = server.get_with(&path, &[("accept", "text/html,*/*")]).await;
    assert_eq!(reply.status, 404);
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    assert!(!reply.text().contains("<script>"));
}

#[tokio::test]
async fn content_type_is_sniffed_where_the_name_tells_nothing() {
    let server = TestServer::start().await;
    let reply = server.get(&format!("/ipfs/{TREE}/noext")).await;
    assert_eq!(reply.header("content-type"), "application/json");
    let reply = server.get(&format!("/ipfs/{TREE}/noext?format=json")).await;
    assert_eq!(reply.header("content-type"), "application/json");
    let reply = server
        .get(&format!("/ipfs/{TREE}/noext?filename=a.png"))
        .await;
    assert_eq!(reply.header("content-type"), "image/png");
    let reply = server.get(&format!("/ipfs/{BIG}")).await;
    assert_eq!(reply.header("content-type"), "application/octet-stream");
}

#[tokio::test]
async fn symlink_is_its_target_and_not_followed() {
    let server = TestServer::start().await;
    let reply = server.get(&format!("/ipfs/{TREE}/docs/link")).await;
    assert_eq!(reply.text(), "../hello.txt");
    assert_eq!(reply.header("content-type"), "inode/symlink");
    let link = format!("/ipfs/{TREE}/docs/link");
    let part = server.get_with(&link, &[("range", "bytes=3-7")]).await;
    assert_eq!((part.status.as_u16(), part.text()), (206, "hello"));
    assert_eq!(part.header("content-range"), "bytes 3-7/12");
}

#[tokio::test]
async fn empty_file_and_empty_identity_cid_are_200() {
    let server = TestServer::start().await;
    for path in [
        format!("/ipfs/{TREE}/empty.txt"),
        "/ipfs/bafkqaaa".to_owned(),
    ] {
        let reply = server.get(&path).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("content-length")),
            (200, "0"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn directory_is_redirected_to_its_slash() {
    let server = TestServer::start().await;
    for (path, location) in [
        ("plain", "plain/"),
        ("site?x=1", "site/?x=1"),
        ("%c4%85/%C4%99", "%C4%85/%C4%99/"),
    ] {
        let reply = server.get(&format!("/ipfs/{TREE}/{path}")).await;
        assert_eq!(reply.status, 301);
        assert_eq!(reply.header("location"), format!("/ipfs/{TREE}/{location}"));
        assert_eq!(reply.header("access-control-allow-origin"), "*");
    }
}

#[tokio::test]
async fn index_html_is_served_as_the_directory() {
    let server = TestServer::start().await;
    let reply = server.get(&format!("/ipfs/{TREE}/site/")).await;
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("it works"));
    assert_eq!(reply.header("content-type"), "text/html");
    assert_eq!(reply.header("etag"), format!("\"{SITE}\""));
    assert_eq!(reply.header("x-ipfs-roots"), format!("{TREE},{SITE}"));
    assert_eq!(
        reply.header("cache-control"),
        "public, max-age=29030400, immutable"
    );
}

#[tokio::test]
async fn index_html_that_is_a_directory_is_an_error() {
    let server = TestServer::start().await;
    assert_eq!(server.get(&format!("/ipfs/{DOCS}/")).await.status, 422);
}

#[tokio::test]
async fn listing_has_the_links_of_the_specification() {
    let server = TestServer::start().await;
    let reply = server.get(&format!("/ipfs/{TREE}/%C4%85/%c4%99/")).await;
    assert_eq!(reply.status, 200);
    let page = reply.text();
    let base = format!("/ipfs/{TREE}/%C4%85/%C4%99");
    for wanted in [
        "Index of".to_owned(),
        format!("<a href=\"{base}/file-%C5%BA%C5%82.txt\">file-źł.txt</a>"),
        format!("<a href=\"{base}/..\">..</a>"),
        "?filename=file-%25C5%25BA%25C5%2582.txt\">".to_owned(),
        format!(
            "/ipfs/<a href=\"/ipfs/{TREE}\">{TREE}</a>/<a href=\"/ipfs/{TREE}/%C4%85\">ą</a>/\
             <a href=\"{base}\">ę</a>"
        ),
    ] {
        assert!(page.contains(&wanted), "{wanted} is not in {page}");
    }
    assert_eq!(
        reply.header("cache-control"),
        "public, max-age=604800, stale-while-revalidate=2678400"
    );
    assert!(reply.header("etag").starts_with("\"DirIndex-"));
}

#[tokio::test]
async fn listing_of_a_root_has_no_parent() {
    let server = TestServer::start().await;
    let page = server.get(&format!("/ipfs/{PLAIN}/")).await;
    assert!(page.text().contains(">two.txt</a>"));
    assert!(!page.text().contains(">..</a>"));
}

#[tokio::test]
async fn hamt_is_listed_sorted_and_its_files_are_found() {
    let server = TestServer::start().await;
    let reply = server.get(&format!("/ipfs/{HAMT}/")).await;
    let names: Vec<_> = reply
        .text()
        .split("\">entry-")
        .skip(1)
        .map(|rest| rest[..2].to_owned())
        .collect();
    let wanted: Vec<_> = (0..40).map(|n| format!("{n:02}")).collect();
    assert_eq!(names, wanted);
    let reply = server.get(&format!("/ipfs/{HAMT}/entry-17.txt")).await;
    assert_eq!(reply.text(), "entry 17\n");
    assert_eq!(
        reply.header("x-ipfs-roots").split(',').count(),
        2,
        "shards are no roots"
    );
    assert_eq!(
        server
            .get(&format!("/ipfs/{HAMT}/entry-40.txt"))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn other_methods_are_405_and_options_is_200() {
    let server = TestServer::start().await;
    let reply = server.ask("POST", &format!("/ipfs/{HELLO}"), &[]).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("allow")),
        (405, "GET, HEAD, OPTIONS")
    );
    let reply = server.ask("OPTIONS", &format!("/ipfs/{HELLO}"), &[]).await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.is_empty());
    assert_eq!(
        reply.header("access-control-allow-methods"),
        "GET, HEAD, OPTIONS"
    );
}

#[tokio::test]
async fn absolute_form_target_is_served() {
    let server = TestServer::start().await;
    let reply = server
        .get(&format!("http://example.com:8080/ipfs/{HELLO}"))
        .await;
    assert_eq!(reply.text(), "hello world");
}

#[tokio::test]
async fn paths_outside_the_namespaces_are_404_and_bad_cids_400() {
    let server = TestServer::start().await;
    for path in ["/", "/api/v0/cat", "/ipfsx/y", "/metrics"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    let reply = server.get("/ipfs/QmInvalidCID").await;
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("invalid path \"/ipfs/QmInvalidCID\""));
    assert_eq!(server.get("/ipfs/").await.status, 400);
}
