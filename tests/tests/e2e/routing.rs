//! Provider records and IPNS names on a private DHT of Kubo nodes.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use duka_tests::duka::{self, Serving, field};
use duka_tests::kubo::{self, Kubo};
use duka_tests::process::wait_until;
use duka_tests::{Duka, files};

use crate::cat;

/// Time for a record to get around.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two Kubo and a duka. Kubo and duka know `hub` alone, and must find each other through the DHT.
struct Dht {
    _hub: Kubo,
    kubo: Kubo,
    _node: Serving,
    duka: Duka,
}

impl Dht {
    fn start() -> Result<Self> {
        let options = kubo::Options {
            dht: true,
            ..kubo::Options::default()
        };
        let (hub, kubo) = (Kubo::run(options)?, Kubo::run(options)?);
        let duka = Duka::with(&duka::Options {
            dht: "server",
            ..duka::Options::default()
        })?;
        let node = duka.serve()?;
        let address = hub.address("/tcp/")?;
        kubo.connect(&address)?;
        duka.ok(&["swarm", "connect", &address])?;
        Ok(Self {
            _hub: hub,
            kubo,
            _node: node,
            duka,
        })
    }
}

#[test]
fn kubo_finds_what_duka_provides() {
    let dht = Dht::start().unwrap();
    let (kubo, duka) = (&dht.kubo, &dht.duka);
    let file = duka.home().join("file");
    fs::write(&file, files::random_bytes(20, 3 << 20)).unwrap();
    let path = file.to_str().unwrap();
    let publish = ["publish", path, "--product", "file", "--version", "1"];
    let release = duka.ok(&publish).unwrap();
    let cid = field(&release, "cid").unwrap();
    let id = duka.ok(&["id"]).unwrap();
    let peer = field(&id, "peer_id").unwrap();
    wait_until("Kubo finds duka as provider", PATIENCE, || {
        let found = kubo
            .ok(&["routing", "findprovs", "--num-providers=1", cid])
            .ok()?;
        found.contains(peer).then_some(())
    })
    .unwrap();
    kubo.pin(cid).unwrap();
}

#[test]
fn duka_finds_what_kubo_provides() {
    let dht = Dht::start().unwrap();
    let (kubo, duka) = (&dht.kubo, &dht.duka);
    let file = duka.home().join("file");
    let bytes = files::random_bytes(21, 3 << 20);
    fs::write(&file, &bytes).unwrap();
    let cid = kubo.add(&file).unwrap();
    kubo.ok(&["routing", "provide", &cid]).unwrap();
    duka.ok(&["pin", "add", &cid]).unwrap();
    assert!(cat(duka, &cid).unwrap() == bytes, "the bytes differ");
}

#[test]
fn kubo_resolves_the_shop_through_both_records() {
    let dht = Dht::start().unwrap();
    let (kubo, duka) = (&dht.kubo, &dht.duka);
    let file = duka.home().join("song.txt");
    fs::write(&file, "la la").unwrap();
    let path = file.to_str().unwrap();
    duka.ok(&["publish", path, "--product", "song", "--version", "1.0"])
        .unwrap();
    let id = duka.ok(&["id"]).unwrap();
    let name = field(&id, "name").unwrap();
    assert!(name.starts_with("k51"), "{name}");
    // The announce worker builds the head after the publish has returned.
    let head = wait_until("Kubo reads the head", PATIENCE, || {
        let resolved = kubo
            .ok(&["name", "resolve", "--nocache", &format!("/ipns/{name}")])
            .ok()?;
        kubo.cat(&format!("{resolved}/shop.json")).ok()
    })
    .unwrap();
    let head: serde_json::Value = serde_json::from_slice(&head).unwrap();
    assert!(head["seq"].as_u64().is_some_and(|seq| seq >= 1), "{head}");
    let product = kubo
        .cat(&format!("/ipns/{name}/products/song/product.json"))
        .unwrap();
    let product: serde_json::Value = serde_json::from_slice(&product).unwrap();
    assert!(product.to_string().contains("1.0"), "{product}");
    let release = format!("/ipns/{name}/p/song/1.0");
    assert!(
        kubo.cat(&release)
            .or_else(|_| kubo.cat(&format!("{release}/song.txt")))
            .unwrap()
            == b"la la"
    );
}

#[test]
fn duka_resolves_kubos_name() {
    let dht = Dht::start().unwrap();
    let (kubo, duka) = (&dht.kubo, &dht.duka);
    let file = duka.home().join("file");
    fs::write(&file, "named").unwrap();
    let cid = kubo.add(&file).unwrap();
    kubo.ok(&["name", "publish", &format!("/ipfs/{cid}")])
        .unwrap();
    let key = kubo
        .ok(&["key", "list", "-l", "--ipns-base=base36"])
        .unwrap();
    let name = key.split_whitespace().next().unwrap();
    let result = duka.ok(&["name", "resolve", name]).unwrap();
    assert!(result.to_string().contains(&cid), "{result}");
    let out = duka.home().join("out");
    duka.ok(&["get", &format!("/ipns/{name}"), "-o", out.to_str().unwrap()])
        .unwrap();
    assert_eq!(fs::read(&out).unwrap(), b"named");
}

/// Kubo finds the newest head of the shop by its name.
fn assert_resolved(dht: &Dht, what: &str) {
    wait_until(what, PATIENCE, || {
        let shop = dht.duka.ok(&["shop", "show"]).unwrap();
        let name = field(&shop, "name").unwrap();
        let resolve = ["name", "resolve", "--nocache", &format!("/ipns/{name}")];
        let found = dht.kubo.ok(&resolve).ok()?;
        let head = field(&shop["head"], "cid").unwrap();
        (found == format!("/ipfs/{head}")).then_some(())
    })
    .unwrap();
}

#[test]
fn kubo_resolves_a_shop_whose_keys_go_and_change() {
    let dht = Dht::start().unwrap();
    let duka = &dht.duka;
    let file = |name: &str, text: &str| {
        let path = duka.home().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let secret = file("secret", "a long passphrase\n");
    let exported = duka.home().join("shop.age");
    let exported = exported.to_str().unwrap();
    // What a change of the product says is in a head when the command is done.
    let publish = |version: &str| {
        let song = file("song", version);
        duka.ok(&["publish", &song, "--product", "song", "--version", version])
            .unwrap();
        duka.ok(&["product", "set", "song", "title", version])
            .unwrap();
    };
    publish("1");
    assert_resolved(&dht, "Kubo resolves the new shop");
    let name = field(&duka.ok(&["id"]).unwrap(), "name")
        .unwrap()
        .to_owned();
    duka.ok(&["key", "offline", exported, "--passphrase-file", &secret])
        .unwrap();
    assert!(!duka.data_dir().join("keys/shop.key").exists());
    publish("2");
    assert_resolved(&dht, "Kubo resolves the shop without its key");
    duka.ok(&["key", "import", exported, "--passphrase-file", &secret])
        .unwrap();
    let old = fs::read(duka.data_dir().join("keys/publishing.key")).unwrap();
    duka.ok(&["key", "rotate"]).unwrap();
    assert_ne!(
        fs::read(duka.data_dir().join("keys/publishing.key")).unwrap(),
        old
    );
    assert_resolved(&dht, "Kubo resolves the shop with a new publishing key");
    publish("3");
    assert_resolved(&dht, "Kubo resolves the next head");
    assert_eq!(field(&duka.ok(&["id"]).unwrap(), "name").unwrap(), name);
    let title = format!("/ipns/{name}/products/song/product.json");
    let page = dht.kubo.cat(&title).unwrap();
    let page: serde_json::Value = serde_json::from_slice(&page).unwrap();
    assert_eq!(page["title"], "3");
}
