//! `duka gc`.

use clap::Args;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Remove the blocks that no pin, release or head refers to
///
///     duka gc --dry-run
///     duka gc
///     duka --json gc
///
/// A running node does this by itself, every `store.gc_interval`. Publishes, pins and downloads go
/// on meanwhile.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Gc {
    /// Only say how much would be removed
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// Collects.
pub(crate) async fn run(args: &Gc, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let dry_run = args.dry_run;
    let request = Request::Gc { dry_run };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::Gc { left_bytes, .. } if dry_run => {
            ui.line(format!("{} are referred to by nothing", size(*left_bytes)))
        }
        Outcome::Gc {
            freed_bytes,
            left_bytes,
            removed_packs,
            rewritten_packs,
            ..
        } => ui.line(format!(
            "freed {}: {} removed, {} written anew; {} stay, too few in their packs",
            size(*freed_bytes),
            count(*removed_packs, "pack"),
            count(*rewritten_packs, "pack"),
            size(*left_bytes)
        )),
        _ => Ok(()),
    })
}
