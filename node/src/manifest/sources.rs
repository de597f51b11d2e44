//! Whether the index can be made anew: what journal and checkpoint can still tell.

use std::path::{Path, PathBuf};

use super::files::{self, Listing};
use super::frame::{FileKind, FrameReader, Next};
use super::{ManifestError, checkpoint, io_error, journal};
use crate::disk::{self, FileSystem};

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
    /// It cannot be said.
    #[error(transparent)]
    Unread(ManifestError),
}

/// Checks that journal and checkpoint in `dir` are whole, so that the index follows from them.
pub(super) fn check(dir: &Path) -> Result<(), Loss> {
    let listing = match dir.is_dir() {
        true => Listing::read(dir).map_err(Loss::Unread)?,
        false => Listing::default(),
    };
    let newest = listing.checkpoints.last().copied();
    if newest.is_none() && listing.journals.is_empty() {
        let dir = dir.to_owned();
        return Err(Loss::All { dir });
    }
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
        Ok(_) => Ok(()),
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

/// Removes the index, which the next open makes anew.
pub(super) fn remove_index(dir: &Path) -> Result<(), ManifestError> {
    let _lock = files::lock(&FileSystem, dir)?;
    let path = files::index_path(dir);
    disk::gone(std::fs::remove_dir_all(&path)).map_err(|error| io_error("removing", &path, error))
}
