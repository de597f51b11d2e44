//! The framing that journal and checkpoint share: a file header, then entries under a CRC32.
//! Byte by byte in `node/DESIGN.md`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::{ManifestError, io_error};

/// Newest format that this duka reads and the one that it writes. Raised with every new record
/// version, entry version or operation, so that an older duka refuses the file instead of guessing. Format 2
/// has mirrors, the shop's own texts and chunkers of products.
pub(super) const FORMAT: u32 = 2;
/// Length of the file header.
pub(super) const HEADER_LEN: usize = 32;
/// Length of the header before each payload.
pub(super) const ENTRY_HEADER_LEN: usize = 16;
/// Longest payload; a whole group of changes is one payload.
pub(super) const MAX_PAYLOAD_LEN: usize = 64 << 20;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Journal,
    Checkpoint,
}

impl FileKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Journal => b"dukajrnl",
            Self::Checkpoint => b"dukackpt",
        }
    }
}

/// The file header. `sequence` is that of the first entry (journal) or the last one contained
/// (checkpoint).
pub(super) fn encode_header(kind: FileKind, sequence: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(kind.magic());
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[16..24].copy_from_slice(&sequence.to_le_bytes());
    let crc = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Why a header is not one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    Damaged,
    TooNew(u32),
}

/// The format and the sequence number in a file header.
fn decode_header(kind: FileKind, header: &[u8; HEADER_LEN]) -> Result<(u32, u64), HeaderError> {
    if header[..8] != kind.magic()[..] || u32_at(header, 28) != crc32fast::hash(&header[..28]) {
        return Err(HeaderError::Damaged);
    }
    match u32_at(header, 8) {
        0 => Err(HeaderError::Damaged),
        found if found > FORMAT => Err(HeaderError::TooNew(found)),
        found => Ok((found, u64_at(header, 16))),
    }
}

/// One entry: length, CRC32 of what follows and of the length, sequence number, payload.
pub(super) fn encode_entry(sequence: u64, payload: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(payload.len()).ok()?;
    if payload.len() > MAX_PAYLOAD_LEN {
        return None;
    }
    let mut entry = Vec::with_capacity(ENTRY_HEADER_LEN + payload.len());
    entry.extend_from_slice(&len.to_le_bytes());
    entry.extend_from_slice(&entry_crc(len, sequence, payload).to_le_bytes());
    entry.extend_from_slice(&sequence.to_le_bytes());
    entry.extend_from_slice(payload);
    Some(entry)
}

fn entry_crc(len: u32, sequence: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len.to_le_bytes());
    hasher.update(&sequence.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// What stands at the reader's place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole entry with a good CRC and the expected sequence number.
    Entry { sequence: u64, payload: Vec<u8> },
    /// The end of the file, exactly behind the last entry.
    End,
    /// Bytes that are no whole entry, and nothing valid behind them.
    Torn,
    /// Bytes that are no entry, with valid entries behind them.
    Damaged,
}

/// Reads the entries of one file. Memory is bounded by the longest entry.
pub(super) struct FrameReader {
    file: BufReader<File>,
    path: PathBuf,
    /// Format of the header.
    pub(super) format: u32,
    /// Sequence number of the header.
    pub(super) header_sequence: u64,
    /// Length of the file when it was opened.
    pub(super) len: u64,
    /// Where the next entry begins.
    pub(super) offset: u64,
    /// Sequence number of the next entry.
    pub(super) expected: u64,
}

impl FrameReader {
    /// Opens a file and checks its header. `Ok(None)` when it has no entries and no whole header.
    pub(super) fn open(path: &Path, kind: FileKind) -> Result<Option<Self>, ManifestError> {
        let file = File::open(path).map_err(|e| io_error("opening", path, e))?;
        let len = file
            .metadata()
            .map_err(|e| io_error("reading", path, e))?
            .len();
        if len < HEADER_LEN as u64 {
            return Ok(None);
        }
        let mut file = BufReader::new(file);
        let mut header = [0; HEADER_LEN];
        file.read_exact(&mut header)
            .map_err(|e| io_error("reading", path, e))?;
        match decode_header(kind, &header) {
            Ok((format, header_sequence)) => Ok(Some(Self {
                file,
                path: path.to_owned(),
                format,
                header_sequence,
                len,
                offset: HEADER_LEN as u64,
                expected: match kind {
                    FileKind::Journal => header_sequence,
                    FileKind::Checkpoint => 1,
                },
            })),
            Err(HeaderError::TooNew(found)) => Err(ManifestError::TooNew {
                path: path.to_owned(),
                found,
                known: FORMAT,
            }),
            // Written but not synced when the power went: nothing was appended to it.
            Err(HeaderError::Damaged) if len == HEADER_LEN as u64 => Ok(None),
            Err(HeaderError::Damaged) => Err(ManifestError::Corrupt {
                path: path.to_owned(),
                offset: 0,
            }),
        }
    }

    /// Reads the next entry. After anything but [`Next::Entry`] the reader is at its end.
    pub(super) fn next_entry(&mut self) -> Result<Next, ManifestError> {
        let left = self.len.saturating_sub(self.offset);
        if left == 0 {
            return Ok(Next::End);
        }
        let mut rest = Vec::new();
        if left >= ENTRY_HEADER_LEN as u64 {
            let mut header = [0; ENTRY_HEADER_LEN];
            self.read(&mut header)?;
            let len = u32_at(&header, 0);
            let sequence = u64_at(&header, 8);
            let room = left - ENTRY_HEADER_LEN as u64;
            rest.extend_from_slice(&header);
            if u64::from(len) <= room.min(MAX_PAYLOAD_LEN as u64) {
                let mut payload = vec![0; len as usize];
                self.read(&mut payload)?;
                if entry_crc(len, sequence, &payload) == u32_at(&header, 4) {
                    if sequence != self.expected {
                        return Ok(Next::Damaged);
                    }
                    self.offset += (ENTRY_HEADER_LEN + payload.len()) as u64;
                    self.expected += 1;
                    return Ok(Next::Entry { sequence, payload });
                }
                rest.extend_from_slice(&payload);
            }
        }
        self.file
            .read_to_end(&mut rest)
            .map_err(|e| io_error("reading", &self.path, e))?;
        if holds_entry(rest.get(1..).unwrap_or_default(), self.expected) {
            Ok(Next::Damaged)
        } else {
            Ok(Next::Torn)
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), ManifestError> {
        self.file
            .read_exact(buffer)
            .map_err(|e| io_error("reading", &self.path, e))
    }
}

/// Whether a whole valid entry with a sequence number of `expected` or a little above begins
/// anywhere in `bytes`.
fn holds_entry(bytes: &[u8], expected: u64) -> bool {
    let most = (bytes.len() / ENTRY_HEADER_LEN) as u64;
    let plausible = expected..=expected.saturating_add(most);
    bytes
        .windows(ENTRY_HEADER_LEN)
        .enumerate()
        .filter(|(_, header)| plausible.contains(&u64_at(header, 8)))
        .any(|(at, header)| {
            let len = u32_at(header, 0);
            let payload = usize::try_from(len).ok().and_then(|len| {
                let begin = at + ENTRY_HEADER_LEN;
                bytes.get(begin..begin.checked_add(len)?)
            });
            payload.is_some_and(|payload| {
                entry_crc(len, u64_at(header, 8), payload) == u32_at(header, 4)
            })
        })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| {
        u32::from_le_bytes(b.try_into().expect("the slice has four bytes"))
    })
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |b| {
        u64::from_le_bytes(b.try_into().expect("the slice has eight bytes"))
    })
}
