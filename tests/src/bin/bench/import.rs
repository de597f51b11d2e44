//! `publish` and `small`: from a command's start to its end, the node running.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use duka_tests::duka::{self, field};
use duka_tests::{files, kubo};
use serde_json::Value;

use crate::machine;
use crate::report::{Report, Row, Target};
use crate::setup::{Setup, kubo_config, megabytes, timed, turns};

/// Targets.
const PUBLISH: Target = Target::AtLeast(3.0);
const SMALL: Target = Target::AtLeast(5.0);

pub(crate) fn publish(setup: &Setup, size: u64, chunker: Option<&str>) -> Result<Report> {
    let cut = chunker.map_or_else(String::new, |chunker| format!(", cut by {chunker}"));
    let what =
        format!("publish one file of {size} bytes{cut}, fsynced, against ipfs add, not fsynced");
    let mut row = Row::new(what, "MB/s");
    let mut machine = Row::new("hash the file on all cores; write one, synced", "MB/s");
    let write = |path: &Path, seed| {
        files::write_random(path, seed, size)?;
        machine.push("hash", megabytes(size, machine::hash(path)?));
        let folder = path.parent().expect("a folder to work in");
        machine.push("disk", megabytes(size, machine::write(folder, size)?));
        Ok(())
    };
    let kubo = measure(setup, chunker, write, |name, took| {
        row.push(name, megabytes(size, took));
    })?;
    row.ratio("duka", "Kubo", Some(PUBLISH));
    let bound = machine.median("hash").min(machine.median("disk"));
    row.check(
        "duka ÷ the slower of hash and disk",
        row.median("duka") / bound,
        None,
    );
    Ok(Report {
        bench: "publish",
        repetitions: setup.repetitions,
        kubo,
        notes: vec![],
        rows: vec![row, machine],
    })
}

pub(crate) fn small(setup: &Setup, count: usize, size: u64) -> Result<Report> {
    let what =
        format!("publish {count} files of {size} bytes, fsynced, against ipfs add, not fsynced");
    let mut row = Row::new(what, "kfiles/s");
    let length = usize::try_from(size)?;
    let write = |path: &Path, seed| files::write_small_files(path, seed, count, length);
    let kubo = measure(setup, None, write, |name, took| {
        row.push(name, count as f64 / 1e3 / took.as_secs_f64());
    })?;
    row.ratio("duka", "Kubo", Some(SMALL));
    Ok(Report {
        bench: "small",
        repetitions: setup.repetitions,
        kubo,
        notes: vec![],
        rows: vec![row],
    })
}

/// Lets both take in the same fresh input, in turn; gives Kubo's configuration.
fn measure(
    setup: &Setup,
    chunker: Option<&str>,
    mut write: impl FnMut(&Path, u64) -> Result<()>,
    mut push: impl FnMut(&'static str, Duration),
) -> Result<Value> {
    let mut config = Value::Null;
    let chunker = chunker.map(|chunker| format!("--chunker={chunker}"));
    let chunker: Vec<&str> = chunker.iter().map(String::as_str).collect();
    for repetition in 0..setup.repetitions {
        let folder = setup.folder()?;
        let input = folder.path().join("input");
        write(&input, setup.seed(repetition))?;
        let mut roots = Vec::new();
        for contender in turns(&["Kubo", "duka"], repetition) {
            let (root, took) = if contender == "Kubo" {
                let kubo = setup.kubo(kubo::Options::default())?;
                config = kubo_config(&kubo)?;
                timed(|| kubo.add_with(&input, &chunker))?
            } else {
                let (duka, _node) = setup.serving(&duka::Options::default())?;
                let path = input.to_str().expect("a bench's path is text");
                let publish = ["publish", path, "--product", "bench", "--version", "1"];
                let publish = [&publish[..], &chunker].concat();
                let (release, took) = timed(|| duka.ok(&publish))?;
                (field(&release, "cid")?.to_owned(), took)
            };
            push(contender, took);
            roots.push(root);
        }
        ensure!(roots[0] == roots[1], "the root CIDs differ: {roots:?}");
    }
    Ok(config)
}
