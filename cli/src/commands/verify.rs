//! `duka verify`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cid::Cid;
use clap::Args;
use duka_gateway::control::event::Progress;
use duka_gateway::control::failure::{Code, Failure};
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
/// Nothing is stored and no node is needed. Exit code 4 when it differs.
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
pub(crate) async fn run(args: Verify, _cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
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
