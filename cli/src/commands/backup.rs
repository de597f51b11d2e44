//! `duka backup`.

use std::path::PathBuf;

use clap::Args;
use duka_gateway::control::event::Outcome;
use duka_gateway::control::failure::Failure;
use duka_gateway::control::request::Request;
use duka_node::backup::{self, Lock};

use super::passphrase::{self, Terminal};
use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Copy the shop, its keys and everything it keeps to a folder
///
///     duka backup /mnt/disk/shop
///     duka backup /mnt/disk/shop --recipient age1…
///     duka backup /mnt/disk/shop --passphrase-file FILE
///
/// The node may run meanwhile. Run again on the same folder, it adds what is new and removes what is
/// gone; until it ends, the backup before is whole. On the disk of the store itself, packs are hard
/// links: they take no room, and do not outlive that disk. What was fetched for requests only is left
/// out. `duka restore` makes a shop of it again, and `duka restore --dry-run` verifies it.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Backup {
    /// The folder: empty, new, or with an older backup of this shop
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Encrypt the keys to this age recipient; may be given several times
    #[arg(long, value_name = "AGE1…", conflicts_with = "passphrase_file")]
    recipient: Vec<String>,

    /// Encrypt the keys with the first line of this file, - for standard input; asked for on a
    /// terminal otherwise
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,

    /// Leave the keys out, but for those of an older backup in the folder: without a copy of the folder
    /// keys/ elsewhere the shop cannot be restored
    #[arg(long, conflicts_with_all = ["recipient", "passphrase_file"])]
    without_keys: bool,
}

/// Makes a backup.
pub(crate) async fn run(args: Backup, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let dir = std::path::absolute(&args.dir)
        .map_err(|error| CliError::io("the folder cannot be found", &error))?;
    // Encrypted here: the passphrase does not leave this process.
    let keys = match lock(&args)? {
        Some(lock) => Some(backup::encrypt_keys(&cx.data_dir, &lock).map_err(Failure::from)?),
        None => None,
    };
    let request = Request::Backup {
        dir,
        keys,
        settings: cx.settings_file.clone(),
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::Backup {
            dir,
            packs,
            new_packs,
            linked_packs,
            bytes,
            new_bytes,
            keys,
            ..
        } => {
            let (all, new) = (count(*packs, "pack"), count(*new_packs, "pack"));
            let (bytes, new_bytes) = (size(*bytes), size(*new_bytes));
            ui.line(format!("{dir}: {all}, {bytes}; new: {new}, {new_bytes}"))?;
            if *linked_packs > 0 {
                ui.note(
                    "it is on the disk of the store, and shares the packs with it: copy it to another disk, \
                     or make one there, to outlive this one",
                )?;
            }
            if !keys {
                ui.warn(
                    "the keys are not in it: without a copy of the folder keys/ the shop cannot be restored",
                )?;
            }
            Ok(())
        }
        _ => Ok(()),
    })
}

/// For whom the keys are encrypted; `None` leaves them out.
fn lock(args: &Backup) -> Result<Option<Lock>, CliError> {
    if args.without_keys {
        return Ok(None);
    }
    if !args.recipient.is_empty() {
        return Ok(Some(Lock::Recipients(args.recipient.clone())));
    }
    if let Some(file) = &args.passphrase_file {
        return Ok(Some(Lock::Passphrase(passphrase::of_file(file)?)));
    }
    let Some(mut terminal) = Terminal::open() else {
        let message = "a backup holds the shop's keys, and nothing says how to encrypt them";
        return Err(CliError::usage(message).hint(
            "give --passphrase-file FILE or --recipient age1…; --without-keys leaves them out",
        ));
    };
    let passphrase = terminal.ask("Passphrase for the keys in the backup")?;
    if terminal.ask("The same again")? != passphrase {
        return Err(CliError::usage("the two passphrases are not the same"));
    }
    Ok(Some(Lock::Passphrase(passphrase)))
}
