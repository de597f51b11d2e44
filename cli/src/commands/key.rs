//! `duka key`.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use duka_gateway::control::event::Outcome;
use duka_gateway::control::failure::{Code, Failure};
use duka_gateway::control::request::Request;
use duka_node::backup::{Lock, Opener, SecretError};
use duka_node::keyring::{self, Exported, KeyringError, OFFLINE_EXPIRY};
use duka_node::keys::Kind;
use duka_node::node;
use serde_json::json;
use zeroize::Zeroizing;

use super::passphrase::{self, Terminal};
use crate::context::Context;
use crate::error::CliError;
use crate::ui::Ui;

/// Longest exported file that is read, in bytes.
const MAX_EXPORT_LEN: u64 = 64 << 10;
/// Shortest time for which the record of a shop without its key is signed.
const LEAST_EXPIRY: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Show, export and import the keys, take the shop key off this machine, replace the publishing key
///
///     duka key list
///     duka key export --output shop.age
///     duka key offline /media/stick/shop.age
///
/// The shop key is in every link and signs only which publishing key speaks for the shop. So it can
/// be kept somewhere safe: the node publishes with the publishing key, and when that one is lost or
/// stolen, `duka key rotate` replaces it, and the links stay.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum Key {
    /// List the keys: name, where it is, where the record that it signed leads and until when
    ///
    ///     duka key list
    ///     duka --json key list
    ///     duka --data-dir /srv/shop key list
    #[command(verbatim_doc_comment)]
    List,
    Export(Export),
    Import(Import),
    Offline(Offline),

    /// Replace the publishing key: the shop's record leads to a new one, links stay
    ///
    ///     duka key rotate
    ///     duka --json key rotate
    ///     duka key import shop.age && duka key rotate && duka key offline shop.age
    ///
    /// It takes the shop key, not the old publishing key, which may be lost or damaged. That one is
    /// gone then, and whoever has a copy of it speaks for the shop no more: who follows the shop
    /// refuses its heads once the new record is heard. Heads go on from the last one that was signed
    /// here.
    #[command(verbatim_doc_comment)]
    Rotate,
}

/// Write a key to a file, encrypted with a passphrase
///
///     duka key export --output shop.age
///     duka key export publishing --output publishing.age
///     duka key export --output shop.age --passphrase-file FILE
///
/// The file is one of age (age-encryption.org), and `age --decrypt` opens it, too.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Export {
    /// Which key
    #[arg(value_enum, default_value = "shop")]
    key: Which,

    /// The file, which must not exist yet
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    #[command(flatten)]
    secret: Secret,
}

/// Put exported keys back, or into a new data directory
///
///     duka key import shop.age
///     duka --data-dir /srv/new key import shop.age
///     duka key import publishing.age --passphrase-file FILE
///
/// Keys that are there are never replaced. In a new data directory the missing keys are made: with
/// the shop key, its links lead to what is published there.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Import {
    /// The exported file
    file: PathBuf,

    #[command(flatten)]
    secret: Secret,
}

/// Take the shop key off this machine, once its exported file was read back
///
///     duka key offline /media/stick/shop.age
///     duka key offline shop.age --expiry 1825d
///     duka --json key offline shop.age --passphrase-file FILE
///
/// If the file does not exist, the key is exported to it first. The node goes on to publish with
/// the publishing key. Links work until the shop's record expires, in ten years unless --expiry
/// says otherwise; `duka key import FILE` brings the key back to sign it again, or to replace the
/// publishing key. The bytes of the key are overwritten, but a file system or an SSD may keep older
/// copies, as may your back-ups.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Offline {
    /// The exported file
    file: PathBuf,

    /// How long the shop's record is valid, such as 1825d [default: 3650d]
    #[arg(long, value_name = "TIME", value_parser = expiry)]
    expiry: Option<Duration>,

    #[command(flatten)]
    secret: Secret,
}

fn expiry(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match time < LEAST_EXPIRY {
        true => Err("the shop's links would end then: give at least 90d".to_owned()),
        false => Ok(time),
    }
}

/// Where the passphrase is.
#[derive(Debug, Args)]
pub(crate) struct Secret {
    /// The passphrase is the first line of this file, - for standard input; asked for on a terminal
    /// otherwise
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// A key.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// Names the shop; whoever has it owns the shop's links
    Shop,
    /// Signs heads
    Publishing,
    /// This node among its peers
    Peer,
}

impl Which {
    fn kind(self) -> Kind {
        match self {
            Self::Shop => Kind::Shop,
            Self::Publishing => Kind::Publishing,
            Self::Peer => Kind::Peer,
        }
    }
}

/// Runs a subcommand.
pub(crate) async fn run(args: Key, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    match args {
        Key::List => {
            let outcome = cx.run(ui, Request::KeyList, None, super::row).await?;
            ui.outcome(&outcome, |_| Ok(()))
        }
        Key::Export(args) => {
            let passphrase = args.secret.new_one()?;
            export(cx, args.key.kind(), &args.output, passphrase)?;
            let file = args.output.display().to_string();
            ui.result(
                "key-export",
                json!({ "key": args.key.kind().name(), "file": file }),
            )?;
            ui.note(format!(
                "the {} key is in {file}, and was read back from it",
                args.key.kind().name()
            ))
        }
        Key::Import(args) => import(args, cx, ui).await,
        Key::Offline(args) => take_offline(args, cx, ui).await,
        Key::Rotate => {
            let outcome = cx.run(ui, Request::KeyRotate, None, super::row).await?;
            ui.outcome(&outcome, |ui| match &outcome {
                Outcome::KeyRotate { publishing, .. } => {
                    ui.note("the shop has a new publishing key; its links stay")?;
                    ui.line(publishing)
                }
                _ => Ok(()),
            })
        }
    }
}

/// Writes the file, and reads it back.
fn export(
    cx: &Context,
    kind: Kind,
    file: &Path,
    passphrase: Zeroizing<String>,
) -> Result<(), CliError> {
    node::is_initialised(&cx.data_dir)
        .then_some(())
        .ok_or_else(|| no_shop(cx))?;
    let lock = Lock::Passphrase(passphrase.clone());
    let text = keyring::export(&cx.data_dir, kind, &lock).map_err(Failure::from)?;
    write_new(file, text.as_bytes()).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::new(
            Code::Permanent,
            format!("{} is there already", file.display()),
        )
        .hint("give another file: a key is never written over one"),
        _ => CliError::io(&format!("cannot write {}", file.display()), &error),
    })?;
    let exported = open(file, &Opener::Passphrase(passphrase))?;
    if exported.is_of(&cx.data_dir, kind).map_err(Failure::from)? {
        Ok(())
    } else {
        let message = format!(
            "{} does not hold the key that was written to it",
            file.display()
        );
        Err(CliError::new(Code::Corrupt, message))
    }
}

fn no_shop(cx: &Context) -> CliError {
    let message = format!("there is no shop in {} yet", cx.data_dir.display());
    CliError::new(Code::NotFound, message)
}

/// A file that nobody else may read, durable with its name.
fn write_new(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut made = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    made.write_all(bytes)?;
    made.sync_all()?;
    let folder = std::path::absolute(file)?;
    match folder.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn open(file: &Path, opener: &Opener) -> Result<Exported, CliError> {
    let mut encrypted = Vec::new();
    File::open(file)
        .and_then(|file| file.take(MAX_EXPORT_LEN).read_to_end(&mut encrypted))
        .map_err(|error| CliError::io(&format!("cannot read {}", file.display()), &error))?;
    Exported::open(&encrypted, opener).map_err(|error| match error {
        KeyringError::Secret(SecretError::Unreadable) => {
            let message = format!("{} holds no exported keys, or is damaged", file.display());
            CliError::new(Code::Corrupt, message)
                .hint("`duka key export --output FILE` writes such a file; nothing was changed")
        }
        error => Failure::from(error).into(),
    })
}

async fn import(args: Import, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    super::import::readable(&args.file)?;
    let exported = open(&args.file, &args.secret.opener()?)?;
    let is_running = cx.running_node().await?.is_some();
    if is_running {
        let owner = exported.owner().map_err(Failure::from)?;
        let check = Request::KeyCheck {
            shop: owner.shop.map(|name| name.to_string()),
            publishing: owner.publishing.map(|name| name.to_string()),
        };
        cx.run(ui, check, None, super::row).await?;
    } else {
        exported.check(&cx.data_dir).await.map_err(Failure::from)?;
    }
    exported.put(&cx.data_dir).map_err(Failure::from)?;
    if is_running {
        cx.run(ui, Request::KeyReload, None, super::row).await?;
    } else {
        cx.init(ui)?;
    }
    let file = args.file.display().to_string();
    ui.result("key-import", json!({ "file": file }))?;
    ui.note(format!(
        "the keys of {file} are in {}",
        cx.data_dir.display()
    ))
}

async fn take_offline(args: Offline, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    if args.file.exists() {
        let exported = open(&args.file, &args.secret.opener()?)?;
        let is_it = exported
            .is_of(&cx.data_dir, Kind::Shop)
            .map_err(Failure::from)?;
        if !is_it {
            let message = format!("{} does not hold the shop key", args.file.display());
            return Err(CliError::new(Code::Permanent, message)
                .hint("`duka key export --output FILE` writes it; nothing was removed"));
        }
    } else {
        export(cx, Kind::Shop, &args.file, args.secret.new_one()?)?;
    }
    let expiry = args.expiry.unwrap_or(OFFLINE_EXPIRY);
    let request = Request::KeyOffline {
        expiry_seconds: expiry.as_secs(),
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::KeyOffline { valid_until, .. } => ui.note(format!(
            "the shop key is in {} only: keep copies of it in safe places. Links work until {valid_until}; \
             before that, `duka key import` it to sign the shop's record again",
            args.file.display()
        )),
        _ => Ok(()),
    })
}

impl Secret {
    /// A passphrase that encrypts, typed twice.
    fn new_one(&self) -> Result<Zeroizing<String>, CliError> {
        match &self.passphrase_file {
            Some(file) => passphrase::of_file(file),
            None => {
                let mut terminal = Terminal::open().ok_or_else(nobody_to_ask)?;
                let passphrase = terminal.ask("Passphrase for the key")?;
                if terminal.ask("The same again")? != passphrase {
                    return Err(CliError::usage("the two passphrases are not the same"));
                }
                Ok(passphrase)
            }
        }
    }

    fn opener(&self) -> Result<Opener, CliError> {
        let passphrase = match &self.passphrase_file {
            Some(file) => passphrase::of_file(file)?,
            None => Terminal::open()
                .ok_or_else(nobody_to_ask)?
                .ask("Passphrase of the key")?,
        };
        Ok(Opener::Passphrase(passphrase))
    }
}

fn nobody_to_ask() -> CliError {
    CliError::usage(
        "the key is encrypted with a passphrase, and there is no terminal to ask for it",
    )
    .hint("give --passphrase-file FILE")
}
