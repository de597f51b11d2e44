//! Buffers for incoming messages, used again.
//!
//! Without a pool every message of 1 MiB would be 256 page faults and as many cleared pages, a
//! fifth of a receiver's time. A buffer comes back when the last block in it is dropped.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes of free buffers that are kept.
const MAX_FREE: usize = 32 << 20;
/// Buffers have a multiple of this many bytes, so that similar messages share them.
const GRAIN: usize = 256 << 10;

/// Free buffers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct BufferPool {
    free: Arc<Mutex<Free>>,
}

#[derive(Debug, Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl BufferPool {
    /// A buffer of exactly `len` bytes whose content is not defined.
    pub(super) fn take(&self, len: usize) -> PooledBuffer {
        let mut bytes = self.free.lock().pop_at_least(len).unwrap_or_default();
        if bytes.len() < len {
            bytes = vec![0; len.next_multiple_of(GRAIN)];
        }
        PooledBuffer {
            bytes,
            len,
            pool: self.clone(),
        }
    }

    /// Gives the free buffers back to the system.
    pub(super) fn clear(&self) {
        *self.free.lock() = Free::default();
    }
}

impl Free {
    fn pop_at_least(&mut self, len: usize) -> Option<Vec<u8>> {
        let position = self.buffers.iter().rposition(|free| free.len() >= len)?;
        let buffer = self.buffers.swap_remove(position);
        self.bytes -= buffer.len();
        Some(buffer)
    }

    fn push(&mut self, buffer: Vec<u8>) {
        if self.bytes + buffer.len() <= MAX_FREE {
            self.bytes += buffer.len();
            self.buffers.push(buffer);
        }
    }
}

/// A buffer that returns to its pool when dropped.
#[derive(Debug)]
pub(super) struct PooledBuffer {
    bytes: Vec<u8>,
    len: usize,
    pool: BufferPool,
}

impl PooledBuffer {
    /// Makes it immutable and shareable.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl AsMut<[u8]> for PooledBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        self.pool.free.lock().push(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_buffer_is_used_again_and_has_the_asked_length() {
        let pool = BufferPool::default();
        let first = pool.take(1000).freeze();
        let address = first.as_ptr();
        let slice = first.slice(10..20);
        drop(first);
        assert_ne!(pool.take(1000).as_ref().as_ptr(), address, "still in use");
        drop(slice);
        pool.clear();
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
    fn free_bytes_are_bounded() {
        let pool = BufferPool::default();
        let taken: Vec<_> = (0..20).map(|_| pool.take(4 << 20)).collect();
        drop(taken);
        assert_eq!(pool.free.lock().bytes, MAX_FREE);
    }
}
