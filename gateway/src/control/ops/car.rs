//! CAR files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use duka_node::blocking::blocking;
use duka_node::dag::car::{self, CarError, CarSummary};
use duka_node::fetch::FetchOptions;
use duka_node::node::Node;
use duka_node::store::PackKind;

use super::content::pin_stored;
use super::resolve;
use crate::control::event::{Item, Outcome};
use crate::control::explain::of_io;
use crate::control::failure::Failure;
use crate::control::sink::EventSink;

pub(super) async fn import(
    node: &Node,
    files: &[PathBuf],
    pin: bool,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let (mut roots, mut blocks, mut bytes) = (BTreeSet::new(), 0, 0);
    for file in files {
        let read = import_one(node, file).await;
        // Whole blocks before a bad place are kept, whatever comes after.
        node.commit_blocks().await?;
        let summary = read?;
        blocks += summary.blocks;
        bytes += summary.bytes;
        roots.extend(summary.roots);
    }
    for root in &roots {
        if pin {
            pin_stored(node, *root).await.map_err(|failure| {
                failure.hint(format!(
                    "{root} is not whole in these files; --no-pin imports without pinning"
                ))
            })?;
        }
        sink.item(Item::Root {
            cid: root.to_string(),
            pinned: pin,
        })
        .await;
    }
    Ok(Outcome::CarImport {
        blocks,
        bytes,
        roots: roots.len() as u64,
    })
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
