//! `limited`: four slow gateways, one of which changes bytes, and one that dies half-way.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use duka_tests::http::{BadGateway, Fault};
use duka_tests::net::wan::Link;
use duka_tests::process::Process;
use serde_json::Value;

use super::{Lab, ms};
use crate::report::{Report, Row, Target};
use crate::setup::{Setup, megabytes};

const PATIENCE: Duration = Duration::from_secs(300);
/// What each gateway sends, in bytes a second.
const RATE: u64 = 10_000_000;
const LINK: Link = Link {
    delay: ms(10),
    loss: 0.0,
    rate: Some(RATE),
};
/// Bodies of which the corrupting gateway changes one.
const ONE_IN: u64 = 100;

pub(crate) fn run(setup: &Setup, size: u64) -> Result<Report> {
    let mut before = Row::new(format!("{size} bytes, until one gateway dies"), "MB/s");
    let mut after = Row::new("the rest", "MB/s");
    for repetition in 0..setup.repetitions {
        let mut lab = Lab::new(setup, setup.seed(repetition), 4, LINK, size)?;
        let (address, upstream) = (lab.gateways[0].address, lab.gateways[0].url.clone());
        let bad = lab.gateways[0]
            .machine
            .enter(|| BadGateway::start_at(address, &upstream, Fault::FlipsOneIn(ONE_IN)))?;
        lab.gateways[0].url = bad.url();

        let out = lab.buyer.home().join("out");
        let started = Instant::now();
        let get = Process::start("duka get", &mut lab.get(&out, lab.urls()))?;
        let at_death = get.wait_for(PATIENCE, |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            let bytes = event["bytes"].as_u64()?;
            (event["type"] == "progress" && bytes >= size / 2).then_some(bytes)
        })?;
        let died = Instant::now();
        lab.gateways[1].kill();
        let status = get.wait_exit(PATIENCE)?;
        ensure!(status.success(), "{status}: {:?}", get.lines().last());
        lab.check(&out)?;
        before.push("duka get", megabytes(at_death, died - started));
        after.push("duka get", megabytes(size - at_death, died.elapsed()));
    }
    before.absolute("duka get", Target::AtLeast(25.0));
    after.absolute("duka get", Target::AtLeast(17.0));
    Ok(Report {
        bench: "limited",
        repetitions: setup.repetitions,
        kubo: Value::Null,
        notes: vec![
            format!(
                "4 gateways, three duka and one Kubo, each {} MB/s",
                RATE / 1_000_000
            ),
            format!(
                "one changes a bit of one in {ONE_IN} blocks, one is killed at half of the bytes"
            ),
            "0 bad bytes: the SHA-256 of each download is the file's".to_owned(),
        ],
        rows: vec![before, after],
    })
}
