//! Chunk buffers that are used again: allocating and faulting in 1 MiB costs a quarter of hashing it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Buffers of one length. A buffer returns when the last [`Bytes`] made from it is dropped.
#[derive(Clone, Debug)]
pub(super) struct Buffers {
    len: usize,
    keep: usize,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// Buffers of `len` bytes, of which at most `keep` wait for their next use.
    pub(super) fn new(len: usize, keep: usize) -> Self {
        Self {
            len,
            keep,
            free: Arc::default(),
        }
    }

    pub(super) fn take(&self) -> Buffer {
        let free = self.free.lock().pop();
        Buffer {
            bytes: free.unwrap_or_else(|| vec![0; self.len]),
            filled: 0,
            home: self.clone(),
        }
    }
}

/// One buffer; its content before [`Buffer::freeze`] is whatever its last user left.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
    home: Buffers,
}

impl Buffer {
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The first `filled` bytes, without a copy.
    pub(super) fn freeze(mut self, filled: usize) -> Bytes {
        self.filled = filled.min(self.bytes.len());
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.free.lock();
        if free.len() < self.home.keep {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}
