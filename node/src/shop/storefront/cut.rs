//! Cuts a sorted list into pieces by its content.
//!
//! Where a piece begins is said by the ids alone, so a product more or less changes the piece it is
//! in and no other. Numbered pages would all move on by one.

use sha2::{Digest, Sha256};

use crate::ids::ProductId;

/// How long pieces are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    /// Mean length.
    pub(super) mean: u32,
    /// Longest piece.
    pub(super) most: usize,
}

/// The pieces of `items`, which are sorted by id, in order.
pub(super) fn cut<T>(items: &[T], lengths: Lengths, id: impl Fn(&T) -> &ProductId) -> Vec<&[T]> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for (at, item) in items.iter().enumerate().skip(1) {
        if at - from == lengths.most || begins_piece(id(item), lengths.mean) {
            pieces.push(&items[from..at]);
            from = at;
        }
    }
    if from < items.len() {
        pieces.push(&items[from..]);
    }
    pieces
}

fn begins_piece(id: &ProductId, mean: u32) -> bool {
    let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(id.as_str()).into();
    u32::from_be_bytes([a, b, c, d]).is_multiple_of(mean)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LENGTHS: Lengths = Lengths { mean: 16, most: 48 };

    fn ids(numbers: impl Iterator<Item = u32>) -> Vec<ProductId> {
        numbers
            .map(|n| format!("product-{n:05}").parse().unwrap())
            .collect()
    }

    #[test]
    fn pieces_are_bounded_and_together_the_list() {
        let all = ids(0..2000);
        let pieces = cut(&all, LENGTHS, |id| id);
        assert!(pieces.iter().all(|piece| (1..=48).contains(&piece.len())));
        assert_eq!(pieces.concat(), all);
        assert!((80..200).contains(&pieces.len()), "{}", pieces.len());
        assert!(cut(&all[..0], LENGTHS, |id| id).is_empty());
    }

    #[test]
    fn another_product_changes_few_pieces() {
        let before = ids((0..4000).step_by(2));
        for new in (1..4000).step_by(97).filter(|n| n % 2 == 1) {
            let mut after = before.clone();
            after.extend(ids(new..=new));
            after.sort();
            let pieces = |ids: &[ProductId]| -> BTreeSet<Vec<ProductId>> {
                cut(ids, LENGTHS, |id| id)
                    .iter()
                    .map(|p| p.to_vec())
                    .collect()
            };
            let (old, new) = (pieces(&before), pieces(&after));
            assert!(new.difference(&old).count() <= 4);
        }
    }
}
