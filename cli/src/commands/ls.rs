//! `duka ls`.

use clap::Args;
use duka_gateway::control::request::Request;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::Ui;

/// List a directory: CID, type, size, name
///
///     duka ls bafy…
///     duka ls bafy…/photos
///     duka --json ls /ipns/k51…/p
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Ls {
    /// CID, CID/path, /ipfs/CID/path or /ipns/NAME/path
    path: String,
}

/// Lists.
pub(crate) async fn run(args: Ls, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = Request::Ls { path: args.path };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |_| Ok(()))
}
