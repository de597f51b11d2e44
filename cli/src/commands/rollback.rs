//! `duka rollback`.

use clap::Args;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;
use duka_node::ids::{Channel, ProductId, Version};

use super::channel::show;
use crate::context::Context;
use crate::error::CliError;
use crate::ui::Ui;

/// Point a channel back to an older version: buyers get that one from now on
///
///     duka rollback album stable
///     duka rollback album stable 1.1
///     duka --json rollback album stable
///
/// The newer version stays downloadable by its number; `duka yank` marks it as withdrawn. Nothing is
/// uploaded again: the shop's next head, with a higher number, names the older release.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Rollback {
    /// Product id, as in `duka product list`
    product: ProductId,

    /// Channel, as in `duka channel list`
    channel: Channel,

    /// Version [default: the one that the channel named before, unless it is yanked]
    version: Option<Version>,
}

/// Rolls back.
pub(crate) async fn run(args: Rollback, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = Request::Rollback {
        product: args.product,
        channel: args.channel,
        version: args.version,
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::Rollback(moved) => show(moved, ui),
        _ => Ok(()),
    })
}
