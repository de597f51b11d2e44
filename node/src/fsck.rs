//! FSCK: are the packs whole, and does every pinned DAG and release have all its blocks?

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::ControlFlow;

use cid::Cid;

use crate::block::{Block, RAW};
use crate::dag::links::links;
use crate::manifest::{Manifest, ManifestError};
use crate::roots::{self, Root};
use crate::store::{Store, StoreError};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Packs read.
    pub packs: u64,
    /// Blocks checked.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks of which no copy matches.
    pub damaged: Vec<Cid>,
    /// Blocks that a pin or release needs and the store does not have: (root, block).
    pub missing: Vec<(Cid, Cid)>,
    /// Index files rebuilt (`--repair-index`).
    pub rebuilt_indexes: u64,
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
}

/// Checks CRC and hash of every stored block and the completeness of every pinned DAG and release.
/// Blocking. `progress` is called with the bytes checked since the last call.
pub fn fsck(
    store: &Store,
    manifest: &Manifest,
    repair_index: bool,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, FsckError> {
    let mut report = Report::default();
    if repair_index {
        report.rebuilt_indexes = store.rebuild_indexes()?;
    }
    check_blocks(store, progress, &mut report)?;
    check_roots(store, &roots::promised(manifest)?, &mut report)?;
    Ok(report)
}

fn check_blocks(
    store: &Store,
    progress: &(dyn Fn(u64) + Sync),
    report: &mut Report,
) -> Result<(), StoreError> {
    report.packs = store.stats()?.packs;
    let mut failed = None;
    let mut damaged = Vec::new();
    store.for_each_block(&mut |stored| {
        let whole = match stored.block {
            Ok(block) => Block::new(stored.cid, block.into_data()).is_ok(),
            Err(StoreError::Corrupt { .. }) => false,
            Err(error) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        };
        if !whole {
            damaged.push(stored.cid);
        }
        report.blocks += 1;
        report.bytes += u64::from(stored.len);
        progress(u64::from(stored.len));
        ControlFlow::Continue(())
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let mut seen = HashSet::new();
    for cid in damaged {
        if seen.insert(cid) && !has_whole_copy(store, &cid)? {
            report.damaged.push(cid);
        }
    }
    Ok(())
}

/// Whether a damaged block was put again since.
fn has_whole_copy(store: &Store, cid: &Cid) -> Result<bool, StoreError> {
    match store.get(cid) {
        Ok(Some(block)) => Ok(Block::new(*cid, block.into_data()).is_ok()),
        Ok(None) | Err(StoreError::Corrupt { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn check_roots(store: &Store, roots: &[Root], report: &mut Report) -> Result<(), StoreError> {
    // The store counts them as absent, but they are named already.
    let damaged: HashSet<Cid> = report.damaged.iter().copied().collect();
    let is_missing = |cid: &Cid| Ok::<_, StoreError>(!damaged.contains(cid) && !store.has(cid)?);
    // A block below two roots is named under the first.
    let mut seen = HashSet::new();
    for root in roots {
        let mut waiting = vec![root.cid];
        while let Some(cid) = waiting.pop() {
            if !root.recursive {
                if is_missing(&cid)? {
                    report.missing.push((root.cid, cid));
                }
                continue;
            }
            if !seen.insert(cid) {
                continue;
            }
            if cid.codec() == RAW {
                if is_missing(&cid)? {
                    report.missing.push((root.cid, cid));
                }
                continue;
            }
            match store.get(&cid) {
                Ok(Some(block)) => match links(&block) {
                    Ok(links) => waiting.extend(links),
                    Err(_) => report.damaged.push(cid),
                },
                Ok(None) => report.missing.push((root.cid, cid)),
                // Named as damaged already.
                Err(StoreError::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
