//! Large buffers, used again.
//!
//! Without a pool every block of 1 MiB would be 256 page faults and as many cleared pages, a fifth
//! of the time of a peer that receives or sends. A buffer comes back when the last block in it is
//! dropped.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Buffers have a multiple of this many bytes, so that similar messages share them.
const GRAIN: usize = 64 << 10;

/// Free buffers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BufferPool {
    free: Arc<Mutex<Free>>,
}

#[derive(Debug, Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    /// Bytes of free buffers that are kept.
    max_bytes: usize,
}

impl BufferPool {
    /// A pool that keeps up to `max_free` bytes of free buffers.
    pub(crate) fn new(max_free: usize) -> Self {
        let pool = Self {
            free: Arc::default(),
        };
        pool.keep(max_free);
        pool
    }

    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.free.lock().bytes
    }

    /// A buffer of exactly `len` bytes whose content is not defined.
    pub(crate) fn take(&self, len: usize) -> PooledBuffer {
        let mut bytes = self.free.lock().pop(len).unwrap_or_default();
        if bytes.len() < len {
            bytes = vec![0; len.next_multiple_of(GRAIN)];
        }
        PooledBuffer {
            bytes,
            start: 0,
            len,
            pool: self.clone(),
        }
    }

    /// [`BufferPool::take`], beginning at a multiple of `align` in memory, as direct I/O asks for.
    pub(crate) fn take_aligned(&self, len: usize, align: usize) -> PooledBuffer {
        // Only `unsafe` could ask for memory that begins there.
        let mut buffer = self.take(len + align);
        let start = buffer.bytes.as_ptr().align_offset(align);
        buffer.start = if start < align { start } else { 0 };
        buffer.len = len;
        buffer
    }

    /// Keeps up to `max_free` bytes of free buffers from now on. Gives all that are free back to the
    /// system when that is none.
    pub(crate) fn keep(&self, max_free: usize) {
        let mut free = self.free.lock();
        free.max_bytes = max_free;
        if max_free == 0 {
            *free = Free::default();
        }
    }
}

impl Free {
    /// A buffer that holds `len` bytes without wasting much.
    fn pop(&mut self, len: usize) -> Option<Vec<u8>> {
        let fit = len..=2 * len.next_multiple_of(GRAIN);
        let position = self
            .buffers
            .iter()
            .rposition(|free| fit.contains(&free.len()))?;
        let buffer = self.buffers.swap_remove(position);
        self.bytes -= buffer.len();
        Some(buffer)
    }

    fn push(&mut self, buffer: Vec<u8>) {
        if self.bytes + buffer.len() <= self.max_bytes {
            self.bytes += buffer.len();
            self.buffers.push(buffer);
        }
    }
}

/// A buffer that returns to its pool when dropped.
#[derive(Debug)]
pub(crate) struct PooledBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
    pool: BufferPool,
}

impl PooledBuffer {
    /// Makes it immutable and shareable.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl AsMut<[u8]> for PooledBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.free.lock().push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_buffer_is_used_again_and_has_the_asked_length() {
        let pool = BufferPool::new(1 << 20);
        let first = pool.take(1000).freeze();
        let address = first.as_ptr();
        let slice = first.slice(10..20);
        drop(first);
        assert_ne!(pool.take(1000).as_ref().as_ptr(), address, "still in use");
        drop(slice);
        pool.keep(0);
        drop(pool.take(1000));
        assert_eq!(pool.free_bytes(), 0);
        pool.keep(1 << 20);
        let again = pool.take(5000);
        let address = again.as_ref().as_ptr();
        drop(again);
        let again = pool.take(77);
        assert_eq!(
            (again.as_ref().as_ptr(), again.as_ref().len()),
            (address, 77)
        );
    }

    #[test]
    fn aligned_buffers_begin_where_they_should_and_have_their_length() {
        let pool = BufferPool::new(1 << 20);
        for len in [1, 4096, 100_000] {
            let mut buffer = pool.take_aligned(len, 4096);
            assert_eq!(buffer.as_mut().len(), len);
            assert_eq!(buffer.as_ref().as_ptr() as usize % 4096, 0);
        }
    }

    #[test]
    fn a_short_block_does_not_hold_a_long_buffer() {
        let pool = BufferPool::new(8 << 20);
        drop(pool.take(4 << 20));
        assert_eq!(pool.take(1000).bytes.len(), GRAIN);
        assert_eq!(pool.take(3 << 20).bytes.len(), 4 << 20);
    }

    #[test]
    fn free_bytes_are_bounded() {
        let pool = BufferPool::new(64 << 20);
        let taken: Vec<_> = (0..20).map(|_| pool.take(4 << 20)).collect();
        drop(taken);
        assert_eq!(pool.free_bytes(), 64 << 20);
    }
}
