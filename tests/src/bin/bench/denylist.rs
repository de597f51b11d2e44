//! `denylist`: reading a long denylist, and the memory that its rules take.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use duka_node::block::{RAW, cid_of};
use duka_node::denylist::Denylists;
use duka_tests::{files, process};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::report::{Report, Row};
use crate::setup::{Setup, resident_mib};

/// Time for reading a list.
const PATIENCE: Duration = Duration::from_secs(120);
/// Blocks that are asked for.
const LOOK_UPS: u64 = 50_000;

pub(crate) fn run(setup: &Setup, lines: u64) -> Result<Report> {
    let row = |what: &str, unit| Row::new(format!("denylist of {lines} lines: {what}"), unit);
    let mut took = row("load", "ms");
    let mut memory = row("memory", "MiB");
    let mut look_up = row("look-up of a block that is not on it", "µs");
    let folder = setup.folder()?;
    for (kind, line) in [
        ("CIDs", by_cid as fn(u64) -> String),
        ("double hashes", by_hash),
    ] {
        let path = folder.path().join("list.deny");
        let mut file = BufWriter::new(File::create(&path)?);
        for number in 0..lines {
            writeln!(file, "{}", line(number))?;
        }
        file.into_inner()?;
        for _ in 0..setup.repetitions {
            let mut command = Command::new(std::env::current_exe()?);
            let output = process::run(command.arg("load-denylist").arg(&path), PATIENCE)?;
            ensure!(output.code == Some(0), "{}", output.stderr);
            let found: Found = serde_json::from_slice(&output.stdout)?;
            took.push(kind, found.load_ms);
            memory.push(kind, found.mib);
            look_up.push(kind, found.look_up_us);
        }
    }
    Ok(Report {
        bench: "denylist",
        repetitions: setup.repetitions,
        kubo: Value::Null,
        notes: vec![],
        rows: vec![took, memory, look_up],
    })
}

fn by_cid(number: u64) -> String {
    format!("/ipfs/{}", cid_of(RAW, &number.to_le_bytes()))
}

/// As the lists of bad content that are shared write it.
fn by_hash(number: u64) -> String {
    format!("//{}", files::sha256(&number.to_le_bytes()))
}

/// What a process found that only loaded a list.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    load_ms: f64,
    mib: f64,
    look_up_us: f64,
}

/// The process that [`run`] starts.
pub(crate) fn load(path: &Path) -> Result<String> {
    let before = resident_mib("self")?;
    let started = Instant::now();
    let lists = Denylists::load(&[path])?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    let mib = resident_mib("self")? - before;
    let cids: Vec<_> = (0..LOOK_UPS)
        .map(|number| cid_of(RAW, format!("not listed {number}").as_bytes()))
        .collect();
    let started = Instant::now();
    for cid in &cids {
        ensure!(lists.check_block(cid).is_none(), "{cid} is denied");
    }
    let look_up_us = started.elapsed().as_secs_f64() * 1e6 / LOOK_UPS as f64;
    Ok(serde_json::to_string(&Found {
        load_ms,
        mib,
        look_up_us,
    })?)
}
