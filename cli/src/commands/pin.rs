//! `duka pin`.

use clap::{Subcommand, ValueEnum};
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Keep trees, give them up, and list those that are kept
///
///     duka pin add bafy…
///     duka pin rm bafy…
///     duka pin ls
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum Pin {
    /// Fetch a tree and keep it
    ///
    ///     duka pin add bafy…
    ///     duka pin add /ipns/k51…/p/album/stable --name album
    ///     duka --timeout 10m pin add bafy…
    ///
    /// A tree that cannot be had as a whole is not pinned; what came of it stays until garbage is
    /// collected.
    #[command(verbatim_doc_comment)]
    Add {
        /// CID, CID/path, /ipfs/CID/path or /ipns/NAME/path
        path: String,
        /// A label: one line of text
        #[arg(long, value_parser = label)]
        name: Option<String>,
        /// Keep only the one block, not what it links to
        #[arg(long)]
        direct: bool,
    },

    /// Give a tree up
    ///
    ///     duka pin rm bafy…
    ///     duka pin rm /ipfs/bafy…/photos
    ///     duka --json pin rm bafy…
    #[command(verbatim_doc_comment)]
    Rm {
        /// CID, CID/path or /ipfs/CID/path
        path: String,
    },

    /// List pins: CID, mode, label; with --size also blocks, bytes and missing blocks
    ///
    ///     duka pin ls
    ///     duka pin ls --type direct
    ///     duka --json pin ls --size
    #[command(verbatim_doc_comment)]
    Ls {
        /// Only those of whole trees, or only those of single blocks
        #[arg(long, value_name = "TYPE", default_value = "all")]
        r#type: PinType,
        /// Count the blocks of each, which reads the inner ones
        #[arg(long)]
        size: bool,
    },

    /// Show a pin and count what it keeps
    ///
    ///     duka pin stat bafy…
    ///     duka pin stat /ipfs/bafy…/photos
    ///     duka --json pin stat bafy…
    #[command(verbatim_doc_comment)]
    Stat {
        /// CID, CID/path or /ipfs/CID/path
        path: String,
    },
}

/// `--type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PinType {
    /// Both.
    All,
    /// Whole trees.
    Recursive,
    /// Single blocks.
    Direct,
}

impl PinType {
    fn recursive(self) -> Option<bool> {
        match self {
            Self::All => None,
            Self::Recursive => Some(true),
            Self::Direct => Some(false),
        }
    }
}

/// Runs a subcommand.
pub(crate) async fn run(args: Pin, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = match args {
        Pin::Add { path, name, direct } => Request::PinAdd { path, name, direct },
        Pin::Rm { path } => Request::PinRm { path },
        Pin::Ls { r#type, size } => Request::PinLs {
            recursive: r#type.recursive(),
            size,
        },
        Pin::Stat { path } => Request::PinStat { path },
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::PinAdd {
            cid,
            blocks,
            bytes,
            fetched,
        } => {
            let (blocks, bytes) = (count(*blocks, "block"), size(*bytes));
            ui.note(format!(
                "pinned {blocks}, {bytes}, {} fetched",
                size(*fetched)
            ))?;
            ui.line(cid)
        }
        Outcome::PinStat {
            cid,
            recursive,
            name,
            created,
            size: kept,
        } => {
            ui.line(format!("cid\t{cid}"))?;
            ui.line(format!("type\t{}", super::pin_type(*recursive)))?;
            ui.line(format!("label\t{}", name.as_deref().unwrap_or("-")))?;
            ui.line(format!("pinned\t{created}"))?;
            let (blocks, bytes) = (count(kept.blocks, "block"), size(kept.bytes));
            ui.line(format!("keeps\t{blocks}, {bytes}"))?;
            if kept.missing_blocks > 0 {
                let missing = count(kept.missing_blocks, "block");
                ui.warn(format!(
                    "{missing} of it missing or damaged: `duka fsck --repair` fetches them"
                ))?;
            }
            Ok(())
        }
        Outcome::PinRm { cid } => ui.note(format!("{cid} is no longer pinned")),
        _ => Ok(()),
    })
}

/// Longest label of a pin, in bytes.
const MAX_LABEL: usize = 255;

fn label(text: &str) -> Result<String, String> {
    if text.len() > MAX_LABEL {
        return Err(format!("it has more than {MAX_LABEL} bytes"));
    }
    if text.contains(char::is_control) {
        return Err("it is not one line of text".to_owned());
    }
    Ok(text.to_owned())
}
