//! What a creator does with the keys, as a mirror sees it.

use std::fs;

use duka_node::ipns::{self, Record};
use duka_node::keys::Name;
use duka_tests::kubo::{self, Kubo};
use duka_tests::process::wait_until;
use jiff::{Timestamp, ToSpan};

use super::{Node, PATIENCE};

const SECRET: &str = "a long passphrase";

impl Node {
    /// The record that the node has of a name, itself.
    fn record(&self, name: &str) -> Option<Record> {
        let bytes = self.stored(&format!("/ipns/{name}?format=ipns-record"))?;
        let name: Name = name.parse().unwrap();
        ipns::verify(&name, &bytes, Timestamp::now()).ok()
    }

    /// A command of `duka key` that asks for a passphrase.
    fn key(&self, arguments: &[&str]) {
        let secret = self.duka.home().join("passphrase");
        fs::write(&secret, SECRET).unwrap();
        let secret = ["--passphrase-file", secret.to_str().unwrap()];
        let all = [&["key"], arguments, &secret].concat();
        self.duka.ok(&all).unwrap();
    }

    /// Waits until this node shows a record of the name that is valid for so many days.
    fn shows_for(&self, name: &str, days: i64) {
        let least = Timestamp::now() + (24 * days).hours();
        let what = format!("a record that is valid for {days} days");
        wait_until(&what, PATIENCE, || {
            (self.record(name)?.validity > least).then_some(())
        })
        .unwrap();
    }
}

/// Who stole a publishing key: a Kubo, which signs whatever it is told.
struct KuboThief {
    kubo: Kubo,
    /// An empty folder.
    root: String,
}

impl KuboThief {
    fn of(creator: &Node) -> Self {
        let mut kubo = Kubo::init(kubo::Options {
            gossip: true,
            ..kubo::Options::default()
        })
        .unwrap();
        let key = creator.duka.data_dir().join("keys/publishing.key");
        kubo.ok(&["key", "import", "stolen", key.to_str().unwrap()])
            .unwrap();
        kubo.start().unwrap();
        let folder = creator.duka.home().join("empty");
        fs::create_dir(&folder).unwrap();
        let root = kubo.ok(&["add", "-Qr", folder.to_str().unwrap()]).unwrap();
        Self { kubo, root }
    }

    fn connect(&self, node: &Node) {
        let address = node.serving.address("/tcp/").unwrap();
        self.kubo.connect(&address).unwrap();
    }

    fn signs(&self, sequence: u64) {
        let sequence = format!("--sequence={sequence}");
        let path = format!("/ipfs/{}", self.root);
        self.kubo
            .ok(&["name", "publish", "--key=stolen", &sequence, &path])
            .unwrap();
    }
}

/// What the owner is warned of.
fn warnings(node: &Node, command: &[&str]) -> Vec<String> {
    let events = node.duka.cmd(command).unwrap().events().unwrap();
    let warnings = events.iter().filter(|event| event["type"] == "warning");
    let texts = warnings.map(|event| event["message"].as_str().unwrap().to_owned());
    texts.collect()
}

fn has_stranger(node: &Node) -> bool {
    let text = "somebody else signs with the publishing key";
    let commands = [&["key", "list"][..], &["shop", "show"]];
    commands.iter().all(|command| {
        let warnings = warnings(node, command);
        warnings.iter().any(|warning| warning.contains(text))
    })
}

#[test]
fn a_stolen_publishing_key_does_not_take_the_shop_and_its_replacement_is_followed() {
    let creator = Node::start();
    creator.publish("album", "1", 1000);
    let shop = creator.shop();
    let mirror = Node::start();
    mirror.mirror(&creator.url(&shop), &[]);
    mirror.has(creator.seq());
    assert!(!has_stranger(&creator));

    let thief = KuboThief::of(&creator);
    thief.connect(&creator);
    thief.connect(&mirror);
    // Kubo has no higher number.
    let highest = i64::MAX.unsigned_abs();
    for (sequence, why) in [(5_000, "cannot follow on head"), (highest, "is above")] {
        let before = creator.seq();
        thief.signs(sequence);
        mirror.refuses("the head is refused", why);
        wait_until("the owner is warned", PATIENCE, || {
            has_stranger(&creator).then_some(())
        })
        .unwrap();
        assert!(creator.holds(&format!("/ipns/{shop}/shop.json")));
        // The owner goes on, and the mirror with him.
        creator.publish("album", &sequence.to_string(), 1000);
        assert_eq!(creator.seq(), before + 1);
        mirror.has(creator.seq());
    }

    let stolen = mirror.record(&shop).unwrap();
    let rotated = creator.duka.ok(&["key", "rotate"]).unwrap();
    let publishing = rotated["publishing"].as_str().unwrap();
    assert!(!has_stranger(&creator));
    wait_until("the mirror knows the new key", PATIENCE, || {
        let record = mirror.record(&shop)?;
        (record.value == format!("/ipns/{publishing}")).then_some(())
    })
    .unwrap();
    assert!(mirror.record(&shop).unwrap().sequence > stolen.sequence);
    let before = creator.seq();
    creator.publish("album", "3", 1000);
    assert_eq!(creator.seq(), before + 1);
    mirror.has(creator.seq());
    assert!(!has_stranger(&creator));
}

#[test]
fn the_record_for_the_years_without_the_shop_key_reaches_mirrors() {
    let creator = Node::start();
    creator.publish("album", "1", 1000);
    let shop = creator.shop();
    let mirror = Node::start();
    mirror.mirror(&creator.url(&shop), &[]);
    mirror.has(creator.seq());
    let before = mirror.record(&shop).unwrap();

    let file = creator.duka.home().join("shop.age");
    let file = file.to_str().unwrap();
    creator.key(&["offline", file]);
    mirror.shows_for(&shop, 3649);
    let offline = mirror.record(&shop).unwrap();
    assert_eq!(offline.sequence, before.sequence);

    // Longer still; this mirror was away meanwhile.
    let duka = mirror.duka;
    mirror.serving.stop().unwrap();
    creator.key(&["import", file]);
    creator.key(&["offline", file, "--expiry", "7300d"]);
    let mirror = Node::of(duka);
    mirror.shows_for(&shop, 7299);

    // And it is told with each head, to mirrors that come later.
    creator.publish("album", "2", 1000);
    let second = Node::start();
    second.mirror(&mirror.url(&shop), &[]);
    creator.serving.kill();
    second.shows_for(&shop, 7299);
}
