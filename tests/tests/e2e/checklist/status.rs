//! Section 2: status codes.

use super::trees::Trees;
use crate::case::{Case, ask, get};

const ABSENT: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
/// A key of which nobody published a record.
const SILENT: &str = "k51qzi5uqu5dipklqpo2uq9advlajxx72fr8jt5mbg7a1c4w2xwyuy7pvaqnqj";

pub(super) fn cases(trees: &Trees) -> Vec<Case> {
    let car = |query: &str| format!("/ipfs/{}?format=car&{query}", trees.root);
    let numbers = &trees.path("numbers.txt");
    let mut cases = vec![
        get("2.1 bad CID", "/ipfs/QmInvalidCID")
            .is(400)
            .shows("invalid path \"/ipfs/QmInvalidCID\"")
            .like_kubo(),
        get("2.1 no CID", "/ipfs/").is(400).like_kubo(),
        get("2.1 format that nobody defined", numbers)
            .with("accept", "application/vnd.ipld.nonsense")
            .is(400)
            .like_kubo(),
        // Kubo refuses what RFC 9110 would have ignored.
        get("2.1 malformed range", numbers)
            .with("range", "bytes=x-y")
            .is(200),
        get("2.2 missing link", trees.path("docs/absent"))
            .is(404)
            .shows("no link named \"absent\"")
            .like_kubo(),
        get("2.2 missing link of a HAMT", trees.path("many/absent"))
            .is(404)
            .like_kubo(),
        get("2.2 below a file", trees.path("hello.txt/x"))
            .is(404)
            .like_kubo(),
        get("2.2 content that is not here", format!("/ipfs/{ABSENT}"))
            .is(404)
            .like_kubo(),
        get(
            "2.3 format that does not fit",
            trees.path("docs?format=dag-cbor"),
        )
        .is(406)
        .like_kubo(),
        get("2.3 strict host", numbers)
            .host("strict.example")
            .is(406)
            .like_kubo(),
        get("2.4 only-if-cached", format!("/ipfs/{ABSENT}"))
            .with("cache-control", "only-if-cached")
            .is(412)
            .like_kubo(),
        ask("2.4 only-if-cached", "HEAD", format!("/ipfs/{ABSENT}"))
            .with("cache-control", "only-if-cached")
            .is(412)
            .like_kubo(),
        get("2.4 range outside", numbers)
            .with("range", "bytes=31-")
            .is(416)
            .has("content-range", "bytes */31")
            .like_kubo(),
        get("2.6 name without a record", format!("/ipns/{SILENT}"))
            .is(500)
            .like_kubo(),
        get("2.6 domain without a DNSLink", "/ipns/absent.example")
            .is(500)
            .like_kubo(),
        get(
            "2.7 value that is no link",
            format!("/ipfs/{}/value", trees.dag_cbor),
        )
        .is(501)
        .like_kubo(),
        get(
            "2.7 value that is no link",
            format!("/ipfs/{}/list/1", trees.dag_json),
        )
        .is(501)
        .like_kubo(),
    ];
    for query in [
        "car-version=2",
        "car-order=x",
        "car-dups=x",
        "dag-scope=x",
        "entity-bytes=x",
    ] {
        cases.push(
            get("2.1 bad parameter of a CAR", car(query))
                .is(400)
                .like_kubo(),
        );
    }
    cases
}
