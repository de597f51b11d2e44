//! Reading blocks: past the page cache, until they turn out to be asked for again.
//!
//! Most blocks of a large store are read once in a long while. Through the page cache each costs a
//! copy and pages that other files would have kept, 2 s of processor time for 1 GiB where this was
//! measured; with direct I/O it is 0.3 s. A block that is read again and again goes through the
//! page cache, so that what many ask for is read from memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::layout::PAGE_LEN;
use crate::block::Multihash;
use crate::buffer::BufferPool;

/// Shorter blocks go through the page cache, which reads ahead, into memory of their own.
const MIN_DIRECT_LEN: usize = 64 << 10;
/// Bytes of buffers that are kept for the next blocks.
const MAX_FREE_BUFFERS: usize = 16 << 20;
/// Blocks that are remembered as read: 64 GiB of 1 MiB, in 256 KiB of memory.
const REMEMBERED: usize = 1 << 16;
/// Direct reads of a block before it is worth its place in the page cache, at most 3.
const DIRECT_READS: u32 = 3;
/// Bits that count them.
const COUNT: u32 = 3;

/// Why a block is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Somebody asked for it, and may ask again.
    Wanted,
    /// Its turn came, as that of every block does.
    Scan,
}

/// Buffers for reading, and what was read lately.
#[derive(Debug)]
pub(super) struct Reader {
    buffers: BufferPool,
    /// Part of the hash of a block, and how often it was read, at the place that another part of the
    /// hash chooses.
    read: Box<[AtomicU32]>,
}

/// How to read a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Past the page cache.
    Direct,
    /// Through the page cache.
    Cached,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            buffers: BufferPool::new(MAX_FREE_BUFFERS),
            read: (0..REMEMBERED).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// How to read a block of `len` bytes now.
    pub(super) fn way(&self, key: &Multihash, len: u32, access: Access) -> Way {
        if (len as usize) < MIN_DIRECT_LEN {
            return Way::Cached;
        }
        match access {
            Access::Scan => Way::Direct,
            Access::Wanted if self.count(key) < DIRECT_READS => Way::Direct,
            Access::Wanted => Way::Cached,
        }
    }

    /// How often the block was read lately; from now on once more.
    fn count(&self, key: &Multihash) -> u32 {
        let Some([a, b, c, d, e, f]) = key.digest().first_chunk() else {
            return 0;
        };
        let place = &self.read[usize::from(u16::from_le_bytes([*a, *b]))];
        let mark = u32::from_le_bytes([*c, *d, *e, *f]) & !COUNT;
        let found = place.load(Ordering::Relaxed);
        let count = if found & !COUNT == mark {
            found & COUNT
        } else {
            0
        };
        // Of two readers at once one may not be counted.
        place.store(mark | (count + 1).min(COUNT), Ordering::Relaxed);
        count
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
    use crate::block::{RAW, cid_of};

    #[test]
    fn a_block_goes_through_the_page_cache_when_it_is_read_again_and_again() {
        let reader = Reader::new();
        let [one, other] = [b"one", b"two"].map(|bytes| *cid_of(RAW, bytes).hash());
        let way = |key, len, access| reader.way(key, len, access);
        assert_eq!(way(&one, 1 << 20, Access::Scan), Way::Direct);
        for _ in 0..DIRECT_READS {
            assert_eq!(way(&one, 1 << 20, Access::Wanted), Way::Direct);
        }
        for _ in 0..3 {
            assert_eq!(way(&one, 1 << 20, Access::Wanted), Way::Cached);
        }
        assert_eq!(way(&other, 1 << 20, Access::Wanted), Way::Direct);
        assert_eq!(way(&one, 1 << 20, Access::Scan), Way::Direct);
        assert_eq!(way(&one, 4096, Access::Scan), Way::Cached);
    }

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
