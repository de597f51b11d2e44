//! `mirror`: a large shop of many files is mirrored by a node that has little memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use duka_tests::cgroup::MemoryLimit;
use duka_tests::duka::{self, Duka, Serving, field};
use duka_tests::files;
use duka_tests::process::{self, peak_memory};
use serde_json::Value;

use super::PRODUCT;
use crate::report::{Report, Row, Target};
use crate::setup::{Setup, megabytes};

/// The most that the mirror may have resident.
const MEMORY_MIB: Target = Target::AtMost(200.0);
/// Time for the whole shop.
const PATIENCE: Duration = Duration::from_secs(4 * 60 * 60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) fn run(setup: &Setup, size: u64, count: usize, limit: u64) -> Result<Report> {
    let options = duka::Options::default();
    let (creator, creator_node) = setup.serving(&options)?;
    let shop = field(&creator.ok(&["id"])?, "name")?.to_owned();
    publish(setup, &creator, size, count)?;
    process::wait_until("the head has the release", PATIENCE, || {
        let listed = creator.cmd(&["ls", &format!("/ipns/{shop}/p/{PRODUCT}/1")]);
        listed.is_ok_and(|listed| listed.code == 0).then_some(())
    })?;

    let group = MemoryLimit::new(limit)?;
    let mirror = setup.duka(&options)?;
    mirror.ok(&["init"])?;
    let mut serve = mirror.command_after(&group.enter());
    let node = Serving::start(serve.args(["--json", "serve"]))?;
    let started = Instant::now();
    let url = format!("{}/ipns/{shop}", creator_node.gateway()?);
    let mut add = mirror.command_after(&group.enter());
    add.args(["--json", "--yes", "mirror", "add", &url]);
    let added = process::run(&mut add, PATIENCE)?;
    ensure!(added.code == Some(0), "{}", added.stderr);
    let asked = started.elapsed();
    let mut anonymous = 0;
    let whole = loop {
        anonymous = anonymous.max(group.anonymous()?);
        ensure!(node.process().is_running(), "the mirror has ended");
        let status = status(&mirror)?;
        if status["state"] == "whole" {
            break status;
        }
        ensure!(started.elapsed() < PATIENCE, "it is not whole: {status}");
        std::thread::sleep(PAUSE);
    };
    let took = started.elapsed();
    ensure!(
        whole["bytes"] == whole["total_bytes"] && whole["bytes"].as_u64() >= Some(size),
        "whole, and not all is there: {whole}"
    );
    let resident = peak_memory(node.process().pid())?;
    let (peak, killed) = (group.peak()?, group.killed()?);
    node.stop()?;
    let checked = mirror.ok(&["fsck"])?;

    let mut memory = Row::new("the mirror's memory", "MiB");
    memory.push("resident, peak", mib(resident));
    memory.absolute("resident, peak", MEMORY_MIB);
    memory.push("of that not files, peak", mib(anonymous));
    memory.push("with page cache, peak", mib(peak));
    let mut ends = Row::new("processes killed for want of memory", "");
    ends.push("mirror", killed as f64);
    ends.absolute("mirror", Target::AtMost(0.0));
    let mut times = Row::new("from the command", "s");
    times.push("to its answer", asked.as_secs_f64());
    times.push("to the whole shop", took.as_secs_f64());
    let mut rate = Row::new("of the shop", "MB/s");
    rate.push("fetched", megabytes(size, took));
    Ok(Report {
        bench: "mirror",
        repetitions: 1,
        kubo: Value::Null,
        notes: vec![
            format!(
                "{size} bytes in {count} files, one release; the mirror may have {limit} bytes of memory"
            ),
            format!("creator and mirror on one machine; fsck of the mirror after it: {checked}"),
        ],
        rows: vec![memory, ends, times, rate],
    })
}

fn publish(setup: &Setup, creator: &Duka, size: u64, count: usize) -> Result<()> {
    let folder = setup.folder()?;
    let length = usize::try_from(size.div_ceil(count as u64))?;
    files::write_small_files(folder.path(), setup.seed(0), count, length)?;
    let path = folder.path().to_str().context("a path that is no text")?;
    let mut publish = creator.command();
    publish.args([
        "--json",
        "publish",
        path,
        "--product",
        PRODUCT,
        "--version",
        "1",
    ]);
    let published = process::run(&mut publish, PATIENCE)?;
    ensure!(published.code == Some(0), "{}", published.stderr);
    Ok(())
}

fn status(mirror: &Duka) -> Result<Value> {
    let listed = mirror.cmd(&["mirror", "status"])?.events()?;
    let found = listed.into_iter().find(|item| item["kind"] == "mirror");
    found.context("nothing is mirrored")
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
