//! `pins`: listing many pins.

use anyhow::{Result, ensure};
use bytes::Bytes;
use duka_node::block::{Block, RAW};
use duka_node::manifest::Manifest;
use duka_node::store::{PackKind, Store, StoreOptions};
use duka_tests::duka::{self, Duka};
use serde_json::Value;

use crate::report::{Report, Row, Target};
use crate::setup::{Setup, pin, timed, turns};

/// Target, in seconds.
const LIST: Target = Target::AtMost(1.0);

/// Pins that are made with one change of the manifest.
const BATCH: usize = 10_000;

pub(crate) fn run(setup: &Setup, pins: u64) -> Result<Report> {
    let duka = setup.duka(&duka::Options::default())?;
    duka.ok(&["init"])?;
    fill(&duka, pins)?;
    let _node = duka.serve()?;
    let mut row = Row::new(format!("list {pins} pins"), "s");
    for repetition in 0..setup.repetitions {
        for contender in turns(&["pin ls", "pin ls --json"], repetition) {
            let (lines, took) = timed(|| {
                Ok(if contender == "pin ls" {
                    duka.plain(&["pin", "ls"])?.text().lines().count()
                } else {
                    // The last event is the result.
                    duka.cmd(&["pin", "ls"])?.text().lines().count() - 1
                })
            })?;
            ensure!(lines as u64 >= pins, "{lines} lines");
            row.push(contender, took.as_secs_f64());
        }
    }
    row.absolute("pin ls", LIST);
    row.absolute("pin ls --json", LIST);
    Ok(Report {
        bench: "pins",
        repetitions: setup.repetitions,
        kubo: Value::Null,
        notes: vec![],
        rows: vec![row],
    })
}

fn fill(duka: &Duka, pins: u64) -> Result<()> {
    let (store, _) = Store::open(&duka.data_dir().join("blocks"), StoreOptions::default())?;
    let (manifest, _) = Manifest::open(&duka.data_dir().join("manifest"))?;
    let numbers: Vec<u64> = (0..pins).collect();
    for batch in numbers.chunks(BATCH) {
        let of = |number: &u64| Block::of(RAW, Bytes::copy_from_slice(&number.to_le_bytes()));
        let blocks: Vec<Block> = batch.iter().map(of).collect();
        store.put(PackKind::Kept, &blocks)?;
        pin(&manifest, blocks.iter())?;
    }
    store.commit()?;
    Ok(())
}
