//! Section 1: what all modes have in common.

use super::trees::{REDIRECTS, SITE, Trees};
use crate::case::{Case, ask, get};

const CID_OF_NOTHING: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
const LISTED: &str =
    "Content-Length, Content-Range, X-Chunked-Output, X-Ipfs-Path, X-Ipfs-Roots, X-Stream-Output";

pub(super) fn cases(trees: &Trees) -> Vec<Case> {
    [
        methods(trees),
        cors(trees),
        targets(trees),
        paths(trees),
        errors(trees),
    ]
    .concat()
}

fn methods(trees: &Trees) -> Vec<Case> {
    let file = &trees.path("hello.txt");
    let mut cases = Vec::new();
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "NONSENSE"] {
        cases.push(
            ask("1.1 other methods", method, file)
                .is(405)
                .has("allow", "GET, HEAD, OPTIONS"),
        );
    }
    for below in [
        "hello.txt",
        "big.bin",
        "link",
        "page/",
        "docs",
        "absent",
        "big.bin?format=raw",
    ] {
        cases.push(ask("1.1 HEAD has what GET has", "HEAD", trees.path(below)).like_kubo());
    }
    cases.extend([
        ask("1.1 HEAD has what GET has", "HEAD", file)
            .is(200)
            .has("content-length", "6")
            .reads(""),
        ask(
            "1.2 HEAD of a file with a hole",
            "HEAD",
            format!("/ipfs/{}", trees.hole),
        )
        .is(200)
        .has("content-length", (3 * super::trees::PART).to_string()),
        ask(
            "1.2 HEAD of a CAR with a hole",
            "HEAD",
            format!("/ipfs/{}?format=car", trees.hole),
        )
        .is(200),
        ask(
            "1.2 HEAD of a TAR with a hole",
            "HEAD",
            format!("/ipfs/{}?format=tar", trees.hole),
        )
        .is(200),
        ask(
            "1.2 HEAD of a Metalink with a hole",
            "HEAD",
            format!("/ipfs/{}?format=meta4", trees.hole),
        )
        .is(200)
        .begins("etag", "\""),
        // Kubo answers nothing but 200.
        ask("1.2 HEAD of a listing", "HEAD", trees.path("docs/"))
            .is(200)
            .has("content-type", "text/html; charset=utf-8")
            .begins("content-length", "")
            .begins("etag", "\"DirIndex-"),
        ask("1.2 HEAD of a sharded listing", "HEAD", trees.path("many/"))
            .is(200)
            .has("content-type", "text/html; charset=utf-8")
            .begins("etag", "\"DirIndex-"),
    ]);
    for path in ["/", "/ipfs/nonsense", "/absent", file] {
        cases.push(
            ask("1.3 OPTIONS of anything", "OPTIONS", path)
                .is(200)
                .has("access-control-allow-methods", "GET, HEAD, OPTIONS")
                .reads(""),
        );
    }
    cases
}

fn cors(trees: &Trees) -> Vec<Case> {
    let open = |case: Case, status| {
        case.is(status)
            .has("access-control-allow-origin", "*")
            .has("access-control-allow-methods", "GET, HEAD, OPTIONS")
            .has(
                "access-control-allow-headers",
                "Content-Type, Range, User-Agent, X-Requested-With",
            )
            .has("access-control-expose-headers", LISTED)
    };
    let line = "1.4 CORS";
    let file = &trees.path("hello.txt");
    vec![
        open(get(line, file), 200),
        open(get(line, file).with("range", "bytes=0-0"), 206),
        open(get(line, trees.path("docs")), 301),
        open(get(line, file).with("if-none-match", "*"), 304),
        open(get(line, "/ipfs/nonsense"), 400),
        open(get(line, trees.path("absent")), 404),
        open(get(line, "/"), 404),
        open(ask(line, "POST", file), 405),
        open(get(line, trees.path("docs?format=dag-json")), 406),
        open(
            get(line, format!("/ipfs/{CID_OF_NOTHING}")).with("cache-control", "only-if-cached"),
            412,
        ),
        open(get(line, file).with("range", "bytes=9-"), 416),
        open(get(line, "/ipns/absent.example"), 500),
        open(get(line, format!("/ipfs/{}/value", trees.dag_cbor)), 501),
        open(get(line, "/302").host(REDIRECTS), 302),
        open(get(line, file).host("gw.example"), 301),
    ]
}

fn targets(trees: &Trees) -> Vec<Case> {
    let file = &trees.path("hello.txt");
    let root = &trees.root;
    let on_its_host = format!("http://{root}.ipfs.gw.example:80/hello.txt");
    vec![
        get("1.5 absolute form", format!("http://127.0.0.1:8080{file}")).like_kubo(),
        get("1.5 the target decides the host", &on_its_host)
            .host("127.0.0.1")
            .like_kubo(),
        get(
            "1.5 the target decides the host",
            format!("http://{SITE}/hello.txt"),
        )
        .host("x")
        .like_kubo(),
        get("1.5 CONNECT, then a path", "/hello.txt")
            .host(&format!("{root}.ipfs.gw.example"))
            .through("gw.example:80")
            .is(200)
            .reads("hello\n"),
        get("1.5 CONNECT, then absolute form", &on_its_host)
            .through("gw.example:80")
            .is(200)
            .reads("hello\n"),
    ]
}

fn paths(trees: &Trees) -> Vec<Case> {
    let root = &trees.root;
    let mut cases = Vec::new();
    for name in [
        "a%20b+c%252Fd.txt",
        "a%20b%2Bc%252Fd.txt",
        "%C4%85%C4%99/file-%C5%BA%C5%82.txt",
        "%c4%85%c4%99/file-%c5%ba%c5%82.txt",
        "ąę/file-źł.txt",
        "%3Cscript%3E%22'&.txt",
        "hello%2Etxt",
    ] {
        cases.push(
            get("1.6 every spelling of a path", trees.path(name))
                .is(200)
                .like_kubo_but(&["x-ipfs-path"]),
        );
    }
    for (name, status) in [
        ("a%20b%20c%252Fd.txt", 404),
        ("a%20b+c%25252Fd.txt", 404),
        ("a%20b+c%252fd.txt", 404),
        ("a+b+c%252Fd.txt", 404),
    ] {
        cases.push(
            get("1.6 undone once", trees.path(name))
                .is(status)
                .like_kubo(),
        );
    }
    cases.extend([
        get("1.6 capitals in redirects", trees.path("%c4%85%c4%99"))
            .leads_to(301, trees.path("%C4%85%C4%99/"))
            .like_kubo(),
        get("1.6 capitals in links", trees.path("%c4%85%c4%99/"))
            .shows("/file-%C5%BA%C5%82.txt\">"),
        get("1.7 two slashes", format!("/ipfs/{root}//docs//a.txt"))
            .is(307)
            .like_kubo(),
        get("1.7 dots", format!("/ipfs/{root}/docs/../hello.txt?x=1"))
            .leads_to(307, format!("/ipfs/{root}/hello.txt?x=1"))
            .like_kubo(),
        get(
            "1.7 dots never leave the root",
            format!("/ipfs/{root}/../../../etc/passwd"),
        )
        .leads_to(307, "/etc/passwd"),
        get(
            "1.7 escaped dots",
            format!("/ipfs/{root}/%2e%2e/%2e%2e/etc/passwd"),
        )
        .hides("root:"),
        get(
            "1.7 doubled namespace",
            format!("/ipfs/ipfs/{root}/hello.txt"),
        )
        .leads_to(301, trees.path("hello.txt")),
        get("1.8 service worker of a root", format!("/ipfs/{root}"))
            .with("service-worker", "script")
            .is(400)
            .like_kubo(),
        get(
            "1.8 service worker of a name",
            format!("/ipns/{}", trees.name),
        )
        .with("service-worker", "script")
        .is(400)
        .like_kubo(),
        get("1.8 service worker below a root", trees.path("hello.txt"))
            .with("service-worker", "script")
            .like_kubo(),
        get("1.8 service worker with a slash", format!("/ipfs/{root}/"))
            .with("service-worker", "script")
            .is(200),
        get("1.8 service worker of a subdomain", "/hello.txt")
            .host(&format!("{root}.ipfs.gw.example"))
            .with("service-worker", "script")
            .like_kubo(),
        get("1.9 no API", "/api/v0/id").is(404),
        ask("1.9 no API", "POST", "/api/v0/id").is(405),
        get("1.9 nothing at the root", "/").is(404).like_kubo(),
    ]);
    cases
}

fn errors(trees: &Trees) -> Vec<Case> {
    let mut cases = Vec::new();
    for (target, status) in [
        ("/ipfs/nonsense".to_owned(), 400),
        (trees.path("absent"), 404),
        (trees.path("docs?format=dag-json"), 406),
        (format!("/ipfs/{}/value", trees.dag_cbor), 501),
        (format!("/ipfs/{}?format=json", trees.dag_cbor), 406),
    ] {
        let plain = |case: Case| {
            case.is(status)
                .lacks("etag")
                .lacks("cache-control")
                .lacks("content-disposition")
        };
        cases.extend([
            plain(get("1.10 errors are text", &target))
                .has("content-type", "text/plain; charset=utf-8"),
            plain(
                get("1.10 errors are pages for browsers", &target)
                    .with("accept", "text/html,*/*;q=0.8"),
            )
            .has("content-type", "text/html; charset=utf-8"),
        ]);
    }
    cases
}
