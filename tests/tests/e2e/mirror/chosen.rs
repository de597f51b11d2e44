//! What the operator of a mirror chose is kept, and shown.

use duka_tests::process::wait_until;
use serde_json::{Value, json};

use super::{Node, PATIENCE};

/// A mirror of a shop with two products, one of 3 MiB.
fn mirrored(options: &[&str]) -> (Node, Node, String) {
    let creator = Node::start();
    creator.publish("album", "1", 3 << 20);
    creator.publish("song", "1", 1000);
    let url = creator.url(&creator.shop());
    let mirror = Node::start();
    mirror.mirror(&url, options);
    mirror.has(creator.seq());
    (creator, mirror, url)
}

#[test]
fn what_is_not_said_again_stays() {
    let (creator, mirror, url) = mirrored(&["--quota", "1GiB", "--keep", "latest:2"]);
    let again = mirror.mirror(&creator.shop(), &["--bwlimit", "5MB/s"]);
    let mut keeps = json!({
        "quota_bytes": 1_u64 << 30, "keep": "latest:2", "channels": [], "products": [],
        "bytes_per_second": null, "hours": null,
    });
    assert_eq!(again["kept_before"], keeps, "{again}");
    keeps["bytes_per_second"] = json!(5_000_000);
    assert_eq!(again["keeps"], keeps, "{again}");
    let gateway = mirror.until("it is kept so", |mirror| {
        (mirror["keeps"] == keeps).then(|| mirror["gateways"][0].clone())
    });
    assert!(url.starts_with(gateway.as_str().unwrap()), "{gateway}");
    let plain = |arguments: &[&str]| mirror.duka.plain(arguments).unwrap().text();
    assert!(plain(&["mirror", "list"]).contains("quota 1.0 GiB, keep latest:2, bwlimit"));
    // What there is to do is planned again for the new limit.
    let whole = wait_until("it is whole", PATIENCE, || {
        let status = plain(&["mirror", "status"]);
        let is_whole = status.lines().next()?.ends_with("\twhole");
        is_whole.then_some(status)
    });
    let status = whole.unwrap();
    for shown in [
        "  keep\tlatest:2",
        "  at\thttp",
        "  product\talbum\t3.0 MiB, whole",
    ] {
        assert!(status.contains(shown), "{status}");
    }
    let add = [
        "--yes",
        "mirror",
        "add",
        &creator.shop(),
        "--anew",
        "--keep",
        "all",
    ];
    let anew = mirror.duka.plain(&add).unwrap().stderr;
    assert!(anew.contains("keep latest:2 → all"), "{anew}");
    assert!(anew.contains("quota 1.0 GiB → none"), "{anew}");
}

#[test]
fn what_a_shop_does_not_have_is_told() {
    let (_creator, mirror, url) = mirrored(&[]);
    let add = [
        "--yes",
        "mirror",
        "add",
        &url,
        "--products",
        "album,nothere",
    ];
    let added = mirror.duka.cmd(&add).unwrap();
    assert_eq!(added.code, 0, "{added:?}");
    let text = added.text();
    assert!(text.contains("no product nothere"), "{text}");
    assert!(!text.contains("no product album"), "{text}");
    let add = ["--yes", "mirror", "add", &url, "--channel", "nightly"];
    let added = mirror.duka.cmd(&add).unwrap();
    assert!(added.text().contains("channel nightly"), "{added:?}");
}

#[test]
fn what_is_held_is_shown_after_a_restart_and_without_a_node() {
    let (_creator, mirror, _) = mirrored(&[]);
    let held = |mirror: &Value| {
        let bytes = mirror["bytes"].as_u64()?;
        let products = mirror["products"].as_array()?;
        let is_whole = |product: &Value| product["bytes"] == product["total_bytes"];
        let is_shown = mirror["state"] == "whole"
            && bytes > 3 << 20
            && mirror["total_bytes"] == bytes
            && products.len() == 2
            && products.iter().all(is_whole);
        is_shown.then_some(bytes)
    };
    let before = mirror.until("it is whole", held);
    mirror.serving.stop().unwrap();
    let mirror = Node::of(mirror.duka);
    assert_eq!(mirror.until("it is whole again", held), before);
    mirror.serving.stop().unwrap();
    let listed = mirror.duka.cmd(&["mirror", "status"]).unwrap();
    let items = listed.events().unwrap();
    let item = items.iter().find(|item| item["kind"] == "mirror").unwrap();
    assert_eq!(held(item), Some(before), "{item}");
}

#[test]
fn a_quota_below_every_release_leaves_the_catalogue() {
    let (_creator, mirror, url) = mirrored(&[]);
    mirror.mirror(&url, &["--quota", "1MiB"]);
    mirror.until("what does not fit is told", |mirror| {
        let bytes = mirror["bytes"].as_u64()?;
        let is_so = mirror["state"] == "whole"
            && mirror["left_out_releases"] == 1
            && (1..1 << 20).contains(&bytes)
            && mirror["total_bytes"] == bytes;
        is_so.then_some(())
    });
}
