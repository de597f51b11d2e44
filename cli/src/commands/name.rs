//! `duka name`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;

use super::import::absolute;
use crate::context::Context;
use crate::error::CliError;
use crate::ui::Ui;

/// Publish and resolve IPNS names
///
///     duka name resolve k51…
///     duka name publish bafy…
///     duka name put k51… shop.ipns-record
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum Name {
    /// Point the name of this node's peer key to a path; `duka publish` keeps the shop's own name
    ///
    ///     duka name publish bafy…
    ///     duka name publish /ipfs/bafy…/photos
    ///     duka name publish bafy… --lifetime 48h
    #[command(verbatim_doc_comment)]
    Publish {
        /// CID, CID/path, /ipfs/CID/path or /ipns/NAME/path
        path: String,
        /// How long the record is valid
        #[arg(long, value_name = "TIME", default_value = "48h", value_parser = humantime::parse_duration)]
        lifetime: Duration,
    },

    /// Show where a name leads
    ///
    ///     duka name resolve k51…
    ///     duka name resolve /ipns/k51…
    ///     duka --json name resolve k51…
    #[command(verbatim_doc_comment)]
    Resolve {
        /// The name: k51… or 12D3KooW…
        name: String,
    },

    /// Keep a signed record and tell the network
    ///
    ///     duka name put k51… shop.ipns-record
    ///     duka --json name put k51… shop.ipns-record
    ///     duka --offline name put k51… shop.ipns-record
    #[command(verbatim_doc_comment)]
    Put {
        /// The name: k51… or 12D3KooW…
        name: String,
        /// File with the record (application/vnd.ipfs.ipns-record)
        file: PathBuf,
    },
}

/// Runs a subcommand.
pub(crate) async fn run(args: Name, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = match args {
        Name::Publish { path, lifetime } => Request::NamePublish {
            path,
            lifetime_seconds: lifetime.as_secs(),
        },
        Name::Resolve { name } => Request::NameResolve { name },
        Name::Put { name, file } => Request::NamePut {
            name,
            file: absolute(&file)?,
        },
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::Name {
            name,
            path,
            sequence,
            validity,
            ..
        } => {
            ui.note(format!(
                "{name}: sequence {sequence}, valid until {validity}"
            ))?;
            ui.line(path)
        }
        _ => Ok(()),
    })
}
