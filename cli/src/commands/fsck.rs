//! `duka fsck`.

use clap::Args;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Check that every stored block is whole and that no pin lacks a block
///
///     duka fsck
///     duka fsck --repair-index
///     duka --json fsck
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Fsck {
    /// Make the index files anew from the packs
    #[arg(long)]
    repair_index: bool,
}

/// Checks. Exit code 4 when something is damaged or missing.
pub(crate) async fn run(args: Fsck, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = Request::Fsck {
        repair_index: args.repair_index,
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::Fsck {
            packs,
            blocks,
            bytes,
            rebuilt_indexes,
        } => {
            let (packs, blocks) = (count(*packs, "pack"), count(*blocks, "block"));
            ui.line(format!("whole: {packs}, {blocks}, {}", size(*bytes)))?;
            if *rebuilt_indexes > 0 {
                ui.line(format!(
                    "made {} anew",
                    count(*rebuilt_indexes, "index file")
                ))?;
            }
            Ok(())
        }
        _ => Ok(()),
    })
}
