//! `killed`: a download is killed again and again, and goes on.

use std::time::Duration;

use anyhow::{Result, ensure};
use duka_tests::net::wan::Link;
use duka_tests::process::Process;
use duka_tests::random::Random;
use serde_json::Value;

use super::{Lab, ms};
use crate::report::{Report, Row, Target};
use crate::setup::Setup;

const PATIENCE: Duration = Duration::from_secs(600);
const LINK: Link = Link {
    delay: ms(5),
    loss: 0.0,
    rate: None,
};

pub(crate) fn run(setup: &Setup, size: u64, kills: u64) -> Result<Report> {
    let mut row = Row::new(format!("{size} bytes, killed {kills} times"), "times");
    for repetition in 0..setup.repetitions {
        let seed = setup.seed(repetition);
        let lab = Lab::new(setup, seed, 3, LINK, size)?;
        let out = lab.buyer.home().join("out");
        let mut random = Random(seed);
        let mut at: Vec<u64> = (0..kills).map(|_| random.below(size)).collect();
        at.sort_unstable();
        for kill_at in at {
            let get = Process::start("duka get", &mut lab.get(&out, lab.urls()))?;
            get.wait_for(PATIENCE, |line| {
                let event: Value = serde_json::from_str(line).ok()?;
                let bytes = event["bytes"].as_u64()?;
                (event["type"] == "progress" && bytes >= kill_at).then_some(())
            })?;
            get.kill();
            get.wait_exit(PATIENCE)?;
        }
        let get = Process::start("duka get", &mut lab.get(&out, lab.urls()))?;
        let status = get.wait_exit(PATIENCE)?;
        ensure!(status.success(), "{status}: {:?}", get.lines().last());
        lab.check(&out)?;
        row.push("bytes received", lab.received() as f64 / size as f64);
    }
    row.absolute("bytes received", Target::AtMost(1.05));
    Ok(Report {
        bench: "killed",
        repetitions: setup.repetitions,
        kubo: Value::Null,
        notes: vec!["3 gateways, two duka and one Kubo".to_owned()],
        rows: vec![row],
    })
}
