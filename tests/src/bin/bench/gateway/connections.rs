//! `connections`: thousands of connections that all ask for a small file.

use std::fs;

use anyhow::{Result, ensure};
use duka_tests::files;
use duka_tests::process::{Process, peak_memory};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

use super::{Contenders, load};
use crate::report::{Report, Row, Target};
use crate::setup::{Setup, kubo_config, turns};

/// Targets.
const MEAN_MS: Target = Target::AtMost(200.0);
const P99_MS: Target = Target::AtMost(500.0);
const ERRORS: Target = Target::AtMost(0.0);
const MEMORY_MIB: Target = Target::AtMost(250.0);

const FILE: &str = "small";
const FILE_LEN: u64 = 1 << 10;
/// Files that a process has open beside its connections.
const OTHER_FILES: u64 = 500;

pub(crate) fn run(setup: &Setup, connections: u32, seconds: u64) -> Result<Report> {
    allow_files(u64::from(connections) + OTHER_FILES)?;
    let what = format!("{connections} connections, file of 1 KiB");
    let row = |kind: &str, unit| Row::new(format!("{what}: {kind}"), unit);
    let (mut mean, mut p99) = (row("mean", "ms"), row("99 of 100 requests", "ms"));
    let mut rate = row("rate", "req/s");
    let mut errors = row("errors", "");
    let mut memory = row("peak memory", "MiB");
    let mut config = Value::Null;
    for repetition in 0..setup.repetitions {
        let site = setup.folder()?;
        files::write_random(&site.path().join(FILE), setup.seed(repetition), FILE_LEN)?;
        let contenders = Contenders::start(setup, site.path())?;
        config = kubo_config(&contenders.kubo)?;
        let contenders = contenders.all()?;
        for index in turns(&[0, 1, 2], repetition) {
            let (contender, process, base) = &contenders[index];
            let seen = load::wrk(&format!("{base}/{FILE}"), connections, seconds)?;
            mean.push(contender, seen.mean_ms);
            p99.push(contender, seen.p99_ms);
            rate.push(contender, seen.rate);
            errors.push(contender, seen.errors as f64);
            memory.push(contender, family_mib(process)?);
        }
    }
    mean.absolute("duka", MEAN_MS);
    mean.ratio("duka", "Kubo", None);
    p99.absolute("duka", P99_MS);
    p99.ratio("duka", "Kubo", None);
    rate.ratio("duka", "Kubo", None);
    errors.absolute("duka", ERRORS);
    memory.absolute("duka", MEMORY_MIB);
    memory.ratio("duka", "Kubo", None);
    Ok(Report {
        bench: "connections",
        repetitions: setup.repetitions,
        kubo: config,
        notes: vec![format!(
            "wrk -t1 -d{seconds}s: every connection asks again as soon as it is answered; times are \
             from the request on, without connecting; nginx: 2 workers, their memory is added up"
        )],
        rows: vec![mean, p99, rate, errors, memory],
    })
}

/// Raises the number of files that this process and those that it starts may have open.
fn allow_files(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        most >= wanted,
        "{wanted} open files are needed, {most} are allowed: raise ulimit -n"
    );
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?)
}

/// The most memory that a process and its children had.
fn family_mib(process: &Process) -> Result<f64> {
    let pid = process.pid();
    let id = pid.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let children = children.split_whitespace().map(str::parse::<i32>);
    let mut bytes = peak_memory(pid)?;
    for child in children {
        if let Some(child) = Pid::from_raw(child?) {
            bytes += peak_memory(child)?;
        }
    }
    Ok(bytes as f64 / f64::from(1 << 20))
}
