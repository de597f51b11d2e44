//! YANK: a release is no longer offered, and the next head says so. It stays downloadable by version.

use jiff::Timestamp;

use crate::announce;
use crate::channel;
use crate::ids::{ProductId, Version};
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Conflict, Expect, Op};
use crate::manifest::record::{JobId, Product, Release};
use crate::node::Node;

/// Marks the release; a channel that names it moves to the newest release that is still offered, or
/// goes away. Yanking it again changes nothing. Returns the product as it is now, and the job of the
/// head that shows it, if anything changed.
///
/// # Errors
/// [`ManifestError::Conflict`] when there is no such release.
pub async fn yank(
    node: &Node,
    id: &ProductId,
    version: &Version,
) -> Result<(Product, Option<JobId>), ManifestError> {
    let _turn = node.publish_turn().await;
    let (mut product, mut release) = read(node, id, version)?;
    if release.yanked.is_some() {
        return Ok((product, None));
    }
    release.yanked = Some(Timestamp::now());

    let mut newest = None;
    for row in node.manifest().releases(id) {
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
    let job = commit(node, id, version, &product, release).await?;
    Ok((product, Some(job)))
}

/// Offers the release again. Channels stay where they are; a product that has none left gets the
/// default one back.
///
/// # Errors
/// [`ManifestError::Conflict`] when there is no such release.
pub async fn undo(
    node: &Node,
    id: &ProductId,
    version: &Version,
) -> Result<(Product, Option<JobId>), ManifestError> {
    let _turn = node.publish_turn().await;
    let (mut product, mut release) = read(node, id, version)?;
    if release.yanked.is_none() {
        return Ok((product, None));
    }
    release.yanked = None;
    if product.channels.is_empty() {
        product.channels.insert(channel::default(), version.clone());
    }
    let job = commit(node, id, version, &product, release).await?;
    Ok((product, Some(job)))
}

fn read(
    node: &Node,
    id: &ProductId,
    version: &Version,
) -> Result<(Product, Release), ManifestError> {
    let missing = || {
        ManifestError::Conflict(Conflict::NoRelease {
            product: id.clone(),
            version: version.clone(),
        })
    };
    let product = node.manifest().product(id)?.ok_or_else(missing)?;
    let release = node.manifest().release(id, version)?.ok_or_else(missing)?;
    Ok((product, release))
}

async fn commit(
    node: &Node,
    id: &ProductId,
    version: &Version,
    product: &Product,
    release: Release,
) -> Result<JobId, ManifestError> {
    let change = Change {
        expect: vec![Expect::ReleasePresent(id.clone(), version.clone())],
        ops: vec![
            Op::PutProduct(id.clone(), product.clone()),
            Op::PutRelease(id.clone(), version.clone(), release),
        ],
    };
    announce::commit(node, change).await
}
