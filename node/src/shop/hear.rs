//! A shop as several places tell of it: the newest head that the rules of following do not refuse.

use cid::Cid;
use jiff::Timestamp;

use super::follow::{FollowError, Followed, Refused, Step, follow, publishing_key};
use super::json::ShopJson;
use super::past::read_shop_json;
use super::read::root_links;
use crate::dag::path::{ContentPath, Root};
use crate::ipns::{self, Record};
use crate::keys::Name;
use crate::source::BlockSource;

/// The record of the shop's key that is the newest valid one, and the publishing key that it leads to.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// The record, as it travels.
    pub record: Vec<u8>,
    /// The publishing key.
    pub publishing: Name,
}

/// The newest head that was heard of.
#[derive(Clone, Debug)]
pub struct Heard {
    /// What to remember.
    pub followed: Followed,
    /// Its `shop.json`; `None` where the head was known.
    pub head: Option<ShopJson>,
    /// What others offered and was refused.
    pub refused: Vec<Refused>,
}

/// The newest valid one of these records of the shop's key and of the known one; `None` when there is
/// none at all.
///
/// # Errors
/// Why each of them is refused: the last reason.
pub fn newest_key(
    shop: &Name,
    known: Option<&Followed>,
    records: &[Vec<u8>],
    now: Timestamp,
) -> Result<Option<Keyed>, Refused> {
    let known = known.map(|known| &known.shop_record);
    let mut newest: Option<(Record, Name)> = None;
    let mut refused = None;
    for bytes in known.into_iter().chain(records) {
        match publishing_key(shop, bytes, now) {
            Ok((record, publishing)) => {
                let is_newer = |(best, _): &(Record, Name)| ipns::newer(&record, best);
                if newest.as_ref().is_none_or(is_newer) {
                    newest = Some((record, publishing));
                }
            }
            Err(error) => refused = Some(error),
        }
    }
    match (newest, refused) {
        (Some((record, publishing)), _) => Ok(Some(Keyed {
            record: record.bytes,
            publishing,
        })),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(None),
    }
}

/// The newest of these records of the publishing key whose head is not refused; `None` when there is
/// none at all. Who knows nothing of the shop takes neither of two heads with one number.
///
/// # Errors
/// Why the newest one is refused, or could not be read.
pub async fn newest_head<S: BlockSource + Clone>(
    source: &S,
    shop: &Name,
    known: Option<&Followed>,
    key: &Keyed,
    records: &[Vec<u8>],
    now: Timestamp,
) -> Result<Option<Heard>, FollowError> {
    let (mut invalid, mut refused) = (Vec::new(), Vec::new());
    let mut valid: Vec<Record> = Vec::new();
    for bytes in records {
        match ipns::verify(&key.publishing, bytes, now) {
            Ok(record) => valid.push(record),
            Err(source) => {
                let key = "publishing";
                invalid.push(FollowError::Refused(Refused::Record { key, source }));
            }
        }
    }
    valid.sort_by(|one, other| {
        let order = |record: &Record| (record.sequence, record.validity);
        order(other).cmp(&order(one))
    });
    valid.dedup_by(|one, other| one.bytes == other.bytes);
    let is_new = |record: &Record| known.is_none_or(|known| record.sequence > known.seq);
    for (one, other) in valid.iter().zip(valid.iter().skip(1)) {
        if is_new(one) && one.sequence == other.sequence && one.value != other.value {
            return Err(FollowError::Refused(Refused::Fork {
                seq: one.sequence,
                known: root_of(one).unwrap_or_default(),
                offered: other.value.clone(),
            }));
        }
    }
    for record in valid {
        match follow(source, shop, known, &key.record, &record.bytes, now).await {
            Ok(step) => {
                let refused = refused.into_iter().chain(invalid);
                let refused = refused.filter_map(|error| match error {
                    FollowError::Refused(refused) => Some(refused),
                    FollowError::Read(_) => None,
                });
                let refused = refused.collect();
                let (followed, head) = match (step, known) {
                    (Step::New(new), _) => (new.followed, Some(new.head)),
                    (Step::Renewed(followed), _) => (*followed, None),
                    (Step::Known, Some(known)) => (known.clone(), None),
                    // Nothing is known to whom nothing was known before.
                    (Step::Known, None) => return Ok(None),
                };
                return Ok(Some(Heard {
                    followed,
                    head,
                    refused,
                }));
            }
            Err(error) => refused.push(error),
        }
    }
    match refused.into_iter().chain(invalid).next() {
        Some(error) => Err(error),
        None => Ok(None),
    }
}

/// `shop.json` of a followed head.
///
/// # Errors
/// When it cannot be had.
pub async fn head_of<S: BlockSource + Clone>(
    source: &S,
    followed: &Followed,
) -> Result<ShopJson, FollowError> {
    let links = root_links(source, followed.root).await?;
    Ok(read_shop_json(source, followed.root, &links).await?.1)
}

fn root_of(record: &Record) -> Option<Cid> {
    match ContentPath::parse(&record.value).ok()?.root {
        Root::Cid(cid) => Some(cid),
        _ => None,
    }
}
