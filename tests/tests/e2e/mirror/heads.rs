//! Heads that a mirror must not follow, or must not take for new: nothing passes around the rules.

use std::sync::{Arc, OnceLock};

use duka_node::dag::hamt::Entry;
use duka_node::keys::Name;
use duka_tests::duka::Options;
use duka_tests::{Duka, files};
use jiff::Timestamp;
use serde_json::Value;

use super::{Answering, Node};
use crate::thief::{Answers, Thief, YEAR, forwarded};

/// A creator with one release, and a mirror that has it.
fn mirrored() -> (Node, Node) {
    let creator = Node::start();
    creator.publish("album", "1", 1000);
    let mirror = Node::start();
    mirror.mirror(&creator.url(&creator.shop()), &[]);
    mirror.has(creator.seq());
    (creator, mirror)
}

#[test]
fn a_record_by_another_key_is_refused() {
    let (creator, mirror) = mirrored();
    let other = Node::start();
    other.publish("album", "1", 1000);
    let record = format!("/ipns/{}?format=ipns-record", other.shop());
    let record = other.stored(&record).unwrap();
    let liar = Answering::of(move |path| path.starts_with("/ipns/").then(|| record.clone()));
    mirror.mirror(&format!("{}/ipns/{}", liar.url, creator.shop()), &[]);
    let refused = mirror.refuses("the record is refused", "not signed by the key of its name");
    assert_eq!(refused["seq"], Value::Null, "{refused}");
    let from = refused["from"].as_str().unwrap();
    assert_eq!(from.trim_end_matches('/'), liar.url);
    mirror.has(creator.seq());
}

#[test]
fn a_head_that_uses_up_the_numbers_is_refused() {
    let (creator, mirror) = mirrored();
    let thief = Thief::of(&creator);
    let far = creator.seq() + 5000;
    let hostile = thief.shows(thief.entries(), |json| {
        json["seq"] = far.into();
        json["issued"] = format!("{:.0}", Timestamp::now()).into();
    });
    mirror.mirror(&format!("{}/ipns/{}", hostile.url, creator.shop()), &[]);
    let refused = mirror.refuses("the head is refused", "cannot follow on head");
    assert_eq!(refused["seq"], far, "{refused}");
    // The creator goes on as before.
    creator.publish("album", "2", 1000);
    mirror.has(creator.seq());
}

#[test]
fn a_head_that_is_larger_than_it_says_gets_no_more_than_the_quota() {
    let creator = Node::start();
    creator.publish("album", "1", 1000);
    let file = creator.duka.home().join("large");
    files::write_random(&file, 1, 3 << 20).unwrap();
    let added = creator.duka.ok(&["add", file.to_str().unwrap()]).unwrap();
    let cid = added["cid"].as_str().unwrap();
    let thief = Thief::of(&creator);
    let mut entries = thief.entries();
    entries.push(Entry {
        name: "large".to_owned(),
        cid: cid.parse().unwrap(),
        tsize: 1,
    });
    let next = creator.seq() + 1;
    let hostile = thief.shows(entries, |json| {
        json["seq"] = next.into();
        json["entries"]["large"] = cid.into();
    });
    let url = format!("{}/ipns/{}", hostile.url, creator.shop());
    let mirror = Node::start();
    let address = creator.serving.address("/tcp/").unwrap();
    mirror.duka.ok(&["swarm", "connect", &address]).unwrap();
    let add = mirror
        .duka
        .cmd(&["--yes", "mirror", "add", &url, "--quota", "1MiB"]);
    let add = add.unwrap();
    assert_eq!(add.code, 10, "{}", add.stderr);
}

#[test]
fn a_mirror_takes_no_more_than_its_quota_of_a_head_that_is_larger_than_it_says() {
    let creator = Node::start();
    creator.publish("album", "1", 1000);
    let (shop, url) = (creator.shop(), creator.serving.gateway().unwrap());
    // The mirror meets nobody else, and this one turns.
    let turned: Arc<OnceLock<Answers>> = Arc::default();
    let hostile = Arc::clone(&turned);
    let hostile = Answering::of(move |path| {
        let made = hostile.get().and_then(|made| made(path));
        made.or_else(|| forwarded(&url, path))
    });
    let mirror = Node::start();
    mirror.mirror(
        &format!("{}/ipns/{shop}", hostile.url),
        &["--quota", "1MiB"],
    );
    let honest = creator.seq();
    mirror.has(honest);

    let file = creator.duka.home().join("large");
    files::write_random(&file, 1, 24 << 20).unwrap();
    let added = creator.duka.ok(&["add", file.to_str().unwrap()]).unwrap();
    let cid = added["cid"].as_str().unwrap();
    creator.publish("album", "2", 1000);
    let thief = Thief::of(&creator);
    let mut entries = thief.entries();
    entries.push(Entry {
        name: "large".to_owned(),
        cid: cid.parse().unwrap(),
        tsize: 1,
    });
    let made = thief.answers(entries, Timestamp::now() + YEAR, |json| {
        json["entries"]["large"] = cid.into();
    });
    assert!(turned.set(made).is_ok());
    mirror.duka.ok(&["mirror", "pause", &shop]).unwrap();
    mirror.duka.ok(&["mirror", "resume", &shop]).unwrap();
    let stopped = mirror.until("it stops at the quota", |mirror| {
        let stall = mirror["stall"].as_str()?;
        stall
            .contains("more than the quota of 1048576 bytes")
            .then(|| mirror.clone())
    });
    assert_eq!(stopped["whole_seq"], honest, "{stopped}");
    let stat = mirror.duka.ok(&["stat"]).unwrap();
    assert!(stat["kept_bytes"].as_u64().unwrap() < 3 << 20, "{stat}");
    // What it has of the shop is served on.
    assert!(mirror.holds(&format!("/ipns/{shop}/p/album/1")));
}

#[test]
fn a_head_of_parts_of_two_is_refused() {
    let (creator, mirror) = mirrored();
    let thief = Thief::of(&creator);
    let old = thief.entries();
    creator.publish("album", "2", 1000);
    mirror.has(creator.seq());
    let mut mixed = thief.entries();
    for entry in mixed.iter_mut().filter(|entry| entry.name == "products") {
        let before = old.iter().find(|old| old.name == "products").unwrap();
        assert_ne!(before.cid, entry.cid);
        entry.cid = before.cid;
    }
    let next = creator.seq() + 1;
    let hostile = thief.shows(mixed, |json| json["seq"] = next.into());
    mirror.mirror(&format!("{}/ipns/{}", hostile.url, creator.shop()), &[]);
    let refused = mirror.refuses("the head is refused", "put together from parts");
    assert_eq!(refused["seq"], next, "{refused}");
    mirror.has(creator.seq());
}

#[test]
fn a_shop_whose_creator_is_silent_is_served_and_called_stale() {
    let options = Options {
        more: "[shop]\nrefresh = \"2s\"\n".to_owned(),
        ..Options::default()
    };
    let creator = Node::of(Duka::with(&options).unwrap());
    creator.publish("album", "1", 1000);
    let shop = creator.shop();
    let mirror = Node::start();
    mirror.mirror(&creator.url(&shop), &[]);
    mirror.has(creator.seq());
    creator.serving.kill();
    mirror.until("the head is stale", |mirror| {
        let is_stale = mirror["head"]["freshness"] == "stale";
        (is_stale && mirror["state"] == "whole").then_some(())
    });
    assert!(mirror.holds(&format!("/ipns/{shop}/p/album/1")));
}

#[test]
fn a_newcomer_that_is_shown_an_old_head_takes_the_newest_as_soon_as_one_source_has_it() {
    let (creator, frozen) = mirrored();
    let shop = creator.shop();
    let old = creator.seq();
    frozen.duka.ok(&["mirror", "pause", &shop]).unwrap();
    let name: Name = shop.parse().unwrap();
    let record = |node: &Node, name: &Name| {
        let path = format!("/ipns/{name}?format=ipns-record");
        node.stored(&path).unwrap()
    };
    // It replays what was valid then: the old records, and all blocks of the old head.
    let publishing = Thief::of(&creator).keys.publishing.name().unwrap();
    let records = [&name, &publishing].map(|name| (name.to_string(), record(&frozen, name)));
    let frozen_url = frozen.serving.gateway().unwrap();
    let hostile = Answering::of(move |path| {
        if let Some(asked) = path.strip_prefix("/ipns/") {
            let found = records.iter().find(|(name, _)| asked.starts_with(name));
            return found.map(|(_, record)| record.clone());
        }
        forwarded(&frozen_url, path)
    });
    creator.publish("album", "2", 1000);
    let newest = creator.seq();

    let newcomer = Node::start();
    newcomer.mirror(&format!("{}/ipns/{shop}", hostile.url), &[]);
    newcomer.has(old);
    newcomer.mirror(&creator.url(&shop), &[]);
    newcomer.has(newest);
    let refused = newcomer.refuses("the old head is refused from now on", "is older than head");
    assert_eq!(refused["seq"], old, "{refused}");
}
