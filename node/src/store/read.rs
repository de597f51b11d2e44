//! Reading blocks: what is asked for through the page cache, scans past it.
//!
//! What one peer or buyer fetches another one often fetches next, so it is worth its place in memory. A scan
//! reads everything once: through the page cache it would cost six times the processor time, and
//! push out what others need.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::layout::PAGE_LEN;
use crate::buffer::BufferPool;

/// Shorter blocks go through the page cache, which reads ahead, into memory of their own.
const MIN_DIRECT_LEN: usize = 64 << 10;
/// Bytes of buffers that are kept for the next blocks.
const MAX_FREE_BUFFERS: usize = 16 << 20;

/// Why a block is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Somebody asked for it, and may ask again.
    Wanted,
    /// Its turn came, as that of every block does.
    Scan,
}

impl Access {
    /// Whether a block of `len` bytes is read past the page cache.
    pub(super) fn is_direct(self, len: u32) -> bool {
        self == Self::Scan && len as usize >= MIN_DIRECT_LEN
    }
}

/// Buffers for reading.
#[derive(Debug)]
pub(super) struct Reader {
    buffers: BufferPool,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            buffers: BufferPool::new(MAX_FREE_BUFFERS),
        }
    }

    /// Reads up to `len` bytes through the page cache; fewer where the file ends.
    pub(super) fn cached(&self, file: &File, offset: u64, len: u32) -> io::Result<Bytes> {
        let len = len as usize;
        if len < MIN_DIRECT_LEN {
            let mut bytes = vec![0; len];
            let read = read_up_to(file, offset, &mut bytes)?;
            bytes.truncate(read);
            return Ok(Bytes::from(bytes));
        }
        let mut buffer = self.buffers.take(len);
        let read = read_up_to(file, offset, buffer.as_mut())?;
        Ok(buffer.freeze().slice(..read))
    }

    /// Reads up to `len` bytes of a file that was opened for direct I/O; fewer where it ends.
    pub(super) fn direct(&self, file: &File, offset: u64, len: u32) -> io::Result<Bytes> {
        #[expect(clippy::cast_possible_truncation, reason = "less than a page")]
        let skip = (offset % PAGE_LEN as u64) as usize;
        let first = offset - skip as u64;
        let pages = (skip + len as usize).next_multiple_of(PAGE_LEN);
        let mut buffer = self.buffers.take_aligned(pages, PAGE_LEN);
        let read = read_up_to(file, first, buffer.as_mut())?;
        let end = read.min(skip + len as usize);
        Ok(buffer.freeze().slice(skip.min(end)..end))
    }
}

fn read_up_to(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_is_read_as_it_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..300_000_u32)
            .map(|at| (at / 7).to_le_bytes()[0])
            .collect();
        std::fs::write(&path, &bytes).unwrap();
        // The rules of direct I/O are those of whole pages whatever the file is opened with.
        let file = File::open(&path).unwrap();
        let reader = Reader::new();
        for (offset, len) in [
            (0, 4096),
            (1, 70_000),
            (4095, 65_536),
            (8192, 8192),
            (290_000, 20_000),
            (400_000, 10),
        ] {
            let end = bytes.len().min(offset + len);
            let wanted = &bytes[offset.min(end)..end];
            let (at, len) = (offset as u64, u32::try_from(len).unwrap());
            assert_eq!(reader.direct(&file, at, len).unwrap(), wanted);
            assert_eq!(reader.cached(&file, at, len).unwrap(), wanted);
        }
    }
}
