//! Pins.

use cid::Cid;
use duka_node::fetch::FetchOptions;
use duka_node::manifest::ManifestError;
use duka_node::manifest::change::Conflict;
use duka_node::manifest::record::Pin;
use duka_node::node::Node;
use duka_node::pin::{self, PinRequest};
use futures::StreamExt;

use super::{locate, resolve};
use crate::control::event::{Item, Outcome, PinSize, Progress};
use crate::control::failure::Failure;
use crate::control::sink::EventSink;

pub(super) async fn add(
    node: &Node,
    path: &str,
    name: Option<String>,
    recursive: bool,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let cid = resolve(node, path, &node.fetcher(FetchOptions::kept())).await?;
    let request = PinRequest {
        cid,
        recursive,
        name,
        fetch: FetchOptions::kept(),
    };
    let mut last = duka_node::fetch::Progress::default();
    let mut progress = std::pin::pin!(pin::add(node, request));
    while let Some(now) = progress.next().await {
        last = now?;
        sink.progress(Progress::new(last.bytes, last.total));
    }
    Ok(Outcome::PinAdd {
        cid: cid.to_string(),
        blocks: last.blocks,
        bytes: last.bytes,
        fetched: last.fetched,
    })
}

/// The CID that a content path leads to, by what is stored here.
async fn resolve_here(node: &Node, path: &str) -> Result<Cid, Failure> {
    let located = locate(node, path, &[]).await?;
    if located.segments.is_empty() {
        return Ok(located.root);
    }
    resolve(node, path, &node.fetcher(FetchOptions::offline())).await
}

pub(super) async fn remove(node: &Node, path: &str) -> Result<Outcome, Failure> {
    let cid = resolve_here(node, path).await?;
    pin::remove(node, cid).await?;
    Ok(Outcome::PinRm {
        cid: cid.to_string(),
    })
}

/// Pins as they are read: nothing is collected first.
pub(super) async fn list(
    node: &Node,
    recursive: Option<bool>,
    size: bool,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let mut count = 0;
    for row in node.manifest().pins() {
        let (cid, pin) = row?;
        if recursive.is_some_and(|wanted| wanted != pin.recursive) {
            continue;
        }
        let size = match size {
            true => Some(measured(node, cid, &pin).await?),
            false => None,
        };
        count += 1;
        sink.item(Item::Pin {
            cid: cid.to_string(),
            recursive: pin.recursive,
            name: pin.name,
            size,
        })
        .await;
    }
    Ok(Outcome::List { count })
}

pub(super) async fn stat(node: &Node, path: &str) -> Result<Outcome, Failure> {
    let cid = resolve_here(node, path).await?;
    let Some(pin) = node.manifest().pin(&cid)? else {
        return Err(ManifestError::Conflict(Conflict::NotPinned { cid }).into());
    };
    let size = measured(node, cid, &pin).await?;
    Ok(Outcome::PinStat {
        cid: cid.to_string(),
        recursive: pin.recursive,
        created: pin.created.to_string(),
        name: pin.name,
        size,
    })
}

async fn measured(node: &Node, cid: Cid, pin: &Pin) -> Result<PinSize, Failure> {
    let kept = pin::measure(node, cid, pin.recursive).await?;
    Ok(PinSize {
        blocks: kept.blocks,
        bytes: kept.bytes,
        missing_blocks: kept.missing_blocks,
    })
}
