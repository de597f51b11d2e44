//! Section 10: `_redirects`.

use super::trees::{REDIRECTS, Trees};
use crate::case::{Case, get};

const IMMUTABLE: &str = "public, max-age=29030400, immutable";

pub(super) fn cases(trees: &Trees) -> Vec<Case> {
    let Trees {
        site, broken_site, ..
    } = trees;
    let mut cases = Vec::new();
    for host in [format!("{site}.ipfs.gw.example"), REDIRECTS.to_owned()] {
        let at = |line, path: &str| get(line, path).host(&host);
        let to =
            |line, path: &str, status, location: &str| at(line, path).leads_to(status, location);
        let page = |line, path: &str, status, text: &str| {
            at(line, path).is(status).reads(format!("<h1>{text}</h1>"))
        };
        cases.extend(
            [
                at("10.1 what is there is served", "/docs/there.txt")
                    .is(200)
                    .reads("there"),
                at("10.1 the file itself", "/_redirects").is(200),
                at("10.1 no explicit format", "/302?format=raw").is(404),
                to("10.2 blanks and line ends", "/spaces", 301, "/one.html"),
                to("10.2 default status", "/default", 301, "/one.html"),
                to("10.2 every status", "/302", 302, "/one.html"),
                to("10.2 every status", "/303", 303, "/one.html"),
                to("10.2 every status", "/307", 307, "/one.html"),
                to("10.2 every status", "/308", 308, "/one.html"),
                to(
                    "10.3 placeholders",
                    "/posts/2022/hello",
                    301,
                    "/articles/hello/2022",
                ),
                page(
                    "10.3 a placeholder is one segment",
                    "/posts/2022",
                    404,
                    "404",
                ),
                to("10.3 splat", "/splat/a/b", 302, "/all/a/b"),
                page("10.3 nothing is no splat", "/splat", 404, "404"),
                to("10.3 the first match wins", "/twice", 301, "/first"),
                to("10.3 trailing slash", "/302/", 302, "/one.html"),
                page("10.4 rewrite", "/rewrite", 200, "one").begins("x-ipfs-path", "/ip"),
                page("10.4 rewrite of one page", "/app/any/where", 200, "index"),
                at("10.4 a rewrite has ranges", "/rewrite")
                    .with("range", "bytes=0-3")
                    .is(206)
                    .reads("<h1>"),
                page("10.4 gone", "/gone/x", 410, "410"),
                page("10.4 for legal reasons", "/law/x", 451, "451"),
                page("10.4 the rest", "/nothing", 404, "404"),
                at("10.4 target that is absent", "/lost/x")
                    .is(404)
                    .hides("<h1>"),
                to("10.5 the query is kept", "/302?a=b", 302, "/one.html?a=b"),
            ]
            .map(Case::like_kubo),
        );
        cases.push(at("10.1 no explicit format", "/302?format=car").is(404));
        cases.push(to(
            "10.5 the query of the client wins",
            "/query?by=me",
            302,
            "/one.html?by=me",
        ));
    }
    let alone = format!("{site}.ipfs.gw.example");
    let named = |path: &str| {
        get("10.4 of a domain", path)
            .host(REDIRECTS)
            .lacks("cache-control")
            .begins("date", "")
    };
    cases.extend([
        get("10.1 no origin of its own", format!("/ipfs/{site}/302"))
            .is(404)
            .like_kubo(),
        get("10.4 page of an error", "/gone/x")
            .host(&alone)
            .has("cache-control", IMMUTABLE)
            .begins("etag", "\"baf"),
        named("/gone/x").is(410),
        named("/nothing").is(404),
        get("10.2 a mistake", "/absent")
            .host(&format!("{broken_site}.ipfs.gw.example"))
            .is(500)
            .shows("could not parse _redirects:")
            .like_kubo(),
        get(
            "10.2 a mistake does not matter to what is there",
            "/index.html",
        )
        .host(&format!("{broken_site}.ipfs.gw.example"))
        .is(200)
        .like_kubo(),
    ]);
    cases
}
