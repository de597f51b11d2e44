//! `duka shop`.

use std::time::Duration;

use cid::Cid;
use clap::{Args, Subcommand, ValueEnum};
use duka_gateway::control::event::{self, Outcome};
use duka_gateway::control::failure::Code;
use duka_gateway::control::request::Request;
use duka_node::dag::path::Root;
use duka_node::human::printable;
use duka_node::keys::Name;
use duka_node::shop::settings::Setting;
use serde_json::json;

use super::unsigned;
use super::value::Value;
use crate::confirm::confirm;
use crate::context::Context;
use crate::error::CliError;
use crate::reference::Reference;
use crate::state::State;
use crate::ui::{Ui, count};

/// Show and change what the shop says of itself: title, description, gateways, mirrors
///
///     duka shop show
///     duka shop set title "Songs of the harbour"
///     duka shop set mirrors /dns4/mirror.example/tcp/4101/p2p/12D3KooW…
///
/// This goes with the shop to another machine, and each change makes its next head. What the shop
/// does not say itself is taken from `[shop]` of the settings file.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum Shop {
    /// Show the shop: its name, what it says of itself, its newest head
    ///
    ///     duka shop show
    ///     duka --json shop show
    ///     duka --data-dir /srv/shop shop show
    #[command(verbatim_doc_comment)]
    Show,

    Set(Set),

    Alias(Alias),

    Forget(Forget),

    /// Leave it to the settings file again
    ///
    ///     duka shop unset title
    ///     duka shop unset mirrors
    ///     duka --json shop unset expiry
    #[command(verbatim_doc_comment)]
    Unset {
        /// What
        key: Key,
    },
}

/// Name somebody's shop, so that `duka get NAME/PRODUCT` finds it
///
///     duka shop alias songs k51…
///     duka shop alias list
///     duka shop alias remove songs
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub(crate) struct Alias {
    #[command(subcommand)]
    command: Option<AliasCommand>,

    /// What to call it: small letters, digits and `-`
    #[arg(required = true)]
    name: Option<String>,

    /// The shop: its k51… name, or an URL with that
    #[arg(required = true)]
    shop: Option<String>,
}

/// What to do with names.
#[derive(Debug, Subcommand)]
enum AliasCommand {
    /// Show all names
    ///
    ///     duka shop alias list
    ///     duka --json shop alias list
    ///     duka --quiet shop alias list
    #[command(verbatim_doc_comment)]
    List,

    /// Remove a name
    ///
    ///     duka shop alias remove songs
    ///     duka --json shop alias remove songs
    ///     duka --quiet shop alias remove songs
    #[command(verbatim_doc_comment)]
    Remove {
        /// The name
        name: String,
    },
}

/// Forget what is remembered of somebody's shop: its newest head, its gateways, your names for it
///
///     duka shop forget songs
///     duka shop forget k51…
///     duka --yes --json shop forget songs
///
/// Older heads of the shop are then not noticed until a newer one was seen, so this asks.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Forget {
    /// The shop: your name for it, its k51… name, or an URL with that
    shop: String,
}

/// Change what the shop says of itself
///
///     duka shop set description --file about.md
///     duka shop set gateways https://one.example https://two.example
///     duka shop set expiry 90d
///
/// The whole list of gateways or mirrors is given each time; with no value it is empty.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Set {
    /// What
    key: Key,

    #[command(flatten)]
    value: Value,
}

/// A setting of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Key {
    /// Title shown to buyers
    Title,
    /// Description shown to buyers, Markdown
    Description,
    /// URLs of gateways that serve the shop
    Gateways,
    /// Peer addresses of mirrors
    Mirrors,
    /// How long a signed head stays valid, such as 365d: a shop whose creator is silenced stays up so long
    Expiry,
    /// How often the same head is signed again, such as 24h; past three times this it is stale
    Refresh,
}

/// Runs a subcommand.
pub(crate) async fn run(args: Shop, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let request = match args {
        Shop::Alias(args) => return alias(args, cx, ui),
        Shop::Forget(args) => return forget(&args, cx, ui),
        Shop::Show => Request::ShopShow,
        Shop::Set(args) => Request::ShopSet {
            setting: args.setting()?,
        },
        Shop::Unset { key } => Request::ShopSet {
            setting: match key {
                Key::Title => Setting::Title(None),
                Key::Description => Setting::Description(None),
                Key::Gateways => Setting::Gateways(None),
                Key::Mirrors => Setting::Mirrors(None),
                Key::Expiry => Setting::Expiry(None),
                Key::Refresh => Setting::Refresh(None),
            },
        },
    };
    let outcome = cx.run(ui, request, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::ShopShow(shop) => show(shop, ui),
        Outcome::ShopSet { signed: false } => unsigned(ui),
        _ => ui.note("the shop's new head says so"),
    })
}

/// Names for shops: what this user calls them, and no business of a node.
fn alias(args: Alias, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let state = cx.state()?;
    match (args.command, args.name, args.shop) {
        (Some(AliasCommand::List), ..) => {
            let aliases = state.aliases()?;
            for (name, shop) in &aliases {
                ui.line(format!("{name}\t{shop}"))?;
            }
            ui.result("shop-alias-list", json!({ "aliases": aliases }))
        }
        (Some(AliasCommand::Remove { name }), ..) => match state.remove_alias(&name)? {
            Some(shop) => {
                ui.note(format!("{name} is no name for {shop} any more"))?;
                ui.result("shop-alias-remove", json!({ "name": name, "shop": shop }))
            }
            None => {
                let message = format!("no shop is called {name} here");
                Err(CliError::new(Code::NotFound, message)
                    .hint("`duka shop alias list` shows all names"))
            }
        },
        (None, Some(name), Some(shop)) => {
            check_alias(&name)?;
            let shop = named(&state, &shop)?;
            let before = state.set_alias(&name, &shop)?;
            let shop = shop.to_string();
            if let Some(before) = before.as_ref().filter(|before| **before != shop) {
                ui.note(format!("{name} was the name of {before}"))?;
            }
            ui.note(format!("{name} is {shop}: `duka get {name}/PRODUCT`"))?;
            let fields = json!({ "name": name, "shop": shop, "before": before });
            ui.result("shop-alias", fields)
        }
        _ => Err(CliError::usage("a name and a shop are needed")),
    }
}

fn forget(args: &Forget, cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let state = cx.state()?;
    let shop = named(&state, &args.shop)?;
    let known = state.shop(&shop)?;
    let aliases = state.aliases_of(&shop)?;
    if known.is_none() && aliases.is_empty() {
        let message = format!("nothing is remembered of {shop}");
        return Err(CliError::new(Code::NotFound, message)
            .hint("`duka shop alias list` shows the shops that have a name here"));
    }
    if let Some(known) = &known {
        ui.note(format!(
            "head {} of {shop} is the newest that was seen; without it an older one passes for new",
            known.followed.seq
        ))?;
        confirm(cx, "Forget it?", "nothing is forgotten")?;
    }
    state.forget_shop(&shop)?;
    for alias in &aliases {
        ui.note(format!("{alias} is no name for it any more"))?;
    }
    ui.note(format!("nothing is remembered of {shop} any more"))?;
    let seq = known.map(|known| known.followed.seq);
    let fields = json!({ "shop": shop.to_string(), "seq": seq, "aliases": aliases });
    ui.result("shop-forget", fields)
}

/// The shop that the user means.
fn named(state: &State, text: &str) -> Result<Name, CliError> {
    let found = Reference::parse(text, |alias| state.alias(alias))?;
    match found.path.root {
        Root::Name(shop) => Ok(shop),
        _ => {
            let message = format!("{text} is not the name of a shop");
            Err(CliError::usage(message).hint("give its k51… name, or an URL with that"))
        }
    }
}

/// Longest name for a shop.
const MAX_ALIAS_LEN: usize = 63;

fn check_alias(alias: &str) -> Result<(), CliError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_good = (1..=MAX_ALIAS_LEN).contains(&alias.len())
        && alias.bytes().all(plain)
        && !alias.starts_with('-')
        && alias.parse::<Cid>().is_err()
        && alias.parse::<Name>().is_err();
    if is_good {
        return Ok(());
    }
    Err(
        CliError::usage(format!("{alias:?} cannot be the name of a shop"))
            .hint("take small letters, digits and `-`, at most 63"),
    )
}

impl Set {
    fn setting(self) -> Result<Setting, CliError> {
        let value = self.value;
        Ok(match self.key {
            Key::Title => Setting::Title(Some(value.one()?.trim_end().to_owned())),
            Key::Description => Setting::Description(Some(value.one()?.trim_end().to_owned())),
            Key::Gateways => Setting::Gateways(Some(value.words()?)),
            Key::Mirrors => Setting::Mirrors(Some(value.words()?)),
            Key::Expiry => Setting::Expiry(Some(duration(&value.one()?)?)),
            Key::Refresh => Setting::Refresh(Some(duration(&value.one()?)?)),
        })
    }
}

fn duration(value: &str) -> Result<Duration, CliError> {
    humantime::parse_duration(value.trim()).map_err(|_| {
        CliError::usage(format!("{value:?} is not a time")).hint("write it like 90d or 24h")
    })
}

/// `90d`, as it is given: `format_duration` would make months of it.
fn time(seconds: u64) -> String {
    match seconds % (24 * 60 * 60) {
        0 => format!("{}d", seconds / (24 * 60 * 60)),
        _ => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}

fn show(shop: &event::Shop, ui: &mut Ui) -> Result<(), CliError> {
    let origin = |key: &str| match shop.own.iter().any(|own| own == key) {
        true => "",
        false => "\t(default)",
    };
    let mut line = |key: &str, text: &str| ui.line(format!("{key}\t{text}{}", origin(key)));
    line("title", &printable(&shop.title))?;
    for url in &shop.gateways {
        line("gateways", url)?;
    }
    for address in &shop.mirrors {
        line("mirrors", address)?;
    }
    line("expiry", &time(shop.expiry_seconds))?;
    line("refresh", &time(shop.refresh_seconds))?;
    ui.line(format!("name\t{}", shop.name))?;
    ui.line(format!(
        "holds\t{}, {}",
        count(shop.products, "product"),
        count(shop.releases, "release")
    ))?;
    if let Some(head) = &shop.head {
        let signed = head.signed.as_ref();
        let signed = signed.map_or_else(String::new, |time| format!(", signed {time}"));
        ui.line(format!(
            "head\t{}\t{}\tmade {}{signed}",
            head.seq, head.cid, head.issued
        ))?;
    }
    match shop.description.as_str() {
        "" => Ok(()),
        text => ui.line(format!("\n{text}")),
    }
}
