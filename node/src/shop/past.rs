//! The heads before a head, by which a follower tells a shop that went on from one that was forked.
//!
//! A head names the sixteen heads before it, and of older ones the last sixteen whose sequence numbers
//! are multiples of 16, of 256, and so on; `heads/` has their files. So from any head at most one in
//! between per power of sixteen leads to each earlier one, and a head names at most 256.

use cid::Cid;

use super::json::{Ancestor, MAX_SHOP_LEN, ShopJson, parse_shop};
use super::read::{ReadError, read_small, root_links};
use crate::dag::hamt::Entry;
use crate::dag::unixfs::Link;
use crate::source::BlockSource;

/// Heads that are named of each power of [`BASE`].
const BASE: u64 = 16;

/// What the next head says of those before it.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Newest first.
    pub(super) history: Vec<Ancestor>,
    /// Their `shop.json`, for `heads/`.
    pub(super) files: Vec<Entry>,
}

/// Reads what the head after the one at `root` says of its past; the files are fetched.
///
/// # Errors
/// [`ReadError`] when they cannot be had, or are no heads.
pub async fn past_of<S: BlockSource + Clone>(source: &S, root: Cid) -> Result<Past, ReadError> {
    let links = root_links(source, root).await?;
    let (cid, head) = read_shop_json(source, root, &links).await?;
    let prev = Ancestor {
        cid: cid.to_string(),
        seq: head.seq,
    };
    let history = after(&head.history, prev);
    let mut files = Vec::with_capacity(history.len());
    for ancestor in &history {
        let cid = ancestor.cid()?;
        let len = read_small(source, cid, MAX_SHOP_LEN).await?.len();
        files.push(Entry {
            name: format!("{}.json", ancestor.seq),
            cid,
            tsize: len as u64,
        });
    }
    Ok(Past { history, files })
}

/// `shop.json` among the entries of the head at `root`, and its CID.
pub(super) async fn read_shop_json<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    links: &[Link],
) -> Result<(Cid, ShopJson), ReadError> {
    let file = links.iter().find(|link| link.name == b"shop.json");
    let cid = file.ok_or(ReadError::NoShop { root })?.cid;
    let bytes = read_small(source, cid, MAX_SHOP_LEN).await?;
    let head = parse_shop(&bytes).map_err(|source| ReadError::Json { cid, source })?;
    Ok((cid, head))
}

/// The history of the head after `prev`, which has `history`.
fn after(history: &[Ancestor], prev: Ancestor) -> Vec<Ancestor> {
    let newest = prev.seq;
    let is_named = |seq: u64| {
        let mut step = 1_u64;
        loop {
            if seq.is_multiple_of(step) && newest / step - seq / step < BASE {
                return true;
            }
            match step.checked_mul(BASE) {
                Some(next) if next <= newest => step = next,
                _ => return false,
            }
        }
    };
    let older = history.iter().filter(|older| older.seq < newest);
    let mut next = vec![prev];
    next.extend(older.filter(|older| is_named(older.seq)).cloned());
    next
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn ancestor(seq: u64) -> Ancestor {
        Ancestor {
            cid: format!("head {seq}"),
            seq,
        }
    }

    /// The history of each of the first `count` heads.
    fn histories(count: u64) -> BTreeMap<u64, Vec<u64>> {
        let mut history = Vec::new();
        let mut all = BTreeMap::from([(1, Vec::new())]);
        for seq in 1..count {
            history = after(&history, ancestor(seq));
            let seqs = history.iter().map(|ancestor| ancestor.seq).collect();
            all.insert(seq + 1, seqs);
        }
        all
    }

    #[test]
    fn a_history_names_the_last_sixteen_and_few_older_ones() {
        let all = histories(5000);
        assert_eq!(all[&1], Vec::<u64>::new());
        assert_eq!(all[&4], [3, 2, 1]);
        let newest = &all[&4999];
        assert_eq!(newest[..16], (4983..=4998).rev().collect::<Vec<_>>());
        assert_eq!(newest[16..19], [4976, 4960, 4944]);
        assert_eq!(newest.last(), Some(&1024));
        assert!(all.values().all(|history| history.len() <= 16 * 4));
        assert!(newest.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn every_head_leads_to_every_earlier_one_in_a_few_steps() {
        let all = histories(5000);
        for (from, to) in [
            (4999, 1),
            (4999, 37),
            (4999, 4000),
            (300, 10),
            (17, 16),
            (2, 1),
        ] {
            let (mut at, mut steps) = (from, 0);
            while !all[&at].contains(&to) {
                let between = all[&at].iter().filter(|seq| **seq > to);
                at = *between.min().expect("something in between");
                steps += 1;
            }
            assert!(steps <= 3, "{from} to {to} takes {steps}");
        }
    }
}
