//! `duka cat`.

use clap::Args;
use duka_gateway::control::request::Request;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::Ui;

/// Write a file to standard output
///
///     duka cat bafy…/readme.txt
///     duka cat /ipns/k51…/shop.json
///     duka cat bafy… --offset 1000 --length 100
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Cat {
    /// CID, CID/path, /ipfs/CID/path or /ipns/NAME/path
    path: String,

    /// Bytes to skip
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    offset: u64,

    /// Write at most so many bytes
    #[arg(long, value_name = "BYTES")]
    length: Option<u64>,
}

/// Writes the file. With `--json` standard output still has the bytes alone, and no events.
pub(crate) async fn run(args: Cat, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = Request::Cat {
        path: args.path,
        offset: args.offset,
        length: args.length,
        gateways: Vec::new(),
        retries: None,
        max_sources: None,
        rate: None,
    };
    ui.data_only();
    cx.run(ui, request, None, super::row).await?;
    Ok(())
}
