//! `publish --wait`: done when others have it.

use std::fs;
use std::time::Duration;

use duka_tests::duka::{Outcome, field};
use duka_tests::process::wait_until;
use duka_tests::{Duka, files};

use crate::assert_refused;

fn publish(shop: &Duka, wait: &str, limit: &str) -> Outcome {
    let song = shop.home().join("song");
    let song = song.to_str().unwrap();
    let publish = ["publish", song, "--product", "song", "--wait", wait];
    shop.cmd(&[&publish[..], &["--timeout", limit]].concat())
        .unwrap()
}

fn head(shop: &Duka) -> (u64, String) {
    let shown = shop.ok(&["shop", "show"]).unwrap();
    let head = &shown["head"];
    (
        head["seq"].as_u64().unwrap_or(0),
        field(head, "cid").unwrap_or_default().to_owned(),
    )
}

#[test]
fn publish_waits_until_a_gateway_and_a_mirror_have_the_release() {
    let shop = Duka::new().unwrap();
    files::write_random(&shop.home().join("song"), 30, 3 << 20).unwrap();
    assert_refused(&publish(&shop, "mirrors:1", "3s"), 6, &["duka serve"]);
    for wrong in [
        "mirrors:0",
        "mirrors",
        "gateway",
        "friends:2",
        "gateway:ftp://one.example",
    ] {
        assert_eq!(
            publish(&shop, wrong, "3s").code,
            if wrong.contains("ftp") { 6 } else { 2 }
        );
    }
    let node = shop.serve().unwrap();

    // The own gateway has everything; one that knows nothing of the shop has not.
    let own = format!("gateway:{}", node.gateway().unwrap());
    let done = publish(&shop, &own, "60s").result().unwrap();
    assert_eq!(done["signed"], true);
    assert_eq!(done["proved_by"].as_array().unwrap().len(), 1, "{done}");
    let other = Duka::new().unwrap();
    let other_node = other.serve().unwrap();
    let elsewhere = format!("gateway:{}", other_node.gateway().unwrap());
    let refused = publish(&shop, &elsewhere, "3s");
    assert_refused(&refused, 7, &["song 2 is published", "no valid record"]);
    let refused = publish(&shop, &format!("{own},mirrors:1"), "3s");
    assert_refused(&refused, 7, &["0 of 1 mirrors", "the head names 0"]);

    // A peer that the head names has it once it fetched the head.
    let address = other_node.address("/tcp/").unwrap();
    let creator = node.address("/tcp/").unwrap();
    other.ok(&["swarm", "connect", &creator]).unwrap();
    shop.ok(&["shop", "set", "mirrors", &address]).unwrap();
    let before = head(&shop).0;
    fs::write(shop.home().join("song"), files::random_bytes(31, 3 << 20)).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| publish(&shop, "mirrors:1", "60s"));
        let root = wait_until("the head is signed", Duration::from_secs(30), || {
            let (seq, root) = head(&shop);
            (seq > before).then_some(root)
        });
        assert!(!waiting.is_finished(), "nobody has it yet");
        other.ok(&["pin", "add", &root.unwrap()]).unwrap();
        let done = waiting.join().unwrap().result().unwrap();
        assert_eq!(done["proved_by"], serde_json::json!([address]));
    });
}
