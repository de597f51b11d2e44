//! `duka verify`.

use std::path::PathBuf;

use cid::Cid;
use clap::Args;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;
use url::Url;

use super::import::absolute;
use crate::context::Context;
use crate::error::CliError;
use crate::gateways;
use crate::ui::{Ui, count, size};

/// Check that a file or a folder on disk is what a CID says
///
///     duka verify album/ --cid bafy…
///     duka verify song.flac --cid bafk… --mirror https://a.example
///     duka --json verify album/ --cid bafy…
///
/// The files are compared with the tree of the CID, from the data directory or a gateway, and those
/// that differ or are missing are listed: then the exit code is 4. What is on disk besides is listed,
/// too, and is no difference. Permissions and times do not count. When the tree cannot be had the
/// files are imported again, with the usual settings, to see whether that gives the CID.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Verify {
    /// File or folder
    path: PathBuf,

    /// The CID it should have
    #[arg(long)]
    cid: Cid,

    /// Gateway to ask for the tree; may be given several times
    #[arg(long, alias = "gateway", value_name = "URL")]
    mirror: Vec<String>,
}

/// Verifies.
pub(crate) async fn run(args: Verify, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let gateways = gateways::given(cx, &args.mirror)?;
    let request = Request::Verify {
        path: absolute(&args.path)?,
        cid: args.cid,
        gateways: gateways.iter().map(Url::to_string).collect(),
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| {
        let Outcome::Verify {
            cid, bytes, added, ..
        } = &outcome
        else {
            return Ok(());
        };
        if *added > 0 {
            ui.note(format!("{} on disk besides", count(*added, "entry")))?;
        }
        ui.line(format!("{cid}: {} are as they should be", size(*bytes)))
    })
}
