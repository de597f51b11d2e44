//! `duka publish`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::{self, Request, Wait};
use duka_node::ids::{Channel, ProductId, Version};
use duka_node::manifest::record::Price;

use super::import::{ImportArgs, existing, source};
use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Publish a file or a folder as a new version of a product
///
///     duka publish album/ --product album --version 1.2 --notes changes.md
///     duka publish app/ --product app --if-changed --ignore '*.tmp'
///     tar c site | duka publish - --name site.tar --product site
///     duka publish album/ --product album --wait mirrors:2,gateway:https://gateway.example
///
/// The version is there when the command is done: stored, pinned and durable. The node then signs
/// the shop's next head and tells the network. Versions never change; publish a new one instead.
///
/// With --wait it is done when a gateway, asked by the shop's name, gives the new head, and blocks
/// of the version that are chosen by chance, and when a mirror proves at once that it has such
/// blocks: 50, or all. What is missing when --timeout is over (10 minutes without it) is said, with
/// exit code 7; the version stays published. When the shop names fewer than mirrors:N asks for,
/// nothing is published, with exit code 6.
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

    /// Cover picture, of 16 MiB and 52 MiB decoded at most: 4000 × 4000 pixels
    #[arg(long, value_name = "FILE")]
    cover: Option<PathBuf>,

    /// File name of what is read from standard input
    #[arg(long)]
    name: Option<String>,

    /// Publish no version when what the channel names, or the newest one that is offered, has the same
    /// files; channel, title, description, price and cover are set all the same
    #[arg(long)]
    if_changed: bool,

    /// Compute the CID and the sizes, store nothing
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Be done only when others have it, asked from outside: gateway:URL, mirrors:N for N of the shop's
    /// gateways and mirrors; several with commas
    #[arg(long, value_name = "WHO", value_delimiter = ',', value_parser = wait, conflicts_with = "dry_run")]
    wait: Vec<Wait>,

    #[command(flatten)]
    import: ImportArgs,
}

/// Time for the node to say what is missing when `--timeout` is over.
const WAIT_GRACE: Duration = Duration::from_secs(5);

/// Reads `mirrors:2` and `gateway:https://gateway.example`.
fn wait(text: &str) -> Result<Wait, String> {
    let unknown = || format!("{text:?} is neither mirrors:N nor gateway:URL");
    match text.split_once(':').ok_or_else(unknown)? {
        ("gateway", url) => Ok(Wait::Gateway(url.to_owned())),
        ("mirrors", count) => match count.parse() {
            Ok(count @ 1..) => Ok(Wait::Mirrors(count)),
            _ => Err(format!("{count:?} is not a number of mirrors")),
        },
        _ => Err(unknown()),
    }
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
    args.import.warn(ui)?;
    let (source, input) = source(&args.path, args.name)?;
    let waits = !args.wait.is_empty();
    let file = |path: Option<PathBuf>| path.as_deref().map(existing).transpose();
    let request = Request::Publish(Box::new(request::Publish {
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
        wait_seconds: cx.timeout().map(|limit| limit.as_secs()),
        wait: args.wait,
    }));
    let outcome = match waits {
        true => cx.run_longer(WAIT_GRACE, ui, request, input).await?,
        false => cx.run(ui, request, input, super::row).await?,
    };
    ui.outcome(&outcome, |ui| {
        let Outcome::Publish(published) = &outcome else {
            return Ok(());
        };
        let done = match (published.released, published.updated, args.dry_run) {
            (true, ..) => "published",
            (false, _, true) => "would publish",
            (false, false, false) => "unchanged:",
            (false, true, false) => "no new files, but all else is as you said:",
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
        if published.notes_kept {
            let version = &published.version;
            ui.warn(format!(
                "{version} keeps its notes: a version never changes"
            ))?;
        }
        for place in &published.proved_by {
            ui.note(format!("{place} has it"))?;
        }
        ui.line(&published.cid)
    })
}
