//! Opening: find the journal's end, bring the index up to it, or rebuild the index.

use std::path::Path;
use std::sync::Arc;

use super::draft::Draft;
use super::files::{self, Listing};
use super::index::{Index, OpenFailure, key};
use super::journal::{self, Journal, Survey};
use super::{ManifestError, ManifestOptions, Recovery, checkpoint, io_error};
use crate::disk::Disk;

/// Free space, in bytes, without which nothing is opened: sled damages its own snapshot when it finds
/// no room for it, and the index has to be rebuilt then.
const LEAST_ROOM: u64 = 2 << 20;

/// Opens journal and index in `dir`. The caller holds the directory's lock.
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: &ManifestOptions,
) -> Result<(Index, Journal, Recovery), ManifestError> {
    if files::free_bytes(disk.as_ref(), dir)? < LEAST_ROOM {
        let path = dir.to_owned();
        return Err(ManifestError::Full { path });
    }
    let listing = Listing::read(dir)?;
    let newest_checkpoint = listing.checkpoints.last().copied();
    let survey = journal::survey(dir, &listing.journals, newest_checkpoint.unwrap_or(0))?;
    let mut recovery = Recovery::default();

    let closed = files::closed(dir)?;
    check_not_cut(dir, closed, &survey)?;
    files::unmark_closed(disk.as_ref(), dir)?;
    let index = match open_index(dir, &survey, closed)? {
        Ok(index) => index,
        Err(reason) => {
            let aside = files::set_index_aside(disk.as_ref(), dir)?;
            tracing::warn!(%reason, aside = %aside.display(), "the manifest index is rebuilt");
            recovery.rebuilt_from = Some(aside);
            new_index(dir)?
        }
    };
    if index.number(key::APPLIED)?.is_none()
        && let Some(last) = newest_checkpoint
    {
        load_checkpoint(dir, &index, last)?;
    }
    let applied = index.number(key::APPLIED)?.unwrap_or(0);
    let base = survey.files.first().map_or(applied, |first| first - 1);
    if applied < base {
        return Err(ManifestError::Corrupt {
            path: files::journal_path(dir, base + 1),
            offset: 0,
        });
    }

    if let Some((_, _, bytes)) = survey.torn {
        recovery.truncated_bytes = bytes;
    }
    let journal = Journal::resume(Arc::clone(disk), dir, &survey, options.reserve)?;
    journal::replay(dir, &survey.files, applied, |sequence, ops| {
        let mut draft = Draft::new(&index, sequence);
        draft.add(&[], &ops)?;
        recovery.replayed += 1;
        index.apply(draft.into_writes())
    })?;
    remove_leftovers(disk.as_ref(), dir, &listing, newest_checkpoint);
    Ok((index, journal, recovery))
}

/// Opens the index and checks that it agrees with the journal. The inner error says in words why it
/// has to be rebuilt.
/// `closed` is the last entry of an index that is known to be whole.
fn open_index(
    dir: &Path,
    survey: &Survey,
    closed: Option<u64>,
) -> Result<Result<Index, String>, ManifestError> {
    let path = files::index_path(dir);
    let index = match Index::open(&path) {
        Ok(index) => index,
        Err(OpenFailure::Refused(error)) => return Err(error),
        Err(OpenFailure::Broken(reason)) => return Ok(Err(reason)),
    };
    let applied = match index.number(key::APPLIED) {
        Ok(applied) => applied,
        Err(error) => return Ok(Err(error.to_string())),
    };
    check_not_cut(dir, applied, survey)?;
    if let Some(applied) = applied {
        let first = survey.files.first();
        if first.is_some_and(|first| applied < first - 1) {
            return Ok(Err("it is older than the journal".to_owned()));
        }
    }
    // One without `applied` was being filled from a checkpoint.
    if applied.is_none() || closed != applied {
        match index.is_whole() {
            Ok(true) => {}
            Ok(false) => return Ok(Err("records are missing in it".to_owned())),
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    Ok(Ok(index))
}

/// The index gets an entry only after the journal's sync: one that it has was acknowledged.
fn check_not_cut(dir: &Path, applied: Option<u64>, survey: &Survey) -> Result<(), ManifestError> {
    let last = survey.last;
    match applied {
        Some(applied) if applied > last => Err(ManifestError::JournalCut {
            dir: dir.to_owned(),
            applied,
            last,
        }),
        _ => Ok(()),
    }
}

fn new_index(dir: &Path) -> Result<Index, ManifestError> {
    let path = files::index_path(dir);
    Index::open(&path).map_err(|failure| match failure {
        OpenFailure::Refused(error) => error,
        OpenFailure::Broken(reason) => io_error("making", &path, std::io::Error::other(reason)),
    })
}

/// Fills an empty index. It counts as empty until the last write, so a crash in between only means
/// doing it again.
fn load_checkpoint(dir: &Path, index: &Index, last: u64) -> Result<(), ManifestError> {
    let path = files::checkpoint_path(dir, last);
    checkpoint::read(&path, |ops| {
        let mut draft = Draft::new(index, last);
        draft.add(&[], &ops)?;
        let mut writes = draft.into_writes();
        writes.remove(key::APPLIED);
        index.apply(writes)
    })?;
    index.apply(Draft::new(index, last).into_writes())
}

/// Removes what a crash left behind: unfinished files, and what the newest checkpoint replaced.
fn remove_leftovers(
    disk: &dyn Disk,
    dir: &Path,
    listing: &Listing,
    newest_checkpoint: Option<u64>,
) {
    listing
        .temporary
        .iter()
        .for_each(|path| files::remove(disk, path));
    let Some(newest) = newest_checkpoint else {
        return;
    };
    for &last in listing.checkpoints.iter().filter(|last| **last < newest) {
        files::remove(disk, &files::checkpoint_path(dir, last));
    }
    // A journal is replaced when the next one begins at or before the entry after the checkpoint.
    for pair in listing.journals.windows(2) {
        if let [old, next] = pair
            && *next <= newest + 1
        {
            files::remove(disk, &files::journal_path(dir, *old));
        }
    }
}
