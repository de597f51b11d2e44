//! A buyer follows a shop: products by name, the newest head from several places, false ones refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use duka_tests::Duka;
use duka_tests::duka::{Options, Outcome, Serving};
use duka_tests::http::{BadGateway, Fault};
use duka_tests::kubo::{self, Kubo};

use crate::shop::Shop;
use crate::{assert_refused, buyer};

impl Shop {
    /// One with a product.
    fn with_album() -> Self {
        let shop = Self::new();
        fs::create_dir(shop.album()).unwrap();
        shop.publish("1.0");
        shop
    }

    fn album(&self) -> PathBuf {
        self.duka.home().join("album")
    }

    /// Publishes a version that says which one it is.
    fn publish(&self, version: &str) {
        publish(&self.duka, &self.album(), version);
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
    let shop = Shop::with_album();
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
fn a_newcomer_is_told_of_gateways_that_say_nothing() {
    let shop = Shop::with_album();
    let node = shop.duka.serve().unwrap();
    let url = gateway(&node);
    let hangs = BadGateway::start(&url, Fault::Hangs).unwrap().url();
    let album = format!("{}/album", shop.name);
    let newcomer = buyer(&crate::get::impatient());
    let from_both = [album.as_str(), "--mirror", &hangs, "--mirror", &url];
    let outcome = get(&newcomer, &from_both);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let said = "1 of 2 gateways did not answer: there may be a newer head";
    assert!(outcome.text().contains(said), "{outcome:?}");
}

#[test]
fn what_cannot_be_remembered_keeps_nobody_from_a_download() {
    let shop = Shop::with_album();
    let node = shop.duka.serve().unwrap();
    let buyer = buyer(&Options::default());
    let state = buyer.home().join("file");
    fs::write(&state, "no folder").unwrap();
    let out = buyer.home().join("out");
    let album = format!("{}/ipns/{}/album", gateway(&node), shop.name);
    let mut command = buyer.command();
    command.env("XDG_STATE_HOME", &state);
    command.args(["get", &album, "-o", out.to_str().unwrap()]);
    let got = command.output().unwrap();
    let said = String::from_utf8_lossy(&got.stderr);
    assert!(got.status.success(), "{said}");
    assert!(said.contains("is not remembered"), "{said}");
    assert_eq!(fs::read_to_string(out.join("version")).unwrap(), "1.0");
}

#[test]
fn offline_nobody_is_asked_whoever_is_remembered() {
    let shop = Shop::with_album();
    let node = shop.duka.serve().unwrap();
    let buyer = buyer(&Options::default());
    let at = format!("{}/ipns/{}/album", gateway(&node), shop.name);
    assert_eq!(got(&buyer, &[&at]), "1.0");
    let reference = format!("{}/album", shop.name);
    assert_eq!(got(&buyer, &[&reference]), "1.0");
    let out = buyer.home().join("elsewhere");
    let refused = |what: &[&str]| {
        let arguments = [what, &[&reference, "-o", out.to_str().unwrap()]].concat();
        let refused = buyer.cmd(&arguments).unwrap();
        assert_refused(&refused, 3, &[]);
        assert!(!out.exists());
    };
    refused(&["--offline", "get"]);
    // Nor by a node that is offline, whatever those say who ask it.
    buyer.ok(&["init"]).unwrap();
    refused(&["--offline", "get"]);
    let _own = buyer.start(&["--offline", "serve"]).unwrap();
    refused(&["get"]);
    refused(&["get", "--mirror", &gateway(&node)]);
}

#[test]
fn without_stable_the_newest_release_that_is_not_yanked_comes() {
    let shop = Shop::with_album();
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
    let shop = Shop::with_album();
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

    publish(&old, &shop.album(), "2.1");
    let serving = old.serve().unwrap();
    let refused = get(&buyer, &[&album, "--mirror", &gateway(&serving)]);
    assert_refused(&refused, 8, &["two heads"]);
}

#[test]
fn a_record_that_the_shops_key_did_not_sign_is_refused() {
    let shop = Shop::with_album();
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
    let shop = Shop::with_album();
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

#[test]
fn a_newcomer_takes_the_newest_head_that_anybody_has() {
    let shop = Shop::with_album();
    let old = shop.copy();
    shop.publish("2.0");
    let frozen = old.serve().unwrap();
    let node = shop.duka.serve().unwrap();
    let (replayed, honest) = (gateway(&frozen), gateway(&node));
    let album = format!("{}/album", shop.name);
    // Whoever hears the old head alone cannot know better,
    let newcomer = buyer(&Options::default());
    let from_frozen = [album.as_str(), "--mirror", &replayed];
    assert_eq!(got(&newcomer, &from_frozen), "1.0");
    // but one honest gateway is enough, wherever it stands,
    let both = [album.as_str(), "--mirror", &replayed, "--mirror", &honest];
    assert_eq!(got(&newcomer, &both), "2.0");
    // and from then on the old one is refused.
    let alone = buyer(&Options::default());
    assert_eq!(got(&alone, &both), "2.0");
    node.stop().unwrap();
    for knowing in [&newcomer, &alone] {
        let refused = get(knowing, &from_frozen);
        assert_refused(&refused, 8, &[&shop.name, "older"]);
    }
}

#[test]
fn a_shop_is_found_by_the_dnslink_of_its_domain() {
    let shop = Shop::with_album();
    let node = shop.duka.serve().unwrap();
    let buyer = buyer(&Options {
        more: format!(
            "dnslink = {{ \"songs.example\" = \"/ipns/{}\" }}\n",
            shop.name
        ),
        ..Options::default()
    });
    let album = ["songs.example/album@1.0", "--mirror", &gateway(&node)];
    assert_eq!(got(&buyer, &album), "1.0");
    let refused = get(&buyer, &["songs.example/nothing"]);
    assert_refused(&refused, 3, &["no product nothing"]);
}

#[test]
fn what_another_shops_key_signed_is_refused() {
    let (shop, other) = (Shop::with_album(), Shop::with_album());
    let node = other.duka.serve().unwrap();
    let upstream = format!("{}/ipns/{}", gateway(&node), other.name);
    // It gives the record of another shop for every name.
    let impostor = BadGateway::start(&upstream, Fault::Renames).unwrap();
    let buyer = buyer(&Options::default());
    let album = format!("{}/album", shop.name);
    let refused = get(&buyer, &[&album, "--mirror", &impostor.url()]);
    assert_refused(&refused, 8, &[&shop.name]);
    assert!(!buyer.home().join("out").exists());
}

#[test]
fn what_is_remembered_of_a_shop_is_forgotten_on_demand_and_after_a_question() {
    let shop = Shop::with_album();
    let old = shop.copy();
    shop.publish("2.0");
    let node = shop.duka.serve().unwrap();
    let frozen = old.serve().unwrap();
    let buyer = buyer(&Options::default());
    buyer.ok(&["shop", "alias", "songs", &shop.name]).unwrap();
    assert_eq!(
        got(&buyer, &["songs/album", "--mirror", &gateway(&node)]),
        "2.0"
    );
    node.stop().unwrap();
    let refused = buyer.cmd(&["shop", "forget", "songs"]).unwrap();
    assert_refused(&refused, 2, &["nothing is forgotten", "--yes"]);
    let album = format!("{}/album", shop.name);
    let from_frozen = [album.as_str(), "--mirror", &gateway(&frozen)];
    assert_refused(&get(&buyer, &from_frozen), 8, &["older"]);

    let forgotten = buyer.ok(&["--yes", "shop", "forget", "songs"]).unwrap();
    assert_eq!(forgotten["shop"], shop.name.as_str());
    assert_eq!(forgotten["aliases"], serde_json::json!(["songs"]));
    assert_eq!(got(&buyer, &from_frozen), "1.0");
    let unknown = buyer.cmd(&["shop", "forget", "songs"]).unwrap();
    assert_refused(&unknown, 2, &["songs"]);
    // Without a remembered head there is nothing to ask.
    let other = Duka::new().unwrap().ok(&["id"]).unwrap();
    let unknown = buyer.cmd(&["shop", "forget", other["name"].as_str().unwrap()]);
    assert_refused(&unknown.unwrap(), 3, &["nothing is remembered"]);
}
