//! `duka channel`.

use clap::Subcommand;
use duka_gateway::control::event::{ChannelMove, Outcome};
use duka_gateway::control::request::Request;
use duka_node::ids::{Channel as Id, ProductId, Version};

use super::unsigned;
use crate::context::Context;
use crate::error::CliError;
use crate::ui::Ui;

/// Name the version that a product offers now: buyers get `PRODUCT:CHANNEL`, such as album:stable
///
///     duka channel set album beta 2.0-rc.1
///     duka channel list album
///     duka channel remove album beta
///
/// `duka publish` moves the channel stable to each new version, or with --channel another one.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum Channel {
    /// Point a channel to a version
    ///
    ///     duka channel set album stable 1.2
    ///     duka channel set album beta 2.0-rc.1
    ///     duka --json channel set album stable 1.2
    #[command(verbatim_doc_comment)]
    Set {
        /// Product id, as in `duka product list`
        product: ProductId,
        /// Channel, such as stable or beta
        channel: Id,
        /// Version, as in `duka product history`
        version: Version,
    },

    /// List the channels of a product: channel, version, CID
    ///
    ///     duka channel list album
    ///     duka --json channel list album
    ///     duka channel list album | cut -f1,2
    #[command(verbatim_doc_comment)]
    List {
        /// Product id, as in `duka product list`
        product: ProductId,
    },

    /// Remove a channel; its versions stay
    ///
    ///     duka channel remove album beta
    ///     duka --json channel remove album beta
    ///     duka --data-dir /srv/shop channel remove album beta
    #[command(verbatim_doc_comment)]
    Remove {
        /// Product id, as in `duka product list`
        product: ProductId,
        /// Channel, as in `duka channel list`
        channel: Id,
    },
}

/// Runs a subcommand.
pub(crate) async fn run(args: Channel, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = match args {
        Channel::Set {
            product,
            channel,
            version,
        } => Request::ChannelSet {
            product,
            channel,
            version,
        },
        Channel::List { product } => Request::ChannelList { product },
        Channel::Remove { product, channel } => Request::ChannelRemove { product, channel },
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::ChannelSet(moved) | Outcome::ChannelRemove(moved) => show(moved, ui),
        _ => Ok(()),
    })
}

/// Says where a channel leads now.
pub(super) fn show(moved: &ChannelMove, ui: &mut Ui) -> Result<(), CliError> {
    let ChannelMove {
        moved,
        cid: _,
        signed,
    } = moved;
    let (product, channel) = (&moved.product, &moved.channel);
    let before = match &moved.before {
        Some(before) => format!(" (before: {before})"),
        None => String::new(),
    };
    ui.note(match &moved.version {
        Some(version) if moved.before.as_ref() == Some(version) => {
            format!("unchanged: {product}:{channel} is {version}")
        }
        Some(version) => format!("{product}:{channel} is {version} now{before}"),
        None => format!("{product}:{channel} is gone{before}"),
    })?;
    if *signed { Ok(()) } else { unsigned(ui) }
}
