//! Where a file is cut into chunks: at even distances, or, with buzhash, where its content says so,
//! so that bytes put in or taken out change the chunks around them and leave all others as they are.
//! The cuts are those of Kubo (`ipfs add --chunker`).

mod words;

use std::fmt;
use std::str::FromStr;

use words::WORDS;

/// Longest chunk: with the frame of a UnixFS leaf it is a block of at most 2 MiB.
const MAX_SIZE: u32 = (2 << 20) - 256;
/// Shortest chunk of buzhash but the last of a file.
const BUZ_MIN: usize = 128 << 10;
/// Longest chunk of buzhash.
const BUZ_MAX: usize = 512 << 10;
/// A chunk may end after a window whose hash has none of these bits: one in 131,072.
const BUZ_MASK: u32 = (1 << 17) - 1;
/// Bytes that decide whether a chunk ends after them.
const WINDOW: usize = 32;

/// How files are cut into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunker {
    /// So many bytes each, at least 1.
    Size(u32),
    /// By content: 128 to 512 KiB.
    Buzhash,
}

/// The text names no chunker.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a chunker")]
pub struct ChunkerError {
    /// What was given.
    pub text: String,
}

impl Chunker {
    /// Bytes of its longest chunks.
    pub fn max_len(self) -> usize {
        match self {
            Self::Size(len) => len as usize,
            Self::Buzhash => BUZ_MAX,
        }
    }

    /// Bytes of the shortest chunks that are not the last of their file.
    pub fn min_len(self) -> usize {
        match self {
            Self::Size(len) => len as usize,
            Self::Buzhash => BUZ_MIN,
        }
    }

    /// Length of the chunk that `window` begins with. The window must have [`Chunker::max_len`] bytes,
    /// or all that are left of the file.
    pub fn cut(self, window: &[u8]) -> usize {
        match self {
            Self::Size(len) => window.len().min(len as usize),
            Self::Buzhash => Cut::default().find(window).unwrap_or(window.len()),
        }
    }
}

impl fmt::Display for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(len) => write!(f, "size-{len}"),
            Self::Buzhash => f.write_str("buzhash"),
        }
    }
}

impl FromStr for Chunker {
    type Err = ChunkerError;

    /// Reads what Kubo calls them: `size-262144`, `buzhash`.
    fn from_str(text: &str) -> Result<Self, ChunkerError> {
        let unknown = || ChunkerError {
            text: text.to_owned(),
        };
        match text.strip_prefix("size-") {
            Some(len) => match len.parse() {
                Ok(len @ 1..=MAX_SIZE) => Ok(Self::Size(len)),
                _ => Err(unknown()),
            },
            None if text == "buzhash" => Ok(Self::Buzhash),
            None => Err(unknown()),
        }
    }
}

/// The search for the end of one chunk of buzhash, as its bytes come in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cut {
    /// Where the window begins; 0 before the first one.
    at: usize,
    hash: u32,
}

impl Cut {
    /// Where the chunk that `bytes` begin with ends; `None` when that is not in `bytes`. To be asked again
    /// with the same bytes and further ones.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let bytes = &bytes[..bytes.len().min(BUZ_MAX)];
        if bytes.len() < BUZ_MIN {
            return None;
        }
        if self.at == 0 {
            self.at = BUZ_MIN - WINDOW;
            self.hash = bytes[self.at..BUZ_MIN]
                .iter()
                .fold(0, |hash: u32, byte| hash.rotate_left(1) ^ word(*byte));
        }
        // The window is as long as the hash has bits: the byte that leaves it was turned full circle.
        let leaving = bytes[self.at..].iter();
        let coming = &bytes[self.at + WINDOW..];
        for (leaving, coming) in leaving.zip(coming) {
            if self.hash & BUZ_MASK == 0 {
                return Some(self.at + WINDOW);
            }
            self.hash = self.hash.rotate_left(1) ^ word(*leaving) ^ word(*coming);
            self.at += 1;
        }
        (bytes.len() == BUZ_MAX).then_some(BUZ_MAX)
    }
}

fn word(byte: u8) -> u32 {
    WORDS[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that repeat after 2^32, of a linear congruential generator.
    fn bytes(len: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn cuts(bytes: &[u8]) -> Vec<usize> {
        let mut rest = bytes;
        let mut lens = Vec::new();
        while !rest.is_empty() {
            let len = Chunker::Buzhash.cut(&rest[..rest.len().min(BUZ_MAX)]);
            lens.push(len);
            rest = &rest[len..];
        }
        lens
    }

    /// The definition, without a rolling hash.
    fn slow_cuts(bytes: &[u8]) -> Vec<usize> {
        let hash = |end: usize| {
            let window = bytes[end - WINDOW..end].iter();
            window.fold(0, |hash: u32, byte| hash.rotate_left(1) ^ word(*byte))
        };
        let (mut lens, mut start) = (Vec::new(), 0);
        while start < bytes.len() {
            let last = bytes.len().min(start + BUZ_MAX);
            let ends = (start + BUZ_MIN).min(last)..last;
            let end = ends.clone().find(|end| hash(*end) & BUZ_MASK == 0);
            let end = end.unwrap_or(last);
            lens.push(end - start);
            start = end;
        }
        lens
    }

    #[test]
    fn cuts_are_where_the_definition_says() {
        let data = bytes(3 << 20, 7);
        assert!(cuts(&data).len() > 6);
        for len in [
            0,
            1,
            BUZ_MIN - 1,
            BUZ_MIN,
            BUZ_MIN + 1,
            BUZ_MAX,
            BUZ_MAX + 1,
            3 << 20,
        ] {
            assert_eq!(cuts(&data[..len]), slow_cuts(&data[..len]), "{len}");
        }
        let zeros = vec![0; 2 * BUZ_MAX + 1];
        assert_eq!(cuts(&zeros), slow_cuts(&zeros));
    }

    #[test]
    fn a_cut_is_found_however_the_bytes_come_in() {
        let data = bytes(BUZ_MAX, 9);
        let whole = Cut::default().find(&data);
        for step in [1000, 32 << 10, 100_001] {
            let mut cut = Cut::default();
            let mut ends = (0..data.len()).step_by(step).chain([data.len()]);
            assert_eq!(ends.find_map(|end| cut.find(&data[..end])), whole, "{step}");
        }
    }

    #[test]
    fn bytes_put_in_change_the_chunks_around_them_only() {
        let before = bytes(8 << 20, 11);
        let mut after = before.clone();
        after.splice(3_000_000..3_000_000, *b"a few more");
        let (old, new) = (cuts(&before), cuts(&after));
        let same_at_end = old.iter().rev().zip(new.iter().rev());
        let same = same_at_end.take_while(|(a, b)| a == b).count();
        assert!(same > old.len() / 3, "{same} of {}", old.len());
    }

    #[test]
    fn names_are_those_of_kubo() {
        for text in ["size-1", "size-262144", "size-2096896", "buzhash"] {
            assert_eq!(text.parse::<Chunker>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "size",
            "size-",
            "size-0",
            "size-2096897",
            "size--1",
            "rabin",
            "Buzhash",
        ] {
            text.parse::<Chunker>().unwrap_err();
        }
    }
}
