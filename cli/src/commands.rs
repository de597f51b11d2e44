//! One file per command: its arguments, whose doc is the help, then one function.

pub(crate) mod add;
pub(crate) mod backup;
pub(crate) mod car;
pub(crate) mod cat;
pub(crate) mod channel;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod fsck;
pub(crate) mod gc;
pub(crate) mod get;
pub(crate) mod id;
mod import;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod listen;
pub(crate) mod ls;
pub(crate) mod mirror;
pub(crate) mod name;
mod passphrase;
pub(crate) mod pin;
pub(crate) mod product;
pub(crate) mod publish;
pub(crate) mod rebuild;
pub(crate) mod restore;
pub(crate) mod rollback;
pub(crate) mod search;
pub(crate) mod serve;
mod serving;
pub(crate) mod shop;
pub(crate) mod stat;
pub(crate) mod swarm;
pub(crate) mod up;
mod value;
pub(crate) mod verify;
pub(crate) mod yank;

use duka_gateway::control::event::{Item, PinSize};
use duka_node::human::printable;
use serde_json::json;

use crate::args::Command;
use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count};

/// Runs a command to its end.
pub(crate) async fn run(command: Command, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    match command {
        Command::Up(args) => up::run(args, cx, ui).await,
        Command::Publish(args) => publish::run(*args, cx, ui).await,
        Command::Get(args) => get::run(args, cx, ui).await,
        Command::Serve(args) => serve::run(args, cx, ui).await,
        Command::Init(args) => init::run(&args, cx, ui),
        Command::Id(args) => id::run(&args, cx, ui).await,
        Command::Product(args) => product::run(args, cx, ui).await,
        Command::Channel(args) => channel::run(args, cx, ui).await,
        Command::Rollback(args) => rollback::run(args, cx, ui).await,
        Command::Yank(args) => yank::run(args, cx, ui).await,
        Command::Shop(args) => shop::run(args, cx, ui).await,
        Command::Search(args) => search::run(args, cx, ui).await,
        Command::Pin(args) => pin::run(args, cx, ui).await,
        Command::Mirror(args) => mirror::run(args, cx, ui).await,
        Command::Add(args) => add::run(args, cx, ui).await,
        Command::Cat(args) => cat::run(args, cx, ui).await,
        Command::Ls(args) => ls::run(args, cx, ui).await,
        Command::Car(args) => car::run(args, cx, ui).await,
        Command::Name(args) => name::run(args, cx, ui).await,
        Command::Key(args) => key::run(args, cx, ui).await,
        Command::Swarm(args) => swarm::run(args, cx, ui).await,
        Command::Verify(args) => verify::run(args, cx, ui).await,
        Command::Fsck(args) => fsck::run(args, cx, ui).await,
        Command::Stat(_) => stat::run(cx, ui).await,
        Command::Backup(args) => backup::run(args, cx, ui).await,
        Command::Rebuild(args) => rebuild::run(args, cx, ui).await,
        Command::Restore(args) => restore::run(args, cx, ui).await,
        Command::Gc(args) => gc::run(&args, cx, ui).await,
        Command::Config(args) => config::run(args, cx, ui),
        Command::Completion(args) => completion::run(&args, ui),
    }
}

/// `duka --version`.
pub(crate) fn version(ui: &mut Ui) -> Result<(), CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("DUKA_COMMIT");
    let protocols = [
        "tcp",
        "quic",
        "websocket",
        "bitswap",
        "ipns",
        "trustless-gateway",
    ];
    ui.result(
        "version",
        json!({ "version": version, "commit": commit, "features": protocols }),
    )?;
    ui.line(match commit {
        Some(commit) => format!("duka {version} ({commit})"),
        None => format!("duka {version}"),
    })
}

/// Says that a change is durable, but not in a signed head.
fn unsigned(ui: &mut Ui) -> Result<(), CliError> {
    ui.note(
        "done, but the shop's head is not signed yet: `duka serve` signs it and tells the network",
    )
}

/// What a pin keeps, in a word.
fn pin_type(recursive: bool) -> &'static str {
    if recursive { "recursive" } else { "direct" }
}

/// An entry of a list, as a line of columns between tabs.
pub(crate) fn row(item: &Item) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    match item {
        Item::Entry {
            name,
            cid,
            entry_type,
            size,
        } => format!(
            "{cid}\t{}\t{size}\t{}",
            or_dash(entry_type),
            printable(name)
        ),
        Item::Pin {
            cid,
            recursive,
            name,
            size: kept,
        } => {
            let name = or_dash(name);
            let row = format!("{cid}\t{}\t{}", pin_type(*recursive), printable(&name));
            match kept {
                Some(PinSize {
                    blocks,
                    bytes,
                    missing_blocks,
                }) => format!("{row}\t{blocks}\t{bytes}\t{missing_blocks}"),
                None => row,
            }
        }
        Item::Mirror(mirror) => format!(
            "{}\t{}\t{}\t{}\t{}",
            mirror.shop,
            mirror.state,
            mirror
                .head
                .as_ref()
                .map_or_else(|| "-".to_owned(), |head| head.seq.to_string()),
            crate::ui::size(mirror.kept_bytes),
            self::mirror::chosen(&mirror.keeps)
        ),
        Item::Product(product) => format!(
            "{}\t{}\t{}\t{}",
            product.product,
            printable(&product.title),
            product.price.as_deref().unwrap_or("free"),
            count(product.releases, "release")
        ),
        Item::Release(release) => {
            let yanked = release.yanked.as_ref();
            format!(
                "{}\t{}\t{}\t{}\t{}{}",
                release.version,
                release.cid,
                count(release.files, "file"),
                crate::ui::size(release.bytes),
                release.issued,
                yanked.map_or_else(String::new, |time| format!("\tyanked {time}"))
            )
        }
        Item::Key {
            key,
            name,
            here,
            leads_to,
            valid_until,
            ..
        } => format!(
            "{key}\t{name}\t{}\t{}\t{}",
            match (*here, key.as_str()) {
                (true, _) => "here",
                (false, "shop") => "offline",
                (false, _) => "lost",
            },
            or_dash(leads_to),
            or_dash(valid_until)
        ),
        Item::FileChange {
            change,
            path,
            bytes,
            new_bytes,
            ..
        } => format!(
            "{change}\t{}\t{}\t{} new",
            printable(path),
            crate::ui::size(*bytes),
            crate::ui::size(*new_bytes)
        ),
        Item::Channel {
            channel,
            version,
            cid,
            ..
        } => format!("{channel}\t{version}\t{}", or_dash(cid)),
        Item::Peer {
            peer_id,
            address,
            agent,
            round_trip_seconds,
        } => {
            let ping = round_trip_seconds.map(|s| format!("{:.1} ms", s * 1000.0));
            format!(
                "{peer_id}\t{address}\t{}\t{}",
                printable(&or_dash(agent)),
                or_dash(&ping)
            )
        }
        Item::Root { cid, pinned } => {
            format!("{cid}\t{}", if *pinned { "pinned" } else { "not pinned" })
        }
        Item::Difference { difference, path } => format!("{difference}\t{}", printable(path)),
        Item::Problem { problem, cid, root } => match root {
            Some(root) => format!("{problem}\t{cid}\tneeded by {root}"),
            None => format!("{problem}\t{cid}"),
        },
        _ => String::new(),
    }
}
