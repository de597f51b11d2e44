//! Files on disk against a CID.

use std::path::Path;
use std::sync::Arc;

use cid::Cid;
use duka_node::fetch::FetchOptions;
use duka_node::node::Node;
use duka_node::verify::{self, Way};

use super::urls;
use crate::control::event::{Event, Item, Outcome, Progress};
use crate::control::failure::{Code, Failure};
use crate::control::sink::EventSink;

/// Only gateways that are given are asked for the tree: without any nothing leaves this machine.
pub(super) async fn verify(
    node: &Node,
    path: &Path,
    cid: Cid,
    gateways: &[String],
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let gateways = urls(gateways)?;
    let source = node.fetcher(FetchOptions {
        offline: gateways.is_empty(),
        gateways,
        ..FetchOptions::cached()
    });
    let progress = sink.clone();
    let on_progress: verify::OnProgress =
        Arc::new(move |bytes| progress.progress(Progress::new(bytes, None)));
    let verdict = verify::verify(&source, path, cid, on_progress).await?;

    let (mut added, mut wrong) = (0, 0);
    for difference in verdict.differences {
        let count = match difference.kind {
            verify::Kind::Added => &mut added,
            verify::Kind::Differs | verify::Kind::Missing => &mut wrong,
        };
        *count += 1;
        let item = Item::Difference {
            difference: difference.kind.name().to_owned(),
            path: if difference.path.is_empty() {
                path.display().to_string()
            } else {
                difference.path
            },
        };
        sink.item(item).await;
    }
    let path = path.display();
    match verdict.way {
        Way::Tree if wrong == 0 => Ok(outcome(cid, verdict.bytes, added, "tree")),
        Way::Tree => {
            let message =
                format!("{path} is not {cid}: {wrong} of its entries differ or are missing");
            Err(Failure::new(Code::Corrupt, message)
                .hint("`duka get --update` brings what differs"))
        }
        Way::Import { found } if found == cid => {
            let message = format!(
                "the tree of {cid} is not stored here; the files were imported again, and have this CID"
            );
            sink.send(Event::Warning { message }).await;
            Ok(outcome(cid, verdict.bytes, added, "import"))
        }
        Way::Import { found } => {
            let message = format!("{path} is {found}, not {cid}");
            Err(Failure::new(Code::Corrupt, message).hint(
                "the files differ, or were imported with other settings than the usual ones; \
                 with --gateway URL they are compared one by one",
            ))
        }
    }
}

fn outcome(cid: Cid, bytes: u64, added: u64, way: &str) -> Outcome {
    Outcome::Verify {
        cid: cid.to_string(),
        bytes,
        added,
        way: way.to_owned(),
    }
}
