//! GC: mark what pins, releases, the head and temp pins refer to, and what was stored a moment ago →
//! remove the rest of the kept packs.
//!
//! Nothing waits for it: publishes, pins and reads go on, and what they rely on stays
//! ([`crate::store::Session`]).

use std::collections::HashSet;
use std::time::Duration;

use cid::Cid;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::block::{DAG_CBOR, DAG_JSON, DAG_PB};
use crate::dag::links::links;
use crate::keys::Name;
use crate::manifest::change::{Change, Op};
use crate::manifest::{Manifest, ManifestError};
use crate::mirror::kept;
use crate::node::Node;
use crate::pace::{Pace, left_of};
use crate::recent;
use crate::roots::{self, Root};
use crate::store::{Collected, Collection, Mark, Store, StoreError};

/// Where the manifest keeps when the last collection ended: text, RFC 3339.
const LAST: &str = "gc/last";
/// A node that was just started has better things to do.
const FIRST: Duration = Duration::from_secs(60);
/// Before the next try, when a collection failed.
const RETRY: Duration = Duration::from_secs(15 * 60);

/// What a collection found and did.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Blocks that something refers to.
    pub live_blocks: u64,
    /// Blocks that something refers to, and that are not here or damaged.
    pub missing_blocks: u64,
    /// What was removed; with `dry_run` only `left_bytes` is set.
    pub collected: Collected,
}

/// Why a collection ended early. What was removed until then was dead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// What lies below an inner block cannot be known without it, so nothing was removed.
    #[error("{}, but its inner block {cid} is missing or damaged", promise(root, mirror.as_deref()))]
    Incomplete {
        /// The root of the tree.
        root: Cid,
        /// The block.
        cid: Cid,
        /// The shop whose mirror keeps the tree.
        mirror: Option<Box<Name>>,
    },
    /// The node stops. The next collection goes on.
    #[error("the node stops")]
    Stopped,
}

fn promise(root: &Cid, mirror: Option<&Name>) -> String {
    match mirror {
        Some(shop) => format!("the mirror of {shop} keeps the tree {root}"),
        None => format!("the tree {root} is promised to be kept"),
    }
}

/// How a collection runs.
#[derive(Clone, Copy, Debug)]
pub struct GcOptions {
    /// Only say how many bytes are dead.
    pub dry_run: bool,
    /// Take the newest pack, too, which is not full yet.
    pub seal: bool,
    /// Most bytes that are read and copied in a second; 0 is without limit.
    pub bytes_per_second: u64,
    /// Leave alone what is [recent].
    pub spare_recent: bool,
}

/// Removes the blocks that nothing refers to. One collection at a time; the next one waits.
///
/// # Cancel safety
/// A dropped future does not stop the collection; the end of the node does.
pub async fn collect(node: &Node, options: GcOptions) -> Result<Report, GcError> {
    let turn = node.gc_turn().await;
    let collecting = node.clone();
    let report = node
        .blocking(move || {
            let _turn = turn;
            mark_and_sweep(&collecting, options)
        })
        .await?;
    if !options.dry_run {
        let now = Timestamp::now().to_string().into_bytes();
        let change = Change {
            expect: Vec::new(),
            ops: vec![Op::PutState(LAST.to_owned(), now)],
        };
        match node.manifest().commit(change).await {
            // What was removed is removed.
            Err(error) if error.is_full() => tracing::warn!(%error, "when it was is not noted"),
            committed => {
                committed?;
            }
        }
    }
    Ok(report)
}

/// When the last collection ended.
pub fn last(manifest: &Manifest) -> Result<Option<Timestamp>, ManifestError> {
    let last = manifest.state(LAST)?;
    Ok(last.and_then(|text| String::from_utf8(text).ok()?.parse().ok()))
}

fn mark_and_sweep(node: &Node, options: GcOptions) -> Result<Report, GcError> {
    let (store, manifest) = (node.store(), node.manifest());
    let mut pace = Pace::new(options.bytes_per_second, node.stop_token());
    if options.seal && !options.dry_run {
        match store.seal() {
            // Packs that are dead as they are go all the same.
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "the newest pack is left out of this collection");
            }
            sealed => sealed?,
        }
    }
    // Begun before the roots are read: what a commit adds after that is in use.
    let collection = store.collect();
    let mut marking = Marking {
        store,
        collection,
        walked: HashSet::new(),
        pace: &mut pace,
        report: Report::default(),
    };
    let mut unpromised = node.temp_pins().roots();
    if options.spare_recent {
        unpromised.extend(recent::roots(manifest, Timestamp::now())?);
    }
    let promised = roots::promised::<GcError>(store, manifest)?;
    let cached = roots::cached(manifest)?;
    for root in promised.into_iter().chain(cached) {
        if let Some(cid) = marking.mark(root)? {
            let mirror = kept::keeper::<GcError>(store, manifest, root)?.map(Box::new);
            return Err(GcError::Incomplete {
                root: root.cid,
                cid,
                mirror,
            });
        }
    }
    for root in unpromised {
        // What is missing has yet to be fetched, or never came.
        marking.mark(Root::whole(root))?;
    }
    let Marking {
        collection,
        mut report,
        ..
    } = marking;
    if options.dry_run {
        report.collected.left_bytes = collection.dead_bytes()?;
    } else {
        report.collected = collection.sweep(&mut pace)?;
    }
    if report.collected.stopped {
        return Err(GcError::Stopped);
    }
    Ok(report)
}

struct Marking<'a> {
    store: &'a Store,
    collection: Collection,
    /// Inner blocks whose links were followed. By CID and not by multihash: the same bytes may be a
    /// leaf in one tree and have links in another.
    walked: HashSet<Cid>,
    pace: &'a mut Pace,
    report: Report,
}

impl Marking<'_> {
    /// Marks a DAG. Returns an inner block that it lacks.
    fn mark(&mut self, root: Root) -> Result<Option<Cid>, GcError> {
        let mut lacking = None;
        let mut waiting = vec![root.cid];
        while let Some(cid) = waiting.pop() {
            let walk = root.recursive && has_links(&cid);
            if walk && !self.walked.insert(cid) {
                continue;
            }
            let mark = self.collection.mark(&cid)?;
            match mark {
                Mark::New => self.report.live_blocks += 1,
                Mark::Missing => self.report.missing_blocks += 1,
                Mark::Seen => {}
            }
            if walk {
                match self.links(&cid)? {
                    Some(links) => waiting.extend(links),
                    None => lacking = Some(cid),
                }
            }
        }
        Ok(lacking)
    }

    /// The links of a block; `None` when it is missing or damaged.
    fn links(&mut self, cid: &Cid) -> Result<Option<Vec<Cid>>, GcError> {
        let Some(block) = self.store.get_whole(cid)? else {
            return Ok(None);
        };
        if !self.pace.take(block.data().len() as u64) {
            return Err(GcError::Stopped);
        }
        // What is not valid for its codec has no links, and can be kept all the same.
        Ok(Some(links(&block).unwrap_or_default()))
    }
}

fn has_links(cid: &Cid) -> bool {
    matches!(cid.codec(), DAG_PB | DAG_CBOR | DAG_JSON)
}

/// Collects every `store.gc_interval`, until the node stops.
pub(crate) async fn run(node: Node, stop: CancellationToken) {
    let interval = node.config().store.gc_interval;
    if interval.is_zero() {
        return;
    }
    let options = GcOptions {
        dry_run: false,
        seal: false,
        bytes_per_second: node.config().store.gc_rate.as_u64(),
        spare_recent: true,
    };
    let mut wait = until_next(&node, interval);
    while stop
        .run_until_cancelled(tokio::time::sleep(wait))
        .await
        .is_some()
    {
        wait = match collect(&node, options).await {
            Ok(report) => {
                let Collected {
                    freed_bytes,
                    removed_packs,
                    rewritten_packs,
                    ..
                } = report.collected;
                tracing::info!(
                    freed_bytes,
                    removed_packs,
                    rewritten_packs,
                    "collected garbage"
                );
                interval
            }
            Err(GcError::Stopped) => return,
            Err(error) => {
                tracing::warn!(%error, "garbage was not collected");
                RETRY
            }
        };
    }
}

/// What is left of the interval since the last collection; a new store waits for a whole one.
fn until_next(node: &Node, interval: Duration) -> Duration {
    let Some(last) = last(node.manifest()).ok().flatten() else {
        return interval;
    };
    left_of(interval, last).max(FIRST)
}
