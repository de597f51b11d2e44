//! Section 6: documents of the IPLD codecs.

use super::trees::Trees;
use crate::case::{Case, ask, get};

pub(super) fn cases(trees: &Trees) -> Vec<Case> {
    let Trees {
        dag_cbor,
        dag_json,
        cbor,
        json,
        ..
    } = trees;
    let folder = &format!("{}/docs", trees.root);
    let file = &trees.hello;
    let mut cases = Vec::new();
    for (cid, media_type, disposition) in [
        (dag_cbor, "application/vnd.ipld.dag-cbor", "attachment"),
        (dag_json, "application/vnd.ipld.dag-json", "inline"),
        (cbor, "application/cbor", "attachment"),
        (json, "application/json", "inline"),
    ] {
        let path = &format!("/ipfs/{cid}");
        // Kubo gives what is asked for by name and what is not one ETag.
        cases.extend([
            get("6.1 document", path)
                .is(200)
                .has("etag", format!("\"{cid}\""))
                .has("content-type", media_type)
                .has("x-content-type-options", "nosniff")
                .begins(
                    "content-disposition",
                    format!("{disposition}; filename=\"{cid}."),
                )
                .like_kubo_but(&["etag"]),
            ask("6.1 HEAD of a document", "HEAD", path)
                .is(200)
                .like_kubo_but(&["etag"]),
            get("6.1 file name", format!("{path}?filename=a.x")).like_kubo_but(&["etag"]),
            get("6.1 download", format!("{path}?filename=a.x&download=true"))
                .begins("content-disposition", "attachment; filename=\"a.x\"")
                .like_kubo_but(&["etag"]),
            get("6.1 as it is", path)
                .with("accept", "*/*")
                .like_kubo_but(&["etag"]),
        ]);
    }
    for (cid, word) in [
        (dag_json, "json"),
        (dag_json, "dag-json"),
        (dag_cbor, "cbor"),
        (dag_cbor, "dag-cbor"),
        (json, "json"),
        (cbor, "cbor"),
    ] {
        let path = format!("/ipfs/{cid}?format={word}");
        cases.push(
            get("6.2 same family", path)
                .is(200)
                .has("etag", format!("\"{cid}.{word}\""))
                .like_kubo(),
        );
    }
    for (path, word) in [
        (dag_cbor, "dag-json"),
        (dag_json, "dag-cbor"),
        (json, "dag-json"),
        (cbor, "dag-cbor"),
        (folder, "dag-json"),
        (folder, "dag-cbor"),
        (file, "dag-json"),
        (file, "dag-cbor"),
    ] {
        let case = get(
            "6.3 nothing is converted",
            format!("/ipfs/{path}?format={word}"),
        );
        cases.push(case.is(406).shows("?format=raw").like_kubo());
    }
    for (cid, word) in [
        (dag_cbor, "json"),
        (dag_json, "cbor"),
        (cbor, "json"),
        (json, "cbor"),
    ] {
        // Kubo answers 400 to some.
        cases.push(
            get(
                "6.3 nothing is converted",
                format!("/ipfs/{cid}?format={word}"),
            )
            .is(406),
        );
    }
    for word in ["json", "cbor"] {
        let case = get("6.3 a file as it is", format!("/ipfs/{file}?format={word}"));
        cases.push(case.is(200).reads("hello\n").like_kubo());
    }
    for cid in [dag_cbor, dag_json] {
        let root = format!("/ipfs/{cid}");
        cases.extend([
            get("6.4 page of a document", format!("{root}/"))
                .with("accept", "text/html")
                .is(200)
                .begins("etag", "\"DagIndex-")
                .lacks("content-disposition")
                .has(
                    "cache-control",
                    "public, max-age=604800, stale-while-revalidate=2678400",
                )
                .shows("</html>"),
            get("6.4 page to its slash", &root)
                .with("accept", "text/html")
                .leads_to(301, format!("{root}/"))
                .like_kubo(),
            get("6.5 link", format!("{root}/link/hello.txt"))
                .is(200)
                .reads("hello\n")
                .like_kubo(),
            get("6.5 link of a list", format!("{root}/list/0"))
                .is(200)
                .reads("hello\n")
                .like_kubo(),
            get("6.5 value", format!("{root}/value"))
                .is(501)
                .like_kubo(),
            get("6.5 missing key", format!("{root}/absent"))
                .is(404)
                .like_kubo(),
            get("6.5 missing index", format!("{root}/list/9")).is(404),
            get(
                "6.5 CAR of a path through a document",
                format!("{root}/link/hello.txt?format=car"),
            )
            .is(200)
            .like_car_of_kubo(),
        ]);
    }
    cases.push(
        get(
            "6.6 document of a name",
            format!("/ipns/{}", trees.name_of_document),
        )
        .is(200)
        .has("etag", format!("\"{dag_cbor}\""))
        .like_kubo_but(&["cache-control", "etag"]),
    );
    cases
}
