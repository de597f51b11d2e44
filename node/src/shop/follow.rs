//! Following a shop: which head is the next one, and which is refused.
//!
//! A follower (a mirror, a buyer) remembers the newest head it has checked, and stores it only after
//! the check. What a thief of the publishing key, or whoever serves old records, can still do, and what
//! not, is in `node/DESIGN.md`, "Following a shop".

use std::collections::BTreeMap;
use std::time::Duration;

use cid::Cid;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::json::{MAX_SEQ, MAX_SHOP_LEN, ShopJson, parse_shop};
use super::past::read_shop_json;
use super::read::{ReadError, read_small, root_links};
use crate::dag::path::{ContentPath, Root};
use crate::ipns::{self, Record, RecordError};
use crate::keys::Name;
use crate::source::BlockSource;

/// How far the clock of a creator may be ahead.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);
/// Heads that may come at once; besides these there is at most one a second.
const BURST: u64 = 1000;
/// Heads between two that are known: sixteen powers of sixteen.
const MAX_STEPS: usize = 64;
/// A head that was not signed again for so many times its `refresh` is stale.
const STALE_AFTER: u32 = 3;

/// A shop as its follower knows it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Followed {
    /// The record of the shop's key, as it travels.
    #[serde(with = "serde_bytes")]
    pub shop_record: Vec<u8>,
    /// Its sequence number.
    pub shop_sequence: u64,
    /// Until when it is valid.
    pub shop_validity: Timestamp,
    /// The name of the publishing key, to which it leads, as [`Name::to_bytes`].
    #[serde(with = "serde_bytes")]
    pub publishing: Vec<u8>,
    /// The record of the publishing key, as it travels.
    #[serde(with = "serde_bytes")]
    pub head_record: Vec<u8>,
    /// Until when that is valid.
    pub validity: Timestamp,
    /// Sequence number of the head.
    pub seq: u64,
    /// The shop's directory.
    pub root: Cid,
    /// `shop.json` in it.
    pub shop_json: Cid,
    /// When the head was built.
    pub issued: Timestamp,
    /// Seconds that its record is valid after it was signed.
    pub lifetime: u64,
    /// Seconds between signatures.
    pub refresh: u64,
}

/// How old the newest known signature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As new as it should be.
    Fresh,
    /// Not renewed for too long: the creator is silent, or somebody holds newer heads back.
    Stale {
        /// When it was signed.
        signed: Timestamp,
    },
    /// The creator's signature does not hold any more.
    Expired,
}

impl Followed {
    /// How old the signature is. Without the record of the shop's key a head is nobody's.
    pub fn freshness(&self, now: Timestamp) -> Freshness {
        if self.validity.min(self.shop_validity) <= now {
            return Freshness::Expired;
        }
        let signed = before(self.validity, self.lifetime);
        let age = now.duration_since(signed);
        let refresh = Duration::from_secs(self.refresh);
        let limit = refresh.saturating_mul(STALE_AFTER);
        if age.is_positive() && age.unsigned_abs() > limit {
            return Freshness::Stale { signed };
        }
        Freshness::Fresh
    }
}

fn before(time: Timestamp, seconds: u64) -> Timestamp {
    time.saturating_sub(Duration::from_secs(seconds))
        .unwrap_or(Timestamp::MIN)
}

/// What two records mean to a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing that is not known.
    Known,
    /// The known head, with records that are newer.
    Renewed(Box<Followed>),
    /// The next head.
    New(Box<NewHead>),
}

/// A head that was checked, and is newer than the known one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHead {
    /// What to remember.
    pub followed: Followed,
    /// The head itself.
    pub head: ShopJson,
    /// The publishing key is another one than before: what was known of the shop's past does not bind
    /// the new one.
    pub is_rekeyed: bool,
}

/// Why a head is refused. Each is a thing to tell the user.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// A record is not signed by the key of its name, has expired, or is none.
    #[error("the record of the {key} key is refused: {source}")]
    Record {
        /// Whose.
        key: &'static str,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// The name leads to no publishing key, or that to no directory.
    #[error("{value} is not where a shop's {key} key leads to")]
    NoShop {
        /// Whose record.
        key: &'static str,
        /// Where it leads.
        value: String,
    },
    /// The publishing key was replaced since.
    #[error("the publishing key {offered} was replaced by the shop's owner")]
    OldKey {
        /// The one that was replaced.
        offered: String,
    },
    /// The shop's key signed two publishing keys with one sequence number.
    #[error(
        "the shop key has signed two publishing keys under number {sequence}: {known} and {offered}"
    )]
    TwoKeys {
        /// The sequence number.
        sequence: u64,
        /// The one that is known.
        known: String,
        /// The other one.
        offered: String,
    },
    /// An older head.
    #[error("head {offered} is older than head {known}, which is known")]
    Rollback {
        /// The known head's number.
        known: u64,
        /// The refused one's.
        offered: u64,
    },
    /// Another head with the number of a known one, now or in the past of the new one.
    #[error("there are two heads {seq}: the known one, {known}, and {offered}")]
    Fork {
        /// Their number.
        seq: u64,
        /// The known one: its root, or its `shop.json`.
        known: Cid,
        /// The other one.
        offered: String,
    },
    /// Its past does not lead to the known head.
    #[error("head {offered} does not say what came after head {known}")]
    Unlinked {
        /// The known head's number.
        known: u64,
        /// The refused one's.
        offered: u64,
    },
    /// More heads than a creator can make in the time.
    #[error("head {offered} cannot follow on head {known} within {seconds} seconds")]
    FastForward {
        /// The known head's number.
        known: u64,
        /// The refused one's.
        offered: u64,
        /// Time between them.
        seconds: u64,
    },
    /// A number that no shop has.
    #[error("head {offered} is above {MAX_SEQ}, the highest number that a head can have")]
    Number {
        /// The refused one's number.
        offered: u64,
    },
    /// A number that leaves too few for the shop's own next heads.
    #[error("head {offered} leaves too few numbers for those that come after it")]
    TooHigh {
        /// The refused one's number.
        offered: u64,
    },
    /// It was built in the future.
    #[error("head {seq} is dated {issued}, which has not come yet")]
    Future {
        /// Its number.
        seq: u64,
        /// The date.
        issued: Timestamp,
    },
    /// Directory, `shop.json` and record do not belong together.
    #[error("the head is put together from parts of different ones: {what}")]
    Mixed {
        /// What differs.
        what: String,
    },
}

/// Why a head could not be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The head is refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Its files cannot be read; others may have them.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The two records of a shop, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Of the shop's key.
    pub shop: Record,
    /// The publishing key, to which it leads.
    pub publishing: Name,
    /// Of the publishing key.
    pub head: Record,
    /// The directory, to which it leads.
    pub root: Cid,
}

/// The publishing key that a shop's record leads to.
///
/// # Errors
/// [`Refused::Record`] and [`Refused::NoShop`].
pub fn publishing_key(
    shop: &Name,
    record: &[u8],
    now: Timestamp,
) -> Result<(Record, Name), Refused> {
    let record = verify(shop, record, now, "shop")?;
    match leads_to(&record) {
        Some(Root::Name(publishing)) => Ok((record, publishing)),
        _ => Err(no_shop(&record, "shop")),
    }
}

impl Signed {
    /// Verifies the records of `shop` at the time `now`.
    ///
    /// # Errors
    /// [`Refused::Record`] and [`Refused::NoShop`].
    pub fn verify(
        shop: &Name,
        shop_record: &[u8],
        head_record: &[u8],
        now: Timestamp,
    ) -> Result<Self, Refused> {
        let (shop, publishing) = publishing_key(shop, shop_record, now)?;
        let head = verify(&publishing, head_record, now, "publishing")?;
        match leads_to(&head) {
            Some(Root::Cid(root)) => Ok(Self {
                shop,
                publishing,
                head,
                root,
            }),
            _ => Err(no_shop(&head, "publishing")),
        }
    }
}

fn verify(
    name: &Name,
    record: &[u8],
    now: Timestamp,
    key: &'static str,
) -> Result<Record, Refused> {
    ipns::verify(name, record, now).map_err(|source| Refused::Record { key, source })
}

/// Where a record leads, if it is no place below something else.
fn leads_to(record: &Record) -> Option<Root> {
    let path = ContentPath::parse(&record.value).ok()?;
    path.segments.is_empty().then_some(path.root)
}

fn no_shop(record: &Record, key: &'static str) -> Refused {
    let value = record.value.clone();
    Refused::NoShop { key, value }
}

/// Checks two records of `shop` against what is known of it. Nothing is remembered here: store what
/// the step has.
///
/// Reads `shop.json` of a new head, and of a few before it when some were missed.
///
/// # Errors
/// [`FollowError::Refused`], which no other source of the same records can mend;
/// [`FollowError::Read`], which another one may.
pub async fn follow<S: BlockSource + Clone>(
    source: &S,
    shop: &Name,
    known: Option<&Followed>,
    shop_record: &[u8],
    head_record: &[u8],
    now: Timestamp,
) -> Result<Step, FollowError> {
    let signed = Signed::verify(shop, shop_record, head_record, now)?;
    let is_rekeyed = match known {
        Some(known) => is_rekeyed(known, &signed)?,
        None => false,
    };
    let known = known.filter(|_| !is_rekeyed);
    if let Some(known) = known
        && let Some(step) = without_reading(known, &signed)?
    {
        return Ok(step);
    }
    let latest = now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX);
    check_number(known, signed.head.sequence, latest)?;
    let (shop_json, head) = read_head(source, &signed).await?;
    if head.issued > latest {
        let (seq, issued) = (head.seq, head.issued);
        return Err(Refused::Future { seq, issued }.into());
    }
    if let Some(known) = known {
        check_pace(known, head.seq, head.issued)?;
        check_past(source, known, &head).await?;
    }
    Ok(Step::New(Box::new(NewHead {
        followed: Followed {
            shop_record: signed.shop.bytes,
            shop_sequence: signed.shop.sequence,
            shop_validity: signed.shop.validity,
            publishing: signed.publishing.to_bytes(),
            head_record: signed.head.bytes,
            validity: signed.head.validity,
            seq: head.seq,
            root: signed.root,
            shop_json,
            issued: head.issued,
            lifetime: head.lifetime,
            refresh: head.refresh,
        },
        head,
        is_rekeyed,
    })))
}

/// Whether the shop's owner has replaced the publishing key.
fn is_rekeyed(known: &Followed, signed: &Signed) -> Result<bool, Refused> {
    let offered = signed.publishing.to_bytes();
    if offered == known.publishing {
        return Ok(false);
    }
    let offered = signed.publishing.to_string();
    match signed.shop.sequence.cmp(&known.shop_sequence) {
        std::cmp::Ordering::Greater => Ok(true),
        std::cmp::Ordering::Less => Err(Refused::OldKey { offered }),
        std::cmp::Ordering::Equal => {
            let known_key = Name::from_bytes(&known.publishing);
            Err(Refused::TwoKeys {
                sequence: known.shop_sequence,
                known: known_key.map_or_else(|_| String::new(), |name| name.to_string()),
                offered,
            })
        }
    }
}

/// The step, where the records alone tell it.
fn without_reading(known: &Followed, signed: &Signed) -> Result<Option<Step>, Refused> {
    let offered = signed.head.sequence;
    if offered < known.seq {
        let known = known.seq;
        return Err(Refused::Rollback { known, offered });
    }
    if offered > known.seq {
        return Ok(None);
    }
    if signed.root != known.root {
        return Err(Refused::Fork {
            seq: known.seq,
            known: known.root,
            offered: signed.root.to_string(),
        });
    }
    let mut renewed = known.clone();
    if signed.head.validity > known.validity {
        renewed.head_record.clone_from(&signed.head.bytes);
        renewed.validity = signed.head.validity;
    }
    let shop = &signed.shop;
    if (shop.sequence, shop.validity) > (known.shop_sequence, known.shop_validity) {
        renewed.shop_record.clone_from(&shop.bytes);
        renewed.shop_sequence = shop.sequence;
        renewed.shop_validity = shop.validity;
    }
    Ok(Some(if renewed == *known {
        Step::Known
    } else {
        Step::Renewed(Box::new(renewed))
    }))
}

/// The head that the records lead to.
async fn read_head<S: BlockSource + Clone>(
    source: &S,
    signed: &Signed,
) -> Result<(Cid, ShopJson), FollowError> {
    let no_shop = |error| match error {
        ReadError::NoShop { .. } => no_shop(&signed.head, "publishing").into(),
        error => FollowError::Read(error),
    };
    let links = root_links(source, signed.root).await.map_err(no_shop)?;
    let read = read_shop_json(source, signed.root, &links).await;
    let (cid, head) = read.map_err(no_shop)?;
    if head.seq != signed.head.sequence {
        return Err(mixed(format!(
            "its record has number {}, its shop.json {}",
            signed.head.sequence, head.seq
        )));
    }
    let others = links.iter().filter(|link| link.name != b"shop.json");
    let found: BTreeMap<String, String> = others
        .map(|link| {
            let name = String::from_utf8_lossy(&link.name).into_owned();
            (name, link.cid.to_string())
        })
        .collect();
    if found != head.entries {
        return Err(mixed("its shop.json is that of another one".to_owned()));
    }
    Ok((cid, head))
}

fn mixed(what: String) -> FollowError {
    Refused::Mixed { what }.into()
}

/// Refuses what cannot be the next head, whatever it says: nothing of it is read then.
fn check_number(known: Option<&Followed>, offered: u64, latest: Timestamp) -> Result<(), Refused> {
    if offered > MAX_SEQ {
        return Err(Refused::Number { offered });
    }
    known.map_or(Ok(()), |known| check_pace(known, offered, latest))
}

/// A stolen publishing key must not be able to use up all sequence numbers.
fn check_pace(known: &Followed, offered: u64, issued: Timestamp) -> Result<(), Refused> {
    let between = issued.duration_since(known.issued);
    let seconds = u64::try_from(between.as_secs()).unwrap_or(0);
    if offered - known.seq > BURST.saturating_add(seconds) {
        return Err(Refused::FastForward {
            known: known.seq,
            offered,
            seconds,
        });
    }
    Ok(())
}

/// The past of the new head leads to the known one.
async fn check_past<S: BlockSource + Clone>(
    source: &S,
    known: &Followed,
    head: &ShopJson,
) -> Result<(), FollowError> {
    let unlinked = Refused::Unlinked {
        known: known.seq,
        offered: head.seq,
    };
    let (mut at, mut history) = (head.seq, head.history.clone());
    for _ in 0..MAX_STEPS {
        if let Some(same) = history.iter().find(|older| older.seq == known.seq) {
            if same.cid()? == known.shop_json {
                return Ok(());
            }
            return Err(FollowError::Refused(Refused::Fork {
                seq: known.seq,
                known: known.shop_json,
                offered: same.cid.clone(),
            }));
        }
        let between = history
            .iter()
            .filter(|older| (known.seq..at).contains(&older.seq));
        let Some(next) = between.min_by_key(|older| older.seq) else {
            return Err(unlinked.into());
        };
        let cid = next.cid()?;
        let bytes = read_small(source, cid, MAX_SHOP_LEN).await?;
        let older = parse_shop(&bytes).map_err(|source| ReadError::Json { cid, source })?;
        if older.seq != next.seq {
            return Err(mixed(format!("head {} is called {}", older.seq, next.seq)));
        }
        (at, history) = (older.seq, older.history);
    }
    Err(unlinked.into())
}

#[cfg(test)]
mod tests;
