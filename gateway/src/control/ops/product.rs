//! The catalogue: products and their releases.

use std::collections::BTreeMap;

use bytes::BytesMut;
use duka_node::dag::read;
use duka_node::fetch::FetchOptions;
use duka_node::ids::{ProductId, Version};
use duka_node::manifest::record::{self, Text};
use duka_node::node::Node;
use duka_node::product::{self, Setting};
use duka_node::yank;
use futures::TryStreamExt;
use jiff::Timestamp;

use super::shop::is_signed;
use crate::control::event::{Item, Outcome, Product, Release};
use crate::control::failure::Failure;
use crate::control::sink::EventSink;

/// Longest description shown, in bytes.
const MAX_DESCRIPTION: u64 = 1 << 20;

pub(super) async fn list(node: &Node, sink: &EventSink) -> Result<Outcome, Failure> {
    let mut count = 0;
    for row in node.manifest().products() {
        let (id, product) = row?;
        count += 1;
        sink.item(Item::Product(summary(node, &id, &product)?.0))
            .await;
    }
    Ok(Outcome::List { count })
}

pub(super) async fn search(
    node: &Node,
    terms: String,
    limit: usize,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let found = node.search(terms, limit).await?;
    for id in &found.products {
        if let Some(product) = node.manifest().product(id)? {
            sink.item(Item::Product(summary(node, id, &product)?.0))
                .await;
        }
    }
    Ok(Outcome::Search {
        total: found.total as u64,
    })
}

pub(super) async fn show(node: &Node, id: &ProductId) -> Result<Outcome, Failure> {
    let product = node.manifest().known_product(id)?;
    let description = match &product.description {
        Text::Inline(text) => text.clone(),
        Text::Stored(cid) => {
            let source = node.fetcher(FetchOptions::offline());
            let text: BytesMut = read::read_range(&source, *cid, 0..MAX_DESCRIPTION)
                .try_collect()
                .await?;
            String::from_utf8_lossy(&text).into_owned()
        }
    };
    let (product, newest) = summary(node, id, &product)?;
    Ok(Outcome::ProductShow {
        product,
        description,
        newest,
    })
}

pub(super) async fn history(
    node: &Node,
    id: &ProductId,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    node.manifest().known_product(id)?;
    let mut count = 0;
    for row in node.manifest().releases(id) {
        let (version, found) = row?;
        count += 1;
        sink.item(Item::Release(release(id, &version, &found)))
            .await;
    }
    Ok(Outcome::List { count })
}

pub(super) async fn yank(
    node: &Node,
    id: &ProductId,
    version: &Version,
    undo: bool,
) -> Result<Outcome, Failure> {
    let yanked = match undo {
        true => yank::undo(node, id, version).await?,
        false => yank::yank(node, id, version).await?,
    };
    let gone = yanked.gone.iter().map(ToString::to_string);
    Ok(Outcome::Yank {
        product: id.to_string(),
        version: version.to_string(),
        undo,
        channels: channels(&yanked.product),
        gone: gone.collect(),
        signed: is_signed(node, yanked.job).await?,
    })
}

pub(super) async fn set(node: &Node, id: &ProductId, setting: Setting) -> Result<Outcome, Failure> {
    let job = product::change(node, id, setting).await?;
    Ok(Outcome::ProductSet {
        product: id.to_string(),
        signed: is_signed(node, Some(job)).await?,
    })
}

fn channels(product: &record::Product) -> BTreeMap<String, String> {
    let channels = product.channels.iter();
    channels
        .map(|(channel, version)| (channel.to_string(), version.to_string()))
        .collect()
}

/// The product and its newest release.
fn summary(
    node: &Node,
    id: &ProductId,
    product: &record::Product,
) -> Result<(Product, Option<Release>), Failure> {
    let (mut releases, mut newest) = (0, None);
    for row in node.manifest().releases(id) {
        newest = Some(row?);
        releases += 1;
    }
    let summary = Product {
        product: id.to_string(),
        title: product.title.clone(),
        price: product.price.as_ref().map(ToString::to_string),
        channels: channels(product),
        releases,
        created: seconds(product.created),
    };
    Ok((
        summary,
        newest.map(|(version, found)| release(id, &version, &found)),
    ))
}

fn release(id: &ProductId, version: &Version, release: &record::Release) -> Release {
    Release {
        product: id.to_string(),
        version: version.to_string(),
        cid: release.root.to_string(),
        files: release.files,
        bytes: release.size,
        issued: seconds(release.issued),
        yanked: release.yanked.map(seconds),
    }
}

/// As shop pages have it: UTC, whole seconds.
fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}
