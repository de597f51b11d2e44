//! `publish --wait`: done when others have it.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use duka_tests::curl::curl;
use duka_tests::duka::{Outcome, field};
use duka_tests::kubo::{self, Kubo};
use duka_tests::process::wait_until;
use duka_tests::{Duka, files};
use serde_json::json;

use crate::{assert_refused, versions};

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

    // The own gateway has everything, and proves nothing of others.
    let gateway = node.gateway().unwrap();
    let refused = publish(&shop, &format!("gateway:{gateway}"), "60s");
    assert_refused(&refused, 6, &["own gateway", "nothing was published"]);
    let named = gateway.replace("127.0.0.1", "localhost");
    let twice = [&*gateway, &named, &format!("{gateway}/")];
    for pair in [[twice[0], twice[1]], [twice[0], twice[2]]] {
        let set = [&["shop", "set", "gateways"], &pair[..]].concat();
        assert_refused(&shop.cmd(&set).unwrap(), 2, &["it is there twice"]);
    }

    // Fewer than that can never have it: this is known before anything is published.
    let other = Duka::new().unwrap();
    let other_node = other.serve().unwrap();
    let address = other_node.address("/tcp/").unwrap();
    let quic = other_node.address("/quic-v1").unwrap();
    for (mirrors, wait, said) in [
        (&[][..], "mirrors:1", "0 of the 1"),
        (&[&*address, &quic], "mirrors:2", "1 of the 2"),
    ] {
        if !mirrors.is_empty() {
            shop.ok(&[&["shop", "set", "mirrors"], mirrors].concat())
                .unwrap();
        }
        let said = ["nothing was published", said, "duka shop set mirrors"];
        assert_refused(&publish(&shop, wait, "3s"), 6, &said);
    }
    assert_eq!(versions(&shop, "song"), Vec::<String>::new());
    shop.ok(&["shop", "set", "gateways", &gateway]).unwrap();
    let refused = publish(&shop, "mirrors:1", "10s");
    assert_refused(&refused, 7, &["0 of 1 mirrors", "this node itself"]);

    // One that knows nothing of the shop has not.
    let stranger = Duka::new().unwrap();
    let stranger_node = stranger.serve().unwrap();
    let elsewhere = format!("gateway:{}", stranger_node.gateway().unwrap());
    let refused = publish(&shop, &elsewhere, "10s");
    drop(stranger_node);
    assert_refused(&refused, 7, &["song 2 is published", "no valid record"]);

    // A peer that the head names has it once it fetched all of the head.
    let creator = node.address("/tcp/").unwrap();
    other.ok(&["swarm", "connect", &creator]).unwrap();
    let refused = while_waiting(&shop, "mirrors:1", "10s", 31, |root| {
        let release = format!("{}/ipfs/{root}/p/song/stable", other_node.gateway()?);
        // All blocks but the last.
        for range in ["0-1048575", "1048576-2097151"] {
            curl(&release, &["--range", range])?;
        }
        Ok(())
    });
    assert_refused(&refused, 7, &["0 of 1 mirrors", "does not have block"]);
    let pin = |root: &str| other.ok(&["pin", "add", root]).map(drop);
    let done = while_waiting(&shop, "mirrors:1", "60s", 32, pin);
    let proved_by = &done.result().unwrap()["proved_by"];
    let either = [json!([address]), json!([quic])];
    assert!(either.contains(proved_by), "{proved_by}");

    // Who is named twice is one mirror.
    let refused = while_waiting(&shop, "mirrors:2", "10s", 33, pin);
    assert_refused(&refused, 7, &["1 of 2 mirrors"]);

    // A mirror of the shop gives what a buyer asks its gateway for; with the other one it makes two.
    let (mirror, url) = (
        Duka::new().unwrap(),
        format!("{gateway}/ipns/{}", shop_name(&shop)),
    );
    let mirror_node = mirror.serve().unwrap();
    mirror.ok(&["--yes", "mirror", "add", &url]).unwrap();
    let (gateway, address) = (
        mirror_node.gateway().unwrap(),
        mirror_node.address("/tcp/").unwrap(),
    );
    shop.ok(&["shop", "set", "gateways", &gateway]).unwrap();
    let done = while_waiting(&shop, &format!("gateway:{gateway}"), "60s", 34, |_| Ok(()));
    assert_eq!(
        done.result().unwrap()["proved_by"],
        json!([format!("{gateway}/")])
    );
    shop.ok(&["shop", "set", "mirrors", &address]).unwrap();
    let refused = while_waiting(&shop, "mirrors:2", "10s", 35, |_| Ok(()));
    assert_refused(&refused, 7, &["1 of 2 mirrors"]);
    shop.ok(&["shop", "set", "mirrors", &quic]).unwrap();
    let done = while_waiting(&shop, "mirrors:2", "60s", 36, pin);
    assert_eq!(
        done.result().unwrap()["proved_by"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

fn shop_name(shop: &Duka) -> String {
    field(&shop.ok(&["shop", "show"]).unwrap(), "name")
        .unwrap()
        .to_owned()
}

#[test]
fn a_kubo_that_the_head_names_has_the_release_once_it_pinned_the_head() {
    let (shop, kubo) = (
        Duka::new().unwrap(),
        Kubo::run(kubo::Options::default()).unwrap(),
    );
    let node = shop.serve().unwrap();
    kubo.connect(&node.address("/tcp/").unwrap()).unwrap();
    let address = kubo.address("/tcp/").unwrap();
    shop.ok(&["shop", "set", "mirrors", &address]).unwrap();
    let refused = while_waiting(&shop, "mirrors:1", "3s", 40, |_| Ok(()));
    assert_refused(&refused, 7, &["song 1 is published", "mirrors"]);
    let done = while_waiting(&shop, "mirrors:1", "60s", 41, |root| kubo.pin(root));
    let done = done.result().unwrap();
    assert_eq!(done["proved_by"], json!([address]));
}

/// Publishes other bytes, waits for these, and does this with the new head meanwhile.
fn while_waiting(
    shop: &Duka,
    wait: &str,
    limit: &str,
    seed: u64,
    act: impl FnOnce(&str) -> Result<()>,
) -> Outcome {
    let before = head(shop).0;
    fs::write(shop.home().join("song"), files::random_bytes(seed, 3 << 20)).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| publish(shop, wait, limit));
        let root = wait_until("the head is signed", Duration::from_secs(30), || {
            let (seq, root) = head(shop);
            (seq > before).then_some(root)
        });
        act(&root.unwrap()).unwrap();
        waiting.join().unwrap()
    })
}
