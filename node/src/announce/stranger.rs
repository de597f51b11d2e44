//! What somebody else signs with this shop's publishing key: a thief, or another machine of the owner.
//! Nothing of it is kept or continued here. The owner is told, who alone can say which of the two it is.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::before;
use crate::fetch::FetchOptions;
use crate::human::printable;
use crate::ipns::Record;
use crate::keys::Name;
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Op};
use crate::manifest::record::Head;
use crate::name;
use crate::node::Node;
use crate::shop::follow::{Step, follow};

/// Where the last one that was heard is stored.
const STATE: &str = "announce/stranger";
/// Longest part of what a stranger signed that is shown, in characters.
const MAX_SHOWN: usize = 100;
/// Others that are heard so soon after it are not stored.
const PAUSE: SignedDuration = SignedDuration::from_mins(10);

/// A head that this node did not sign, by the publishing key that it signs with.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Stranger {
    #[serde(with = "serde_bytes")]
    publishing: Vec<u8>,
    /// Its number.
    pub seq: u64,
    /// Where its record leads.
    pub value: String,
    /// When it was first heard of.
    pub heard: Timestamp,
}

impl std::fmt::Display for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A thief chose it, and it goes to the owner's terminal.
        let shown: String = self.value.chars().take(MAX_SHOWN).collect();
        write!(
            f,
            "somebody else signs with the publishing key of this shop: head {}, heard of at {:.0}, leads to {}. \
             If that is no machine of yours, the key is stolen: `duka key rotate`",
            self.seq,
            self.heard,
            printable(&shown)
        )
    }
}

/// Who else signs with the present publishing key, as far as that was heard of.
///
/// # Errors
/// When the manifest cannot be read.
pub fn stranger(node: &Node) -> Result<Option<Stranger>, ManifestError> {
    let Some(publishing) = node.keys().publishing.name() else {
        return Ok(None);
    };
    let stored = node.manifest().state(STATE)?;
    let stored = stored.and_then(|bytes| serde_ipld_dagcbor::from_slice::<Stranger>(&bytes).ok());
    Ok(stored.filter(|stranger| stranger.publishing == publishing.to_bytes()))
}

/// Forgets whom it was, with the key that is replaced.
pub(crate) fn forget() -> Op {
    Op::DeleteState(STATE.to_owned())
}

/// Whether it is the name under which this node publishes its heads.
pub(crate) fn is_publishing(node: &Node, name: &Name) -> Result<bool, ManifestError> {
    let own = match node.keys().publishing.name() {
        Some(own) => Some(own),
        None => before::published_by(node)?,
    };
    Ok(own.as_ref() == Some(name))
}

/// Looks at a record of the publishing key that came from outside. Returns whether it may be kept: only
/// while there is no head here, and if it is one that a newcomer would follow.
pub(crate) async fn may_keep(node: &Node, record: &Record) -> Result<bool, ManifestError> {
    let Some(own) = node.manifest().head()? else {
        return would_follow(node, record).await;
    };
    if !before::is_restored(node)? && is_strange(&own, record) {
        tell_owner(node, record).await?;
    }
    Ok(false)
}

fn is_strange(own: &Head, record: &Record) -> bool {
    let is_other = record.value != format!("/ipfs/{}", own.root);
    record.sequence > own.seq || record.sequence == own.seq && is_other
}

async fn would_follow(node: &Node, record: &Record) -> Result<bool, ManifestError> {
    let shop = node.shop_name();
    let Some(shop_record) = name::kept(node, &shop)? else {
        return Ok(false);
    };
    let fetcher = node.fetcher(FetchOptions::cached());
    let (records, now) = ([&shop_record.bytes, &record.bytes], Timestamp::now());
    let step = follow(&fetcher, &shop, None, records[0], records[1], now).await;
    Ok(matches!(step, Ok(Step::New(_))))
}

async fn tell_owner(node: &Node, record: &Record) -> Result<(), ManifestError> {
    let Some(publishing) = node.keys().publishing.name() else {
        return Ok(());
    };
    let now = Timestamp::now();
    let is_soon = |known: &Stranger| now.duration_since(known.heard) < PAUSE;
    if stranger(node)?.as_ref().is_some_and(is_soon) {
        return Ok(());
    }
    let stranger = Stranger {
        publishing: publishing.to_bytes(),
        seq: record.sequence,
        value: record.value.clone(),
        heard: now,
    };
    tracing::error!("{stranger}");
    let bytes = serde_ipld_dagcbor::to_vec(&stranger).expect("a text and numbers have a CBOR form");
    let change = Change {
        expect: Vec::new(),
        ops: vec![Op::PutState(STATE.to_owned(), bytes)],
    };
    node.manifest().commit(change).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thief_signed_cannot_write_to_the_owners_terminal() {
        let stranger = Stranger {
            publishing: Vec::new(),
            seq: 7,
            value: format!(
                "/ipfs/\u{1b}]0;all is well\u{7}\n\u{202e}{}",
                "x".repeat(10_000)
            ),
            heard: Timestamp::UNIX_EPOCH,
        };
        let said = stranger.to_string();
        assert_eq!(printable(&said), said);
        assert!(said.contains("/ipfs/\\u{1b}]0;all is well"), "{said}");
        assert!(said.ends_with("`duka key rotate`"), "{said}");
        assert!(said.chars().count() < 500, "{said}");
    }
}
