//! A buyer follows a shop: products by name, the newest head from several places, false ones refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use duka_tests::Duka;
use duka_tests::duka::{Options, Outcome, Serving};
use duka_tests::http::{BadGateway, Fault};
use duka_tests::kubo::{self, Kubo};

use crate::{assert_refused, buyer};

/// A shop with one product.
struct Shop {
    duka: Duka,
    name: String,
    folder: PathBuf,
}

impl Shop {
    fn new() -> Self {
        let duka = Duka::new().unwrap();
        let id = duka.ok(&["id"]).unwrap();
        let folder = duka.home().join("album");
        fs::create_dir(&folder).unwrap();
        let shop = Self {
            name: id["name"].as_str().unwrap().to_owned(),
            duka,
            folder,
        };
        shop.publish("1.0");
        shop
    }

    /// Publishes a version that says which one it is.
    fn publish(&self, version: &str) {
        publish(&self.duka, &self.folder, version);
    }

    /// The shop as it is now, somewhere else: as whoever kept a copy may serve it.
    fn copy(&self) -> Duka {
        let copy = Duka::bare(
            duka_tests::locate::duka().unwrap(),
            &std::env::temp_dir(),
            &Options::default(),
        )
        .unwrap();
        let copied = Command::new("cp")
            .args(["-r"])
            .args([self.duka.data_dir(), copy.data_dir()])
            .status();
        assert!(copied.unwrap().success());
        copy
    }
}

fn publish(duka: &Duka, folder: &Path, version: &str) {
    fs::write(folder.join("version"), version).unwrap();
    let path = folder.to_str().unwrap();
    let published = duka.ok(&["publish", path, "--product", "album", "--version", version]);
    assert_eq!(published.unwrap()["signed"], true);
}

/// Downloads and gives what came: the version that the release says it is.
fn got(buyer: &Duka, arguments: &[&str]) -> String {
    let outcome = get(buyer, arguments);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    fs::read_to_string(buyer.home().join("out/version")).unwrap()
}

fn get(buyer: &Duka, arguments: &[&str]) -> Outcome {
    let out = buyer.home().join("out");
    if out.exists() {
        fs::remove_dir_all(&out).unwrap();
    }
    let to = ["-o", out.to_str().unwrap()];
    buyer.cmd(&[&["get"], arguments, &to].concat()).unwrap()
}

fn gateway(node: &Serving) -> String {
    node.gateway().unwrap()
}

#[test]
fn a_product_comes_by_name_version_and_channel_and_its_shop_is_remembered() {
    let shop = Shop::new();
    shop.publish("2.0");
    shop.duka
        .ok(&["channel", "set", "album", "old", "1.0"])
        .unwrap();
    shop.publish("3.0-beta");
    shop.duka
        .ok(&["channel", "set", "album", "stable", "2.0"])
        .unwrap();
    let node = shop.duka.serve().unwrap();
    let (url, name) = (gateway(&node), &shop.name);
    let buyer = buyer(&Options::default());
    let of = |reference: &str| got(&buyer, &[reference]);
    assert_eq!(of(&format!("{url}/ipns/{name}/album")), "2.0");
    // The gateway need not be given again.
    assert_eq!(of(&format!("{name}/album:old")), "1.0");
    assert_eq!(of(&format!("/ipns/{name}/p/album/3.0-beta")), "3.0-beta");
    let refused = buyer.cmd(&["get", "songs/album"]).unwrap();
    assert_refused(&refused, 2, &["songs", "duka shop alias"]);
    buyer.ok(&["shop", "alias", "songs", name]).unwrap();
    assert_eq!(of("songs/album@3.0-beta"), "3.0-beta");
    let listed = buyer.ok(&["shop", "alias", "list"]).unwrap();
    assert_eq!(listed["aliases"]["songs"], name.as_str());
    let refused = get(&buyer, &["songs/album@9"]);
    assert_refused(&refused, 3, &["no version 9", ":old", "@2.0"]);
    let refused = get(&buyer, &["songs/nothing"]);
    assert_refused(&refused, 3, &["no product nothing"]);
    // Also through a node of the buyer's own.
    buyer.ok(&["init"]).unwrap();
    let _own = buyer.serve().unwrap();
    assert_eq!(of("songs/album"), "2.0");
    buyer.ok(&["shop", "alias", "remove", "songs"]).unwrap();
    let refused = buyer.cmd(&["shop", "alias", "remove", "songs"]).unwrap();
    assert_refused(&refused, 3, &["songs"]);
}

#[test]
fn without_stable_the_newest_release_that_is_not_yanked_comes() {
    let shop = Shop::new();
    shop.publish("2.0");
    shop.duka.ok(&["yank", "album", "2.0"]).unwrap();
    let node = shop.duka.serve().unwrap();
    let url = format!("{}/ipns/{}", gateway(&node), shop.name);
    let buyer = buyer(&Options::default());
    assert_eq!(got(&buyer, &[&format!("{url}/album")]), "1.0");
    let yanked = get(&buyer, &[&format!("{url}/album@2.0")]);
    assert_eq!(yanked.code, 0, "{yanked:?}");
    assert!(yanked.text().contains("yanked"), "{yanked:?}");
}

#[test]
fn an_older_head_and_another_one_with_the_same_number_are_refused() {
    let shop = Shop::new();
    let old = shop.copy();
    shop.publish("2.0");
    let node = shop.duka.serve().unwrap();
    let buyer = buyer(&Options::default());
    let album = format!("{}/album", shop.name);
    let first = gateway(&node);
    assert_eq!(got(&buyer, &[&album, "--mirror", &first]), "2.0");
    node.stop().unwrap();

    let serving = old.serve().unwrap();
    let replayed = gateway(&serving);
    let refused = get(&buyer, &[&album, "--mirror", &replayed]);
    assert_refused(&refused, 8, &[&shop.name, "older"]);
    // Whoever has the newer one is taken, whoever else is asked.
    let node = shop.duka.serve().unwrap();
    let both = ["--mirror", &replayed, "--mirror", &gateway(&node)];
    assert_eq!(got(&buyer, &[&[album.as_str()], &both[..]].concat()), "2.0");
    node.stop().unwrap();
    serving.stop().unwrap();

    publish(&old, &shop.folder, "2.1");
    let serving = old.serve().unwrap();
    let refused = get(&buyer, &[&album, "--mirror", &gateway(&serving)]);
    assert_refused(&refused, 8, &["two heads"]);
}

#[test]
fn a_record_that_the_shops_key_did_not_sign_is_refused() {
    let shop = Shop::new();
    let node = shop.duka.serve().unwrap();
    let changing = BadGateway::start(&gateway(&node), Fault::FlipsABit).unwrap();
    let buyer = buyer(&Options::default());
    let album = format!("{}/album", shop.name);
    let refused = get(&buyer, &[&album, "--mirror", &changing.url()]);
    assert_refused(&refused, 8, &[&shop.name]);
    assert!(!buyer.home().join("out").exists());
}

#[test]
fn a_shop_comes_through_kubos_gateway() {
    let shop = Shop::new();
    let node = shop.duka.serve().unwrap();
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let id = shop.duka.ok(&["id"]).unwrap();
    shop.duka
        .ok(&["swarm", "connect", &kubo.address("/tcp/").unwrap()])
        .unwrap();
    let buyer = buyer(&Options::default());
    // Kubo has no record of the shop, only blocks: the head comes from one, the content from both.
    let album = format!("{}/album", id["name"].as_str().unwrap());
    let mirrors = [
        "--mirror",
        &kubo.gateway().unwrap(),
        "--mirror",
        &gateway(&node),
    ];
    assert_eq!(
        got(&buyer, &[&[album.as_str()], &mirrors[..]].concat()),
        "1.0"
    );
}
