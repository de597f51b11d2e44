//! `alive`: the creator is gone, and most mirrors: for how long the shop's name resolves.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use duka_tests::kubo::{self, Kubo};
use duka_tests::net::wan::{Link, Wan};
use duka_tests::process::wait_until;
use serde_json::Value;

use super::{CREATOR, Node, Settings, mirror};
use crate::report::{Report, Row, Target};
use crate::setup::Setup;

const MIRRORS: u8 = 5;
const SURVIVORS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nodes keep records that others put, 48 h on the public DHT.
const RECORD_LIFETIME: Duration = Duration::from_secs(20);
/// For how long the creator signs.
const EXPIRY: Duration = Duration::from_secs(120);
/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let wan = Wan::new(setup.seed(0))?;
    let more = format!(
        "[shop]\nlifetime = \"{}s\"\nrefresh = \"30s\"\n",
        EXPIRY.as_secs()
    );
    let network = format!(
        "record_lifetime = \"{}s\"\nrepublish_interval = \"4s\"\n",
        RECORD_LIFETIME.as_secs()
    );
    let settings = Settings {
        link: Link::default(),
        dht: "server",
        bootstrap: &[],
        network: &network,
        more: &more,
    };
    let mut creator = Node::start(setup, &wan, CREATOR, settings)?;
    let shop = creator.shop()?;
    creator.publish(setup.seed(0), 0, 1 << 20)?;
    let known = [creator.peer_address()?];
    let settings = Settings {
        bootstrap: &known,
        ..settings
    };
    let mut mirrors = Vec::new();
    for number in 1..=MIRRORS {
        let node = Node::start(setup, &wan, mirror(number), settings)?;
        node.mirrors(&shop, &creator)?;
        let mut client = node.ask()?;
        wait_until("a mirror has the release", PATIENCE, || {
            client.has(&shop, "1.0").unwrap_or(false).then_some(())
        })?;
        mirrors.push(node);
    }
    // A DHT client keeps no records itself.
    let machine = wan.machine(mirror(100), Link::default())?;
    let mut kubo = Kubo::init(kubo::Options {
        dht: true,
        anywhere: true,
        ..kubo::Options::default()
    })?
    .on(&machine);
    kubo.change_config(|config| config["Routing"]["Type"] = "dhtclient".into())?;
    kubo.start()?;
    for node in &mirrors[..SURVIVORS] {
        kubo.connect(&node.peer_address()?)?;
    }

    let died = Instant::now();
    creator.serving.take().context("it runs")?.kill();
    for node in &mut mirrors[SURVIVORS..] {
        node.serving.take().context("it runs")?.kill();
    }
    let (mut asked, mut answered, mut last) = (0_u32, 0_u32, Duration::ZERO);
    while died.elapsed() < EXPIRY + PAUSE * 10 {
        let path = format!("/ipns/{shop}");
        let resolve = ["name", "resolve", "--nocache", "--timeout=5s", &path];
        let is_resolved = kubo.cmd(&resolve)?.code == Some(0);
        if is_resolved {
            last = died.elapsed();
        }
        if died.elapsed() < EXPIRY.mul_f64(0.75) {
            asked += 1;
            answered += u32::from(is_resolved);
        }
        thread::sleep(PAUSE);
    }
    ensure!(asked > 0, "nothing was asked");
    let mut row = Row::new("Kubo resolves the name over the DHT", "");
    row.push(
        "answered, %",
        f64::from(answered) / f64::from(asked) * 100.0,
    );
    row.absolute("answered, %", Target::AtLeast(100.0));
    let lifetimes = last.div_duration_f64(RECORD_LIFETIME);
    row.push("lifetimes of a record", lifetimes);
    row.absolute("lifetimes of a record", Target::AtLeast(2.0));
    row.push("of the signed time", last.div_duration_f64(EXPIRY));
    row.absolute("of the signed time", Target::AtMost(1.0));
    Ok(Report {
        bench: "alive",
        repetitions: 1,
        kubo: Value::Null,
        notes: vec![
            format!("creator killed, {SURVIVORS} of {MIRRORS} mirrors alive, all on one DHT"),
            format!("records are kept for {RECORD_LIFETIME:?}, the creator signed for {EXPIRY:?}"),
            "asked each second, by a Kubo that keeps no records; the last answer counts".to_owned(),
        ],
        rows: vec![row],
    })
}
