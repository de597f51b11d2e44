//! What a buyer is told of a release, by a gateway that lies or by whoever has the publishing key: the
//! signatures hold, and what they cover does not fit together, or is old.

use std::collections::HashMap;

use cid::Cid;
use duka_node::block::{Block, RAW};
use duka_node::dag::hamt::{Entry, build_directory};
use duka_node::dag::import::Profile;
use duka_node::dag::unixfs::Metadata;
use duka_tests::duka::{Options, Outcome};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::mirror::{Answering, Node};
use crate::thief::{Thief, YEAR, forwarded};
use crate::{assert_refused, buyer};

/// What a newcomer gets who asks this gateway alone.
struct Got {
    outcome: Outcome,
    is_written: bool,
}

fn get(creator: &Node, gateway: &Answering) -> Got {
    let buyer = buyer(&Options::default());
    let album = format!("{}/album", creator.shop());
    let get = ["get", &album, "--mirror", &gateway.url, "-o", "out"];
    let outcome = buyer.cmd(&get).unwrap();
    let is_written = buyer.home().join("out").exists();
    Got {
        outcome,
        is_written,
    }
}

fn creator() -> Node {
    let creator = Node::start();
    creator.publish("album", "1", 1000);
    creator
}

fn cid_of(entries: &[Entry], name: &str) -> Cid {
    let entry = entries.iter().find(|entry| entry.name == name);
    entry.unwrap().cid
}

/// The directory with another entry of this name, and its block.
fn with(mut entries: Vec<Entry>, name: &str, cid: Cid, blocks: &mut Vec<Block>) -> Cid {
    let place = entries.iter_mut().find(|entry| entry.name == name);
    place.unwrap().cid = cid;
    let built = build_directory(entries, Metadata::default(), Profile::default()).unwrap();
    blocks.extend(built.blocks);
    built.root
}

/// The record of the release, as the creator wrote it.
fn record(thief: &Thief<'_>) -> (Cid, Value) {
    let products = thief.directory(&cid_of(&thief.entries(), "products"));
    let album = thief.directory(&cid_of(&products, "album"));
    let cid = cid_of(&album, "1.json");
    let record = serde_json::from_slice(thief.block(&cid).data()).unwrap();
    (cid, record)
}

/// A gateway with a signed head, whose record of the release is another one.
fn with_record(creator: &Node, record: &Value) -> Answering {
    let thief = Thief::of(creator);
    let entries = thief.entries();
    let record = Block::of(RAW, serde_json::to_vec(record).unwrap().into());
    let cid = *record.cid();
    let mut blocks = vec![record];
    let products = thief.directory(&cid_of(&entries, "products"));
    let album = thief.directory(&cid_of(&products, "album"));
    let album = with(album, "1.json", cid, &mut blocks);
    let products = with(products, "album", album, &mut blocks);
    let mut head = entries;
    let place = head.iter_mut().find(|entry| entry.name == "products");
    place.unwrap().cid = products;
    let signed = thief.answers(head, Timestamp::now() + YEAR, |json| {
        json["entries"]["products"] = products.to_string().into();
    });
    let blocks: HashMap<String, Vec<u8>> = blocks
        .iter()
        .map(|block| (block.cid().to_string(), block.data().to_vec()))
        .collect();
    let url = creator.serving.gateway().unwrap();
    Answering::of(move |path| {
        let block = path.strip_prefix("/ipfs/");
        let block = block.and_then(|cid| blocks.get(cid.split(['?', '/']).next()?));
        block
            .cloned()
            .or_else(|| signed(path))
            .or_else(|| forwarded(&url, path))
    })
}

#[test]
fn a_release_that_is_not_as_its_signed_record_says_is_refused() {
    let creator = creator();
    let (_, honest) = record(&Thief::of(&creator));
    let got = get(&creator, &with_record(&creator, &honest));
    assert_eq!(got.outcome.code, 0, "{:?}", got.outcome);
    assert!(got.is_written);

    type Change = fn(&mut Value);
    let changes: [(Change, &str); 4] = [
        (
            |record| record["cid"] = "bafkqaaa".into(),
            "that of another tree of files",
        ),
        (
            |record| record["files"][0]["size"] = 999.into(),
            "the record of the release and its files differ",
        ),
        (
            |record| record["files"][0]["sha256"] = "00".repeat(32).into(),
            "the record of the release and its files differ",
        ),
        (
            |record| record["files"] = serde_json::json!([]),
            "the record of the release and its files differ",
        ),
    ];
    for (change, said) in changes {
        let mut forged = honest.clone();
        change(&mut forged);
        let got = get(&creator, &with_record(&creator, &forged));
        assert_refused(&got.outcome, 4, &[said, "tell the owner of the shop"]);
        assert!(!got.is_written);
    }
}

#[test]
fn a_gateway_that_gives_another_record_than_the_creators_is_called_a_liar() {
    let creator = creator();
    let (cid, mut forged) = record(&Thief::of(&creator));
    forged["files"][0]["sha256"] = "00".repeat(32).into();
    let url = creator.serving.gateway().unwrap();
    let forged = serde_json::to_vec(&forged).unwrap();
    let cid = format!("/ipfs/{cid}");
    let liar = Answering::of(move |path| match path.starts_with(&cid) {
        true => Some(forged.clone()),
        false => forwarded(&url, path),
    });
    let got = get(&creator, &liar);
    assert_refused(&got.outcome, 4, &[&liar.url]);
    assert!(!got.is_written);
}

/// A gateway with the creator's newest head, signed so long ago.
fn signed_before(creator: &Node, age: SignedDuration) -> Answering {
    let thief = Thief::of(creator);
    let shop = creator.duka.ok(&["shop", "show"]).unwrap();
    let lifetime = SignedDuration::from_secs(shop["expiry_seconds"].as_i64().unwrap());
    let validity = Timestamp::now() - age + lifetime;
    let signed = thief.answers(thief.entries(), validity, |_| {});
    let url = creator.serving.gateway().unwrap();
    Answering::of(move |path| signed(path).or_else(|| forwarded(&url, path)))
}

#[test]
fn a_stale_head_comes_with_a_warning_and_an_expired_one_is_refused() {
    let creator = creator();
    let shop = creator.duka.ok(&["shop", "show"]).unwrap();
    let seconds = |key: &str| SignedDuration::from_secs(shop[key].as_i64().unwrap());
    let (refresh, lifetime) = (seconds("refresh_seconds"), seconds("expiry_seconds"));

    let fresh = get(&creator, &signed_before(&creator, refresh * 2));
    assert_eq!(fresh.outcome.code, 0, "{:?}", fresh.outcome);
    assert!(!said(&fresh).contains("stale"), "{}", said(&fresh));

    let stale = get(&creator, &signed_before(&creator, refresh * 4));
    assert_eq!(stale.outcome.code, 0, "{:?}", stale.outcome);
    assert!(stale.is_written);
    assert!(said(&stale).contains("is stale"), "{}", said(&stale));

    let expired = get(&creator, &signed_before(&creator, lifetime * 2));
    assert_refused(&expired.outcome, 8, &[&creator.shop(), "expired"]);
    assert!(!expired.is_written);
}

fn said(got: &Got) -> String {
    format!("{}{}", got.outcome.text(), got.outcome.stderr)
}
