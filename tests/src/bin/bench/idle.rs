//! `idle`: memory and CPU of a node that nobody talks to, from `/proc`.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use duka_tests::process::Process;
use duka_tests::{duka, kubo};

use crate::report::{Report, Row, Target};
use crate::setup::{Setup, kubo_config, resident_mib};

/// Targets.
const MEMORY_MIB: Target = Target::AtMost(60.0);
const CPU_PERCENT: Target = Target::AtMost(1.0);

/// Time to calm down after the start.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) fn run(setup: &Setup, seconds: u64) -> Result<Report> {
    let kubo = setup.kubo(kubo::Options {
        quic: true,
        ..kubo::Options::default()
    })?;
    let (_duka, node) = setup.serving(&duka::Options {
        dht: "auto",
        ..Default::default()
    })?;
    let contenders = [
        ("Kubo", kubo.daemon().context("Kubo runs")?),
        ("duka", node.process()),
    ];
    let mut memory = Row::new("resident memory", "MiB");
    let mut cpu = Row::new(format!("CPU over {seconds} s"), "%");
    thread::sleep(SETTLE);
    let window = Duration::from_secs(seconds);
    for _ in 0..setup.repetitions {
        let before = contenders.map(|(_, process)| cpu_seconds(process));
        thread::sleep(window);
        for ((name, process), before) in contenders.iter().zip(before) {
            cpu.push(
                name,
                (cpu_seconds(process)? - before?) / window.as_secs_f64() * 100.0,
            );
            memory.push(name, resident_mib(process.pid().as_raw_nonzero())?);
        }
    }
    memory.absolute("duka", MEMORY_MIB);
    cpu.absolute("duka", CPU_PERCENT);
    let config = kubo_config(&kubo)?;
    let rows = vec![memory, cpu];
    Ok(Report {
        bench: "idle",
        repetitions: setup.repetitions,
        kubo: config,
        notes: vec![],
        rows,
    })
}

/// User and system time so far.
fn cpu_seconds(process: &Process) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid().as_raw_nonzero()))?;
    // The second field is the name in brackets, and may hold spaces.
    let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}
