//! YANK: a release is no longer offered, and the next head says so. It stays downloadable by version.

use jiff::Timestamp;

use crate::announce;
use crate::channel::{self, history};
use crate::ids::{Channel, ProductId, Version};
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Expect, Op};
use crate::manifest::record::{JobId, Product, Release};
use crate::node::Node;

/// What a yank, or its undoing, changed.
#[derive(Debug)]
pub struct Yanked {
    /// The product as it is now.
    pub product: Product,
    /// Channels that are gone, as they named nothing else that is still offered.
    pub gone: Vec<Channel>,
    /// The job of the head that shows it, if anything changed.
    pub job: Option<JobId>,
}

/// Marks the release; a channel that names it moves back to the newest release that it named before and that is
/// still offered, or goes away. Yanking it again changes nothing.
///
/// # Errors
/// [`ManifestError::Conflict`] when there is no such release.
pub async fn yank(node: &Node, id: &ProductId, version: &Version) -> Result<Yanked, ManifestError> {
    let _turn = node.publish_turn().await;
    let (mut product, mut release) = read(node, id, version)?;
    let mut gone = Vec::new();
    if release.yanked.is_some() {
        return Ok(unchanged(product));
    }
    release.yanked = Some(Timestamp::now());

    let named = product.channels.iter();
    let named = named.filter(|(_, named)| *named == version);
    let moving: Vec<Channel> = named.map(|(channel, _)| channel.clone()).collect();
    for channel in moving {
        match history::before(node.manifest(), id, &product, &channel)? {
            Some((back_to, release)) => {
                let back_to = (&back_to, release.number);
                history::point(node.manifest(), id, &mut product, &channel, back_to)?;
            }
            None => {
                // Its history stays: what it named comes back to it.
                product.channels.remove(&channel);
                gone.push(channel);
            }
        }
    }
    let job = commit(node, id, version, &product, release).await?;
    Ok(Yanked {
        product,
        gone,
        job: Some(job),
    })
}

/// Offers the release again. Channels stay where they are; one that went away when nothing was left of what it
/// named comes back, if it named this.
///
/// # Errors
/// [`ManifestError::Conflict`] when there is no such release.
pub async fn undo(node: &Node, id: &ProductId, version: &Version) -> Result<Yanked, ManifestError> {
    let _turn = node.publish_turn().await;
    let (mut product, mut release) = read(node, id, version)?;
    if release.yanked.is_none() {
        return Ok(unchanged(product));
    }
    release.yanked = None;
    let named = product.history.iter();
    let named = named.filter(|(_, numbers)| numbers.contains(&release.number));
    let mut back: Vec<Channel> = named.map(|(channel, _)| channel.clone()).collect();
    if product.history.is_empty() && product.channels.is_empty() {
        back.push(channel::default());
    }
    for channel in back {
        if !product.channels.contains_key(&channel) {
            let release = (version, release.number);
            history::point(node.manifest(), id, &mut product, &channel, release)?;
        }
    }
    let job = commit(node, id, version, &product, release).await?;
    Ok(Yanked {
        product,
        gone: Vec::new(),
        job: Some(job),
    })
}

fn unchanged(product: Product) -> Yanked {
    Yanked {
        product,
        gone: Vec::new(),
        job: None,
    }
}

fn read(
    node: &Node,
    id: &ProductId,
    version: &Version,
) -> Result<(Product, Release), ManifestError> {
    let product = node.manifest().known_product(id)?;
    let release = node.manifest().known_release(id, version)?;
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
