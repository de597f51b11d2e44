//! `duka yank`.

use clap::Args;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;
use duka_node::ids::{ProductId, Version};

use super::unsigned;
use crate::context::Context;
use crate::error::CliError;
use crate::ui::Ui;

/// Withdraw a version: it is no longer offered, but stays downloadable by its number
///
///     duka yank album 1.2
///     duka yank album 1.2 --undo
///     duka --json yank album 1.2
///
/// Channels that name it move to the newest version that is still offered.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Yank {
    /// Product id, as in `duka product list`
    product: ProductId,

    /// Version, as in `duka product history`
    version: Version,

    /// Offer it again; channels stay where they are
    #[arg(long)]
    undo: bool,
}

/// Yanks.
pub(crate) async fn run(args: Yank, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = Request::Yank {
        product: args.product,
        version: args.version,
        undo: args.undo,
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| {
        let Outcome::Yank {
            product,
            version,
            undo,
            channels,
            signed,
        } = &outcome
        else {
            return Ok(());
        };
        ui.note(match undo {
            true => format!("{product} {version} is offered again"),
            false => format!("{product} {version} is no longer offered"),
        })?;
        for (channel, version) in channels {
            ui.line(format!("{channel}\t{version}"))?;
        }
        if *signed { Ok(()) } else { unsigned(ui) }
    })
}
