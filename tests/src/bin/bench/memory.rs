//! `memory`: the most memory that a publish from standard input takes.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use duka_tests::process::{peak_memory, pid_of};
use duka_tests::{duka, files};
use serde_json::Value;

use crate::report::{Report, Row, Target};
use crate::setup::{Setup, megabytes};

/// Target.
const MEMORY_MIB: Target = Target::AtMost(200.0);

pub(crate) fn run(setup: &Setup, size: u64) -> Result<Report> {
    let what = format!("publish {size} bytes from standard input");
    let mut memory = Row::new(format!("{what}: peak memory"), "MiB");
    let mut rate = Row::new(format!("{what}, generated meanwhile"), "MB/s");
    for repetition in 0..setup.repetitions {
        let (duka, node) = setup.serving(&duka::Options::default())?;
        let started = Instant::now();
        let mut publish = duka
            .command()
            .args(["publish", "-", "--name", "file", "--product", "bench"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = publish.stdin.take().context("stdin is piped")?;
        files::pour_random(&mut input, setup.seed(repetition), size)?;
        memory.push("command", mib(peak_memory(pid_of(&publish))?));
        drop(input);
        succeed(publish)?;
        rate.push("duka", megabytes(size, started.elapsed()));
        memory.push("node", mib(peak_memory(node.process().pid())?));
        node.stop()?;
    }
    memory.absolute("node", MEMORY_MIB);
    memory.absolute("command", MEMORY_MIB);
    Ok(Report {
        bench: "memory",
        repetitions: setup.repetitions,
        kubo: Value::Null,
        notes: vec![],
        rows: vec![memory, rate],
    })
}

fn succeed(mut publish: Child) -> Result<()> {
    let mut complaint = String::new();
    let mut stderr = publish.stderr.take().context("stderr is piped")?;
    stderr.read_to_string(&mut complaint)?;
    ensure!(publish.wait()?.success(), "duka publish: {complaint}");
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
