//! Which sealed packs may hold a block, without asking each of them.
//!
//! Every pack has a Bloom filter. Those of up to 64 packs of about the same number of blocks lie side
//! by side: a row holds the same bit of each, so that the rows of a key, taken together, name all packs
//! that may hold it.

use super::layout::PackId;

const BITS_PER_ENTRY: u64 = 24;
const PROBES: u64 = 8;
const WORD: u64 = u64::BITS as u64;
/// A group takes no further pack when it would get larger: bounds the time to widen it, 32 MiB.
const MAX_GROUP_BITS: u64 = 1 << 28;

/// The filter of one pack.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PackFilter(Vec<u64>);

impl PackFilter {
    /// Of a pack with these keys: the first eight bytes of its digests.
    pub(super) fn new(keys: impl ExactSizeIterator<Item = u64>) -> Self {
        let rows = rows(keys.len() as u64);
        let mut words = vec![0; index(rows / WORD)];
        for key in keys {
            for row in rows_of(key, rows) {
                words[index(row / WORD)] |= 1 << (row % WORD);
            }
        }
        Self(words)
    }

    /// Length in bytes of the filter of a pack with `count` entries.
    pub(super) fn len(count: u32) -> u64 {
        rows(u64::from(count)) / 8
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let words = bytes.chunks_exact(8);
        Self(
            words
                .map(|w| w.iter().rfold(0, |word, byte| word << 8 | u64::from(*byte)))
                .collect(),
        )
    }

    pub(super) fn to_bytes(&self) -> impl Iterator<Item = u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes())
    }

    fn rows(&self) -> u64 {
        self.0.len() as u64 * WORD
    }

    /// The rows whose bit is set.
    fn ones(&self) -> impl Iterator<Item = u64> {
        (0..).step_by(64).zip(&self.0).flat_map(|(first, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.checked_sub(1)?;
                Some(first + u64::from(bit))
            })
        })
    }
}

/// Rows of the filter of a pack with `count` entries: a power of two or one and a half, so that packs of
/// about the same size share a group.
fn rows(count: u64) -> u64 {
    let least = (count * BITS_PER_ENTRY).max(2 * WORD);
    let power = least.next_power_of_two();
    let between = power / 4 * 3;
    if least <= between { between } else { power }
}

/// The rows of a key. It is a part of a digest, and as good as random.
fn rows_of(key: u64, rows: u64) -> impl Iterator<Item = u64> {
    let step = key.rotate_left(32) | 1;
    (0..PROBES).map(move |probe| {
        let hash = key.wrapping_add(step.wrapping_mul(probe));
        let row = (u128::from(hash) * u128::from(rows)) >> 64;
        u64::try_from(row).expect("less than `rows`")
    })
}

fn index(word: u64) -> usize {
    usize::try_from(word).expect("filters are in memory")
}

/// The filters of all sealed packs of a kind.
#[derive(Debug, Default)]
pub(super) struct Filters {
    groups: Vec<Group>,
}

impl Filters {
    pub(super) fn add(&mut self, pack: PackId, filter: &PackFilter) {
        let rows = filter.rows();
        let mut groups = self.groups.iter_mut();
        let group = match groups.find(|group| group.rows == rows && group.has_room()) {
            Some(group) => group,
            None => {
                self.groups.push(Group::new(rows));
                self.groups.last_mut().expect("pushed")
            }
        };
        group.add(pack, filter);
    }

    pub(super) fn remove(&mut self, pack: PackId) {
        for group in &mut self.groups {
            group.remove(pack);
        }
        self.groups.retain(|group| !group.is_empty());
    }

    /// The packs that may hold a block whose digest starts with `key`, newest first. Of those that do not
    /// hold it 1 in 20,000 is named.
    pub(super) fn candidates(&self, key: u64) -> Vec<PackId> {
        let mut packs = Vec::new();
        for group in &self.groups {
            group.candidates(key, &mut packs);
        }
        packs.sort_unstable_by(|a, b| b.cmp(a));
        packs
    }
}

#[derive(Debug)]
struct Group {
    rows: u64,
    /// Row after row, one bit per column.
    words: Vec<u64>,
    /// Which pack has a column; as many as there are columns, a power of two.
    columns: Vec<Option<PackId>>,
}

impl Group {
    fn new(rows: u64) -> Self {
        Self {
            rows,
            words: vec![0; index(rows / WORD)],
            columns: vec![None],
        }
    }

    fn width(&self) -> u64 {
        self.columns.len() as u64
    }

    fn is_empty(&self) -> bool {
        self.columns.iter().all(Option::is_none)
    }

    fn has_room(&self) -> bool {
        self.columns.contains(&None)
            || self.width() < WORD && self.rows * self.width() * 2 <= MAX_GROUP_BITS
    }

    fn add(&mut self, pack: PackId, filter: &PackFilter) {
        let column = match self.columns.iter().position(Option::is_none) {
            Some(free) => free,
            None => self.widen(),
        };
        self.columns[column] = Some(pack);
        for row in filter.ones() {
            let bit = row * self.width() + column as u64;
            self.words[index(bit / WORD)] |= 1 << (bit % WORD);
        }
    }

    fn remove(&mut self, pack: PackId) {
        let Some(column) = self.columns.iter().position(|c| *c == Some(pack)) else {
            return;
        };
        self.columns[column] = None;
        let column_in_word = (0..WORD / self.width())
            .map(|row| 1 << (row * self.width() + column as u64))
            .fold(0, |all, bit: u64| all | bit);
        for word in &mut self.words {
            *word &= !column_in_word;
        }
    }

    /// Doubles the columns; the first of the new ones.
    fn widen(&mut self) -> usize {
        let width = self.width();
        let mut words = vec![0; self.words.len() * 2];
        for row in 0..self.rows {
            let bit = row * width * 2;
            words[index(bit / WORD)] |= self.row(row) << (bit % WORD);
        }
        self.words = words;
        let first = self.columns.len();
        self.columns.resize(first * 2, None);
        first
    }

    /// The bits of a row, one per column.
    fn row(&self, row: u64) -> u64 {
        let width = self.width();
        let bit = row * width;
        self.words[index(bit / WORD)] >> (bit % WORD) & (u64::MAX >> (WORD - width))
    }

    fn candidates(&self, key: u64, packs: &mut Vec<PackId>) {
        let mut columns = u64::MAX;
        for row in rows_of(key, self.rows) {
            columns &= self.row(row);
            if columns == 0 {
                return;
            }
        }
        let named = self.columns.iter().enumerate();
        let named = named.filter(|(column, _)| columns >> column & 1 == 1);
        packs.extend(named.filter_map(|(_, pack)| *pack));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::PackKind;
    use super::*;
    use crate::block::{RAW, cid_of};

    fn id(number: u64) -> PackId {
        let kind = PackKind::Kept;
        PackId { kind, number }
    }

    fn key(pack: u64, entry: u64) -> u64 {
        let seed = [pack.to_le_bytes(), entry.to_le_bytes()].concat();
        let cid = cid_of(RAW, &seed);
        u64::from_be_bytes(*cid.hash().digest().first_chunk().unwrap())
    }

    fn filter(pack: u64, count: u64) -> PackFilter {
        let keys: Vec<_> = (0..count).map(|entry| key(pack, entry)).collect();
        PackFilter::new(keys.into_iter())
    }

    fn words(filters: &Filters) -> usize {
        filters.groups.iter().map(|group| group.words.len()).sum()
    }

    #[test]
    fn a_filter_reads_back() {
        for count in [0, 1, 7, 300] {
            let filter = filter(0, count);
            let bytes: Vec<_> = filter.to_bytes().collect();
            assert_eq!(
                bytes.len() as u64,
                PackFilter::len(u32::try_from(count).unwrap())
            );
            assert_eq!(PackFilter::from_bytes(&bytes), filter);
        }
    }

    #[test]
    fn few_packs_are_named_wrongly() {
        let mut filters = Filters::default();
        for pack in 0..100 {
            filters.add(id(pack), &filter(pack, 170));
        }
        assert_eq!(filters.groups.len(), 2);
        let asked = 1_000;
        let wrong = (0..asked).map(|n| filters.candidates(key(1_000, n)).len());
        let wrong: usize = wrong.sum();
        assert!(wrong <= 20, "{wrong} of {}", 100 * asked);
    }

    #[test]
    fn memory_follows_the_packs_that_there_are() {
        let mut filters = Filters::default();
        let one = filter(0, 5_000);
        for pack in 0..64 {
            filters.add(id(pack), &one);
            let packs = usize::try_from(pack).unwrap() + 1;
            assert!(words(&filters) < 2 * packs * one.0.len());
        }
        for pack in 0..64 {
            filters.remove(id(pack));
        }
        assert_eq!(words(&filters), 0);
    }

    #[test]
    fn groups_of_large_packs_stay_small() {
        let mut group = Group::new(MAX_GROUP_BITS / 4);
        group.columns = vec![Some(id(1)); 4];
        assert!(!group.has_room());
        group.columns = vec![Some(id(1)); 2];
        assert!(group.has_room());
    }

    proptest! {
        #[test]
        fn every_pack_that_holds_a_block_is_named(
            steps in proptest::collection::vec((0u64..90, 0u64..60, any::<bool>()), 1..150),
        ) {
            let mut filters = Filters::default();
            let mut held = HashMap::new();
            for (pack, count, add) in steps {
                filters.remove(id(pack));
                held.remove(&pack);
                if add {
                    filters.add(id(pack), &filter(pack, count));
                    held.insert(pack, count);
                }
            }
            for (pack, count) in &held {
                for entry in 0..*count {
                    prop_assert!(filters.candidates(key(*pack, entry)).contains(&id(*pack)));
                }
            }
            let columns = filters.groups.iter().flat_map(|group| &group.columns);
            prop_assert_eq!(columns.flatten().count(), held.len());
        }
    }
}
