//! FSCK: are the packs whole, and does every pinned DAG and release have all its blocks? → what is not
//! is fetched again.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};

use cid::Cid;

use crate::block::RAW;
use crate::dag::links::links;
use crate::manifest::{Manifest, ManifestError, Renewed};
use crate::node::Node;
use crate::pace::Pace;
use crate::repair;
use crate::roots::{self, Root};
use crate::store::{CheckCursor, Depth, Indexes, PackKind, Store, StoreError};

/// How a check runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct FsckOptions {
    /// Read and hash every block, journal and checkpoint; else index files, footers and the completeness of what is promised.
    pub deep: bool,
    /// Fetch what is damaged or missing from peers and gateways, and write packs anew whose framing is
    /// damaged. Makes index files anew, too.
    pub repair: bool,
    /// Make damaged index files anew.
    pub repair_index: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Packs read.
    pub packs: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks of which no copy matches.
    pub damaged: Vec<Cid>,
    /// Blocks that a pin or release needs and the store does not have: (root, block).
    pub missing: Vec<(Cid, Cid)>,
    /// Packs in which what lies between the blocks is damaged: their blocks can be read, but their index
    /// could not be made anew. A power cut may leave such a pack.
    pub bad_packs: Vec<std::path::PathBuf>,
    /// Files that blocks were added from in place, and that changed since.
    pub changed_files: BTreeSet<std::path::PathBuf>,
    /// Index files made anew.
    pub rebuilt_indexes: u64,
    /// Blocks that were damaged or missing and are here again.
    pub repaired_blocks: u64,
    /// What of journal and checkpoint was damaged: both were written anew from the index.
    pub renewed_manifest: Option<Renewed>,
}

impl Report {
    /// Whether every block that should be here is, and is whole.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.missing.is_empty()
    }
}

/// Why the check itself could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsckError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The node stops, or nobody waits for the check any more.
    #[error("the check was stopped")]
    Stopped,
}

/// Checks, and repairs where `options` say so. The report has what is left.
///
/// # Cancel safety
/// A dropped future ends the check; some blocks may be repaired.
pub async fn run(
    node: &Node,
    options: FsckOptions,
    progress: impl Fn(u64) + Send + Clone + 'static,
) -> Result<Report, FsckError> {
    let turn = node.gc_turn().await;
    let stop = node.stop_token().child_token();
    let _ends_with_this_future = stop.clone().drop_guard();
    let checking = node.clone();
    let checked = node.blocking(move || {
        let _turn = turn;
        let mut pace = Pace::new(0, stop);
        let (store, manifest) = (checking.store(), checking.manifest());
        fsck(store, manifest, options, &mut pace, &progress)
    });
    let Checked { mut report, broken } = checked.await?;
    if !options.repair || report.damaged.is_empty() && report.missing.is_empty() {
        return Ok(report);
    }
    let found = report.damaged.len() + report.missing.len();
    repair::blocks(node, report.damaged.clone()).await?;
    repair::trees(node, broken).await?;
    let again = node.clone();
    node.blocking(move || {
        report.missing.clear();
        let damaged = std::mem::take(&mut report.damaged);
        for cid in damaged {
            if !again.store().has(&cid)? {
                report.damaged.push(cid);
            }
        }
        check_roots(
            again.store(),
            &roots::promised::<FsckError>(again.store(), again.manifest())?,
            &mut report,
        )?;
        let left = report.damaged.len() + report.missing.len();
        report.repaired_blocks = found.saturating_sub(left) as u64;
        Ok(report)
    })
    .await
}

/// Checks a store and a manifest that no node has open. Blocking.
pub(crate) fn check(
    store: &Store,
    manifest: &Manifest,
    pace: &mut Pace,
) -> Result<Report, FsckError> {
    let options = FsckOptions::default();
    Ok(fsck(store, manifest, options, pace, &|_| {})?.report)
}

/// What a check found, and which promised trees lack something.
#[derive(Debug)]
struct Checked {
    report: Report,
    broken: BTreeSet<Cid>,
}

/// Blocking; not beside a collection. `progress` is called with the bytes checked since the last call.
fn fsck(
    store: &Store,
    manifest: &Manifest,
    options: FsckOptions,
    pace: &mut Pace,
    progress: &dyn Fn(u64),
) -> Result<Checked, FsckError> {
    let mut report = Report::default();
    if options.deep {
        report.renewed_manifest = manifest.check()?;
    }
    if options.repair_index || options.repair {
        report.rebuilt_indexes = store.rebuild_indexes(Indexes::Damaged, &|_| {})?;
    }
    check_packs(store, options, pace, progress, &mut report)?;
    let broken = check_roots(
        store,
        &roots::promised::<FsckError>(store, manifest)?,
        &mut report,
    )?;
    Ok(Checked { report, broken })
}

fn check_packs(
    store: &Store,
    options: FsckOptions,
    pace: &mut Pace,
    progress: &dyn Fn(u64),
    report: &mut Report,
) -> Result<(), FsckError> {
    let depth = if options.deep {
        Depth::Deep
    } else {
        Depth::Quick
    };
    let mut cursor = CheckCursor::default();
    let mut damaged = BTreeSet::new();
    while let Some(pack) = store.check_next(&mut cursor, depth, pace, progress)? {
        if pack.stopped {
            return Err(FsckError::Stopped);
        }
        report.packs += 1;
        report.blocks += pack.blocks;
        report.bytes += pack.bytes;
        if pack.bad_framing && pack.kind == PackKind::Kept {
            let renewed = options.repair && store.renew_pack(pack.renewable(), pace)?;
            if !renewed {
                report.bad_packs.push(pack.path);
            }
        }
        damaged.extend(pack.damaged);
        report.changed_files.extend(pack.changed);
    }
    for cid in damaged {
        // Another copy may be whole.
        if !store.has(&cid)? {
            report.damaged.push(cid);
        }
    }
    Ok(())
}

/// Notes the blocks that promised DAGs lack. Returns the roots of these DAGs.
pub(crate) fn check_roots(
    store: &Store,
    roots: &[Root],
    report: &mut Report,
) -> Result<BTreeSet<Cid>, StoreError> {
    let mut broken = BTreeSet::new();
    // Each is named once: as damaged, or under the first root.
    let mut named: HashSet<Cid> = report.damaged.iter().copied().collect();
    let mut seen = HashSet::new();
    for root in roots {
        let mut waiting = vec![root.cid];
        while let Some(cid) = waiting.pop() {
            if root.recursive && !seen.insert(cid) {
                continue;
            }
            let is_leaf = !root.recursive || cid.codec() == RAW;
            if is_leaf && store.has(&cid)? {
                continue;
            }
            match store.get(&cid) {
                Ok(Some(_)) if is_leaf => {}
                Ok(Some(block)) => match links(&block) {
                    Ok(links) => waiting.extend(links),
                    Err(_) => report.damaged.push(cid),
                },
                Ok(None) => {
                    broken.insert(root.cid);
                    if named.insert(cid) {
                        report.missing.push((root.cid, cid));
                    }
                }
                Err(error) if error.is_damage() => {
                    broken.insert(root.cid);
                    if named.insert(cid) {
                        report.damaged.push(cid);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(broken)
}
