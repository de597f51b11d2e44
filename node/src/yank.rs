//! YANK: a release is no longer offered, and the next head says so. It stays downloadable by version.

use jiff::Timestamp;

use crate::announce;
use crate::ids::{ProductId, Version};
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Conflict, Expect, Op};
use crate::manifest::record::Release;
use crate::node::Node;

/// Marks the release; a channel that names it moves to the newest release that is still offered, or
/// goes away. Yanking it again changes nothing.
///
/// # Errors
/// [`ManifestError::Conflict`] when there is no such release.
pub async fn yank(
    node: &Node,
    id: &ProductId,
    version: &Version,
) -> Result<Release, ManifestError> {
    let _turn = node.publish_turn().await;
    let manifest = node.manifest();
    let missing = || {
        ManifestError::Conflict(Conflict::NoRelease {
            product: id.clone(),
            version: version.clone(),
        })
    };
    let mut product = manifest.product(id)?.ok_or_else(missing)?;
    let mut release = manifest.release(id, version)?.ok_or_else(missing)?;
    if release.yanked.is_some() {
        return Ok(release);
    }
    release.yanked = Some(Timestamp::now());

    let mut newest = None;
    for row in manifest.releases(id) {
        let (offered, release) = row?;
        if release.yanked.is_none() && offered != *version {
            newest = Some(offered);
        }
    }
    match newest {
        Some(newest) => {
            for named in product
                .channels
                .values_mut()
                .filter(|named| *named == version)
            {
                named.clone_from(&newest);
            }
        }
        None => product.channels.retain(|_, named| named != version),
    }

    let change = Change {
        expect: vec![Expect::ReleasePresent(id.clone(), version.clone())],
        ops: vec![
            Op::PutProduct(id.clone(), product),
            Op::PutRelease(id.clone(), version.clone(), release.clone()),
        ],
    };
    announce::commit(node, change).await?;
    Ok(release)
}
