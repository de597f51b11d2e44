//! Section 3: which format a client gets.

use super::trees::Trees;
use crate::case::{Case, get};

const RAW: &str = "application/vnd.ipld.raw";
const CAR: &str = "application/vnd.ipld.car";
const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

pub(super) fn cases(trees: &Trees) -> Vec<Case> {
    let file = &trees.path("hello.txt");
    let docs = &trees.path("docs");
    let document = &format!("/ipfs/{}", trees.dag_json);
    let name = &format!("/ipns/{}", trees.name);
    let mut cases = vec![
        get("3.1 tar", trees.path("docs?format=tar"))
            .is(200)
            .like_kubo_but(&["body", "accept-ranges"]),
        get("3.1 raw", trees.path("docs?format=raw"))
            .is(200)
            .like_kubo(),
        get("3.1 car", trees.path("docs?format=car"))
            .is(200)
            .like_car_of_kubo(),
        get("3.1 dag-json", format!("{document}?format=dag-json"))
            .is(200)
            .like_kubo(),
        get(
            "3.1 dag-cbor",
            format!("/ipfs/{}?format=dag-cbor", trees.dag_cbor),
        )
        .is(200)
        .like_kubo(),
        get("3.1 json", format!("/ipfs/{}?format=json", trees.json))
            .is(200)
            .like_kubo(),
        get("3.1 cbor", format!("/ipfs/{}?format=cbor", trees.cbor))
            .is(200)
            .like_kubo(),
        // Kubo's ETag has no quotes, and it knows the length.
        get("3.1 ipns-record", format!("{name}?format=ipns-record"))
            .is(200)
            .like_kubo_but(&[
                "etag",
                "content-length",
                "x-ipfs-path",
                "x-ipfs-roots",
                "cache-control",
            ]),
        get("3.1 the URL wins", format!("{file}?format=raw"))
            .with("accept", CAR)
            .is(200)
            .like_kubo(),
        get("3.1 the URL wins", format!("{docs}?format=raw"))
            .with("accept", HTML)
            .has("content-type", RAW)
            .like_kubo(),
        get(
            "3.1 the URL wins over what nobody defined",
            format!("{file}?format=raw"),
        )
        .with("accept", "application/vnd.ipld.nonsense")
        .is(200),
        get("3.1 empty is absent", format!("{file}?format=")).like_kubo(),
        get("3.1 empty is absent", format!("{file}?format="))
            .with("accept", RAW)
            .like_kubo(),
        get("3.1 unknown is absent", format!("{file}?format=nonsense")).like_kubo(),
    ];
    for (accept, media_type) in [
        ("*/*", "text/plain; charset=utf-8"),
        (HTML, "text/plain; charset=utf-8"),
        ("image/webp, nonsense/x", "text/plain; charset=utf-8"),
        (RAW, RAW),
        (
            "text/html, application/vnd.ipld.raw;q=0.1, application/vnd.ipld.car;q=0.9",
            RAW,
        ),
        (
            "application/vnd.ipld.car;q=0.1, application/vnd.ipld.raw",
            CAR,
        ),
        ("application/json", "text/plain; charset=utf-8"),
    ] {
        // Kubo takes the weight for a parameter of the URL.
        cases.push(
            get("3.2 first known entry of Accept", file)
                .with("accept", accept)
                .is(200)
                .begins("content-type", media_type)
                .like_kubo_but(&["content-length", "content-location", "etag"]),
        );
    }
    for (query, accept, parameters) in [
        (
            "",
            "application/vnd.ipld.car; version=1; order=dfs; dups=y",
            "order=dfs; dups=y",
        ),
        (
            "?format=car",
            "application/vnd.ipld.car; dups=y",
            "order=dfs; dups=y",
        ),
        (
            "?format=car&car-dups=n",
            "application/vnd.ipld.car; dups=y",
            "order=dfs; dups=n",
        ),
        (
            "?format=car&car-order=dfs",
            "application/vnd.ipld.car; dups=y; order=unk",
            "order=dfs; dups=y",
        ),
        (
            "?format=car",
            "application/vnd.ipld.raw; dups=y",
            "order=dfs; dups=n",
        ),
    ] {
        cases.push(
            get("3.3 parameters of the media type", format!("{docs}{query}"))
                .with("accept", accept)
                .has("content-type", format!("{CAR}; version=1; {parameters}"))
                .like_kubo_but(&["etag", "content-length", "content-location"]),
        );
    }
    cases.extend([
        get("3.4 Content-Location", format!("{file}?filename=x"))
            .with("accept", RAW)
            .has("content-location", format!("{file}?filename=x&format=raw")),
        get("3.4 Content-Location", file)
            .with("accept", RAW)
            .like_kubo(),
        get("3.4 Content-Location of a CAR", docs)
            .with("accept", "application/vnd.ipld.car; version=1; dups=y")
            .has(
                "content-location",
                format!("{docs}?format=car&car-version=1&car-dups=y"),
            ),
        get("3.4 Content-Location on a subdomain", "/hello.txt")
            .host(&format!("{}.ipfs.gw.example", trees.root))
            .with("accept", RAW)
            .has("content-location", "/hello.txt?format=raw")
            .like_kubo(),
        get("3.4 no Content-Location", format!("{file}?format=raw")).lacks("content-location"),
        get("3.4 no Content-Location", file)
            .lacks("content-location")
            .lacks("vary"),
    ]);
    cases
}
