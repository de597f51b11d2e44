//! CHANNELS: names for the version that a product offers now, such as `stable`. Moving one makes the
//! next head; the release that it named stays where it is.

pub(crate) mod history;

use serde::{Deserialize, Serialize};

use crate::announce;
use crate::ids::{Channel, ProductId, Version};
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Expect, Op};
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
    #[error("{channel} of {product} named no version before {version} that is still offered")]
    NothingBefore {
        /// The product.
        product: ProductId,
        /// The channel.
        channel: Channel,
        /// The version that the channel names.
        version: Version,
    },
    /// The version was published after the one that the channel names, and never named by it, or is that one.
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
    let product = node.manifest().known_product(id)?;
    let release = node.manifest().known_release(id, version)?;
    offered(id, version, &release)?;
    move_to(node, id, product, channel, Some((version, release.number))).await
}

/// Points a channel back: to this version, which it named before or which is older, or to the newest that it
/// named before the present one and that is still offered.
pub async fn roll_back(
    node: &Node,
    id: &ProductId,
    channel: &Channel,
    version: Option<&Version>,
) -> Result<(Moved, Option<JobId>), ChannelError> {
    let _turn = node.publish_turn().await;
    let product = node.manifest().known_product(id)?;
    let current = named(id, &product, channel)?;
    let manifest = node.manifest();
    let (back_to, number) = match version {
        Some(version) => {
            let back_to = manifest.known_release(id, version)?;
            let now = manifest.known_release(id, &current)?;
            offered(id, version, &back_to)?;
            let named = history::until_now(manifest, id, &product, channel)?;
            let is_before = back_to.number < now.number || named.contains(&back_to.number);
            if !is_before || *version == current {
                return Err(ChannelError::NotBefore {
                    product: id.clone(),
                    channel: channel.clone(),
                    version: version.clone(),
                    current,
                });
            }
            (version.clone(), back_to.number)
        }
        None => {
            let before = history::before(manifest, id, &product, channel)?;
            let (version, release) = before.ok_or_else(|| ChannelError::NothingBefore {
                product: id.clone(),
                channel: channel.clone(),
                version: current,
            })?;
            (version, release.number)
        }
    };
    move_to(node, id, product, channel, Some((&back_to, number))).await
}

/// Removes a channel. Its links end with the next head.
pub async fn remove(
    node: &Node,
    id: &ProductId,
    channel: &Channel,
) -> Result<(Moved, Option<JobId>), ChannelError> {
    let _turn = node.publish_turn().await;
    let product = node.manifest().known_product(id)?;
    named(id, &product, channel)?;
    move_to(node, id, product, channel, None).await
}

/// The one commit.
async fn move_to(
    node: &Node,
    id: &ProductId,
    mut product: Product,
    channel: &Channel,
    release: Option<(&Version, u64)>,
) -> Result<(Moved, Option<JobId>), ChannelError> {
    let version = release.map(|(version, _)| version);
    let before = match release {
        Some(release) => history::point(node.manifest(), id, &mut product, channel, release)?,
        None => {
            product.history.remove(channel);
            product.channels.remove(channel)
        }
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

fn named(id: &ProductId, product: &Product, channel: &Channel) -> Result<Version, ChannelError> {
    let version = product.channels.get(channel);
    version.cloned().ok_or_else(|| ChannelError::NoChannel {
        product: id.clone(),
        channel: channel.clone(),
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
