//! `freshness`: how many mirrors show a new head within seconds, when packets get lost.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use duka_tests::net::wan::{Link, Wan};
use duka_tests::process::wait_until;
use serde_json::Value;

use super::{CREATOR, Client, Node, Settings, follower, mirror, percentile};
use crate::report::{Report, Row, Target};
use crate::setup::Setup;

const PATIENCE: Duration = Duration::from_secs(180);
const LIMIT: Duration = Duration::from_secs(5);
/// A packet crosses two links, so 5 % get lost.
const LINK: Link = Link {
    delay: Duration::from_millis(10),
    loss: 0.025_32,
    rate: Some(20_000_000),
};

pub(crate) fn run(setup: &Setup, mirrors: u8, publishes: usize, size: u64) -> Result<Report> {
    let wan = Wan::new(setup.seed(0))?;
    let settings = Settings::without_dht(LINK);
    let creator = Node::start(setup, &wan, CREATOR, settings)?;
    let shop = creator.shop()?;
    creator.publish(setup.seed(0), 0, size)?;
    let mut nodes = Vec::new();
    for number in 1..=mirrors {
        let node = Node::start(setup, &wan, mirror(number), settings)?;
        node.mirrors(&shop, &creator)?;
        nodes.push(node);
    }
    let mut clients = nodes.iter().map(Node::ask).collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        wait_until("a mirror has the first release", PATIENCE, || {
            client.has(&shop, "1.0").unwrap_or(false).then_some(())
        })?;
    }

    let kubo = follower(&wan, LINK, &shop, &[&creator])?;

    let mut times = Vec::new();
    for number in 1..=publishes {
        let version = creator.publish(setup.seed(0), number, size)?;
        let published = Instant::now();
        times.extend(arrivals(&mut clients, &shop, &version, published)?);
    }
    drop(kubo);
    let in_time = times.iter().filter(|time| **time <= LIMIT).count();
    let mut row = Row::new("(mirror, publish) pairs within 5 s", "%");
    row.push("duka", in_time as f64 / times.len() as f64 * 100.0);
    row.absolute("duka", Target::AtLeast(95.0));
    let mut delay = Row::new("from the end of the command to the head at a mirror", "s");
    for (what, percent) in [("p50", 50), ("p95", 95), ("longest", 100)] {
        delay.push(what, percentile(&mut times, percent).as_secs_f64());
    }
    Ok(Report {
        bench: "freshness",
        repetitions: 1,
        kubo: Value::Null,
        notes: vec![
            format!("{mirrors} mirrors and a Kubo, {publishes} publishes of {size} bytes"),
            "20 ms from machine to machine, 20 MB/s each, 5 % of the packets get lost; no DHT"
                .to_owned(),
        ],
        rows: vec![row, delay],
    })
}

/// When each mirror shows the head with this version.
fn arrivals(
    clients: &mut [Client],
    shop: &str,
    version: &str,
    published: Instant,
) -> Result<Vec<Duration>> {
    let path = format!("/ipns/{shop}/products/{}/{version}.json", super::PRODUCT);
    thread::scope(|scope| {
        let waits: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                let path = path.as_str();
                scope.spawn(move || -> Result<Duration> {
                    while !client.holds(path)? {
                        ensure!(published.elapsed() < PATIENCE, "{path} does not arrive");
                        thread::sleep(Duration::from_millis(50));
                    }
                    Ok(published.elapsed())
                })
            })
            .collect();
        let ended = waits.into_iter().map(|wait| {
            let time = wait.join();
            time.expect("waiting does not panic")
        });
        ended.collect()
    })
}
