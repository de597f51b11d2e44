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
/// Channels that name it go back to the newest version that they named before and that is still
/// offered; a channel that named no other goes away.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Yank {
    /// Product id, as in `duka product list`
    product: ProductId,

    /// Version, as in `duka product history`
    version: Version,

    /// Offer it again; channels stay where they are, and one that went away with it comes back
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
            gone,
            signed,
        } = &outcome
        else {
            return Ok(());
        };
        ui.note(match undo {
            true => format!("{product} {version} is offered again"),
            false => format!("{product} {version} is no longer offered"),
        })?;
        for channel in gone {
            ui.note(format!(
                "{channel} is gone: no other version that it named is offered; `duka channel set {product} \
                 {channel} VERSION` brings it back"
            ))?;
        }
        for (channel, version) in channels {
            ui.line(format!("{channel}\t{version}"))?;
        }
        if *signed { Ok(()) } else { unsigned(ui) }
    })
}
