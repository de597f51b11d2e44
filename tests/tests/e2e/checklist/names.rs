//! Section 8: IPNS and DNSLink.

use super::trees::{NAMED, OTHER, SITE, Trees};
use crate::case::{Case, get};

const ED25519: &str = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam";

pub(super) fn cases(trees: &Trees) -> Vec<Case> {
    let but_age: &[&str] = &["cache-control"];
    let moved = |spelling: &str, below: &str| {
        get("8.3 other spelling", format!("/ipns/{spelling}{below}"))
            .leads_to(302, format!("/ipns/{ED25519}{below}"))
            .like_kubo()
    };
    vec![
        get("8.1 record", format!("/ipns/{}/a.txt", trees.name))
            .is(200)
            .reads("a")
            .like_kubo_but(but_age),
        get(
            "8.2 value with a path",
            format!("/ipns/{}/b.txt", trees.name),
        )
        .reads("b")
        .like_kubo_but(but_age),
        get(
            "8.2 value that is a name",
            format!("/ipns/{}/a.txt", trees.name_of_name),
        )
        .is(200)
        .reads("a")
        .like_kubo_but(but_age),
        moved("12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d", ""),
        moved(
            "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d",
            "/a%20b?c=d",
        ),
        get(
            "8.3 old peer id",
            "/ipns/QmVujd5Vb7moysJj8itnGufN7MEtPRCNHkKpNuA4onsRa3",
        )
        .is(302)
        .like_kubo(),
        // Kubo fails.
        get(
            "8.3 CID of another codec",
            "/ipns/bafybeigm2mnjxgjt6fgvqqgtasrqrt5ilenujbzdrktavcfrjx3cbjpx2a/x",
        )
        .leads_to(
            302,
            "/ipns/k2k4r8oisnhv62zcn5qpm0lgougpn92wdvyowg3d9wukspeew9ozmi1c/x",
        ),
        get("8.4 DNSLink by path", format!("/ipns/{SITE}/docs/a.txt"))
            .is(200)
            .like_kubo(),
        get("8.4 DNSLink by path", format!("/ipns/{SITE}/docs"))
            .is(301)
            .like_kubo(),
        get("8.4 DNSLink to a name", format!("/ipns/{NAMED}/a.txt"))
            .is(200)
            .reads("a")
            .like_kubo_but(but_age),
        get(
            "8.4 DNSLink to a domain with a path",
            format!("/ipns/{OTHER}/a.txt"),
        )
        .is(200)
        .reads("a")
        .like_kubo(),
        get("8.4 DNSLink of a host", "/docs/a.txt")
            .host(SITE)
            .is(200)
            .like_kubo(),
        get("8.4 DNSLink of a host to a domain with a path", "/a.txt")
            .host(OTHER)
            .reads("a")
            .like_kubo(),
    ]
}
