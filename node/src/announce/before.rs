//! What the next head goes on from: the newest one that was signed here.
//!
//! A shop that was restored from its key has no head here, and one that was restored from a backup
//! has the head of that time: those that its followers know may have higher sequence numbers. So the
//! network is asked before its first head, and what is shown is checked as a follower does.

use std::time::Duration;

use cid::Cid;
use jiff::Timestamp;

use super::AnnounceError;
use crate::dag::path::{ContentPath, Root};
use crate::fetch::FetchOptions;
use crate::ipns::{self, Record};
use crate::keys::Name;
use crate::manifest::{Manifest, ManifestError};
use crate::mirror;
use crate::name;
use crate::node::Node;
use crate::shop::follow::{Followed, Refused, Step, follow};
use crate::shop::json::MAX_SEQ;

/// Time for the network to say which head is the newest of a restored shop.
const ASK_LIMIT: Duration = Duration::from_secs(30);
/// Pause before it is asked again: a node that has just started knows few peers.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The highest number that is continued. Who stole the publishing key could else leave no numbers to the
/// owner; a new publishing key is bound by none.
const MAX_CONTINUED: u64 = MAX_SEQ / 2;

/// A head that was signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pub(super) seq: u64,
    pub(super) root: Option<Cid>,
}

/// Whether the network must be asked before the next head: it is the first one here of a shop whose
/// key was not made here, or that was restored from a backup.
pub(crate) fn is_restored(node: &Node) -> Result<bool, ManifestError> {
    let has_head = node.manifest().head()?.is_some();
    Ok(node.is_from_backup() || !has_head && !node.is_new_shop())
}

/// The head before the next one; `None` for a new shop.
pub(super) async fn newest(node: &Node) -> Result<Option<Before>, AnnounceError> {
    let own = node.manifest().head()?.map(|head| Before {
        seq: head.seq,
        root: Some(head.root),
    });
    if !is_restored(node)? {
        return Ok(own);
    }
    match (own, shown(node, ASK_LIMIT).await?) {
        (own, Some(shown)) if own.is_none_or(|own| own.seq < shown.seq) => {
            tracing::warn!(
                "a shop is already published under this name: it is continued after head {}, with the products \
                 of this data directory only",
                shown.seq
            );
            Ok(Some(shown))
        }
        (own, None) => {
            tracing::warn!("nobody answers with a head of the restored shop that can be continued");
            Ok(own)
        }
        (own, Some(_)) => Ok(own),
    }
}

/// Asks the network for the shop's records, and keeps that of its key.
pub(crate) async fn ask(node: &Node) -> Result<(), AnnounceError> {
    shown(node, ASK_LIMIT).await.map(drop)
}

/// The newest head that others show within `limit`, if it can be continued.
async fn shown(node: &Node, limit: Duration) -> Result<Option<Before>, AnnounceError> {
    if node.network().is_none() {
        return Err(AnnounceError::NotAsked);
    }
    let known = followed(node).await?;
    let mut asked = Asked::default();
    let asking = ask_until_shown(node, known.as_ref(), &mut asked);
    let shown = match tokio::time::timeout(limit, asking).await {
        Ok(shown) => Some(shown?),
        Err(_) => asked.unread,
    };
    for refused in asked.refused {
        tracing::error!("a head of the restored shop is not continued: {refused}");
    }
    Ok(shown)
}

/// What came of asking, besides the head that is looked for.
#[derive(Default)]
struct Asked {
    /// Why heads are not continued.
    refused: Vec<Refused>,
    /// A head whose record may be good, and whose files nobody has.
    unread: Option<Before>,
}

/// Asks for the heads of the shop until somebody shows one that may follow on the known one.
async fn ask_until_shown(
    node: &Node,
    known: Option<&Followed>,
    asked: &mut Asked,
) -> Result<Before, ManifestError> {
    let shop = node.shop_name();
    loop {
        let found = mirror::find(node, &shop, known, MAX_CONTINUED).await?;
        // That of the shop's key is the owner's.
        name::keep_if_newer(node, &shop, found.shop).await?;
        for refused in found.refused {
            if !asked.refused.contains(&refused) {
                asked.refused.push(refused);
            }
        }
        if let Some(head) = found.newest {
            let (seq, root) = (head.seq, Some(head.root));
            return Ok(Before { seq, root });
        }
        asked.unread = found.unread.map(|record| Before {
            seq: record.sequence,
            root: root_of(&record),
        });
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// The own head, as a follower knows it.
async fn followed(node: &Node) -> Result<Option<Followed>, ManifestError> {
    let shop = node.shop_name();
    let Some(shop_record) = kept(node, &shop)? else {
        return Ok(None);
    };
    let Some(publishing) = leads_to(&shop_record) else {
        return Ok(None);
    };
    let Some(head_record) = kept(node, &publishing)? else {
        return Ok(None);
    };
    let here = node.fetcher(FetchOptions::offline());
    let (records, now) = ([shop_record.bytes, head_record.bytes], Timestamp::now());
    let step = follow(&here, &shop, None, &records[0], &records[1], now).await;
    Ok(match step {
        Ok(Step::New(head)) => Some(head.followed),
        _ => None,
    })
}

/// The publishing key's name, by the kept record of the shop.
pub(super) fn published_by(node: &Node) -> Result<Option<Name>, ManifestError> {
    published_in(node.manifest(), &node.shop_name())
}

/// The publishing key's name, by the newest record of the shop that is known. One that has ended says as
/// well whom the owner chose last.
pub(crate) fn published_in(
    manifest: &Manifest,
    shop: &Name,
) -> Result<Option<Name>, ManifestError> {
    let kept = manifest.name(&shop.to_bytes())?;
    let record = kept.and_then(|kept| ipns::verify(shop, &kept.bytes, Timestamp::MIN).ok());
    Ok(record.and_then(|record| leads_to(&record)))
}

/// The name that a record leads to.
pub(crate) fn leads_to(record: &Record) -> Option<Name> {
    match ContentPath::parse(&record.value).ok()?.root {
        Root::Name(name) => Some(name),
        _ => None,
    }
}

fn root_of(record: &Record) -> Option<Cid> {
    match ContentPath::parse(&record.value).ok()?.root {
        Root::Cid(root) => Some(root),
        _ => None,
    }
}

/// The kept record of a name, while it is valid.
pub(super) fn kept(node: &Node, name: &Name) -> Result<Option<Record>, ManifestError> {
    let kept = node.manifest().name(&name.to_bytes())?;
    Ok(kept.and_then(|kept| ipns::verify(name, &kept.bytes, Timestamp::now()).ok()))
}

#[cfg(test)]
mod tests;
