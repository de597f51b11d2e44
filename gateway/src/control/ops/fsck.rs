//! The check of packs and pins.

use std::sync::atomic::{AtomicU64, Ordering};

use duka_node::blocking::blocking;
use duka_node::fsck::{self, Report};
use duka_node::node::Node;

use crate::control::event::{Item, Outcome, Progress};
use crate::control::failure::{Code, Failure};
use crate::control::sink::EventSink;

pub(super) async fn fsck(
    node: &Node,
    repair_index: bool,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let (store, manifest, progress) = (node.store().clone(), node.manifest().clone(), sink.clone());
    let report = blocking(move || {
        let bytes = AtomicU64::new(0);
        fsck::fsck(&store, &manifest, repair_index, &|more| {
            let bytes = bytes.fetch_add(more, Ordering::Relaxed) + more;
            progress.progress(Progress { bytes, total: None });
        })
    })
    .await?;
    tell_problems(&report, sink).await;
    if report.damaged.is_empty() && report.missing.is_empty() {
        Ok(Outcome::Fsck {
            packs: report.packs,
            blocks: report.blocks,
            bytes: report.bytes,
            rebuilt_indexes: report.rebuilt_indexes,
        })
    } else {
        let message = format!(
            "of {} blocks {} are damaged, and {} that pins need are missing",
            report.blocks,
            report.damaged.len(),
            report.missing.len()
        );
        Err(Failure::new(Code::Corrupt, message).hint(
            "publish the folder again, or `duka pin add` its root from a peer or gateway that has it",
        ))
    }
}

async fn tell_problems(report: &Report, sink: &EventSink) {
    for cid in &report.damaged {
        sink.item(Item::Problem {
            problem: "damaged".to_owned(),
            cid: cid.to_string(),
            root: None,
        })
        .await;
    }
    for (root, cid) in &report.missing {
        sink.item(Item::Problem {
            problem: "missing".to_owned(),
            cid: cid.to_string(),
            root: Some(root.to_string()),
        })
        .await;
    }
}
