//! `duka add`.

use std::path::PathBuf;

use clap::Args;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::{self, Request};

use super::import::{ImportArgs, source};
use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Add a file or a folder without making it a product
///
///     duka add photo.jpg
///     duka add --only-hash album/
///     date | duka add - --name now.txt
///
/// What is added is pinned. The CID is the one that other IPFS programs give the same files with
/// the same profile.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Add {
    /// File or folder; `-` is standard input
    path: PathBuf,

    /// File name of what is read from standard input
    #[arg(long)]
    name: Option<String>,

    /// Do not pin it
    #[arg(long)]
    no_pin: bool,

    /// Compute the CID, store nothing
    #[arg(long, short = 'n')]
    only_hash: bool,

    #[command(flatten)]
    import: ImportArgs,
}

/// Adds.
pub(crate) async fn run(args: Add, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    // A bare file has no name inside its tree, so standard input needs none.
    let name = args
        .name
        .or_else(|| (args.path.as_os_str() == "-").then(|| "stdin".to_owned()));
    args.import.warn(ui)?;
    let (source, input) = source(&args.path, name)?;
    let request = Request::Add(request::Add {
        source,
        import: args.import.request(),
        pin: !args.no_pin,
        only_hash: args.only_hash,
    });
    let outcome = cx.run(ui, request, input, super::row).await?;
    ui.outcome(&outcome, |ui| {
        let Outcome::Add {
            cid,
            files,
            bytes,
            new_bytes,
        } = &outcome
        else {
            return Ok(());
        };
        let (files, bytes, new) = (count(*files, "file"), size(*bytes), size(*new_bytes));
        ui.note(format!("added {files}, {bytes}, {new} new"))?;
        ui.line(cid)
    })
}
