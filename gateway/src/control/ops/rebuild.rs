//! Making anew what follows from journal and packs, without a node.

use std::path::PathBuf;

use duka_config::Config;
use duka_node::blocking::blocking;
use duka_node::rebuild;
use tokio_util::sync::CancellationToken;

use super::fsck::{not_whole, tell_problems};
use crate::control::event::{Outcome, Progress};
use crate::control::failure::Failure;
use crate::control::sink::EventSink;

pub(in crate::control) async fn rebuild(
    data_dir: PathBuf,
    config: Config,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let stop = CancellationToken::new();
    let _ends_with_this_future = stop.clone().drop_guard();
    let progress = sink.clone();
    let work = move || {
        rebuild::run(&data_dir, &config, &stop, &|bytes, total| {
            let total = Some(total);
            progress.progress(Progress::new(bytes, total));
        })
    };
    let report = blocking(work).await?;
    tell_problems(&report.check, sink).await;
    if !report.check.is_whole() {
        let hint = "`duka fsck --repair` fetches them from peers and gateways; or restore a backup";
        return Err(not_whole(&report.check).hint(hint));
    }
    Ok(Outcome::Rebuild {
        products: report.counts.products,
        releases: report.counts.releases,
        pins: report.counts.pins,
        packs: report.check.packs,
        blocks: report.check.blocks,
        rebuilt_indexes: report.rebuilt_indexes,
    })
}
