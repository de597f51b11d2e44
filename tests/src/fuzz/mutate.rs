//! Mutations of examples, without coverage.

use crate::random::Random;

/// Numbers that stand at limits.
const LIMITS: [u64; 10] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x1000,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];
/// Most changes of one mutation.
const MOST_CHANGES: u64 = 6;

/// Changes examples at random.
#[derive(Debug)]
pub struct Mutator {
    random: Random,
    examples: Vec<Vec<u8>>,
}

impl Mutator {
    /// The `seed` decides everything. There is at least one example.
    pub fn new(seed: u64, examples: Vec<Vec<u8>>) -> Self {
        assert!(!examples.is_empty(), "nothing to mutate");
        Self {
            random: Random(seed),
            examples,
        }
    }

    /// The next one.
    pub fn mutation(&mut self) -> Vec<u8> {
        let mut bytes = self.example();
        for _ in 0..=self.random.below(MOST_CHANGES) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn example(&mut self) -> Vec<u8> {
        let at = self.index(self.examples.len());
        self.examples[at].clone()
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.index(bytes.len() + 1);
        match self.random.below(7) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.random.below(8);
                }
            }
            1 => {
                let [byte, ..] = self.random.number().to_le_bytes();
                bytes.insert(at, byte);
            }
            2 => {
                let end = at + self.index(bytes.len() - at + 1).min(16);
                bytes.drain(at..end);
            }
            3 => {
                // A number at a limit, or next to it.
                let limit = LIMITS[self.index(LIMITS.len())];
                let number = limit.wrapping_add(self.random.below(3)).wrapping_sub(1);
                let len = [1, 2, 4, 8][self.index(4)];
                let end = bytes.len().min(at + len);
                bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
            4 => {
                // Another example, or a part of it.
                let other = self.example();
                if self.random.coin() {
                    bytes.splice(at..at, other);
                    return;
                }
                let start = self.index(other.len() + 1);
                let end = start + self.index(other.len() - start + 1);
                bytes.splice(at..at, other[start..end].iter().copied());
            }
            5 => {
                let end = at + self.index(bytes.len() - at + 1).min(64);
                let part = bytes[at..end].to_vec();
                let to = self.index(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
            _ => bytes.truncate(at),
        }
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.random.below(end as u64)).unwrap_or(0)
    }
}
