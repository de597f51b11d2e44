//! Where mirrors get shops from, by which names, and how fast they give them on.

use std::cell::RefCell;
use std::thread;
use std::time::{Duration, Instant};

use duka_tests::Duka;
use duka_tests::duka::Options;
use duka_tests::kubo::{self, Kubo};
use serde_json::Value;

use super::Node;

const MIB: u64 = 1 << 20;

#[test]
fn a_shop_is_mirrored_by_its_domain() {
    let creator = Node::start();
    creator.publish("album", "1", 1000);
    let shop = creator.shop();
    let options = Options {
        more: format!("[gateway.dnslink]\n\"shop.example\" = \"/ipns/{shop}\"\n"),
        ..Options::default()
    };
    let mirror = Node::of(Duka::with(&options).unwrap());
    let url = format!("{}/ipns/shop.example", creator.serving.gateway().unwrap());
    let added = mirror.mirror(&url, &[]);
    assert_eq!(added["shop"], shop, "{added}");
    mirror.has(creator.seq());
    mirror
        .duka
        .ok(&["mirror", "pause", "shop.example"])
        .unwrap();
    let paused = mirror.duka.cmd(&["mirror", "status", "shop.example"]);
    let paused = paused.unwrap().events().unwrap();
    assert_eq!(paused[0]["state"], "paused", "{paused:?}");
    let unknown = [
        "--yes",
        "mirror",
        "add",
        "http://127.0.0.1:1/ipns/other.invalid",
    ];
    let unknown = mirror.duka.cmd(&unknown).unwrap();
    assert_ne!(unknown.code, 0, "{}", unknown.complaint());
    assert!(unknown.complaint().contains("other.invalid"));
}

#[test]
fn what_is_served_keeps_to_one_rate_over_http_and_to_peers() {
    const RATE: u64 = 512 << 10;
    let creator = Node::start();
    creator.publish("album", "1", usize::try_from(2 * MIB).unwrap());
    creator.serving.stop().unwrap();
    let slow = Options {
        network: format!("serve_rate = \"{RATE} B\"\n"),
        ..Options::default()
    };
    creator.duka.configure(&slow).unwrap();
    let creator = Node::of(creator.duka);
    let shop = creator.shop();
    let mirror = Node::start();
    let started = Instant::now();
    mirror.mirror(&creator.url(&shop), &[]);
    thread::scope(|scope| {
        scope.spawn(|| {
            let path = format!("/ipns/{shop}/p/album/1");
            let file = creator.stored(&path).unwrap();
            assert_eq!(file.len() as u64, 2 * MIB);
        });
        mirror.has(creator.seq());
    });
    let least = Duration::from_secs(4 * MIB / RATE) - Duration::from_millis(200);
    let took = started.elapsed();
    assert!(took >= least, "4 MiB at 512 KiB/s took {took:?}");
}

#[test]
fn kubo_gives_what_a_slow_creator_does_not() {
    let creator = Node::start();
    creator.publish("album", "1", usize::try_from(8 * MIB).unwrap());
    let shop = creator.duka.ok(&["shop", "show"]).unwrap();
    let root = shop["head"]["cid"].as_str().unwrap().to_owned();
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    kubo.connect(&creator.serving.address("/tcp/").unwrap())
        .unwrap();
    kubo.ok(&["pin", "add", &root]).unwrap();
    creator.serving.stop().unwrap();
    let slow = Options {
        network: "serve_rate = \"32 KiB\"\n".to_owned(),
        ..Options::default()
    };
    creator.duka.configure(&slow).unwrap();
    let creator = Node::of(creator.duka);

    let mirror = Node::start();
    let address = mirror.serving.address("/tcp/").unwrap();
    kubo.connect(&address).unwrap();
    mirror.mirror(&creator.url(&creator.shop()), &[]);
    mirror.has(creator.seq());
    let kubo_id = kubo.ok(&["id", "-f=<id>"]).unwrap();
    let bytes = mirror.until("who gave what is shown", |mirror| {
        let sources = mirror["sources"].as_array()?;
        let kubo = sources.iter().find(|given| given["source"] == kubo_id)?;
        kubo["bytes"].as_u64()
    });
    assert!(bytes > 6 * MIB, "{bytes} bytes came from Kubo");
    let shown = mirror.duka.plain(&["mirror", "status"]).unwrap().text();
    assert!(shown.contains(&format!("from\t{kubo_id}\t")), "{shown}");
}

/// What a census found of somebody: how it was asked, and how many of its answers were right.
fn found(events: &[Value], who: &str) -> (String, u64, u64) {
    let event = events.iter().find(|event| {
        let found = event["who"].as_str();
        found.is_some_and(|found| found.trim_end_matches('/') == who)
    });
    let event = event.unwrap_or_else(|| panic!("{who} is not in {events:?}"));
    let number = |name: &str| event[name].as_u64().unwrap();
    let by = event["by"].as_str().unwrap().to_owned();
    // Late is right, too, on a machine that has much to do.
    (by, number("proved") + number("late"), number("asked"))
}

#[test]
fn a_census_asks_kubo_and_gateways_for_the_blocks_themselves() {
    let creator = Node::start();
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let kubo_id = kubo.ok(&["id", "-f=<id>"]).unwrap();
    let address = kubo.address("/tcp/").unwrap();
    let gateway = kubo.gateway().unwrap();
    let set = |what: &str, value: &str| creator.duka.ok(&["shop", "set", what, value]).unwrap();
    set("mirrors", &address);
    set("gateways", &gateway);
    for version in ["1", "2"] {
        creator.publish("album", version, 20 << 20);
    }
    let shop = creator.duka.ok(&["shop", "show"]).unwrap();
    let root = shop["head"]["cid"].as_str().unwrap().to_owned();
    kubo.connect(&creator.serving.address("/tcp/").unwrap())
        .unwrap();
    kubo.ok(&["pin", "add", &root]).unwrap();
    let census = || {
        let census = ["mirror", "census", "--challenges", "30"];
        creator.duka.cmd(&census).unwrap().events().unwrap()
    };
    let whole = census();
    assert_eq!(found(&whole, &kubo_id), ("bitswap".to_owned(), 30, 30));
    assert_eq!(found(&whole, &gateway), ("http".to_owned(), 30, 30));

    let release = kubo
        .ok(&["resolve", &format!("/ipfs/{root}/p/album/1")])
        .unwrap();
    kubo.ok(&["pin", "add", &release]).unwrap();
    kubo.ok(&["pin", "rm", &root]).unwrap();
    kubo.ok(&["repo", "gc"]).unwrap();
    let half = census();
    for who in [&kubo_id, &gateway] {
        let (_, proved, asked) = found(&half, who);
        assert_eq!(asked, 30);
        assert!(proved > 0 && proved < 30, "{who}: {half:?}");
    }
}

#[test]
fn what_few_peers_have_is_fetched_first() {
    let creator = Node::start();
    for version in ["1", "2", "3"] {
        creator.publish("album", version, 3 << 20);
    }
    let url = creator.url(&creator.shop());
    // The newest has three holders, the one before two, the oldest the creator alone.
    let others = ["latest:2", "latest:1"].map(|keep| {
        let other = Node::start();
        other.mirror(&url, &["--keep", keep]);
        other.has(creator.seq());
        other
    });
    let history = creator.duka.cmd(&["product", "history", "album"]).unwrap();
    let history = history.events().unwrap();
    let root = |version: &str| {
        let release = history.iter().find(|event| event["version"] == version);
        release.unwrap()["cid"].as_str().unwrap().to_owned()
    };
    let roots = ["1", "2", "3"].map(root);
    let mirror = Node::start();
    for node in others.iter().chain([&creator]) {
        let address = node.serving.address("/tcp/").unwrap();
        mirror.duka.ok(&["swarm", "connect", &address]).unwrap();
    }
    mirror.mirror(&url, &["--bwlimit", "2MiB/s"]);
    let arrived = RefCell::new(Vec::new());
    mirror.until("all releases are here", |_| {
        let mut arrived = arrived.borrow_mut();
        for root in &roots {
            if !arrived.contains(root) && mirror.holds(&format!("/ipfs/{root}")) {
                arrived.push(root.clone());
            }
        }
        (arrived.len() == roots.len()).then_some(())
    });
    assert_eq!(arrived.into_inner(), roots);
}
