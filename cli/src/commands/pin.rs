//! `duka pin`.

use clap::Subcommand;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Keep trees, give them up, and list those that are kept
///
///     duka pin add bafy…
///     duka pin rm bafy…
///     duka pin ls
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum Pin {
    /// Fetch a tree and keep it
    ///
    ///     duka pin add bafy…
    ///     duka pin add /ipns/k51…/p/album/stable --name album
    ///     duka --timeout 10m pin add bafy…
    #[command(verbatim_doc_comment)]
    Add {
        /// CID, CID/path, /ipfs/CID/path or /ipns/NAME/path
        path: String,
        /// A label
        #[arg(long)]
        name: Option<String>,
    },

    /// Give a tree up
    ///
    ///     duka pin rm bafy…
    ///     duka pin rm /ipfs/bafy…/photos
    ///     duka --json pin rm bafy…
    #[command(verbatim_doc_comment)]
    Rm {
        /// CID, CID/path or /ipfs/CID/path
        path: String,
    },

    /// List all pins: CID, mode, label
    ///
    ///     duka pin ls
    ///     duka --json pin ls
    ///     duka pin ls | grep album
    #[command(verbatim_doc_comment)]
    Ls,
}

/// Runs a subcommand.
pub(crate) async fn run(args: Pin, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = match args {
        Pin::Add { path, name } => Request::PinAdd { path, name },
        Pin::Rm { path } => Request::PinRm { path },
        Pin::Ls => Request::PinLs,
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::PinAdd {
            cid,
            blocks,
            bytes,
            fetched,
        } => {
            let (blocks, bytes) = (count(*blocks, "block"), size(*bytes));
            ui.note(format!(
                "pinned {blocks}, {bytes}, {} fetched",
                size(*fetched)
            ))?;
            ui.line(cid)
        }
        Outcome::PinRm { cid } => ui.note(format!("{cid} is no longer pinned")),
        _ => Ok(()),
    })
}
