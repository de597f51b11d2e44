//! Content from peers and gateways onto this disk.

use std::sync::Arc;

use duka_node::dag::path;
use duka_node::fetch::FetchOptions;
use duka_node::get::{self, GetOptions};
use duka_node::node::Node;

use super::{effort, locate, reachable};
use crate::control::event::{Givers, Outcome, Progress};
use crate::control::failure::Failure;
use crate::control::recorded::recorded_files;
use crate::control::request::Get;
use crate::control::sink::EventSink;

pub(super) async fn get(node: &Node, args: Get, sink: &EventSink) -> Result<Outcome, Failure> {
    let gateways = reachable(node, &args.gateways)?;
    let located = locate(node, &args.path, &gateways).await?;
    let effort = effort(args.retries, args.max_sources);
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
        record: recorded_files(&fetcher, located.root, &located.segments).await?,
    };
    let (progress, source) = (sink.clone(), fetcher.clone());
    let on_progress: get::OnProgress = Arc::new(move |bytes, total| {
        progress.progress(Progress {
            bytes,
            total,
            givers: Some(Givers::of(&source.given())),
        });
    });
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
