//! CAR files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cid::Cid;
use duka_node::blocking::blocking;
use duka_node::dag::car::{self, CarError, CarSummary};
use duka_node::fetch::FetchOptions;
use duka_node::node::Node;
use duka_node::recent;
use duka_node::store::PackKind;

use super::content::pin_stored;
use super::resolve;
use crate::control::event::{Event, Item, Outcome};
use crate::control::explain::of_io;
use crate::control::failure::{Code, Failure};
use crate::control::sink::EventSink;

/// Imports file by file. A root whose blocks are not all there yet is pinned in the end: a tree may
/// come in several files.
pub(super) async fn import(
    node: &Node,
    files: &[PathBuf],
    pin: bool,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let mut temp_pin = node.temp_pin();
    let (mut roots, mut blocks, mut bytes) = (BTreeSet::new(), 0, 0);
    let (mut incomplete, mut failed) = (Vec::new(), Vec::new());
    for file in files {
        let read = import_one(node, file).await;
        // Whole blocks before a bad place are kept, whatever comes after.
        node.commit_blocks().await?;
        let summary = match read {
            Ok(summary) => summary,
            Err(failure) => {
                failed.push(failure);
                continue;
            }
        };
        blocks += summary.blocks;
        bytes += summary.bytes;
        let mut later = Vec::new();
        for root in summary.roots {
            if roots.insert(root) {
                temp_pin.hold(root);
                match pin {
                    true if pin_stored(node, root).await.is_err() => later.push(root),
                    pinned => tell(root, pinned, sink).await,
                }
            }
        }
        if !later.is_empty() {
            incomplete.push((file, later));
        }
    }
    for (file, roots) in incomplete {
        let mut first_failure = None;
        for root in roots {
            let pinned = pin_stored(node, root).await;
            tell(root, pinned.is_ok(), sink).await;
            if let Err(failure) = pinned {
                first_failure.get_or_insert(of_root(file, root, failure));
            }
        }
        failed.extend(first_failure);
    }
    if !pin {
        recent::note(node, roots.iter().copied()).await?;
    }
    let outcome = Outcome::CarImport {
        blocks,
        bytes,
        roots: roots.len() as u64,
    };
    conclude(outcome, files.len(), failed, sink).await
}

async fn import_one(node: &Node, file: &Path) -> Result<CarSummary, Failure> {
    let (store, path) = (node.store().clone(), file.to_owned());
    let read = blocking(move || {
        let mut file = std::fs::File::open(path).map_err(CarError::Io)?;
        car::import(&store, PackKind::Kept, &mut file)
    });
    read.await.map_err(|error| {
        let mut failure = match &error {
            CarError::Io(source) => Failure::of(of_io(source), &error),
            _ => error.into(),
        };
        failure.message = format!("{}: {}", file.display(), failure.message);
        failure
    })
}

async fn tell(root: Cid, pinned: bool, sink: &EventSink) {
    let cid = root.to_string();
    sink.item(Item::Root { cid, pinned }).await;
}

fn of_root(file: &Path, root: Cid, mut failure: Failure) -> Failure {
    let file = file.display();
    failure.message = format!("{file}: {root} is not pinned: {}", failure.message);
    failure.hints = vec!["--no-pin imports without pinning".to_owned()];
    failure
}

/// The failure of the only file is that of the command; of several, each is told.
async fn conclude(
    outcome: Outcome,
    files: usize,
    mut failed: Vec<Failure>,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let count = failed.len();
    let code = match failed.first() {
        None => return Ok(outcome),
        Some(_) if files == 1 => return Err(failed.remove(0)),
        Some(_) if count < files => Code::Partial,
        Some(first) => first.code,
    };
    for failure in failed {
        let message = failure.message;
        sink.send(Event::Warning { message }).await;
    }
    let message = format!("{count} of {files} files could not be imported and pinned");
    Err(Failure::new(code, message))
}

pub(super) async fn export(node: &Node, path: &str, file: &Path) -> Result<Outcome, Failure> {
    let fetcher = node.fetcher(FetchOptions::cached());
    let cid = resolve(node, path, &fetcher).await?;
    let summary = car::export(&fetcher, cid, file).await?;
    Ok(Outcome::CarExport {
        cid: cid.to_string(),
        file: file.display().to_string(),
        blocks: summary.blocks,
        bytes: summary.bytes,
    })
}
