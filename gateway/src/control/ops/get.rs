//! Content from peers and gateways onto this disk.

use std::sync::Arc;

use duka_node::dag::path;
use duka_node::fetch::FetchOptions;
use duka_node::get::{self, GetOptions};
use duka_node::node::Node;
use duka_node::source::trustless::Effort;

use super::{locate, urls};
use crate::control::event::{Outcome, Progress};
use crate::control::executables::executables;
use crate::control::failure::Failure;
use crate::control::request::Get;
use crate::control::sink::EventSink;

pub(super) async fn get(node: &Node, args: Get, sink: &EventSink) -> Result<Outcome, Failure> {
    let gateways = urls(&args.gateways)?;
    let located = locate(node, &args.path, &gateways).await?;
    let usual = Effort::default();
    let effort = Effort {
        retries: args.retries.unwrap_or(usual.retries),
        max_sources: args.max_sources.unwrap_or(usual.max_sources),
    };
    let fetcher = node.fetcher(FetchOptions {
        gateways,
        effort,
        ..FetchOptions::cached()
    });
    let found = path::resolve(&fetcher, located.root, &located.segments).await?;
    let options = GetOptions {
        update: args.update,
        restart: args.restart,
        window: node.config().network.limits.window,
        rate: args.rate,
        from: args.from,
        executables: executables(&fetcher, located.root, &located.segments).await?,
    };
    let progress = sink.clone();
    let on_progress: get::OnProgress =
        Arc::new(move |bytes, total| progress.progress(Progress { bytes, total }));
    let got = get::get(&fetcher, found.cid, &args.out, &options, on_progress).await?;
    Ok(Outcome::Get {
        cid: found.cid.to_string(),
        path: args.out.display().to_string(),
        files: got.files,
        bytes: got.bytes,
        fetched: got.fetched,
        reused: got.reused,
        sources: fetcher.given().into_iter().map(Into::into).collect(),
    })
}
