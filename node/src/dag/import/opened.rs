//! A file of an import while it is read, and how its bytes are kept.

use std::fs::{File, Metadata as Stat, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::plan::{read_error, special};
use super::reflink::Snapshots;
use super::{ImportError, ImportOptions};
use crate::store::{Extent, Keep, Origin, Snapshot, SourceFile};

/// Shorter files are copied even when they are added in place: each read of one that is not costs opening
/// it, and a record of it a good part of its length.
const IN_PLACE_FROM: u64 = 64 << 10;

/// A regular file that is open.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    /// As it was when it was opened.
    pub(super) stat: Stat,
    /// What is read: the file, or its snapshot.
    file: Arc<File>,
    kept: Kept,
}

/// What becomes of its bytes.
enum Kept {
    Copied,
    Shared(Snapshot),
    InPlace(Arc<SourceFile>),
}

impl Opened {
    pub(super) fn new(
        path: PathBuf,
        options: &ImportOptions,
        snapshots: &Snapshots<'_>,
    ) -> Result<Self, ImportError> {
        let failed = |error| read_error(&path, error);
        let file = open(&path).map_err(failed)?;
        let stat = file.metadata().map_err(failed)?;
        if !stat.is_file() {
            return Err(ImportError::Special {
                kind: special(stat.file_type()),
                path,
            });
        }
        if options.in_place && stat.len() >= IN_PLACE_FROM {
            let source = SourceFile::new(&path, &stat).map_err(failed)?;
            return Ok(Self {
                path,
                stat,
                file: Arc::new(file),
                kept: Kept::InPlace(Arc::new(source)),
            });
        }
        let snapshot = snapshots.of(&file, &path, &stat)?;
        let opened = Self {
            path,
            stat,
            file: Arc::new(file),
            kept: Kept::Copied,
        };
        let Some(snapshot) = snapshot else {
            return Ok(opened);
        };
        opened.check_unchanged()?;
        Ok(Self {
            file: snapshot.file(),
            kept: Kept::Shared(snapshot),
            ..opened
        })
    }

    /// How a block that starts at `offset` is kept.
    pub(super) fn keep(&self, offset: u64) -> Keep {
        match &self.kept {
            Kept::Copied => Keep::Copied,
            Kept::Shared(snapshot) => Keep::Shared(Extent {
                snapshot: snapshot.clone(),
                offset,
            }),
            Kept::InPlace(file) => Keep::InPlace(Origin {
                file: Arc::clone(file),
                offset,
            }),
        }
    }

    /// Reads into `space` from `offset` on, all of it unless the file ends before.
    pub(super) fn read(&self, mut space: &mut [u8], mut offset: u64) -> io::Result<usize> {
        let wanted = space.len();
        while !space.is_empty() {
            match self.file.read_at(space, offset) {
                Ok(0) => break,
                Ok(n) => {
                    space = &mut space[n..];
                    offset += n as u64;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(wanted - space.len())
    }

    /// All of it was read: it must be what it was. What stays where it is must survive a power cut as
    /// well as the pack that says so.
    pub(super) fn finish(&self) -> Result<(), ImportError> {
        match self.kept {
            Kept::Copied => self.check_unchanged(),
            // It is what it was.
            Kept::Shared(_) => Ok(()),
            Kept::InPlace(_) => {
                let synced = self.file.sync_all();
                synced.map_err(|error| read_error(&self.path, error))?;
                self.check_unchanged()
            }
        }
    }

    fn check_unchanged(&self) -> Result<(), ImportError> {
        let after = self.file.metadata();
        let after = after.map_err(|error| read_error(&self.path, error))?;
        let seen = |stat: &Stat| (stat.len(), stat.mtime(), stat.mtime_nsec());
        if seen(&after) == seen(&self.stat) {
            Ok(())
        } else {
            Err(ImportError::Changed {
                path: self.path.clone(),
            })
        }
    }
}

/// Opens without following a symlink and without waiting for a pipe's writer: the name may have
/// been replaced since the walk.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}
