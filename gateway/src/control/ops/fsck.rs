//! The check of packs and pins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use duka_node::fsck::{self, FsckOptions, Report};
use duka_node::node::Node;

use crate::control::event::{Event, Item, Outcome, Progress};
use crate::control::failure::{Code, Failure};
use crate::control::sink::EventSink;

pub(super) async fn fsck(
    node: &Node,
    options: FsckOptions,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let (progress, bytes) = (sink.clone(), Arc::new(AtomicU64::new(0)));
    let report = fsck::run(node, options, move |more| {
        let bytes = bytes.fetch_add(more, Ordering::Relaxed) + more;
        progress.progress(Progress::new(bytes, None));
    })
    .await?;
    tell_problems(&report, sink).await;
    if report.is_whole() {
        return Ok(Outcome::Fsck {
            deep: options.deep,
            packs: report.packs,
            blocks: report.blocks,
            bytes: report.bytes,
            rebuilt_indexes: report.rebuilt_indexes,
            repaired_blocks: report.repaired_blocks,
        });
    }
    let hint = if options.repair {
        "nobody who was asked has them: publish the folder again, or `duka pin add` its root when a \
         peer that has it is there"
    } else {
        "`duka fsck --repair` fetches them from peers and gateways; or publish the folder again"
    };
    Err(not_whole(&report).hint(hint))
}

/// What a check found to be damaged or missing.
pub(super) fn not_whole(report: &Report) -> Failure {
    let message = format!(
        "of {} blocks {} are damaged, and {} that pins need are missing",
        report.blocks,
        report.damaged.len(),
        report.missing.len()
    );
    Failure::new(Code::Corrupt, message)
}

pub(super) async fn tell_problems(report: &Report, sink: &EventSink) {
    if let Some(renewed) = &report.renewed_manifest {
        let kept = renewed.aside.as_ref();
        let kept = kept.map(|aside| format!("; what it was is kept as {}", aside.display()));
        let message = format!(
            "{} was damaged or missing: journal and checkpoint were written anew from the index, which is \
             whole{}",
            renewed.damaged.display(),
            kept.unwrap_or_default()
        );
        sink.send(Event::Warning { message }).await;
    }
    for pack in &report.bad_packs {
        let message = format!(
            "in {} what lies between the blocks is damaged: they can be read, but without its index the \
             pack could not; `duka fsck --repair` writes it anew",
            pack.display()
        );
        sink.send(Event::Warning { message }).await;
    }
    for file in &report.changed_files {
        let message = format!(
            "{} changed since it was added in place: add it again",
            file.display()
        );
        sink.send(Event::Warning { message }).await;
    }
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
