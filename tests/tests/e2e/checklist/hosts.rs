//! Section 9: subdomains and domains.

use super::trees::{OTHER, SITE, Trees};
use crate::case::{Case, get};

const ED25519: &str = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam";
const TOO_LONG: &str = "CID incompatible with DNS label length limit of 63";

pub(super) fn cases(trees: &Trees) -> Vec<Case> {
    [chosen(trees), moved(trees), mounted(trees), uris(trees)].concat()
}

fn chosen(trees: &Trees) -> Vec<Case> {
    let root = &trees.root;
    let at = |host: &str, path: &str| get("9.1 host", path).host(host).like_kubo();
    let file = &trees.path("hello.txt");
    vec![
        at("gw.example", file),
        at("gw.example:8080", file),
        at("a.wild.example", file),
        at("wild.example", file),
        at("nobody.example", file),
        at(&format!("{root}.ipfs.gw.example"), "/hello.txt"),
        at(&format!("{root}.ipfs.a.wild.example:99"), "/hello.txt"),
        at(&format!("{root}.ipfs.half.example"), "/hello.txt"),
        get("9.1 root in capitals", "/hello.txt")
            .host(&format!("{}.ipfs.gw.example", root.to_uppercase()))
            .is(200)
            .like_kubo_but(&["x-ipfs-path"]),
        at(SITE, "/hello.txt"),
        at("site.example:8080", "/hello.txt"),
        at(OTHER, "/a.txt"),
        // Kubo tells capitals apart.
        get("9.1 host in capitals", file)
            .host("GW.example")
            .leads_to(301, format!("http://{root}.ipfs.gw.example/hello.txt")),
        get("9.1 host in capitals", "/hello.txt")
            .host("SITE.example")
            .is(200),
        get("9.1 address", file).host("127.0.0.1:80").like_kubo(),
        get("9.1 forwarded host", file)
            .with("x-forwarded-host", "gw.example")
            .leads_to(301, format!("http://{root}.ipfs.gw.example/hello.txt"))
            .like_kubo(),
        get("9.3 forwarded scheme", file)
            .host("gw.example")
            .with("x-forwarded-proto", "https")
            .leads_to(301, format!("https://{root}.ipfs.gw.example/hello.txt"))
            .like_kubo(),
        get("9.3 namespace that is not served", file)
            .host("half.example")
            .is(200)
            .like_kubo(),
        get(
            "9.3 namespace that is not served",
            format!("/ipns/{}/a.txt", trees.name),
        )
        .host("half.example")
        .is(404)
        .like_kubo(),
    ]
}

fn moved(trees: &Trees) -> Vec<Case> {
    let (root, sha512) = (&trees.root, &trees.hello_sha512);
    let to = |line, path: &str| get(line, path).host("gw.example:8080").is(301).like_kubo();
    vec![
        to("9.2 CIDv1", &format!("/ipfs/{root}")),
        to("9.2 trailing slash", &format!("/ipfs/{root}/")),
        to("9.2 CIDv0", &format!("/ipfs/{}", trees.hello_v0)),
        to(
            "9.2 path, byte for byte",
            &format!("/ipfs/{root}/a%20b+c%252Fd.txt?x=%20y+z&filename=a"),
        ),
        to(
            "9.2 nothing is looked up",
            &format!("/ipfs/{root}/absent/at/all"),
        ),
        to("9.2 key", &format!("/ipns/{}/a.txt", trees.name)),
        to(
            "9.2 peer id",
            "/ipns/12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d",
        )
        .leads_to(301, format!("http://{ED25519}.ipns.gw.example:8080/")),
        get("9.2 bad CID", "/ipfs/QmInvalidCID")
            .host("gw.example")
            .is(400)
            .like_kubo(),
        get("9.2 long CID", format!("/ipfs/{sha512}"))
            .host("gw.example")
            .is(400)
            .shows(TOO_LONG)
            .like_kubo(),
        get("9.2 long CID on its host", "/")
            .host(&format!("{sha512}.ipfs.gw.example"))
            .is(400)
            .shows(TOO_LONG)
            .like_kubo(),
        to("9.4 inlined domain", "/ipns/my-redirects.example/docs").leads_to(
            301,
            "http://my--redirects-example.ipns.gw.example:8080/docs",
        ),
        get("9.4 domain with dots", format!("/ipns/{SITE}/docs"))
            .host("dots.example")
            .leads_to(301, format!("http://{SITE}.ipns.dots.example/docs"))
            .like_kubo(),
        get("9.4 inlined over HTTPS", format!("/ipns/{SITE}/docs"))
            .host("dots.example")
            .with("x-forwarded-proto", "https")
            .leads_to(301, "https://site-example.ipns.dots.example/docs")
            .like_kubo(),
        get("9.4 both forms are served", "/hello.txt")
            .host("site-example.ipns.gw.example")
            .reads("hello\n")
            .like_kubo(),
        get("9.4 both forms are served", "/hello.txt")
            .host("site.example.ipns.gw.example")
            .reads("hello\n"),
        get("9.4 hyphens", "/302")
            .host("my--redirects-example.ipns.gw.example")
            .leads_to(302, "/one.html")
            .like_kubo(),
        get("9.5 codec of a key is mended", "/a?b=c")
            .host("bafybeigm2mnjxgjt6fgvqqgtasrqrt5ilenujbzdrktavcfrjx3cbjpx2a.ipns.gw.example")
            .is(301)
            .like_kubo(),
    ]
}

fn mounted(trees: &Trees) -> Vec<Case> {
    let root = &trees.root;
    let mut cases = Vec::new();
    for host in [format!("{root}.ipfs.gw.example"), SITE.to_owned()] {
        let at = |line, path: &str| get(line, path).host(&host).like_kubo();
        cases.extend([
            at(
                "9.6 no namespace in a root",
                &format!("/ipfs/{}", trees.hello),
            )
            .is(404),
            at("9.6 folder called like a namespace", "/ipfs/file.txt")
                .is(200)
                .reads("no namespace"),
            at("9.6 X-Ipfs-Path", "/docs/a.txt"),
            at("9.6 X-Ipfs-Path", "/page/")
                .begins("x-ipfs-path", "/ip")
                .is(200),
        ]);
    }
    cases
}

fn uris(trees: &Trees) -> Vec<Case> {
    let root = &trees.root;
    let uri = |endpoint: &str, uri: &str| {
        let uri = uri
            .replace(':', "%3A")
            .replace('/', "%2F")
            .replace('?', "%3F");
        get("9.7 uri", format!("{endpoint}?uri={uri}"))
    };
    vec![
        uri("/ipfs/", &format!("ipfs://{root}/docs/a.txt?x=y"))
            .leads_to(301, format!("/ipfs/{root}/docs/a.txt?x=y"))
            .like_kubo(),
        uri("/ipfs/", "ipns://site.example/docs")
            .leads_to(301, "/ipns/site.example/docs")
            .like_kubo(),
        uri("/ipns/", "ipns://site.example").is(301).like_kubo(),
        uri("/ipns/", &format!("ipfs://{root}")).is(301).like_kubo(),
        uri("/ipfs/", "https://site.example").is(400).like_kubo(),
        uri("/ipfs/", "nonsense").is(400).like_kubo(),
    ]
}
