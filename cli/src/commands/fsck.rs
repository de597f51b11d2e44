//! `duka fsck`.

use clap::Args;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Check that the store is whole and that no pin lacks a block
///
///     duka fsck
///     duka fsck --deep --repair
///     duka fsck --repair-index
///
/// Checks the index files, what lies between the blocks, and that everything pinned or released is
/// there. With --deep every block is read and hashed as well, and journal and checkpoint are read,
/// which are written anew from the index where they are damaged. A running node does this by itself
/// every `store.scrub_interval`: `duka stat` says when, and what it found.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Fsck {
    /// Read and hash every block
    #[arg(long)]
    deep: bool,

    /// Fetch damaged and missing blocks from peers and gateways
    #[arg(long)]
    repair: bool,

    /// Make damaged index files anew from the packs; --repair does it, too
    #[arg(long)]
    repair_index: bool,
}

/// Checks. Exit code 4 when something is damaged or missing.
pub(crate) async fn run(args: Fsck, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = Request::Fsck {
        deep: args.deep,
        repair: args.repair,
        repair_index: args.repair_index,
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::Fsck {
            deep,
            packs,
            blocks,
            bytes,
            rebuilt_indexes,
            repaired_blocks,
        } => {
            let (packs, blocks) = (count(*packs, "pack"), count(*blocks, "block"));
            ui.line(format!("whole: {packs}, {blocks}, {}", size(*bytes)))?;
            if *rebuilt_indexes > 0 {
                ui.line(format!(
                    "made {} anew",
                    count(*rebuilt_indexes, "index file")
                ))?;
            }
            if *repaired_blocks > 0 {
                ui.line(format!("repaired {}", count(*repaired_blocks, "block")))?;
            }
            if !deep {
                ui.note("blocks were not read: `duka fsck --deep` does that")?;
            }
            Ok(())
        }
        _ => Ok(()),
    })
}
