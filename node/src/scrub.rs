//! SCRUB: every stored block is read and hashed once in `store.scrub_interval` → what is damaged or
//! missing is fetched again → what was found is kept for `duka stat`.
//!
//! Slow on purpose: a pass takes the whole interval, within `SLOWEST` and `store.scrub_rate`. It
//! goes on after a restart where it was, to within a minute.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::fsck::{Report, check_roots};
use crate::manifest::change::{Change, Op};
use crate::manifest::{Manifest, ManifestError};
use crate::node::Node;
use crate::pace::{Pace, left_of};
use crate::repair;
use crate::roots;
use crate::store::{CheckCursor, CheckedPack, Depth, Indexes, PackKind, StoreError};

/// Where the manifest keeps the pass under way.
const PASS: &str = "scrub/pass";
/// Where the manifest keeps what the last pass found.
const LAST: &str = "scrub/last";
/// Newest form of these two; another one begins anew.
const VERSION: u32 = 1;
/// A node that was just started has better things to do.
const FIRST: Duration = Duration::from_secs(60);
/// Before the next try, when a pass failed.
const RETRY: Duration = Duration::from_secs(15 * 60);
/// The pass is stored at most this often: each time is a sync of the journal.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// Least bytes in a second. Costs 0.1 % of a core and less of a disk, lets the disk rest between the
/// passes over a small store, and gets a node done that runs for an hour a day.
const SLOWEST: u64 = 1 << 20;
/// A pass that is late goes up to this many times faster than one that is not.
const MOST_HASTE: u32 = 10;
/// Blocks that are named in the log.
const MOST_NAMED: usize = 10;

/// What a pass found and did.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    version: u32,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Packs read.
    pub packs: u64,
    /// Blocks read and hashed.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks that did not match: absent from then on.
    pub damaged_blocks: u64,
    /// Blocks that something refers to and that were not here when all had been read.
    pub missing_blocks: u64,
    /// Blocks of both that were fetched again.
    pub repaired_blocks: u64,
    /// Blocks that something refers to and that nobody had.
    pub lost_blocks: u64,
    /// Index files made anew.
    pub rebuilt_indexes: u64,
    /// Packs written anew, because what lies between their blocks was damaged.
    pub renewed_packs: u64,
}

/// A pass that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pass {
    cursor: CheckCursor,
    so_far: Summary,
}

/// Why a pass could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrubError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The node stops. The next start goes on.
    #[error("the node stops")]
    Stopped,
}

/// What the last whole pass found.
pub fn last(manifest: &Manifest) -> Result<Option<Summary>, ManifestError> {
    let found: Option<Summary> = load(manifest, LAST)?;
    Ok(found.filter(|summary| summary.version == VERSION))
}

/// What the pass under way has found so far.
pub fn under_way(manifest: &Manifest) -> Result<Option<Summary>, ManifestError> {
    let pass: Option<Pass> = load(manifest, PASS)?;
    Ok(pass
        .map(|pass| pass.so_far)
        .filter(|so_far| so_far.version == VERSION))
}

/// Scrubs every `store.scrub_interval`, until the node stops.
pub(crate) async fn run(node: Node, stop: CancellationToken) {
    let interval = node.config().store.scrub_interval;
    if interval.is_zero() {
        return;
    }
    let mut wait = FIRST;
    while stop
        .run_until_cancelled(tokio::time::sleep(wait))
        .await
        .is_some()
    {
        wait = match until_next(&node, interval) {
            Ok(left) if !left.is_zero() => left,
            Ok(_) => match pass(&node).await {
                Ok(_) => Duration::ZERO,
                Err(ScrubError::Stopped) => return,
                Err(error) => {
                    tracing::warn!(%error, "the blocks were not checked to the end");
                    RETRY
                }
            },
            Err(error) => {
                tracing::warn!(%error, "when the blocks were checked is not known");
                RETRY
            }
        };
    }
}

/// What is left of the interval since the last pass began; nothing when one is under way.
fn until_next(node: &Node, interval: Duration) -> Result<Duration, ManifestError> {
    if under_way(node.manifest())?.is_some() {
        return Ok(Duration::ZERO);
    }
    let last = last(node.manifest())?;
    Ok(last.map_or(Duration::ZERO, |last| left_of(interval, last.started)))
}

/// One pass over the store, or the rest of the one under way.
///
/// # Cancel safety
/// A dropped future does not stop the pack that is being read; the end of the node does.
pub async fn pass(node: &Node) -> Result<Summary, ScrubError> {
    let mut pass = begin(node).await?;
    let mut saved = Instant::now();
    loop {
        let checked = match check_next(node, &mut pass).await {
            Err(ScrubError::Store(StoreError::CorruptIndex { .. })) => {
                pass.so_far.rebuilt_indexes += rebuild_indexes(node).await?;
                continue;
            }
            checked => checked?,
        };
        let Some(checked) = checked else { break };
        let stopped = checked.stopped;
        count(node, &mut pass.so_far, checked).await?;
        if stopped || saved.elapsed() >= SAVE_INTERVAL {
            save(node, PASS, &pass).await?;
            saved = Instant::now();
        }
        if stopped {
            return Err(ScrubError::Stopped);
        }
    }
    check_manifest(node).await;
    complete(node, &mut pass.so_far).await?;
    pass.so_far.ended = Some(Timestamp::now());
    end(node, &pass.so_far).await?;
    Ok(pass.so_far)
}

/// The pass under way, or a new one, which `duka stat` tells of from now on.
async fn begin(node: &Node) -> Result<Pass, ManifestError> {
    let known: Option<Pass> = load(node.manifest(), PASS)?;
    if let Some(known) = known.filter(|pass| pass.so_far.version == VERSION) {
        return Ok(known);
    }
    let pass = Pass {
        cursor: CheckCursor::default(),
        so_far: Summary {
            version: VERSION,
            started: Timestamp::now(),
            ..Summary::default()
        },
    };
    save(node, PASS, &pass).await?;
    Ok(pass)
}

/// Reads the next pack, at the rate with which the pass ends in time.
async fn check_next(node: &Node, pass: &mut Pass) -> Result<Option<CheckedPack>, ScrubError> {
    let store = node.store().clone();
    let config = &node.config().store;
    let left = left_of(config.scrub_interval, pass.so_far.started);
    let left = left.max(config.scrub_interval / MOST_HASTE);
    let unchecked = store.unchecked_bytes(&pass.cursor);
    let rate = rate(unchecked, left, config.scrub_rate.as_u64());
    let mut pace = Pace::new(rate, node.stop_token());
    let mut cursor = pass.cursor;
    let (cursor, checked) = node
        .blocking(move || {
            let checked = store.check_next(&mut cursor, Depth::Deep, &mut pace, &|_| {});
            (cursor, checked)
        })
        .await;
    pass.cursor = cursor;
    Ok(checked?)
}

/// Bytes in a second with which so many are read in the time that is left. `most` wins over the time.
fn rate(bytes: u64, left: Duration, most: u64) -> u64 {
    let rate = bytes / left.as_secs().max(1);
    let most = if most == 0 { u64::MAX } else { most };
    rate.max(SLOWEST).min(most)
}

/// Takes what was found in a pack, and has it repaired.
async fn count(node: &Node, so_far: &mut Summary, checked: CheckedPack) -> Result<(), ScrubError> {
    so_far.packs += u64::from(!checked.stopped);
    so_far.blocks += checked.blocks;
    so_far.bytes += checked.bytes;
    metrics::counter!("duka_scrub_blocks_total").increment(checked.blocks);
    metrics::counter!("duka_scrub_bytes_total").increment(checked.bytes);
    let found = checked.damaged.len() as u64;
    metrics::counter!("duka_scrub_damaged_blocks_total").increment(found);
    so_far.damaged_blocks += found;
    if checked.kind == PackKind::Cache {
        // What matters is absent now, and fetched when somebody asks for it.
        return Ok(());
    }
    for path in checked.changed.iter().take(MOST_NAMED) {
        let path = path.display();
        tracing::warn!(%path, "a file changed since it was added in place: add it again");
    }
    let left = repair::blocks(node, checked.damaged.clone()).await?.len() as u64;
    count_repaired(so_far, found.saturating_sub(left));
    if checked.bad_framing {
        so_far.renewed_packs += u64::from(renew(node, &checked).await?);
    }
    Ok(())
}

fn count_repaired(so_far: &mut Summary, blocks: u64) {
    metrics::counter!("duka_scrub_repaired_blocks_total").increment(blocks);
    so_far.repaired_blocks += blocks;
}

async fn rebuild_indexes(node: &Node) -> Result<u64, StoreError> {
    let turn = node.gc_turn().await;
    let store = node.store().clone();
    let rebuilt = node.blocking(move || {
        let _turn = turn;
        store.rebuild_indexes(Indexes::Damaged, &|_| {})
    });
    let rebuilt = rebuilt.await?;
    tracing::warn!(rebuilt, "damaged index files were made anew");
    Ok(rebuilt)
}

async fn renew(node: &Node, checked: &CheckedPack) -> Result<bool, StoreError> {
    let turn = node.gc_turn().await;
    let store = node.store().clone();
    let most = node.config().store.scrub_rate.as_u64();
    let mut pace = Pace::new(most, node.stop_token());
    let pack = checked.renewable();
    let renewed = node.blocking(move || {
        let _turn = turn;
        store.renew_pack(pack, &mut pace)
    });
    let renewed = renewed.await?;
    let pack = checked.path.display();
    tracing::warn!(%pack, renewed, "what lies between the blocks of a pack is damaged");
    Ok(renewed)
}

/// Has journal and checkpoint read, and written anew where they are damaged.
async fn check_manifest(node: &Node) {
    let manifest = node.manifest().clone();
    if let Err(error) = node.blocking(move || manifest.check()).await {
        tracing::error!(%error, "journal and checkpoint of the manifest were not checked to the end");
    }
}

/// Has everything that is promised completed.
async fn complete(node: &Node, so_far: &mut Summary) -> Result<(), ScrubError> {
    let (before, broken) = lacking(node).await?;
    if before.is_empty() {
        return Ok(());
    }
    repair::trees(node, broken).await?;
    let (after, _) = lacking(node).await?;
    let lost = after.len() as u64;
    for cid in after.iter().take(MOST_NAMED) {
        tracing::error!(%cid, lost, "a block that something refers to is lost, and nobody has it");
    }
    so_far.missing_blocks = before.len() as u64;
    count_repaired(so_far, so_far.missing_blocks.saturating_sub(lost));
    so_far.lost_blocks = lost;
    Ok(())
}

/// Blocks that something refers to and that are not here, and the roots that lack them.
async fn lacking(node: &Node) -> Result<(Vec<cid::Cid>, BTreeSet<cid::Cid>), ScrubError> {
    let (store, manifest) = (node.store().clone(), node.manifest().clone());
    node.blocking(move || {
        let mut report = Report::default();
        let broken = check_roots(
            &store,
            &roots::promised::<ScrubError>(&store, &manifest)?,
            &mut report,
        )?;
        let missing = report.missing.into_iter().map(|(_, cid)| cid);
        Ok((missing.chain(report.damaged).collect(), broken))
    })
    .await
}

/// Reports a pass that is whole, and forgets that it was under way.
async fn end(node: &Node, summary: &Summary) -> Result<(), ManifestError> {
    let Summary {
        blocks,
        bytes,
        damaged_blocks,
        repaired_blocks,
        lost_blocks,
        ..
    } = summary;
    tracing::info!(
        blocks,
        bytes,
        damaged_blocks,
        repaired_blocks,
        lost_blocks,
        "checked all blocks"
    );
    metrics::gauge!("duka_scrub_lost_blocks").set(as_gauge(*lost_blocks));
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact")]
    metrics::gauge!("duka_scrub_ended_timestamp_seconds").set(Timestamp::now().as_second() as f64);
    let change = Change {
        expect: Vec::new(),
        ops: vec![put(LAST, summary)?, Op::DeleteState(PASS.to_owned())],
    };
    node.manifest().commit(change).await.map(drop)
}

#[expect(clippy::cast_precision_loss, reason = "a gauge need not be exact")]
fn as_gauge(number: u64) -> f64 {
    number as f64
}

async fn save(node: &Node, key: &str, value: &impl Serialize) -> Result<(), ManifestError> {
    let change = Change {
        expect: Vec::new(),
        ops: vec![put(key, value)?],
    };
    node.manifest().commit(change).await.map(drop)
}

fn put(key: &str, value: &impl Serialize) -> Result<Op, ManifestError> {
    let bytes =
        serde_ipld_dagcbor::to_vec(value).map_err(|_| ManifestError::Record { kind: "scrub" })?;
    Ok(Op::PutState(key.to_owned(), bytes))
}

/// `None` where there is none that this duka can read.
fn load<T: serde::de::DeserializeOwned>(
    manifest: &Manifest,
    key: &str,
) -> Result<Option<T>, ManifestError> {
    let bytes = manifest.state(key)?;
    Ok(bytes.and_then(|bytes| serde_ipld_dagcbor::from_slice(&bytes).ok()))
}
