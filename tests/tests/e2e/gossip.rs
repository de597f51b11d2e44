//! Names over gossip, with Kubo's `Ipns.UsePubsub` and without any DHT.

use std::fs;
use std::time::Duration;

use duka_tests::duka::field;
use duka_tests::kubo::{self, Kubo};
use duka_tests::process::wait_until;
use duka_tests::{Duka, files};

/// Time for a record to get around.
const PATIENCE: Duration = Duration::from_secs(60);

fn kubo() -> Kubo {
    Kubo::run(kubo::Options {
        gossip: true,
        ..kubo::Options::default()
    })
    .unwrap()
}

#[test]
fn each_new_head_reaches_kubo() {
    let kubo = kubo();
    let duka = Duka::new().unwrap();
    let node = duka.serve().unwrap();
    kubo.connect(&node.address("/tcp/").unwrap()).unwrap();
    let id = duka.ok(&["id"]).unwrap();
    let name = format!("/ipns/{}", field(&id, "name").unwrap());
    for version in ["1", "2"] {
        let file = duka.home().join(version);
        fs::write(&file, files::random_bytes(1, 100)).unwrap();
        let path = file.to_str().unwrap();
        duka.ok(&["publish", path, "--product", "file", "--version", version])
            .unwrap();
        wait_until("Kubo reads the new head", PATIENCE, || {
            let head = kubo.ok(&["name", "resolve", "--nocache", &name]).ok()?;
            kubo.cat(&format!("{head}/products/file/{version}.json"))
                .ok()
        })
        .unwrap();
    }
}

#[test]
fn what_kubo_publishes_is_resolved_and_followed() {
    let kubo = kubo();
    let duka = Duka::new().unwrap();
    let node = duka.serve().unwrap();
    kubo.connect(&node.address("/tcp/").unwrap()).unwrap();
    let keys = kubo
        .ok(&["key", "list", "-l", "--ipns-base=base36"])
        .unwrap();
    let name = keys.split_whitespace().next().unwrap();
    for content in ["one", "two"] {
        let file = duka.home().join(content);
        fs::write(&file, content).unwrap();
        let cid = kubo.add(&file).unwrap();
        let publish = ["name", "publish", "--ttl=1s", &format!("/ipfs/{cid}")];
        kubo.ok(&publish).unwrap();
        wait_until("duka resolves the name", PATIENCE, || {
            let resolved = duka.ok(&["name", "resolve", name]).ok()?;
            resolved.to_string().contains(&cid).then_some(())
        })
        .unwrap();
    }
}
