//! `duka verify`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cid::Cid;
use clap::Args;
use duka_gateway::control::event::{Item, Progress};
use duka_gateway::control::failure::{Code, Failure};
use duka_gateway::control::request::Request;
use duka_node::dag::import::ImportedFile;
use serde_json::json;
use tokio::sync::mpsc;

use crate::context::{Context, Signals};
use crate::error::CliError;
use crate::ui::{Ui, size};

/// Check that a file or a folder on disk is what a CID says
///
///     duka verify album/ --cid bafy…
///     duka verify song.flac --cid bafk…
///     duka --json verify album/ --cid bafy…
///
/// Nothing is stored and no node is needed. Exit code 4 when it differs; the files that differ are
/// listed when the tree of the CID is in the data directory.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Verify {
    /// File or folder
    path: PathBuf,

    /// The CID it should have
    #[arg(long)]
    cid: Cid,
}

/// Verifies.
pub(crate) async fn run(args: Verify, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let (sender, mut progress) = mpsc::channel(16);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (path, cid) = (args.path.clone(), args.cid);
    let mut work = tokio::task::spawn_blocking(move || {
        let on_progress: duka_node::dag::import::OnProgress = Arc::new(move |more| {
            let _reader_is_behind = sender.try_send(more);
            !stopped.load(Ordering::Relaxed)
        });
        duka_node::verify::verify(&path, &cid, &on_progress)
    });
    let mut signals = Signals::new()?;
    let mut bytes = 0;
    let verdict = loop {
        tokio::select! {
            done = &mut work => break done,
            Some(more) = progress.recv() => {
                bytes += more;
                ui.progress(Progress { bytes, total: None })?;
            }
            error = signals.next() => {
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
    };
    let verdict = verdict
        .map_err(|error| CliError::new(Code::Other, error.to_string()))?
        .map_err(Failure::from)?;
    if !verdict.matches {
        tell_differences(cx, ui, cid, &verdict.files).await?;
        let path = args.path.display();
        let message = format!("{path} is {}, not {cid}", verdict.found);
        return Err(CliError::new(Code::Corrupt, message)
            .hint("the files differ, or were imported with other settings"));
    }
    ui.result(
        "verify",
        json!({ "cid": cid.to_string(), "bytes": verdict.bytes }),
    )?;
    ui.line(format!(
        "{cid}: {} are as they should be",
        size(verdict.bytes)
    ))
}

/// Lists the files of a folder that are not as in the tree, when that is stored here.
async fn tell_differences(
    cx: &Context,
    ui: &mut Ui,
    cid: Cid,
    files: &[ImportedFile],
) -> Result<(), CliError> {
    let Ok(tree) = cx.entries(ui, Request::Tree { cid }).await else {
        return Ok(());
    };
    let wanted: BTreeMap<_, _> = tree
        .into_iter()
        .filter_map(|item| match item {
            Item::Entry {
                name,
                cid,
                entry_type,
                ..
            } if entry_type.as_deref() == Some("file") => Some((name, cid)),
            _ => None,
        })
        .collect();
    let found: BTreeMap<_, _> = files
        .iter()
        .map(|file| (file.path.clone(), file.cid.to_string()))
        .collect();
    let paths: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    for path in paths {
        let difference = match (wanted.get(path), found.get(path)) {
            (Some(wanted), Some(found)) if wanted == found => continue,
            (Some(_), Some(_)) => "differs",
            (Some(_), None) => "missing",
            (None, _) => "added",
        };
        let item = Item::Difference {
            difference: difference.to_owned(),
            path: path.clone(),
        };
        ui.item(&item, super::row)?;
    }
    Ok(())
}
