//! `republish`: the next version of a file of which a hundredth changed, against hashing the file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use duka_tests::random::Random;
use duka_tests::{duka, files};
use serde_json::Value;

use crate::machine;
use crate::report::{Report, Row, Target};
use crate::setup::{Setup, timed, turns};

/// Target.
const REPUBLISH: Target = Target::AtMost(1.3);

/// A chunk of the default profile.
const CHUNK_LEN: u64 = 1 << 20;
/// One chunk in so many changes.
const CHANGED_PART: u64 = 100;
/// Room for inner blocks.
const INNER_BYTES: u64 = 1 << 20;

pub(crate) fn run(setup: &Setup, size: u64) -> Result<Report> {
    let what = format!("publish one file of {size} bytes again, one chunk in a hundred changed");
    let mut row = Row::new(what, "s");
    for repetition in 0..setup.repetitions {
        let folder = setup.folder()?;
        let input = folder.path().join("input");
        files::write_random(&input, setup.seed(repetition), size)?;
        let (duka, _node) = setup.serving(&duka::Options::default())?;
        let path = input.to_str().context("a text path")?;
        duka.ok(&["publish", path, "--product", "bench"])?;
        let changed = change(&input, setup.seed(repetition))?;
        for contender in turns(&["hash", "duka"], repetition) {
            let took = if contender == "hash" {
                machine::hash(&input)?
            } else {
                let publish = ["publish", path, "--product", "bench"];
                let (release, took) = timed(|| duka.ok(&publish))?;
                let new = release["new_bytes"].as_u64().context("no new_bytes")?;
                ensure!(
                    (changed..=changed + INNER_BYTES).contains(&new),
                    "{changed} bytes changed, {new} were stored"
                );
                took
            };
            row.push(contender, took.as_secs_f64());
        }
    }
    row.ratio("duka", "hash", Some(REPUBLISH));
    Ok(Report {
        bench: "republish",
        repetitions: setup.repetitions,
        kubo: Value::Null,
        notes: vec!["hash: the file from the page cache, SHA-256, on all cores".to_owned()],
        rows: vec![row],
    })
}

/// Writes some chunks anew, here and there; gives their bytes.
fn change(path: &Path, seed: u64) -> Result<u64> {
    let file: File = OpenOptions::new().write(true).open(path)?;
    let chunks = file.metadata()?.len() / CHUNK_LEN;
    let mut random = Random(!seed);
    let mut chunk = vec![0; usize::try_from(CHUNK_LEN)?];
    let changed = (seed % CHANGED_PART..chunks).step_by(usize::try_from(CHANGED_PART)?);
    let mut bytes = 0;
    for number in changed {
        random.fill(&mut chunk);
        file.write_all_at(&chunk, number * CHUNK_LEN)?;
        bytes += CHUNK_LEN;
    }
    Ok(bytes)
}
