//! `duka shop`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use duka_gateway::control::event::{self, Outcome};
use duka_gateway::control::request::Request;
use duka_node::shop::settings::Setting;

use super::unsigned;
use super::value::Value;
use crate::context::Context;
use crate::error::CliError;
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
    line("title", &shop.title)?;
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
