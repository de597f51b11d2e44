//! `duka rebuild`.

use clap::Args;
use duka_gateway::control;
use duka_gateway::control::event::Outcome;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count};

/// Make anew what follows from the journal and the packs, and say what is missing
///
///     duka rebuild
///     duka --data-dir /srv/shop rebuild
///     duka --json rebuild
///
/// For a data directory whose index or index files are lost or suspect. No node may run in it; beside
/// one, `duka fsck --repair-index` makes damaged index files anew. Where journal and checkpoint are
/// not whole, or end before the index does, it says what is lost, and changes nothing. The index before
/// is kept as `manifest/index.broken-<time>`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Rebuild {}

/// Makes it anew. Exit code 4 when something is lost, damaged or missing.
pub(crate) async fn run(_args: Rebuild, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let events = control::rebuild(cx.data_dir.clone(), cx.config().clone());
    let outcome = cx.consume(ui, events, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::Rebuild {
            products,
            releases,
            pins,
            packs,
            blocks,
            rebuilt_indexes,
        } => ui.line(format!(
            "made the index of {}, {} and {} anew, and {} for {} in {}",
            count(*products, "product"),
            count(*releases, "release"),
            count(*pins, "pin"),
            count(*rebuilt_indexes, "index file"),
            count(*blocks, "block"),
            count(*packs, "pack"),
        )),
        _ => Ok(()),
    })
}
