//! Pins.

use duka_node::fetch::FetchOptions;
use duka_node::node::Node;
use duka_node::pin::{self, PinRequest};
use futures::StreamExt;

use super::{locate, resolve};
use crate::control::event::{Item, Outcome, Progress};
use crate::control::failure::Failure;
use crate::control::sink::EventSink;

pub(super) async fn add(
    node: &Node,
    path: &str,
    name: Option<String>,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let cid = resolve(node, path, &node.fetcher(FetchOptions::kept())).await?;
    let request = PinRequest {
        cid,
        recursive: true,
        name,
        fetch: FetchOptions::kept(),
    };
    let mut last = duka_node::fetch::Progress::default();
    let mut progress = std::pin::pin!(pin::add(node, request));
    while let Some(now) = progress.next().await {
        last = now?;
        sink.progress(Progress {
            bytes: last.bytes,
            total: last.total,
        });
    }
    Ok(Outcome::PinAdd {
        cid: cid.to_string(),
        blocks: last.blocks,
        bytes: last.bytes,
        fetched: last.fetched,
    })
}

pub(super) async fn remove(node: &Node, path: &str) -> Result<Outcome, Failure> {
    let located = locate(node, path, &[]).await?;
    let cid = if located.segments.is_empty() {
        located.root
    } else {
        resolve(node, path, &node.fetcher(FetchOptions::offline())).await?
    };
    pin::remove(node, cid).await?;
    Ok(Outcome::PinRm {
        cid: cid.to_string(),
    })
}

pub(super) async fn list(node: &Node, sink: &EventSink) -> Result<Outcome, Failure> {
    let mut count = 0;
    for row in node.manifest().pins() {
        let (cid, pin) = row?;
        count += 1;
        sink.item(Item::Pin {
            cid: cid.to_string(),
            recursive: pin.recursive,
            name: pin.name,
        })
        .await;
    }
    Ok(Outcome::List { count })
}
