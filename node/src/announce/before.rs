//! What the next head goes on from: the newest one that is known to be signed, here or elsewhere.
//!
//! A shop that was restored from its key has no head here, and one that was restored from a backup
//! has the head of that time: those that its followers know may have higher sequence numbers. So the
//! network is asked before its first head.

use std::time::Duration;

use cid::Cid;
use jiff::Timestamp;

use super::AnnounceError;
use crate::dag::path::{ContentPath, Root};
use crate::ipns::{self, Record};
use crate::keys::{Name, name_of};
use crate::manifest::ManifestError;
use crate::name;
use crate::node::Node;

/// Time for the network to say which head is the newest of a restored shop.
const ASK_LIMIT: Duration = Duration::from_secs(30);
/// Pause before it is asked again: a node that has just started knows few peers.
const ASK_AGAIN: Duration = Duration::from_secs(1);

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

/// The newest head before the next one; `None` for a new shop.
pub(super) async fn newest(node: &Node) -> Result<Option<Before>, AnnounceError> {
    if is_restored(node)? {
        if node.network().is_none() {
            return Err(AnnounceError::NotAsked);
        }
        match tokio::time::timeout(ASK_LIMIT, ask(node)).await {
            Ok(asked) => asked?,
            Err(_) => tracing::warn!("nobody answers with a head of the restored shop"),
        }
    }
    let own = node.manifest().head()?.map(|head| Before {
        seq: head.seq,
        root: Some(head.root),
    });
    let signed = signed(node)?;
    match (own, signed) {
        (own, Some(signed)) if own.is_none_or(|own| own.seq < signed.seq) => {
            tracing::warn!(
                "a shop is already published under this name: it is continued at head {}, with the \
                 products of this data directory only",
                signed.seq.saturating_add(1)
            );
            Ok(Some(signed))
        }
        (own, _) => Ok(own),
    }
}

/// Asks for the records of the shop until somebody has a head; they are kept in the manifest.
async fn ask(node: &Node) -> Result<(), ManifestError> {
    loop {
        name::refresh(node, &node.shop_name()).await?;
        if let Some(publishing) = published_by(node)?
            && name::refresh(node, &publishing).await?.is_heard
        {
            return Ok(());
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// The newest head in the kept records: of the publishing key that the shop's record names, which
/// may be an older one, and of this node's.
fn signed(node: &Node) -> Result<Option<Before>, ManifestError> {
    let own = name_of(&node.keys().publishing);
    let mut newest: Option<Before> = None;
    for publishing in published_by(node)?.into_iter().chain([own]) {
        let Some(record) = kept(node, &publishing)? else {
            continue;
        };
        if newest.is_none_or(|newest| newest.seq < record.sequence) {
            newest = Some(Before {
                seq: record.sequence,
                root: root_of(&record),
            });
        }
    }
    Ok(newest)
}

/// The publishing key's name, by the kept record of the shop.
fn published_by(node: &Node) -> Result<Option<Name>, ManifestError> {
    let record = kept(node, &node.shop_name())?;
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
