//! `up`: from the start of the command on a fresh folder until its link answers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use duka_tests::curl::curl;
use duka_tests::duka::field;
use duka_tests::process::wait_until;
use duka_tests::{duka, files, kubo};
use serde_json::Value;

use crate::report::{Report, Row, Target};
use crate::setup::{Setup, kubo_config, turns};

/// Target, in seconds.
const LINKS_ANSWER: Target = Target::AtMost(3.0);

/// Files of the folder.
const FILES: u64 = 10;

pub(crate) fn run(setup: &Setup, size: u64) -> Result<Report> {
    let mut row = Row::new(
        format!("from the command to its links, folder of {size} bytes"),
        "s",
    );
    let mut config = Value::Null;
    for repetition in 0..setup.repetitions {
        let folder = setup.folder()?;
        let input = folder.path().join("album");
        std::fs::create_dir(&input)?;
        for file in 0..FILES {
            let seed = setup.seed(repetition) * FILES + file;
            files::write_random(&input.join(format!("{file}.bin")), seed, size / FILES)?;
        }
        let path = input.to_str().context("a text path")?;
        for contender in turns(&["Kubo", "duka"], repetition) {
            rustix::fs::sync();
            let started = Instant::now();
            if contender == "Kubo" {
                // The same with Kubo's commands: init, daemon, add, the gateway's answer.
                let kubo = setup.kubo(kubo::Options::default())?;
                let root = kubo.add(&input)?;
                answers(&format!("{}/ipfs/{root}/0.bin", kubo.gateway()?))?;
                row.push("Kubo", started.elapsed().as_secs_f64());
                config = kubo_config(&kubo)?;
            } else {
                let duka = setup.duka(&duka::Options::default())?;
                let node = duka.start(&["up", path])?;
                let ready = node.ready();
                for link in ["shop_url", "release_url", "cid_url"] {
                    answers(field(ready, link)?)?;
                }
                row.push("duka", started.elapsed().as_secs_f64());
                node.stop()?;
            }
        }
    }
    row.absolute("duka", LINKS_ANSWER);
    let notes = vec!["Kubo: init, daemon, add and the first answer of its gateway".to_owned()];
    Ok(Report {
        bench: "up",
        repetitions: setup.repetitions,
        kubo: config,
        notes,
        rows: vec![row],
    })
}

/// Waits until a URL answers with 200.
fn answers(url: &str) -> Result<()> {
    wait_until(&format!("{url} answers"), Duration::from_secs(30), || {
        let answer = curl(url, &["--location"]).ok()?;
        (answer.status == 200).then_some(())
    })
}
