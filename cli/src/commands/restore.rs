//! `duka restore`.

use std::path::PathBuf;

use clap::Args;
use duka_gateway::control;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::failure::Failure;
use duka_node::backup::{List, Opener};
use duka_node::restore::RestoreOptions;

use super::passphrase::{self, Terminal};
use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Make a shop of a backup, in a new data directory
///
///     duka restore /mnt/disk/shop
///     duka --data-dir /srv/shop restore /mnt/disk/shop --identity FILE
///     duka restore /mnt/disk/shop --dry-run
///
/// Verifies every file before anything is put in place. The data directory must be empty or missing.
/// Do not run the shop in two places: before its first new head the restored one asks the network for
/// the newest.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Restore {
    /// The folder of the backup
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Decrypt the keys with this age identity file, - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    identity: Option<PathBuf>,

    /// Decrypt the keys with the first line of this file, - for standard input; asked for on a
    /// terminal otherwise
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,

    /// Leave the keys out: put the files of keys/ back before the shop is opened
    #[arg(long, conflicts_with_all = ["identity", "passphrase_file"])]
    without_keys: bool,

    /// Only verify the backup; the keys are decrypted if --identity or --passphrase-file is given
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// Restores a backup.
pub(crate) async fn run(args: Restore, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let dir = std::path::absolute(&args.dir)
        .map_err(|error| CliError::io("the folder cannot be found", &error))?;
    let list = List::read(&dir).map_err(Failure::from)?;
    let options = RestoreOptions {
        opener: opener(&args, &list)?,
        dir,
        dry_run: args.dry_run,
    };
    let events = control::restore(cx.data_dir.clone(), options);
    let outcome = cx.consume(ui, events, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::Restore {
            data_dir,
            name,
            created,
            files,
            bytes,
            keys,
            settings,
            dry_run,
        } => {
            let (files, bytes) = (count(*files, "file"), size(*bytes));
            if *dry_run {
                return ui.line(format!("whole: {files}, {bytes}, shop {name}, of {created}"));
            }
            ui.line(format!(
                "restored shop {name} in {data_dir} as it was at {created}: {files}, {bytes}"
            ))?;
            if let Some(settings) = settings {
                ui.note(format!(
                    "its settings are in {settings}; they are used with --config"
                ))?;
            }
            if !keys {
                ui.warn(format!(
                    "its keys are not there: put shop.key, publishing.key and peer.key into {data_dir}/keys"
                ))?;
            }
            ui.note("do not run the shop in two places: stop the old node before this one is started")
        }
        _ => Ok(()),
    })
}

/// What opens the keys; `None` leaves them out.
fn opener(args: &Restore, list: &List) -> Result<Option<Opener>, CliError> {
    if let Some(file) = &args.identity {
        return Ok(Some(Opener::Identities(passphrase::read(file)?)));
    }
    if let Some(file) = &args.passphrase_file {
        return Ok(Some(Opener::Passphrase(passphrase::of_file(file)?)));
    }
    if args.without_keys || args.dry_run || list.keys.is_none() {
        return Ok(None);
    }
    let Some(mut terminal) = Terminal::open() else {
        let message = "the keys in the backup are encrypted, and nothing says how to open them";
        return Err(CliError::usage(message).hint(
            "give --passphrase-file FILE or --identity FILE; --without-keys leaves them out",
        ));
    };
    let passphrase = terminal.ask("Passphrase of the keys in the backup")?;
    Ok(Some(Opener::Passphrase(passphrase)))
}
