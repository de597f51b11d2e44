//! What fuzzing calls.

use std::path::Path;

use super::change::Op;
use super::frame::{FileKind, FrameReader, Next, encode_header};
use super::{ManifestError, journal};

/// The operations of each entry of a journal, up to the first that is not whole.
///
/// # Errors
/// As opening a manifest with this journal.
pub fn read_journal(path: &Path) -> Result<Vec<Vec<Op>>, ManifestError> {
    let mut entries = Vec::new();
    let Some(mut reader) = FrameReader::open(path, FileKind::Journal)? else {
        return Ok(entries);
    };
    loop {
        let offset = reader.offset;
        let Next::Entry { payload, .. } = reader.next_entry()? else {
            return Ok(entries);
        };
        entries.push(journal::decode(&payload, path, offset)?);
    }
}

/// A journal with these entries.
///
/// # Errors
/// [`ManifestError::TooLarge`].
pub fn write_journal(entries: &[Vec<Op>]) -> Result<Vec<u8>, ManifestError> {
    let mut bytes = encode_header(FileKind::Journal, 1).to_vec();
    for (sequence, ops) in (1..).zip(entries) {
        bytes.extend(journal::encode(sequence, ops.clone())?);
    }
    Ok(bytes)
}
