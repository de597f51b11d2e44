//! Where the bytes of a download come from: gateways and peers at once.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use duka_tests::duka::{GATEWAY_ANYWHERE, Options, TCP_ANYWHERE};
use duka_tests::net::wan::{Link, Wan};
use duka_tests::{Duka, files};

use crate::add;

const FILE: u64 = 4 << 20;
const BUYER: Ipv4Addr = Ipv4Addr::new(45, 66, 1, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(45, 66, 2, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(45, 66, 2, 2);
/// Bytes a second of whoever has something to give.
const RATE: u64 = 1_000_000;

#[test]
fn a_peer_with_a_third_and_a_gateway_are_faster_than_the_gateway_alone() {
    let wan = Wan::new(7).unwrap();
    let narrow = Link {
        delay: Duration::from_millis(10),
        rate: Some(RATE),
        ..Link::default()
    };
    let options = Options {
        listen: vec![TCP_ANYWHERE],
        gateway: GATEWAY_ANYWHERE,
        ..Options::default()
    };
    let duka = |address, link| {
        let machine = wan.machine(address, link).unwrap();
        Duka::with(&options).unwrap().on(&machine)
    };
    let (peer, gateway) = (duka(PEER, narrow), duka(GATEWAY, narrow));
    let buyer = duka(BUYER, Link::default());

    let folder = |name: &str, seed: u64| {
        let folder = buyer.home().join(name);
        fs::create_dir(&folder).unwrap();
        for (name, nth) in [("a", 1), ("b", 2), ("c", 3)] {
            files::write_random(&folder.join(name), seed + nth, FILE).unwrap();
        }
        let cid = add(&gateway, &folder).unwrap();
        (folder, cid)
    };
    let (of_gateway, of_both) = (folder("gateway", 10), folder("both", 20));
    add(&peer, &of_both.0.join("b")).unwrap();
    let serving = (peer.serve().unwrap(), gateway.serve().unwrap());
    let _own = buyer.serve().unwrap();
    let at = serving.0.address(&format!("/ip4/{PEER}/")).unwrap();
    buyer.ok(&["swarm", "connect", &at]).unwrap();

    let url = serving.1.gateway().unwrap();
    let port = url.rsplit(':').next().unwrap();
    let url = format!("http://{GATEWAY}:{port}");
    let get = |(folder, cid): &(PathBuf, String)| {
        let out = folder.with_extension("got");
        let started = Instant::now();
        let got = buyer.ok(&["get", cid, "-o", out.to_str().unwrap(), "--mirror", &url]);
        let (got, took) = (got.unwrap(), started.elapsed());
        assert_eq!(files::tree(&out).unwrap(), files::tree(folder).unwrap());
        (got, took)
    };
    let (_, alone) = get(&of_gateway);
    let (got, both) = get(&of_both);
    let sources = got["sources"].as_array().unwrap();
    let gave = |is_gateway: bool| -> u64 {
        let sources = sources.iter().filter(|source| {
            let name = source["source"].as_str().unwrap();
            name.starts_with("http") == is_gateway
        });
        sources
            .map(|source| source["bytes"].as_u64().unwrap())
            .sum()
    };
    let (peer, gateway) = (gave(false), gave(true));
    assert!(peer > FILE / 4 && gateway >= 2 * FILE, "{sources:?}");
    assert!(both < alone, "{both:?}, {alone:?}, {sources:?}");
}
