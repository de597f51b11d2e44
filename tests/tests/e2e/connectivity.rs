//! Nodes behind routers: whether others reach them, relays, hole punching, UPnP, mDNS.

use std::fs;
use std::time::Duration;

use duka_tests::duka::{Options, QUIC_ANYWHERE, Serving, TCP_ANYWHERE, field};
use duka_tests::kubo::{self, Kubo};
use duka_tests::net::{Internet, Machine, igd};
use duka_tests::process::wait_until;
use duka_tests::{Duka, files};
use serde_json::{Value, json};

use crate::{add, assert_same_file};

/// Time for a test of reachability, a reservation, or a hole.
const PATIENCE: Duration = Duration::from_secs(60);

/// Public addresses; the networks have no way to who really has them.
const RELAY: &str = "45.66.0.1";
const FRIEND: &str = "45.66.0.2";
const SHOP: &str = "45.66.0.3";
const BUYER: &str = "45.66.0.4";

fn anywhere() -> Options {
    Options {
        listen: vec![TCP_ANYWHERE, QUIC_ANYWHERE],
        relay: true,
        ..Options::default()
    }
}

fn duka_on(machine: &Machine, options: &Options) -> (Duka, Serving) {
    let duka = Duka::with(options).unwrap().on(machine);
    let node = duka.serve().unwrap();
    (duka, node)
}

/// A Kubo that a machine runs, with relaying and hole punching as it is set up by default.
fn kubo_on(machine: &Machine, change: impl FnOnce(&mut Value)) -> Kubo {
    let mut kubo = Kubo::init(kubo::Options::default()).unwrap().on(machine);
    let swarm = ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"];
    kubo.change_config(|config| {
        config["Addresses"]["Swarm"] = json!(swarm);
        config["Swarm"]["Transports"]["Network"]["Relay"] = json!(true);
        // Else Kubo asks only peers of its own machine for blocks whose providers it does not know.
        config["Internal"]["Bitswap"] = json!({ "BroadcastControl": { "Enable": false } });
        config["Swarm"]["RelayClient"]["Enabled"] = json!(true);
        config["Swarm"]["EnableHolePunching"] = json!(true);
        change(config);
    })
    .unwrap();
    kubo.start().unwrap();
    wait_until(
        "Kubo has found its addresses and punches holes",
        PATIENCE,
        || {
            let id = kubo.ok(&["id"]).ok()?;
            id.contains("/libp2p/dcutr").then_some(())
        },
    )
    .unwrap();
    kubo
}

/// A Kubo on the internet that relays.
fn relay_on(machine: &Machine) -> Kubo {
    kubo_on(machine, |config| {
        config["Swarm"]["RelayService"] = json!({ "Enabled": true });
        // Kubo relays once it knows that it is public; nobody here tells it.
        config["Internal"]["Libp2pForceReachability"] = json!("public");
    })
}

/// An address on the internet among those that Kubo listens on.
fn public(kubo: &Kubo, ip: &str) -> String {
    kubo.address(&format!("/ip4/{ip}/tcp/")).unwrap()
}

/// Waits until the node says this about its reachability, and gives the sentence.
fn says(node: &Serving, reachability: &str) -> String {
    node.process()
        .wait_for(PATIENCE, |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["reachability"] == reachability).then(|| event["message"].to_string())
        })
        .unwrap()
}

/// Addresses of the peers that a duka is connected to.
fn peers(duka: &Duka) -> Vec<Value> {
    let events = duka.cmd(&["swarm", "peers"]).unwrap().events().unwrap();
    let peers = events.into_iter().filter(|event| event["type"] == "item");
    peers.collect()
}

fn peer_id(duka: &Duka) -> String {
    let id = duka.ok(&["id"]).unwrap();
    field(&id, "peer_id").unwrap().to_owned()
}

#[test]
fn a_node_learns_whether_it_is_reachable() {
    let internet = Internet::new().unwrap();
    let friend = internet.machine(FRIEND).unwrap();
    let (_friend, serving) = duka_on(&friend, &anywhere());
    let address = serving.address(&format!("/ip4/{FRIEND}/tcp/")).unwrap();

    let open = internet.machine(SHOP).unwrap();
    let home = internet.home(BUYER).unwrap();
    let (open, open_node) = duka_on(&open, &anywhere());
    let (hidden, hidden_node) = duka_on(&home.machine, &anywhere());
    says(&open_node, "unknown");
    for duka in [&open, &hidden] {
        duka.ok(&["swarm", "connect", &address]).unwrap();
    }
    let sentence = says(&open_node, "public");
    assert!(sentence.contains("can reach"), "{sentence}");
    let sentence = says(&hidden_node, "private");
    assert!(sentence.contains("forward the port"), "{sentence}");
}

#[test]
fn a_node_behind_a_router_is_reached_over_a_relay_and_then_directly() {
    let internet = Internet::new().unwrap();
    let relay = relay_on(&internet.machine(RELAY).unwrap());
    let home = internet.home(SHOP).unwrap();
    let (shop, node) = duka_on(&home.machine, &anywhere());
    let file = shop.home().join("file");
    files::write_random(&file, 70, 3 << 20).unwrap();
    let cid = add(&shop, &file).unwrap();
    let relay_address = public(&relay, RELAY);
    shop.ok(&["swarm", "connect", &relay_address]).unwrap();
    says(&node, "relayed");
    let id = peer_id(&shop);
    let circuit = format!("{relay_address}/p2p-circuit/p2p/{id}");

    // A duka that has a router of its own: both must dial at once.
    let other_home = internet.home(BUYER).unwrap();
    let (buyer, _buying) = duka_on(&other_home.machine, &anywhere());
    buyer.ok(&["swarm", "connect", &relay_address]).unwrap();
    buyer.ok(&["swarm", "connect", &circuit]).unwrap();
    wait_until("a direct connection of two dukas", PATIENCE, || {
        let peers = peers(&buyer);
        let shop = peers.iter().find(|peer| peer["peer_id"] == id.as_str())?;
        let address = shop["address"].as_str()?;
        (!address.contains("p2p-circuit")).then_some(())
    })
    .unwrap();
    let out = buyer.home().join("out");
    buyer
        .ok(&["get", &cid, "-o", out.to_str().unwrap()])
        .unwrap();
    assert_same_file(&out, &file);

    // A Kubo on the internet.
    let kubo = kubo_on(&internet.machine(FRIEND).unwrap(), |_| {});
    kubo.connect(&circuit).unwrap();
    wait_until("a direct connection of duka and Kubo", PATIENCE, || {
        let peers = kubo.ok(&["swarm", "peers"]).ok()?;
        let mut of_shop = peers.lines().filter(|peer| peer.contains(&id));
        of_shop.find(|peer| !peer.contains("p2p-circuit")).map(drop)
    })
    .unwrap();
    assert_eq!(
        files::sha256(&kubo.cat(&cid).unwrap()),
        files::sha256_of(&file).unwrap()
    );
}

#[test]
fn a_port_that_the_router_forwards_by_upnp_is_reached_from_outside() {
    let internet = Internet::new().unwrap();
    let home = internet.home(SHOP).unwrap();
    igd::start(&home, SHOP).unwrap();
    let options = Options {
        upnp: true,
        ..anywhere()
    };
    let (shop, node) = duka_on(&home.machine, &options);
    let file = shop.home().join("file");
    fs::write(&file, files::random_bytes(71, 100_000)).unwrap();
    let cid = add(&shop, &file).unwrap();
    says(&node, "public");
    let id = shop.ok(&["id"]).unwrap();
    let addresses = id["addresses"].as_array().unwrap();
    let mut addresses = addresses.iter().filter_map(Value::as_str);
    let outside = format!("/ip4/{SHOP}/tcp/");
    let address = addresses.find(|address| address.starts_with(&outside));
    let kubo = kubo_on(&internet.machine(BUYER).unwrap(), |_| {});
    kubo.connect(address.unwrap()).unwrap();
    assert!(
        kubo.cat(&cid).unwrap() == files::random_bytes(71, 100_000),
        "the bytes differ"
    );
}

#[test]
fn nodes_of_one_local_network_find_each_other_only_if_they_want() {
    let internet = Internet::new().unwrap();
    let options = Options {
        mdns: true,
        ..anywhere()
    };
    let machines = ["10.1.0.1", "10.1.0.2", "10.1.0.3"].map(|ip| internet.machine(ip).unwrap());
    let [one, two, hermit] = machines;
    // The setting's default counts here, so it is not in the file.
    let alone = Duka::with(&anywhere()).unwrap().on(&hermit);
    let config = alone.home().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("mdns = false\n", "")).unwrap();
    let _hermit = alone.serve().unwrap();

    let (first, _one) = duka_on(&one, &options);
    let (second, _two) = duka_on(&two, &options);
    wait_until("they are connected", PATIENCE, || {
        (peers(&first).len() == 1 && peers(&second).len() == 1).then_some(())
    })
    .unwrap();
    assert_eq!(peers(&first)[0]["peer_id"], peer_id(&second));
    assert!(peers(&alone).is_empty(), "found without being asked");
}
