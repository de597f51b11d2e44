//! Section 7: blocks, CARs, TARs, records.

use super::trees::{PART, SITE, Trees};
use crate::case::{Case, ask, get};

const ABSENT: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

pub(super) fn cases(trees: &Trees) -> Vec<Case> {
    [
        blocks(trees),
        cars(trees),
        spans(trees),
        holes(trees),
        others(trees),
    ]
    .concat()
}

fn blocks(trees: &Trees) -> Vec<Case> {
    let raw = |below: &str| {
        get("7.1 block", trees.path(&format!("{below}?format=raw")))
            .is(200)
            .like_kubo()
    };
    let document =
        |cid: &str| get("7.1 block of a document", format!("/ipfs/{cid}?format=raw")).like_kubo();
    vec![
        raw(""),
        raw("docs"),
        raw("hello.txt"),
        raw("big.bin"),
        raw("link"),
        document(&trees.dag_cbor),
        document(&trees.json),
        get(
            "7.1 file name of a block",
            trees.path("hello.txt?format=raw&filename=x.y"),
        )
        .like_kubo(),
    ]
}

fn cars(trees: &Trees) -> Vec<Case> {
    let shard = format!("many/0003{}", "-".repeat(200));
    let car = |line, path: &str, query: &str| {
        get(line, format!("/ipfs/{path}?format=car{query}"))
            .is(200)
            .like_car_of_kubo()
    };
    let tree = |below: &str| format!("{}/{below}", trees.root);
    let mut cases = vec![
        car("7.2 CAR", &tree("docs"), "")
            .has(
                "content-type",
                "application/vnd.ipld.car; version=1; order=dfs; dups=n",
            )
            .has("accept-ranges", "none")
            .has("x-content-type-options", "nosniff")
            .begins(
                "content-disposition",
                format!("attachment; filename=\"{}_docs.car\"", trees.root),
            )
            .begins("etag", "W/\""),
        car("7.2 a CAR has no ranges", &tree("docs"), "")
            .with("range", "bytes=0-9")
            .lacks("content-range"),
        ask("7.2 HEAD of a CAR", "HEAD", trees.path("docs?format=car")).like_car_of_kubo(),
        car("7.3 depth first", &trees.root, ""),
        car("7.3 blocks of the path", &tree("docs/a.txt"), ""),
        car("7.3 shards of the path", &tree(&shard), ""),
        car("7.6 dups=y", &tree("same"), "&car-dups=y"),
        car("7.6 dups=n", &tree("same"), "&car-dups=n"),
        car("7.6 identity", "bafkqaaa", "&car-dups=y").holds(&[]),
    ];
    // Kubo's answer has no order but this one.
    for order in ["dfs", "unk"] {
        cases.push(
            get(
                "7.6 order",
                trees.path(&format!("docs?format=car&car-order={order}")),
            )
            .is(200),
        );
    }
    for scope in ["block", "entity", "all"] {
        let query = format!("&dag-scope={scope}");
        for below in ["docs", "hello.txt", "big.bin", "link", "same", "many"] {
            cases.push(car("7.4 scope", &tree(below), &query));
        }
        for cid in [
            &trees.dag_cbor,
            &trees.dag_json,
            &trees.json,
            &trees.hello_v0,
        ] {
            cases.push(car("7.4 scope of a document", cid, &query));
        }
    }
    for query in [
        "dag-scope=everything",
        "car-order=bfs",
        "car-dups=maybe",
        "car-version=2",
    ] {
        let line = match query {
            "dag-scope=everything" => "7.4 other scope",
            "car-version=2" => "7.8 other version",
            _ => "7.6 other parameter",
        };
        cases.push(
            get(line, trees.path(&format!("docs?format=car&{query}")))
                .is(400)
                .like_kubo(),
        );
    }
    cases.push(
        get("7.8 other version of Accept", trees.path("docs"))
            .with("accept", "application/vnd.ipld.car; version=2")
            .is(400)
            .like_kubo(),
    );
    cases
}

fn spans(trees: &Trees) -> Vec<Case> {
    let span = |below: &str, bytes: &str| {
        get(
            "7.5 entity-bytes",
            trees.path(&format!("{below}?format=car&entity-bytes={bytes}")),
        )
        .is(200)
    };
    let [big, a, b, c, d] = &trees.big;
    let part = |bytes: String, parts: &[&String]| {
        let path = [&trees.root, big].into_iter().chain(parts.iter().copied());
        let path: Vec<&str> = path.map(String::as_str).collect();
        span("big.bin", &bytes).holds(&path)
    };
    // Kubo sends what it read ahead, too.
    let mut cases = vec![
        part("0:*".to_owned(), &[a, b, c, d]),
        part("0:0".to_owned(), &[a]),
        part(format!("0:{}", PART - 1), &[a]),
        part(format!("{}:{PART}", PART - 1), &[a, b]),
        part(format!("{PART}:{}", 2 * PART - 1), &[b]),
        part("-1:*".to_owned(), &[d]),
        part("-12:-11".to_owned(), &[c, d]),
        part("-99999999:5".to_owned(), &[a]),
        part(format!("{}:99999999", 3 * PART), &[d]),
        part("99999999:*".to_owned(), &[]),
        part("-99999999:-88888888".to_owned(), &[]),
        part("-1:0".to_owned(), &[]),
    ];
    // Kubo sends everything below.
    let document = format!("/ipfs/{}?format=car&entity-bytes=0:5", trees.dag_cbor);
    let line = "7.5 entity-bytes of a document";
    cases.push(get(line, document).is(200).holds(&[&trees.dag_cbor]));
    cases.push(span("numbers.txt", "3:5").like_car_of_kubo());
    for bytes in ["5", "9:5", "-2:-5", "a:b", "*:5", ""] {
        let target = trees.path(&format!("big.bin?format=car&entity-bytes={bytes}"));
        let case = get("7.5 entity-bytes that are none", target).is(400);
        cases.push(if bytes.is_empty() {
            case
        } else {
            case.like_kubo()
        });
    }
    for bytes in [format!("0:{}", PART - 1), format!("{}:*", 2 * PART)] {
        let target = format!("/ipfs/{}?format=car&entity-bytes={bytes}", trees.hole);
        cases.push(get("7.5 entity-bytes beside a hole", target).is(200));
    }
    cases
}

fn holes(trees: &Trees) -> Vec<Case> {
    vec![
        // Kubo answers 200 and sends what there is.
        get("7.7 missing path", trees.path("absent?format=car")).is(404),
        // Kubo answers 200 and breaks off.
        get("7.7 missing root", format!("/ipfs/{ABSENT}?format=car")).is(404),
        get(
            "7.7 missing block",
            format!("/ipfs/{}?format=car", trees.hole),
        )
        .is(200)
        .breaks_off(),
        get(
            "7.7 missing block",
            format!("/ipfs/{}?format=car&dag-scope=entity", trees.hole),
        )
        .is(200)
        .breaks_off(),
    ]
}

fn others(trees: &Trees) -> Vec<Case> {
    let strict = |target: String, status| {
        get("7.9 strict host", target)
            .host("strict.example")
            .is(status)
            .like_car_of_kubo()
    };
    let tar = |path: &str| get("7.10 TAR", format!("/ipfs/{path}?format=tar")).is(200);
    let record = |line, method| {
        ask(
            line,
            method,
            format!("/ipns/{}?format=ipns-record", trees.name),
        )
    };
    let mut cases = vec![
        strict(format!("/ipfs/{}?format=raw", trees.hello), 200),
        strict(format!("/ipfs/{}", trees.hello), 406),
        strict(trees.path("docs?format=raw"), 406),
        strict(trees.path("docs?format=car"), 200),
        strict(trees.path("docs?format=tar"), 406),
        strict(trees.path("docs/"), 406),
        tar(&format!("{}/docs", trees.root))
            .has("content-type", "application/x-tar")
            .shows("/a.txt")
            .like_kubo_but(&["body", "accept-ranges"]),
        tar(&format!("{}/%C4%85%C4%99", trees.root)).shows("/file-źł.txt"),
        tar(&trees.hello)
            .begins("etag", "W/\"")
            .shows(format!("{}\0", trees.hello)),
        tar(&format!("{}/many", trees.root)).shows(format!("/0000{}", "-".repeat(200))),
        get(
            "7.10 TAR of a folder that leads out",
            format!("/ipfs/{}?format=tar", trees.escape),
        )
        .hides("evil")
        .breaks_off(),
        // Kubo answers 500.
        get(
            "7.10 TAR of a document",
            format!("/ipfs/{}?format=tar", trees.json),
        )
        .is(406),
        record("7.11 record", "GET")
            .is(200)
            .has("content-type", "application/vnd.ipfs.ipns-record")
            .begins("cache-control", "public, max-age=1")
            .begins("etag", "\"")
            .like_kubo_but(&[
                "etag",
                "content-length",
                "cache-control",
                "x-ipfs-path",
                "x-ipfs-roots",
            ]),
        record("7.11 HEAD of a record", "HEAD")
            .is(200)
            .begins("etag", "\""),
        get(
            "7.11 no record of a path",
            format!("/ipns/{}/a.txt?format=ipns-record", trees.name),
        )
        .is(400)
        .like_kubo(),
        get(
            "7.11 no record of a domain",
            format!("/ipns/{SITE}?format=ipns-record"),
        )
        .is(400),
        get(
            "7.11 no record of a CID",
            format!("/ipfs/{}?format=ipns-record", trees.root),
        )
        .is(400)
        .like_kubo(),
    ];
    for method in ["GET", "HEAD"] {
        cases.extend([
            ask("7.9 probe", method, "/ipfs/bafkqaaa?format=raw")
                .is(200)
                .reads("")
                .like_kubo(),
            ask("7.9 probe", method, "/ipfs/bafkqaaa?format=car")
                .is(200)
                .like_car_of_kubo(),
        ]);
    }
    cases
}
