//! Section 4: files, folders, links.

use cid::Cid;
use cid::multibase::Base;

use super::trees::{PART, SITE, Trees};
use crate::case::{Case, get};

const IMMUTABLE: &str = "public, max-age=29030400, immutable";

pub(super) fn cases(trees: &Trees) -> Vec<Case> {
    [
        codecs(trees),
        files(trees),
        folders(trees),
        listings(trees),
        ranges(trees),
        holes(trees),
        names(trees),
    ]
    .concat()
}

fn codecs(trees: &Trees) -> Vec<Case> {
    let mut cases = Vec::new();
    let cid: Cid = trees.hello.parse().unwrap();
    let mut spellings = vec![
        trees.hello.clone(),
        trees.hello_v0.clone(),
        trees.hello_sha512.clone(),
    ];
    for base in [
        Base::Base16Lower,
        Base::Base16Upper,
        Base::Base32Upper,
        Base::Base36Lower,
        Base::Base58Btc,
        Base::Base64Url,
    ] {
        spellings.push(cid.to_string_of_base(base).unwrap());
    }
    for cid in spellings {
        cases.push(
            get("4.1 every CID", format!("/ipfs/{cid}"))
                .is(200)
                .reads("hello\n")
                .like_kubo(),
        );
    }
    cases.extend([
        get("4.1 identity", "/ipfs/bafkqaaa")
            .is(200)
            .reads("")
            .like_kubo_but(&["content-type"]),
        get("4.1 identity", "/ipfs/bafkqablimvwgy3y")
            .is(200)
            .reads("hello")
            .like_kubo(),
        get(
            "4.1 HAMT",
            trees.path(&format!("many/0007{}", "-".repeat(200))),
        )
        .reads("same")
        .like_kubo(),
        get("4.1 symlink", trees.path("link"))
            .has("content-type", "inode/symlink")
            .like_kubo(),
    ]);
    cases
}

fn files(trees: &Trees) -> Vec<Case> {
    let root = &trees.root;
    let typed = |below: &str, media_type: &str| {
        get("4.3 Content-Type", trees.path(below))
            .is(200)
            .has("content-type", media_type)
            .like_kubo()
    };
    vec![
        get("4.2 file", trees.path("hello.txt"))
            .is(200)
            .has("accept-ranges", "bytes")
            .has("content-length", "6")
            .has("etag", format!("\"{}\"", trees.hello))
            .has("cache-control", IMMUTABLE)
            .has("x-ipfs-path", trees.path("hello.txt"))
            .has("x-ipfs-roots", format!("{root},{}", trees.hello))
            .like_kubo(),
        get("4.2 file of many blocks", trees.path("big.bin"))
            .has("content-length", (3 * PART + 11).to_string())
            .like_kubo(),
        get("4.2 empty file", trees.path("empty"))
            .has("content-length", "0")
            .like_kubo_but(&["content-type"]),
        get("4.2 the slash is kept", trees.path("docs/")).has("x-ipfs-path", trees.path("docs/")),
        get(
            "4.2 shards are no roots",
            trees.path(&format!("many/0009{}", "-".repeat(200))),
        )
        .like_kubo(),
        typed("hello.txt", "text/plain; charset=utf-8"),
        typed("data.json", "application/json"),
        typed("data-without-a-name", "application/json"),
        typed("data-without-a-name?format=json", "application/json").reads("{\"a\": 1}"),
        typed("big.bin", "application/octet-stream"),
        typed("hello.txt?filename=a.png", "image/png"),
        typed("hello.txt?filename=a.css", "text/css; charset=utf-8"),
        get(
            "4.3 bare CID asked for as JSON",
            format!("/ipfs/{}", trees.hello),
        )
        .with("accept", "application/json")
        .reads("hello\n")
        .like_kubo(),
        get("4.3 symlink is its target", trees.path("link"))
            .reads("hello.txt")
            .like_kubo(),
    ]
}

fn folders(trees: &Trees) -> Vec<Case> {
    let root = &trees.root;
    let to = |path: &str, location: &str| {
        get("4.4 folder to its slash", trees.path(path))
            .leads_to(301, trees.path(location))
            .like_kubo()
    };
    vec![
        to("docs", "docs/"),
        to("docs?x=y&z", "docs/?x=y&z"),
        // Kubo escapes it again.
        get("4.4 folder to its slash", trees.path("docs?x=%20y"))
            .leads_to(301, trees.path("docs/?x=%20y")),
        to("page", "page/"),
        to("many", "many/"),
        to("%c4%85%c4%99", "%C4%85%C4%99/"),
        // What a client gets that asks a folder for JSON is up to the gateway (IPIP-524).
        to("docs?format=json", "docs/?format=json"),
        get("4.4 on a subdomain", "/docs?x=1")
            .host(&format!("{root}.ipfs.gw.example"))
            .leads_to(301, "/docs/?x=1")
            .like_kubo(),
        get("4.4 on a domain", "/docs")
            .host(SITE)
            .leads_to(301, "/docs/")
            .like_kubo(),
        get("4.4 go-get", trees.path("docs?go-get=1"))
            .is(200)
            .shows("Index of"),
        get("4.4 raw is not redirected", trees.path("docs?format=raw"))
            .is(200)
            .like_kubo(),
        get("4.5 index.html", trees.path("page/"))
            .is(200)
            .reads("<h1>page</h1>")
            .begins("content-type", "text/html")
            .has("cache-control", IMMUTABLE)
            .like_kubo(),
        get("4.5 index.html that is a folder", trees.path("odd/"))
            .is(422)
            .like_kubo(),
    ]
}

fn listings(trees: &Trees) -> Vec<Case> {
    let root = &trees.root;
    let strange = trees.path("%C4%85%C4%99");
    let escaped = "file-%25C5%25BA%25C5%2582.txt";
    let page = |case: Case| case.is(200).shows("Index of").begins("etag", "\"DirIndex-");
    let subdomain = format!("{root}.ipfs.gw.example:8080");
    vec![
        page(get("4.6 listing", trees.path("docs/")))
            .has(
                "cache-control",
                "public, max-age=604800, stale-while-revalidate=2678400",
            )
            .has("x-ipfs-path", trees.path("docs/"))
            .like_kubo_but(&["body", "content-type", "content-length", "etag"]),
        page(get("4.6 listing as JSON", trees.path("docs/?format=json"))),
        page(get(
            "4.6 listing of a name",
            format!("/ipns/{}/", trees.name),
        ))
        .lacks("content-disposition"),
        page(get("4.6 names are escaped", trees.path("")))
            .shows("/%3Cscript%3E%22%27%26.txt\">")
            .hides("<script>\"'"),
        get("4.7 link", format!("{strange}/"))
            .shows(format!(
                "<a href=\"{strange}/file-%C5%BA%C5%82.txt\">file-źł.txt</a>"
            ))
            .shows(format!("<a href=\"{strange}/..\">..</a>"))
            .shows("<a class=\"ipfs-hash\" translate=\"no\" href=\"/ipfs/baf")
            .shows(format!("?filename={escaped}\">"))
            .shows(format!(
                "/ipfs/<a href=\"/ipfs/{root}\">{root}</a>/<a href=\"{strange}\">ąę</a>"
            )),
        get("4.7 a root has no parent", trees.path("")).hides(">..</a>"),
        get("4.7 a root of a subdomain has no parent", "/")
            .host(&subdomain)
            .hides(">..</a>"),
        get("4.7 on a subdomain", "/%C4%85%C4%99/")
            .host(&subdomain)
            .shows("<a href=\"/%C4%85%C4%99/file-%C5%BA%C5%82.txt\">file-źł.txt</a>")
            .shows(format!(
                "/ipfs/<a href=\"//gw.example:8080/ipfs/{root}\">{root}</a>/\
                 <a href=\"//gw.example:8080/ipfs/{root}/%C4%85%C4%99\">ąę</a>"
            ))
            .shows("href=\"//gw.example:8080/ipfs/baf"),
        get("4.7 on a domain", "/%C4%85%C4%99/")
            .host("site.example:8080")
            .shows(format!(
                "/ipns/<a href=\"//site.example:8080/\">{SITE}</a>/\
                 <a href=\"//site.example:8080/%C4%85%C4%99\">ąę</a>"
            ))
            .shows("href=\"https://cid.ipfs.tech/#baf")
            .shows("\" target=\"_blank\" rel=\"noreferrer noopener\">"),
        page(get("4.10 listing of a HAMT", trees.path("many/")))
            .shows(format!(">0000{}</a>", "-".repeat(200)))
            .shows(format!(">1199{}</a>", "-".repeat(200))),
    ]
}

fn ranges(trees: &Trees) -> Vec<Case> {
    let mut cases = Vec::new();
    let block = trees.path("numbers.txt?format=raw");
    let document = format!("/ipfs/{}", trees.json);
    let numbers = trees.path("numbers.txt");
    for target in [&numbers, &block, &document] {
        for range in [
            "bytes=0-0",
            "bytes=2-4",
            "bytes=5-",
            "bytes=-3",
            "bytes=2-9999",
        ] {
            let case = get("4.8 range", target).with("range", range).is(206);
            cases.push(if target == &document {
                case.like_kubo_but(&["etag"])
            } else {
                case.like_kubo()
            });
        }
    }
    let link = &trees.path("link");
    cases.push(
        get("4.8 range of a symlink", link)
            .with("range", "bytes=1-2")
            .is(206)
            .like_kubo(),
    );
    let big = trees.path("big.bin");
    for (from, to) in [
        (0, 0),
        (PART - 1, PART),
        (PART, 2 * PART - 1),
        (17, 3 * PART),
    ] {
        let range = format!("bytes={from}-{to}");
        cases.push(
            get("4.8 range over blocks", &big)
                .with("range", &range)
                .is(206)
                .like_kubo(),
        );
    }
    let etag = format!("\"{}\"", trees.hello);
    cases.extend([
        get("4.8 of several ranges the first", &numbers)
            .with("range", "bytes=2-4,8-9")
            .is(206)
            .reads("234")
            .like_kubo(),
        // Kubo fails.
        get("4.8 suffix longer than the file", &numbers)
            .with("range", "bytes=-9999")
            .is(206)
            .has("content-range", "bytes 0-30/31"),
        get("4.8 If-Range that is the same", trees.path("hello.txt"))
            .with("range", "bytes=0-0")
            .with("if-range", &etag)
            .is(206)
            .like_kubo(),
        get("4.8 If-Range of another", trees.path("hello.txt"))
            .with("range", "bytes=0-0")
            .with("if-range", "\"x\"")
            .is(200)
            .like_kubo(),
    ]);
    cases
}

fn holes(trees: &Trees) -> Vec<Case> {
    let hole = &format!("/ipfs/{}", trees.hole);
    let beside = |range: String| {
        get("4.8 range beside a hole", hole)
            .with("range", &range)
            .is(206)
            .like_kubo()
    };
    vec![
        beside(format!("bytes=0-{}", PART - 1)),
        beside(format!("bytes={}-", 2 * PART)),
        // Kubo guesses what the file is from the part.
        get("4.8 range beside a hole", hole)
            .with("range", "bytes=-5")
            .is(206)
            .like_kubo_but(&["content-type"]),
        get("4.8 range in a hole", hole)
            .with("range", &format!("bytes={PART}-{}", PART + 9))
            .is(404),
        get("4.9 hole", hole).is(200).breaks_off(),
        get("4.9 hole in a range", hole)
            .with("range", "bytes=9-")
            .is(206)
            .breaks_off(),
    ]
}

fn names(trees: &Trees) -> Vec<Case> {
    let saved =
        |query: &str| get("4.11 file name", trees.path(&format!("hello.txt?{query}"))).is(200);
    vec![
        saved("filename=a.txt")
            .has(
                "content-disposition",
                "inline; filename=\"a.txt\"; filename*=UTF-8''a.txt",
            )
            .like_kubo(),
        saved("filename=te%C5%BA%C5%82.txt")
            .has(
                "content-disposition",
                "inline; filename=\"te__.txt\"; filename*=UTF-8''te%C5%BA%C5%82.txt",
            )
            .like_kubo(),
        saved("filename=a.txt&download=true")
            .begins("content-disposition", "attachment; filename=\"a.txt\"")
            .like_kubo(),
        // Kubo ignores it.
        saved("download=true").has("content-disposition", "attachment"),
        saved("filename=a%22;b%0d%0aSet-Cookie:c=d")
            .begins(
                "content-disposition",
                "inline; filename=\"a\\\";b__Set-Cookie:c=d\"",
            )
            .lacks("set-cookie"),
    ]
}
