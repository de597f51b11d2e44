//! `gc`: how long publishes take while garbage is collected.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use bytesize::ByteSize;
use duka_config::Config;
use duka_node::block::{Block, RAW};
use duka_node::gc::{self, GcOptions};
use duka_node::manifest::Manifest;
use duka_node::node::{self, Node};
use duka_node::publish::{PublishOptions, Source, publish};
use duka_node::store::{PackKind, Store, StoreOptions};
use duka_tests::files;
use serde_json::Value;

use crate::report::{Report, Row, Target};
use crate::setup::{Setup, pin};

/// Target.
const WHILE_COLLECTING: Target = Target::AtMost(2.0);

/// Bytes of a block that is collected, or copied.
const BLOCK_LEN: usize = 1 << 20;
/// Blocks that are put at once.
const BATCH: u64 = 64;
/// Bytes of a publish.
const PUBLISH_LEN: usize = 1 << 20;

pub(crate) fn run(setup: &Setup, publishes: usize, size: u64) -> Result<Report> {
    let what = format!("publish {publishes} × 1 MiB, one after another");
    let mut middle = Row::new(format!("{what}: half of them take at most"), "ms");
    let mut slow = Row::new(format!("{what}: 99 of 100 take at most"), "ms");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    for repetition in 0..setup.repetitions {
        let folder = setup.folder()?;
        let measured = measure(folder.path(), setup.seed(repetition), publishes, size);
        for (contender, times) in runtime.block_on(measured)? {
            middle.push(contender, times[times.len() / 2]);
            slow.push(contender, times[times.len() * 99 / 100]);
        }
    }
    middle.ratio("collecting", "idle", None);
    slow.ratio("collecting", "idle", Some(WHILE_COLLECTING));
    let note = format!(
        "in one process with the node; {} in packs half of which is garbage, collected at the default \
         rate during all of the publishes",
        ByteSize(size)
    );
    Ok(Report {
        bench: "gc",
        repetitions: setup.repetitions,
        kubo: Value::Null,
        notes: vec![note],
        rows: vec![middle, slow],
    })
}

/// Milliseconds that publishes took without and with a collection, sorted.
async fn measure(
    dir: &Path,
    seed: u64,
    publishes: usize,
    size: u64,
) -> Result<[(&'static str, Vec<f64>); 2]> {
    node::init(dir)?;
    // What was stored since a node started counts as in use, so it starts after this.
    fill(dir, seed, size)?;
    let mut config = Config::default();
    config.network.offline = true;
    let options = GcOptions {
        dry_run: false,
        seal: false,
        bytes_per_second: config.store.gc_rate.as_u64(),
        spare_recent: false,
    };
    let node = Node::open(dir, &config).await?;
    publish_all(&node, seed ^ 1 << 62, publishes / 10).await?;
    let idle = publish_all(&node, seed ^ 2 << 62, publishes).await?;
    let collected = node.clone();
    let collection = tokio::spawn(async move { gc::collect(&collected, options).await });
    let collecting = publish_all(&node, seed ^ 3 << 62, publishes).await?;
    ensure!(
        !collection.is_finished(),
        "the collection ended before the publishes: {:?}",
        collection.await?
    );
    node.shutdown().await;
    Ok([("idle", idle), ("collecting", collecting)])
}

/// Stores blocks, every other one pinned, in sealed packs.
fn fill(dir: &Path, seed: u64, size: u64) -> Result<()> {
    let (store, _) = Store::open(&dir.join("blocks"), StoreOptions::default())?;
    let (manifest, _) = Manifest::open(&dir.join("manifest"))?;
    let blocks = size / BLOCK_LEN as u64;
    for first in (0..blocks).step_by(usize::try_from(BATCH)?) {
        let batch: Vec<Block> = (first..first + BATCH)
            .map(|number| {
                let bytes = files::random_bytes(seed ^ number << 40, BLOCK_LEN);
                Block::of(RAW, Bytes::from(bytes))
            })
            .collect();
        store.put(PackKind::Kept, &batch)?;
        pin(&manifest, batch.iter().step_by(2))?;
    }
    store.seal()?;
    store.commit()?;
    Ok(())
}

async fn publish_all(node: &Node, seed: u64, publishes: usize) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for number in 0..publishes {
        let bytes = files::random_bytes(seed ^ (number as u64) << 40, PUBLISH_LEN);
        let source = Source::Reader {
            name: "file".to_owned(),
            reader: Box::new(std::io::Cursor::new(bytes)),
        };
        let options = PublishOptions::new("bench".parse()?);
        let started = Instant::now();
        publish(node, source, options, Arc::new(|_| true)).await?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times
        .iter()
        .map(Duration::as_secs_f64)
        .map(|s| s * 1e3)
        .collect())
}
