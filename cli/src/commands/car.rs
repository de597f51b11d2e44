//! `duka car`.

use std::path::PathBuf;

use clap::Subcommand;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::request::Request;

use super::import::absolute;
use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Read and write CAR files
///
///     duka car import album.car
///     duka car export bafy… album.car
///     duka car export /ipns/k51…/p/album/stable album.car
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum Car {
    /// Read CAR files and pin their roots
    ///
    ///     duka car import album.car
    ///     duka car import part-1.car part-2.car
    ///     duka car import --no-pin blocks.car
    #[command(verbatim_doc_comment)]
    Import {
        /// CAR files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Do not pin the roots
        #[arg(long)]
        no_pin: bool,
    },

    /// Write a tree as a CAR file
    ///
    ///     duka car export bafy… album.car
    ///     duka car export bafy…/photos photos.car
    ///     duka car export /ipns/k51…/p/album/stable album.car
    #[command(verbatim_doc_comment)]
    Export {
        /// CID, CID/path, /ipfs/CID/path or /ipns/NAME/path
        path: String,
        /// File to write
        file: PathBuf,
    },
}

/// Runs a subcommand.
pub(crate) async fn run(args: Car, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = match args {
        Car::Import { files, no_pin } => Request::CarImport {
            files: files
                .iter()
                .map(|file| absolute(file))
                .collect::<Result<_, _>>()?,
            pin: !no_pin,
        },
        Car::Export { path, file } => Request::CarExport {
            path,
            file: absolute(&file)?,
        },
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::CarImport { blocks, bytes, .. } => ui.note(format!(
            "read {}, {}",
            count(*blocks, "block"),
            size(*bytes)
        )),
        Outcome::CarExport {
            file,
            blocks,
            bytes,
            ..
        } => ui.note(format!(
            "wrote {}, {}, to {file}",
            count(*blocks, "block"),
            size(*bytes)
        )),
        _ => Ok(()),
    })
}
