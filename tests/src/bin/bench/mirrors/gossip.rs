//! `gossip`: from the command `publish` to a third node that has the release, verified, without a DHT.

use std::time::{Duration, Instant};

use anyhow::Result;
use duka_tests::net::wan::{Link, Wan};
use duka_tests::process::wait_until;
use serde_json::Value;

use super::{CREATOR, Node, Settings, follower, mirror, percentile};
use crate::report::{Report, Row, Target};
use crate::setup::Setup;

const PATIENCE: Duration = Duration::from_secs(60);
const LINK: Link = Link {
    delay: Duration::from_millis(10),
    loss: 0.0,
    rate: Some(50_000_000),
};

pub(crate) fn run(setup: &Setup, publishes: usize, size: u64) -> Result<Report> {
    let wan = Wan::new(setup.seed(0))?;
    let settings = Settings::without_dht(LINK);
    let creator = Node::start(setup, &wan, CREATOR, settings)?;
    let shop = creator.shop()?;
    creator.publish(setup.seed(0), 0, size)?;
    let second = Node::start(setup, &wan, mirror(1), settings)?;
    second.mirrors(&shop, &creator)?;
    let third = Node::start(setup, &wan, mirror(2), settings)?;
    third.mirrors(&shop, &second)?;
    let mut client = third.ask()?;
    wait_until("the third node has the first release", PATIENCE, || {
        client.has(&shop, "1.0").unwrap_or(false).then_some(())
    })?;

    let kubo = follower(&wan, LINK, &shop, &[&second, &third])?;

    let mut times = Vec::new();
    for number in 1..=publishes {
        let started = Instant::now();
        let version = creator.publish(setup.seed(0), number, size)?;
        while !client.has(&shop, &version)? {
            anyhow::ensure!(started.elapsed() < PATIENCE, "{version} does not arrive");
            std::thread::sleep(Duration::from_millis(5));
        }
        times.push(started.elapsed());
    }
    drop(kubo);
    let mut row = Row::new(format!("{publishes} publishes of {size} bytes"), "s");
    for (what, percent, most) in [("p50", 50, 1.0), ("p95", 95, 3.0)] {
        let value = percentile(&mut times, percent).as_secs_f64();
        row.push(what, value);
        row.absolute(what, Target::AtMost(most));
    }
    Ok(Report {
        bench: "gossip",
        repetitions: 1,
        kubo: Value::Null,
        notes: vec![
            "from the start of the command to the whole file in the third node's store".to_owned(),
            "links of 10 ms and 50 MB/s; no DHT; the third node was told of the second only, and \
             a Kubo follows, too"
                .to_owned(),
        ],
        rows: vec![row],
    })
}
