//! Whether the index can be made anew: what journal and checkpoint can still tell.

use std::path::{Path, PathBuf};

use super::files::{self, Listing};
use super::frame::{FileKind, FrameReader, Next};
use super::index::{Index, OpenFailure, key};
use super::journal::Survey;
use super::{ManifestError, RebuildError, checkpoint, journal};
use crate::disk::FileSystem;

/// What cannot be read any more, and with it what cannot be recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// There is nothing to read.
    #[error(
        "no journal and no checkpoint is left in {}: which products, releases, pins and names there \
         were, and the newest head, cannot be recovered",
        dir.display()
    )]
    All {
        /// The manifest's directory.
        dir: PathBuf,
    },
    /// The checkpoint that everything after it builds on.
    #[error(
        "the checkpoint {} is damaged at byte {offset}: which products, releases, pins and names there \
         were when it was written cannot be recovered",
        path.display()
    )]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
    },
    /// A part of the journal.
    #[error(
        "the journal {} is damaged at byte {offset}: changes of products, releases, pins and names \
         after number {last} cannot be recovered",
        path.display()
    )]
    Journal {
        /// The file.
        path: PathBuf,
        /// Where, in bytes; 0 when it is missing.
        offset: u64,
        /// The last change before.
        last: u64,
    },
    /// The end of the journal, which the index knows.
    #[error(
        "the index in {} holds change {applied}, the journal ends at {last}: the changes after that are \
         in the index alone, and would be lost with it",
        dir.display()
    )]
    JournalCut {
        /// The manifest's directory.
        dir: PathBuf,
        /// The last change that the index holds.
        applied: u64,
        /// The last change that the journal holds.
        last: u64,
    },
    /// It cannot be said.
    #[error(transparent)]
    Unread(ManifestError),
}

/// Sets the index aside, which the next open makes anew, if it follows from journal and checkpoint.
pub(super) fn give_index_up(dir: &Path) -> Result<(), RebuildError> {
    let last = check(dir)?.last;
    let _lock = files::lock(&FileSystem, dir)?;
    let closed = files::closed(dir)?;
    if let Some(applied) = closed.max(applied(dir)?).filter(|applied| *applied > last) {
        let dir = dir.to_owned();
        return Err(Loss::JournalCut { dir, applied, last }.into());
    }
    if files::index_path(dir).exists() {
        files::set_index_aside(&FileSystem, dir)?;
    }
    Ok(())
}

/// The last entry that the index holds, as far as it can be read.
fn applied(dir: &Path) -> Result<Option<u64>, ManifestError> {
    let path = files::index_path(dir);
    if !path.exists() {
        return Ok(None);
    }
    match Index::open(&path) {
        Ok(index) => Ok(index.number(key::APPLIED).unwrap_or(None)),
        Err(OpenFailure::Refused(error)) => Err(error),
        Err(OpenFailure::Broken(_)) => Ok(None),
    }
}

/// Checks that journal and checkpoint in `dir` are whole but for a torn last entry. What they hold.
pub(super) fn check(dir: &Path) -> Result<Survey, Loss> {
    if files::is_absent(dir).map_err(Loss::Unread)? {
        let dir = dir.to_owned();
        return Err(Loss::All { dir });
    }
    let listing = Listing::read(dir).map_err(Loss::Unread)?;
    let newest = listing.checkpoints.last().copied();
    let base = newest.unwrap_or(0);
    if let Some(last) = newest {
        checkpoint::read(&files::checkpoint_path(dir, last), |_| Ok(())).map_err(|error| {
            match error {
                ManifestError::Corrupt { path, offset } => Loss::Checkpoint { path, offset },
                error => Loss::Unread(error),
            }
        })?;
    }
    // A journal may be missing before the first that is there.
    let first = listing.journals.first().copied();
    if let Some(first) = first.filter(|first| *first > base + 1) {
        let path = files::journal_path(dir, base + 1);
        tracing::debug!(first, "the journal begins too late");
        let (offset, last) = (0, base);
        return Err(Loss::Journal { path, offset, last });
    }
    match journal::survey(dir, &listing.journals, base) {
        Ok(survey) => Ok(survey),
        Err(ManifestError::Corrupt { path, offset }) => {
            let last = last_before(dir, &listing.journals, &path).map_err(Loss::Unread)?;
            let last = last.max(base);
            Err(Loss::Journal { path, offset, last })
        }
        Err(error) => Err(Loss::Unread(error)),
    }
}

/// The last whole entry of the journals up to the first that cannot be read in `damaged`.
fn last_before(dir: &Path, journals: &[u64], damaged: &Path) -> Result<u64, ManifestError> {
    let mut last = 0;
    for &first in journals {
        let path = files::journal_path(dir, first);
        let reader = match FrameReader::open(&path, FileKind::Journal) {
            Err(ManifestError::Corrupt { .. }) => None,
            opened => opened?,
        };
        if let Some(mut reader) = reader {
            while let Next::Entry { sequence, .. } = reader.next_entry()? {
                last = sequence;
            }
        }
        if path == damaged {
            break;
        }
    }
    Ok(last)
}
