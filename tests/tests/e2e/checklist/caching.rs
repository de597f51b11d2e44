//! Section 5: validators, and how long an answer stays true.

use super::trees::{NAMED, REDIRECTS, SITE, Trees};
use crate::case::{Case, ask, get};

const IMMUTABLE: &str = "public, max-age=29030400, immutable";
const ABSENT: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

pub(super) fn cases(trees: &Trees) -> Vec<Case> {
    [conditions(trees), tags(trees), times(trees), cached(trees)].concat()
}

fn conditions(trees: &Trees) -> Vec<Case> {
    let hello = &trees.path("hello.txt");
    let etag = format!("\"{}\"", trees.hello);
    let mut cases = Vec::new();
    for (asked, status) in [
        (etag.clone(), 304),
        (format!("W/{etag}"), 304),
        (format!("\"x\", W/\"y\" , {etag}"), 304),
        ("*".to_owned(), 304),
        ("\"x\"".to_owned(), 200),
        (trees.hello.clone(), 200),
        (format!("\"{}.raw\"", trees.hello), 200),
    ] {
        let case = |line, method| {
            ask(line, method, hello)
                .with("if-none-match", &asked)
                .is(status)
        };
        cases.push(case("5.1 If-None-Match", "GET").like_kubo());
        cases.push(case("5.1 If-None-Match of HEAD", "HEAD").like_kubo());
    }
    cases.extend([
        get("5.1 304 has ETag and Cache-Control", hello)
            .with("if-none-match", &etag)
            .is(304)
            .has("etag", &etag)
            .has("cache-control", IMMUTABLE)
            .reads(""),
        get("5.1 raw is not the file", format!("{hello}?format=raw"))
            .with("if-none-match", &etag)
            .is(200)
            .like_kubo(),
        get("5.1 raw", format!("{hello}?format=raw"))
            .with("if-none-match", &format!("\"{}.raw\"", trees.hello))
            .is(304)
            .like_kubo(),
        get("5.1 through a rewrite", "/app/x")
            .host(REDIRECTS)
            .with("if-none-match", "*")
            .is(304)
            .like_kubo(),
        get("5.1 of a name", format!("/ipns/{}/a.txt", trees.name))
            .with("if-none-match", "*")
            .is(304),
        get("5.1 a page is not its folder", trees.path("docs/"))
            .with("if-none-match", &format!("\"{}\"", trees.root))
            .is(200),
    ]);
    cases
}

fn tags(trees: &Trees) -> Vec<Case> {
    let car = |query: &str, tag: &str| {
        get(
            "5.2 ETag of a CAR",
            trees.path(&format!("docs?format=car{query}")),
        )
        .is(200)
        .begins("etag", format!("W/\"{}.car.", trees.root))
        .begins("content-type", "application/vnd.ipld.car")
        .ends("etag", format!("{tag}\""))
    };
    vec![
        get("5.2 ETag of a file", trees.path("big.bin"))
            .is(200)
            .like_kubo(),
        get("5.2 ETag of a block", trees.path("big.bin?format=raw")).like_kubo(),
        get("5.2 ETag of a TAR", trees.path("docs?format=tar"))
            .like_kubo_but(&["body", "accept-ranges"]),
        get(
            "5.2 ETag of a document",
            format!("/ipfs/{}?format=json", trees.dag_json),
        )
        .has("etag", format!("\"{}.json\"", trees.dag_json))
        .like_kubo(),
        get(
            "5.2 ETag of a document's page",
            format!("/ipfs/{}/", trees.dag_json),
        )
        .with("accept", "text/html")
        .begins("etag", "\"DagIndex-"),
        get("5.2 ETag of a listing", trees.path("docs/")).begins("etag", "\"DirIndex-"),
        get(
            "5.2 ETag of a record",
            format!("/ipns/{}?format=ipns-record", trees.name),
        )
        .begins("etag", "\""),
        car("", ".all.n"),
        car("&dag-scope=block", ".block.n"),
        car("&dag-scope=entity", ".entity.n"),
        car("&entity-bytes=0:9", ".entity.0:9.n"),
        car("&car-dups=y", ".all.y"),
    ]
}

fn times(trees: &Trees) -> Vec<Case> {
    let of = |path: String| get("5.3 TTL of a name", path).is(200);
    vec![
        of(format!("/ipns/{}/a.txt", trees.name)).begins("cache-control", "public, max-age=1"),
        of(format!("/ipns/{}/", trees.name)).begins("cache-control", "public, max-age=1"),
        // The shorter of the two.
        of(format!("/ipns/{}/a.txt", trees.name_of_name))
            .begins("cache-control", "public, max-age=1"),
        of(format!("/ipns/{NAMED}/a.txt")).lacks("cache-control"),
        of(format!("/ipns/{SITE}/hello.txt")).lacks("cache-control"),
        of(format!("/ipns/{SITE}/docs/")).lacks("cache-control"),
        of(format!("/ipns/{}/hello.txt", trees.name_for_long))
            .begins("cache-control", "public, max-age=31"),
        get("5.3 404 of a domain", "/nothing/here")
            .host(REDIRECTS)
            .is(404)
            .lacks("cache-control"),
    ]
}

fn cached(trees: &Trees) -> Vec<Case> {
    let only = |path: String, status| {
        get("5.4 only-if-cached", path)
            .with("cache-control", "only-if-cached")
            .is(status)
    };
    let mut cases = Vec::new();
    for query in ["", "?format=raw", "?format=car", "?format=tar"] {
        cases.push(
            only(trees.path(&format!("hello.txt{query}")), 200).like_kubo_but(&[
                "body",
                "content-length",
                "etag",
                "accept-ranges",
            ]),
        );
        cases.push(only(format!("/ipfs/{ABSENT}{query}"), 412).like_kubo());
    }
    cases.push(only(format!("/ipfs/{}", trees.dag_cbor), 200).like_kubo_but(&["etag"]));
    cases
}
