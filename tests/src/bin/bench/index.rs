//! `index`: opening large stores, looking blocks up in them, and the memory that they take.
//!
//! Index files do not say more about large blocks than about small ones, so all blocks here are of 32
//! bytes, and packs are sealed by their number: as many as they would be if they were large.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use duka_node::block::{Block, RAW, cid_of};
use duka_node::store::{PackKind, Store, StoreOptions};
use duka_tests::disk::{Hooked, NoSync};
use duka_tests::duka::{self, Serving};
use duka_tests::{locate, process};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machine::drop_caches;
use crate::report::{Report, Row, Target};
use crate::setup::{Setup, resident_mib};

/// Targets.
const OPEN_LARGE_BLOCKS_MS: Target = Target::AtMost(100.0);
const OPEN_SMALL_BLOCKS_MS: Target = Target::AtMost(1000.0);
const MEMORY_MIB: Target = Target::AtMost(120.0);

/// Look-ups of each kind in a store that was opened.
const LOOK_UPS: u64 = 50_000;
/// Blocks that are asked of the gateway.
const REQUESTS: u64 = 5_000;
/// Time for opening a store and looking up, or for all requests.
const PATIENCE: Duration = Duration::from_secs(120);

/// A store to be made.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    blocks: u64,
    per_pack: u64,
    open: Target,
}

/// Packs of 512 MiB hold 512 blocks of 1 MiB, and 128,000 of 4 KiB.
const SHAPES: [Shape; 3] = [
    Shape {
        name: "1,000,000 blocks of 1 MiB",
        blocks: 1_000_000,
        per_pack: 500,
        open: OPEN_LARGE_BLOCKS_MS,
    },
    Shape {
        name: "1,000,000 blocks of 4 KiB",
        blocks: 1_000_000,
        per_pack: 128_000,
        open: OPEN_SMALL_BLOCKS_MS,
    },
    Shape {
        name: "10,000,000 blocks of 4 KiB",
        blocks: 10_000_000,
        per_pack: 128_000,
        open: OPEN_SMALL_BLOCKS_MS,
    },
];

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut rows = Vec::new();
    let mut notes = vec!["blocks of 32 bytes, in packs of as many as large ones".to_owned()];
    for shape in SHAPES {
        let duka = setup.duka(&duka::Options::default())?;
        duka.ok(&["init"])?;
        let blocks = duka.data_dir().join("blocks");
        fill(&blocks, shape)?;
        let packs = fs::read_dir(blocks.join("packs"))?;
        let packs = packs.filter_map(Result::ok);
        let packs = packs.filter(|entry| entry.path().extension().is_some_and(|e| e == "car"));
        let name = format!("{}, {} packs", shape.name, packs.count());

        let mut open = Row::new(format!("{name}: open"), "ms");
        let mut memory = Row::new(format!("{name}: memory of the store"), "MiB");
        let mut hit = Row::new(format!("{name}: look-up of a block"), "µs");
        let mut miss = Row::new(format!("{name}: look-up of an absent block"), "µs");
        let mut ready = Row::new(format!("{name}: `duka serve` to its ready line"), "ms");
        let mut node = Row::new(format!("{name}: memory of `duka serve`"), "MiB");
        for _ in 0..setup.repetitions {
            let cold = drop_caches();
            if !cold && notes.len() == 1 {
                notes.push("the page cache could not be dropped: nothing is cold".to_owned());
            }
            for state in if cold {
                &["cold", "warm"][..]
            } else {
                &["warm"]
            } {
                let found = probe(&blocks, shape)?;
                open.push(state, found.open_ms);
                if *state == "warm" {
                    memory.push("opened", found.opened_mib);
                    memory.push("after look-ups", found.after_mib);
                    push_times(&mut hit, found.hit_us);
                    push_times(&mut miss, found.miss_us);
                }
            }
            let started = Instant::now();
            let serving = duka.serve()?;
            ready.push("warm", started.elapsed().as_secs_f64() * 1e3);
            let pid = serving.process().pid().as_raw_nonzero();
            node.push("ready", resident_mib(pid)?);
            request(&serving, shape)?;
            node.push("after requests", resident_mib(pid)?);
            serving.stop()?;
        }
        for state in open.series.iter().map(|s| s.contender).collect::<Vec<_>>() {
            open.absolute(state, shape.open);
        }
        if shape.blocks == 1_000_000 {
            node.absolute("ready", MEMORY_MIB);
            node.absolute("after requests", MEMORY_MIB);
        }
        rows.extend([open, memory, hit, miss, ready, node]);
    }
    Ok(Report {
        bench: "index",
        repetitions: setup.repetitions,
        kubo: Value::Null,
        notes,
        rows,
    })
}

fn push_times(row: &mut Row, [p50, p99]: [f64; 2]) {
    row.push("p50", p50);
    row.push("p99", p99);
}

/// The bytes of block `number`.
fn content(number: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn fill(folder: &Path, shape: Shape) -> Result<()> {
    let (store, _) = Store::open_on(Hooked::shared(NoSync), folder, StoreOptions::default())?;
    let numbers: Vec<u64> = (0..shape.blocks).collect();
    for (number, pack) in numbers.chunks(usize::try_from(shape.per_pack)?).enumerate() {
        // The last one stays as a node leaves it: without an index.
        if number > 0 {
            store.seal()?;
        }
        for batch in pack.chunks(1_000) {
            let of = |number| Block::of(RAW, Bytes::copy_from_slice(&content(number)));
            let blocks: Vec<_> = batch.iter().copied().map(of).collect();
            store.put(PackKind::Kept, &blocks)?;
        }
        store.commit()?;
    }
    Ok(())
}

/// What a process found that only opened a store and looked blocks up.
#[derive(Debug, Serialize, Deserialize)]
struct Probe {
    open_ms: f64,
    opened_mib: f64,
    after_mib: f64,
    hit_us: [f64; 2],
    miss_us: [f64; 2],
}

fn probe(folder: &Path, shape: Shape) -> Result<Probe> {
    let mut command = Command::new(std::env::current_exe()?);
    let command = command.arg("open-store").arg(folder);
    let output = process::run(command.arg(shape.blocks.to_string()), PATIENCE)?;
    ensure!(output.code == Some(0), "{}", output.stderr);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The process that [`probe`] starts.
pub(crate) fn open_store(folder: &Path, blocks: u64) -> Result<String> {
    let started = Instant::now();
    let (store, recovery) = Store::open(folder, StoreOptions::default())?;
    let open_ms = started.elapsed().as_secs_f64() * 1e3;
    ensure!(recovery.rebuilt_indexes == 0, "{recovery:?}");
    let opened_mib = resident_mib("self")?;
    let hit_us = look_ups(&store, true, |pick| pick % blocks)?;
    let miss_us = look_ups(&store, false, |pick| blocks + pick % blocks)?;
    let found = Probe {
        open_ms,
        opened_mib,
        after_mib: resident_mib("self")?,
        hit_us,
        miss_us,
    };
    Ok(serde_json::to_string(&found)?)
}

/// Median and 99th percentile, in microseconds.
fn look_ups(store: &Store, there: bool, number: impl Fn(u64) -> u64) -> Result<[f64; 2]> {
    let mut times = Vec::new();
    for turn in 0..LOOK_UPS {
        let cid = cid_of(RAW, &content(number(scattered(turn))));
        let started = Instant::now();
        let found = store.has(&cid)?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
        ensure!(found == there, "{cid}");
    }
    times.sort_by(f64::total_cmp);
    Ok([times[times.len() / 2], times[times.len() * 99 / 100]])
}

/// The finalizer of SplitMix64: far from each other for neighbours.
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Asks the gateway for blocks over one connection.
fn request(serving: &Serving, shape: Shape) -> Result<()> {
    use std::fmt::Write;

    let gateway = serving.gateway()?;
    let mut config = String::new();
    for turn in 0..REQUESTS {
        let cid = cid_of(RAW, &content(scattered(turn) % shape.blocks));
        writeln!(config, "url = \"{gateway}/ipfs/{cid}?format=raw\"")?;
        writeln!(config, "output = \"/dev/null\"")?;
    }
    let mut curl = Command::new(locate::system("curl")?);
    curl.args([
        "--silent",
        "--show-error",
        "--fail-early",
        "--fail",
        "--config",
        "-",
    ]);
    let output = process::run_with_input(&mut curl, config.into_bytes(), PATIENCE)?;
    ensure!(output.code == Some(0), "curl: {}", output.stderr);
    Ok(())
}
