//! CHANNELS: names for the version that a product offers now, such as `stable`. Moving one makes the
//! next head; the release that it named stays where it is.

use serde::{Deserialize, Serialize};

use crate::announce;
use crate::ids::{Channel, ProductId, Version};
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Conflict, Expect, Op};
use crate::manifest::record::{JobId, Product, Release};
use crate::node::Node;

/// The channel that a publish moves unless it is told another one.
pub(crate) fn default() -> Channel {
    "stable".parse().expect("`stable` is a valid channel")
}

/// What a channel names, and named before.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Moved {
    /// The product.
    pub product: ProductId,
    /// The channel.
    pub channel: Channel,
    /// The version that it names now; `None` when it is gone.
    pub version: Option<Version>,
    /// The version that it named before; `None` when it is new.
    pub before: Option<Version>,
}

/// Why a channel was not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// There is no such product.
    #[error("there is no product {product}")]
    NoProduct {
        /// Its id.
        product: ProductId,
    },
    /// The product has no such channel.
    #[error("{product} has no channel {channel}")]
    NoChannel {
        /// The product.
        product: ProductId,
        /// The channel.
        channel: Channel,
    },
    /// The creator has withdrawn the version.
    #[error("{product} {version} is withdrawn, and a channel offers what it names")]
    Yanked {
        /// The product.
        product: ProductId,
        /// The version.
        version: Version,
    },
    /// There is nothing to go back to.
    #[error("{product} has no version before {version} that is still offered")]
    NothingBefore {
        /// The product.
        product: ProductId,
        /// The version that the channel names.
        version: Version,
    },
    /// The version was published after the one that the channel names, or is that one.
    #[error("{product} {version} is not older than {current}, which {channel} names")]
    NotBefore {
        /// The product.
        product: ProductId,
        /// The channel.
        channel: Channel,
        /// The version that was asked for.
        version: Version,
        /// The version that the channel names.
        current: Version,
    },
    /// The manifest refused or failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Points a channel to a version. Returns the job of the head that shows it, if anything changed.
///
/// # Errors
/// [`ChannelError::Yanked`] for a version that is withdrawn.
pub async fn set(
    node: &Node,
    id: &ProductId,
    channel: &Channel,
    version: &Version,
) -> Result<(Moved, Option<JobId>), ChannelError> {
    let _turn = node.publish_turn().await;
    let product = product(node, id)?;
    offered(id, version, &release(node, id, version)?)?;
    move_to(node, id, product, channel, Some(version)).await
}

/// Points a channel back to an older version: to this one, or to the newest before the one that it
/// names now that is still offered.
pub async fn roll_back(
    node: &Node,
    id: &ProductId,
    channel: &Channel,
    version: Option<&Version>,
) -> Result<(Moved, Option<JobId>), ChannelError> {
    let _turn = node.publish_turn().await;
    let product = product(node, id)?;
    let current = named(id, &product, channel)?;
    let now = release(node, id, &current)?;
    let back_to = match version {
        Some(version) => {
            let release = release(node, id, version)?;
            offered(id, version, &release)?;
            if release.number >= now.number {
                return Err(ChannelError::NotBefore {
                    product: id.clone(),
                    channel: channel.clone(),
                    version: version.clone(),
                    current,
                });
            }
            version.clone()
        }
        None => newest_before(node, id, &now)?.ok_or_else(|| ChannelError::NothingBefore {
            product: id.clone(),
            version: current,
        })?,
    };
    move_to(node, id, product, channel, Some(&back_to)).await
}

/// Removes a channel. Its links end with the next head.
pub async fn remove(
    node: &Node,
    id: &ProductId,
    channel: &Channel,
) -> Result<(Moved, Option<JobId>), ChannelError> {
    let _turn = node.publish_turn().await;
    let product = product(node, id)?;
    named(id, &product, channel)?;
    move_to(node, id, product, channel, None).await
}

/// The one commit.
async fn move_to(
    node: &Node,
    id: &ProductId,
    mut product: Product,
    channel: &Channel,
    version: Option<&Version>,
) -> Result<(Moved, Option<JobId>), ChannelError> {
    let before = match version {
        Some(version) => product.channels.insert(channel.clone(), version.clone()),
        None => product.channels.remove(channel),
    };
    let moved = Moved {
        product: id.clone(),
        channel: channel.clone(),
        version: version.cloned(),
        before,
    };
    if moved.before == moved.version {
        return Ok((moved, None));
    }
    let expect = version.map(|version| Expect::ReleasePresent(id.clone(), version.clone()));
    let change = Change {
        expect: expect.into_iter().collect(),
        ops: vec![Op::PutProduct(id.clone(), product)],
    };
    Ok((moved, Some(announce::commit(node, change).await?)))
}

fn product(node: &Node, id: &ProductId) -> Result<Product, ChannelError> {
    let product = node.manifest().product(id)?;
    product.ok_or_else(|| ChannelError::NoProduct {
        product: id.clone(),
    })
}

fn named(id: &ProductId, product: &Product, channel: &Channel) -> Result<Version, ChannelError> {
    let version = product.channels.get(channel);
    version.cloned().ok_or_else(|| ChannelError::NoChannel {
        product: id.clone(),
        channel: channel.clone(),
    })
}

fn release(node: &Node, id: &ProductId, version: &Version) -> Result<Release, ManifestError> {
    let release = node.manifest().release(id, version)?;
    release.ok_or_else(|| {
        ManifestError::Conflict(Conflict::NoRelease {
            product: id.clone(),
            version: version.clone(),
        })
    })
}

fn offered(id: &ProductId, version: &Version, release: &Release) -> Result<(), ChannelError> {
    match release.yanked {
        None => Ok(()),
        Some(_) => Err(ChannelError::Yanked {
            product: id.clone(),
            version: version.clone(),
        }),
    }
}

fn newest_before(
    node: &Node,
    id: &ProductId,
    current: &Release,
) -> Result<Option<Version>, ManifestError> {
    for row in node.manifest().releases(id).rev() {
        let (version, release) = row?;
        if release.number < current.number && release.yanked.is_none() {
            return Ok(Some(version));
        }
    }
    Ok(None)
}
