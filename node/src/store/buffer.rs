//! Buffers for direct I/O: their memory starts at a multiple of 4 KiB.

use super::layout::PAGE_LEN;

/// Bytes in one buffer: large enough that one write keeps the disk busy.
pub(super) const BUFFER_LEN: usize = 4 << 20;

/// An aligned buffer that fills from the front.
#[derive(Debug)]
pub(super) struct Buffer {
    /// Longer than [`BUFFER_LEN`] by one alignment, because only `unsafe` could ask for an aligned one.
    memory: Vec<u8>,
    skip: usize,
    filled: usize,
}

impl Buffer {
    pub(super) fn new() -> Self {
        let align = PAGE_LEN;
        let memory = vec![0; BUFFER_LEN + align];
        let skip = memory.as_ptr().align_offset(align);
        Self {
            memory,
            skip: if skip < align { skip } else { 0 },
            filled: 0,
        }
    }

    /// Copies as much of `bytes` as there is room for, and returns how much that was.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(BUFFER_LEN - self.filled);
        let at = self.skip + self.filled;
        self.memory[at..at + len].copy_from_slice(&bytes[..len]);
        self.filled += len;
        len
    }

    /// What is not filled yet, to be read into; [`Buffer::filled_by`] takes how much was.
    pub(super) fn rest(&mut self) -> &mut [u8] {
        &mut self.memory[self.skip + self.filled..self.skip + BUFFER_LEN]
    }

    pub(super) fn filled_by(&mut self, more: usize) {
        self.filled = (self.filled + more).min(BUFFER_LEN);
    }

    pub(super) fn filled(&self) -> &[u8] {
        &self.memory[self.skip..self.skip + self.filled]
    }

    pub(super) fn len(&self) -> usize {
        self.filled
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled == BUFFER_LEN
    }

    pub(super) fn clear(&mut self) {
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_fills_to_its_length() {
        let mut buffer = Buffer::new();
        assert_eq!(buffer.filled().as_ptr() as usize % 4096, 0);
        assert_eq!(buffer.fill(&vec![7; BUFFER_LEN - 1]), BUFFER_LEN - 1);
        assert_eq!(buffer.fill(b"ab"), 1);
        assert!(buffer.is_full());
        assert_eq!(buffer.filled().last(), Some(&b'a'));
    }
}
