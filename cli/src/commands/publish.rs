//! `duka publish`.

use std::path::PathBuf;

use clap::Args;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::{self, Request};
use duka_node::ids::{Channel, ProductId, Version};
use duka_node::manifest::record::Price;

use super::import::{ImportArgs, extra, source};
use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Publish a file or a folder as a new version of a product
///
///     duka publish album/ --product album --version 1.2 --notes changes.md
///     duka publish app/ --product app --if-changed --ignore '*.tmp'
///     tar c site | duka publish - --name site.tar --product site
///
/// The version is there when the command is done: stored, pinned and durable. The node then signs
/// the shop's next head and tells the network. Versions never change; publish a new one instead.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Publish {
    /// File or folder; `-` is standard input
    path: PathBuf,

    /// Product id: a-z, 0-9 and -; made when it is new
    #[arg(long, value_name = "ID")]
    product: ProductId,

    /// Version, beginning with a digit [default: the whole number after the largest so far]
    #[arg(long, value_name = "V")]
    version: Option<Version>,

    /// Channel that moves to the new version, such as beta [default: stable]
    #[arg(long)]
    channel: Option<Channel>,

    /// Title shown to buyers
    #[arg(long)]
    title: Option<String>,

    /// Description shown to buyers, Markdown
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Price, such as 9.50USD
    #[arg(long, value_parser = crate::price::parse, allow_hyphen_values = true)]
    price: Option<Price>,

    /// Release notes, a Markdown file
    #[arg(long, value_name = "FILE")]
    notes: Option<PathBuf>,

    /// Cover picture
    #[arg(long, value_name = "FILE")]
    cover: Option<PathBuf>,

    /// File name of what is read from standard input
    #[arg(long)]
    name: Option<String>,

    /// Publish no version when the newest one has the same files
    #[arg(long)]
    if_changed: bool,

    /// Compute the CID and the sizes, store nothing
    #[arg(long, short = 'n')]
    dry_run: bool,

    #[command(flatten)]
    import: ImportArgs,
}

/// Says what a price does not do.
pub(super) fn warn_of_price(ui: &mut Ui) -> Result<(), CliError> {
    ui.warn(
        "the files are public, with or without a price: whoever has the CID can read them, until \
         encryption is there",
    )
}

/// Publishes.
pub(crate) async fn run(args: Publish, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    if args.price.is_some() {
        warn_of_price(ui)?;
    }
    let (source, input) = source(&args.path, args.name)?;
    let file = |path: Option<PathBuf>| path.as_deref().map(extra).transpose();
    let request = Request::Publish(request::Publish {
        source,
        product: args.product,
        version: args.version,
        channel: args.channel,
        title: args.title,
        description: args.description,
        price: args.price,
        notes: file(args.notes)?,
        cover: file(args.cover)?,
        import: args.import.request(),
        if_changed: args.if_changed,
        dry_run: args.dry_run,
    });
    let outcome = cx.run(ui, request, input, super::row).await?;
    ui.outcome(&outcome, |ui| {
        let Outcome::Publish(published) = &outcome else {
            return Ok(());
        };
        let done = match (published.released, args.dry_run) {
            (true, _) => "published",
            (false, true) => "would publish",
            (false, false) => "unchanged:",
        };
        ui.note(format!(
            "{done} {} {}: {}, {}, {} new, in {:.2} s",
            published.product,
            published.version,
            count(published.files, "file"),
            size(published.bytes),
            size(published.new_bytes),
            published.duration_seconds
        ))?;
        ui.line(&published.cid)
    })
}
