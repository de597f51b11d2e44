//! The journal: the only commit point. One entry is one group of changes; it is synced before the
//! next one is written, so only the very last entry of the newest file can be torn by a crash.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::change::{Op, Payload};
use super::frame::{self, FileKind, FrameReader, HEADER_LEN, Next};
use super::{ManifestError, files, io_error};
use crate::disk::Disk;

/// Longest change, in bytes: one fits into an entry together with as many bytes of others.
pub(super) const MAX_CHANGE_LEN: usize = frame::MAX_PAYLOAD_LEN / 2 - (1 << 10);
/// How errors call what an entry holds.
const CHANGE: &str = "change";

/// What is left free for the index when something is given up, in bytes.
const GIVE_UP_RESERVE: u64 = 4 << 20;

/// What a change is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To keep something: it leaves the reserve.
    Keep,
    /// To give something up, or to note what was done: it may use most of the reserve, for it is how
    /// room is made.
    GiveUp,
}

/// The journal file that is written.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
    file: File,
    /// Sequence number of the file's first entry.
    first: u64,
    next: u64,
    end: u64,
    reserve: u64,
}

/// What the journal files hold.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// First sequence numbers of the files.
    pub(super) files: Vec<u64>,
    /// Last whole entry, or that of the newest checkpoint; 0 when there is none.
    pub(super) last: u64,
    /// Where the newest file ends, without its torn entry; `None` when there is no file to go on
    /// with.
    end: Option<u64>,
    /// The newest file has an older format: nothing is added to it.
    is_older: bool,
    /// The torn last entry: where it begins and how many bytes there are.
    pub(super) torn: Option<(PathBuf, u64, u64)>,
}

/// Reads all journal files, checking every entry. `checkpoint` is the newest one's last sequence
/// number, 0 without one.
///
/// # Errors
/// [`ManifestError::Corrupt`] for anything but a torn last entry.
pub(super) fn survey(
    dir: &Path,
    journals: &[u64],
    checkpoint: u64,
) -> Result<Survey, ManifestError> {
    let mut survey = Survey::default();
    for (at, &first) in journals.iter().enumerate() {
        let newest = at + 1 == journals.len();
        let path = files::journal_path(dir, first);
        let corrupt = |offset| ManifestError::Corrupt {
            path: path.clone(),
            offset,
        };
        let follows = at == 0 || first == survey.last + 1 || first <= checkpoint + 1;
        let Some(mut reader) = FrameReader::open(&path, FileKind::Journal)? else {
            if !newest {
                return Err(corrupt(0));
            }
            let len = path
                .metadata()
                .map_err(|e| io_error("reading", &path, e))?
                .len();
            survey.torn = Some((path, 0, len));
            break;
        };
        if !follows || reader.header_sequence != first {
            return Err(corrupt(0));
        }
        survey.files.push(first);
        survey.last = first.saturating_sub(1);
        loop {
            match reader.next_entry()? {
                Next::Entry { sequence, .. } => survey.last = sequence,
                Next::End => break,
                Next::Torn if newest => {
                    let bytes = reader.len.saturating_sub(reader.offset);
                    survey.torn = Some((path.clone(), reader.offset, bytes));
                    break;
                }
                Next::Torn | Next::Damaged => return Err(corrupt(reader.offset)),
            }
        }
        survey.end = newest.then_some(reader.offset);
        survey.is_older = reader.format < frame::FORMAT;
    }
    if survey.last < checkpoint {
        survey.last = checkpoint;
        survey.end = None;
    }
    Ok(survey)
}

/// Calls `apply` with every entry after `applied`, in order.
pub(super) fn replay(
    dir: &Path,
    journals: &[u64],
    applied: u64,
    mut apply: impl FnMut(u64, Vec<Op>) -> Result<(), ManifestError>,
) -> Result<(), ManifestError> {
    let mut applied = applied;
    for &first in journals {
        let path = files::journal_path(dir, first);
        let Some(mut reader) = FrameReader::open(&path, FileKind::Journal)? else {
            continue;
        };
        loop {
            let offset = reader.offset;
            let Next::Entry { sequence, payload } = reader.next_entry()? else {
                break;
            };
            if sequence > applied {
                apply(sequence, decode(&payload, &path, offset)?)?;
                applied = sequence;
            }
        }
    }
    Ok(())
}

/// The operations of an entry whose CRC was good.
pub(super) fn decode(payload: &[u8], path: &Path, offset: u64) -> Result<Vec<Op>, ManifestError> {
    match serde_ipld_dagcbor::from_slice(payload) {
        Ok(Payload::V1(ops)) => Ok(ops),
        Err(_) => Err(ManifestError::Corrupt {
            path: path.to_owned(),
            offset,
        }),
    }
}

/// The bytes of an entry.
pub(super) fn encode(sequence: u64, ops: Vec<Op>) -> Result<Vec<u8>, ManifestError> {
    let payload = serde_ipld_dagcbor::to_vec(&Payload::V1(ops)).map_err(|_| not_encoded())?;
    frame::encode_entry(sequence, &payload)
        .ok_or_else(|| too_large(payload.len(), frame::MAX_PAYLOAD_LEN))
}

/// Bytes that `ops` take in an entry, at most [`MAX_CHANGE_LEN`].
pub(super) fn len_of(ops: &[Op]) -> Result<usize, ManifestError> {
    let mut counter = Counter(0);
    serde_ipld_dagcbor::to_writer(&mut counter, &ops).map_err(|_| not_encoded())?;
    if counter.0 > MAX_CHANGE_LEN {
        return Err(too_large(counter.0, MAX_CHANGE_LEN));
    }
    Ok(counter.0)
}

/// Counts what is written.
struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn not_encoded() -> ManifestError {
    ManifestError::Record { kind: CHANGE }
}

fn too_large(len: usize, limit: usize) -> ManifestError {
    let kind = CHANGE;
    ManifestError::TooLarge { kind, len, limit }
}

impl Journal {
    /// Goes on with the newest file of a survey, cutting its torn entry, or makes one: also after one of an
    /// older format, which an older duka would go on reading.
    pub(super) fn resume(
        disk: Arc<dyn Disk>,
        dir: &Path,
        survey: &Survey,
        reserve: u64,
    ) -> Result<Self, ManifestError> {
        let (Some(end), Some(&first)) = (survey.end, survey.files.last()) else {
            return Self::create(disk, dir, survey.last + 1, reserve);
        };
        let path = files::journal_path(dir, first);
        let file = disk
            .open(&path, OpenOptions::new().write(true))
            .map_err(|e| io_error("opening", &path, e))?;
        if survey.torn.is_some() {
            disk.set_len(&file, end)
                .map_err(|e| io_error("cutting", &path, e))?;
        }
        // Also when nothing was cut: the last entry may have been written and not synced when the last
        // run ended, and the index is about to apply it.
        disk.sync(&file)
            .map_err(|e| io_error("syncing", &path, e))?;
        if survey.is_older {
            return Self::create(disk, dir, survey.last + 1, reserve);
        }
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            path,
            file,
            first,
            next: survey.last + 1,
            end,
            reserve,
        })
    }

    /// Makes an empty journal, durably.
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        first: u64,
        reserve: u64,
    ) -> Result<Self, ManifestError> {
        let path = files::journal_path(dir, first);
        let file = files::create(disk.as_ref(), &path)?;
        disk.write_at(&file, &frame::encode_header(FileKind::Journal, first), 0)
            .map_err(|e| files::write_error("writing", &path, e))?;
        disk.sync(&file)
            .map_err(|e| io_error("syncing", &path, e))?;
        files::sync_dir(disk.as_ref(), dir)?;
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            path,
            file,
            first,
            next: first,
            end: HEADER_LEN as u64,
            reserve,
        })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sequence number of the next entry.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Bytes in the file.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// Entries in the file.
    pub(super) fn entries(&self) -> u64 {
        self.next.saturating_sub(self.first)
    }

    /// Appends the entry with number [`Journal::next`] and syncs it.
    ///
    /// # Errors
    /// After [`ManifestError::Full`] the journal is as before. After any other error it must not
    /// be written again: what reached the disk is unknown.
    pub(super) fn append(&mut self, entry: &[u8], purpose: Purpose) -> Result<(), ManifestError> {
        let len = entry.len() as u64;
        self.check_room(len, purpose)?;
        if let Err(error) = self.disk.write_at(&self.file, entry, self.end) {
            // A partial entry would be cut at the next open, but must not stay before a good one.
            self.disk
                .set_len(&self.file, self.end)
                .map_err(|e| io_error("cutting", &self.path, e))?;
            return Err(files::write_error("writing", &self.path, error));
        }
        self.disk
            .sync(&self.file)
            .map_err(|e| io_error("syncing", &self.path, e))?;
        self.end += len;
        self.next += 1;
        Ok(())
    }

    fn check_room(&self, len: u64, purpose: Purpose) -> Result<(), ManifestError> {
        let free = files::free_bytes(self.disk.as_ref(), &self.dir)?;
        let reserve = match purpose {
            Purpose::Keep => self.reserve,
            Purpose::GiveUp => self.reserve.min(GIVE_UP_RESERVE),
        };
        if free < reserve.saturating_add(len) {
            return Err(ManifestError::Full {
                path: self.dir.clone(),
            });
        }
        Ok(())
    }
}
