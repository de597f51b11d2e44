//! Channels: which version a product offers.

use duka_node::channel::{self, ChannelError, Moved};
use duka_node::ids::{Channel, ProductId, Version};
use duka_node::manifest::record::JobId;
use duka_node::node::Node;

use super::shop::is_signed;
use crate::control::event::{ChannelMove, Item, Outcome};
use crate::control::failure::Failure;
use crate::control::sink::EventSink;

pub(super) async fn set(
    node: &Node,
    product: &ProductId,
    channel: &Channel,
    version: &Version,
) -> Result<Outcome, Failure> {
    let moved = channel::set(node, product, channel, version).await;
    Ok(Outcome::ChannelSet(shown(node, moved).await?))
}

pub(super) async fn remove(
    node: &Node,
    product: &ProductId,
    channel: &Channel,
) -> Result<Outcome, Failure> {
    let moved = channel::remove(node, product, channel).await;
    Ok(Outcome::ChannelRemove(shown(node, moved).await?))
}

pub(super) async fn roll_back(
    node: &Node,
    product: &ProductId,
    channel: &Channel,
    version: Option<&Version>,
) -> Result<Outcome, Failure> {
    let moved = channel::roll_back(node, product, channel, version).await;
    Ok(Outcome::Rollback(shown(node, moved).await?))
}

pub(super) async fn list(
    node: &Node,
    id: &ProductId,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let product = node.manifest().known_product(id)?;
    for (channel, version) in &product.channels {
        let release = node.manifest().release(id, version)?;
        sink.item(Item::Channel {
            product: id.to_string(),
            channel: channel.to_string(),
            version: version.to_string(),
            cid: release.map(|release| release.root.to_string()),
        })
        .await;
    }
    Ok(Outcome::List {
        count: product.channels.len() as u64,
    })
}

async fn shown(
    node: &Node,
    moved: Result<(Moved, Option<JobId>), ChannelError>,
) -> Result<ChannelMove, Failure> {
    let (moved, job) = moved?;
    let release = match &moved.version {
        Some(version) => node.manifest().release(&moved.product, version)?,
        None => None,
    };
    Ok(ChannelMove {
        moved,
        cid: release.map(|release| release.root.to_string()),
        signed: is_signed(node, job).await?,
    })
}
