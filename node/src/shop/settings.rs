//! What the shop says of itself: in the manifest, so that it goes with the shop and not with the
//! machine. For what is not said there the settings file counts.

use std::collections::HashSet;
use std::time::Duration;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::announce;
use crate::manifest::change::{Change, Op};
use crate::manifest::record::{JobId, Shop};
use crate::manifest::{Manifest, ManifestError};
use crate::node::Node;
use crate::source::place::place_of;
use crate::source::trustless::told_gateway_url;
use crate::title;

/// Longest description, in bytes: it travels with every head.
const MAX_DESCRIPTION_LEN: usize = 4 << 10;
/// Most bytes of all gateways, and of all mirrors.
const MAX_LIST_LEN: usize = 4 << 10;
/// Shortest time that a signed head is valid, as a multiple of the time between two signatures: past
/// three times that a head is stale, and it should not expire before.
const MIN_REFRESHES: u32 = 3;
/// Longest time that a signed head is valid.
const MAX_LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// Shortest time between two signatures.
const MIN_REFRESH: Duration = Duration::from_secs(60);

/// What counts for the next head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Title; empty while there is neither one nor a product.
    pub title: String,
    /// Description, Markdown.
    pub description: String,
    /// URLs of gateways that serve the shop.
    pub gateways: Vec<String>,
    /// Addresses of mirrors.
    pub mirrors: Vec<String>,
    /// How long a signed head is valid.
    pub lifetime: Duration,
    /// Time between signatures of the same head.
    pub refresh: Duration,
}

/// One setting, with its value; `None` leaves it to the settings file again.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Setting {
    /// Title shown to buyers.
    Title(Option<String>),
    /// Description, Markdown.
    Description(Option<String>),
    /// URLs of gateways that serve the shop.
    Gateways(Option<Vec<String>>),
    /// Addresses of mirrors.
    Mirrors(Option<Vec<String>>),
    /// How long a signed head is valid.
    Expiry(Option<Duration>),
    /// Time between signatures of the same head.
    Refresh(Option<Duration>),
}

/// Why a setting was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// The value cannot be used.
    #[error("the shop's {key} cannot be {value:?}: {reason}")]
    Value {
        /// Which setting.
        key: &'static str,
        /// What was given.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Refuses what the settings file has everybody told and is not to be told.
pub(crate) fn check_file(file: &duka_config::ShopConfig) -> Result<(), SettingError> {
    check(&Setting::Gateways(Some(file.gateways.clone())))?;
    check(&Setting::Mirrors(Some(file.mirrors.clone())))
}

/// What counts for the next head.
pub fn read(node: &Node) -> Result<Settings, ManifestError> {
    let (shop, file) = (node.manifest().shop()?, &node.config().shop);
    let title = match shop.title.as_ref().unwrap_or(&file.title).as_str() {
        "" => title_of_first_product(node.manifest(), &shop)?,
        title => title.to_owned(),
    };
    Ok(Settings {
        title,
        description: shop.description.unwrap_or_default(),
        gateways: shop.gateways.unwrap_or_else(|| file.gateways.clone()),
        mirrors: shop.mirrors.unwrap_or_else(|| file.mirrors.clone()),
        lifetime: shop.lifetime.map_or(file.lifetime, Duration::from_secs),
        refresh: shop.refresh.map_or(file.refresh, Duration::from_secs),
    })
}

fn title_of_first_product(manifest: &Manifest, shop: &Shop) -> Result<String, ManifestError> {
    let first = match &shop.first_product {
        Some(id) => manifest.product(id)?,
        None => manifest.products().next().transpose()?.map(|(_, p)| p),
    };
    Ok(first.map(|product| product.title).unwrap_or_default())
}

/// Changes one setting. Returns the job of the head that shows it.
///
/// # Errors
/// [`SettingError::Value`] when nothing was changed.
pub async fn change(node: &Node, setting: Setting) -> Result<JobId, SettingError> {
    check(&setting)?;
    let _turn = node.publish_turn().await;
    let mut shop = node.manifest().shop()?;
    let seconds = |time: Duration| time.as_secs();
    match setting {
        Setting::Title(title) => shop.title = title,
        Setting::Description(text) => shop.description = text,
        Setting::Gateways(urls) => shop.gateways = urls,
        Setting::Mirrors(addresses) => shop.mirrors = addresses,
        Setting::Expiry(time) => shop.lifetime = time.map(seconds),
        Setting::Refresh(time) => shop.refresh = time.map(seconds),
    }
    let file = &node.config().shop;
    let lifetime = shop.lifetime.map_or(file.lifetime, Duration::from_secs);
    let refresh = shop.refresh.map_or(file.refresh, Duration::from_secs);
    if (shop.lifetime.is_some() || shop.refresh.is_some())
        && lifetime < refresh.saturating_mul(MIN_REFRESHES)
    {
        return refuse(
            "expiry",
            &in_seconds(lifetime),
            "it is shorter than three times its refresh, and a head would expire before it is stale",
        );
    }
    let change = Change {
        expect: Vec::new(),
        ops: vec![Op::PutShop(shop)],
    };
    Ok(announce::commit(node, change).await?)
}

fn check(setting: &Setting) -> Result<(), SettingError> {
    match setting {
        Setting::Title(Some(title)) => match title::unusable(title) {
            Some(reason) => refuse("title", title, reason),
            None => Ok(()),
        },
        Setting::Description(Some(text)) if text.len() > MAX_DESCRIPTION_LEN => {
            refuse("description", text, "it is longer than 4 KiB")
        }
        Setting::Gateways(Some(urls)) => list("gateways", urls, |url| {
            told_gateway_url(url).map(|url| place_of(&url))
        }),
        Setting::Mirrors(Some(addresses)) => list("mirrors", addresses, |address| {
            let address = peer_address(address).ok_or(
                "it is no peer address such as /dns4/mirror.example/tcp/4101/p2p/12D3KooW…",
            )?;
            Ok(address.to_string())
        }),
        Setting::Expiry(Some(time)) => check_lifetime(*time),
        Setting::Refresh(Some(time)) if *time < MIN_REFRESH => {
            refuse("refresh", &in_seconds(*time), "it is shorter than a minute")
        }
        _ => Ok(()),
    }
}

/// Refuses a signature for longer than anybody lives.
pub(crate) fn check_lifetime(time: Duration) -> Result<(), SettingError> {
    match time > MAX_LIFETIME {
        true => refuse("expiry", &in_seconds(time), "it is longer than 100 years"),
        false => Ok(()),
    }
}

/// Addresses of peers have no place for a user or a query, but a host name in one takes any text.
fn peer_address(text: &str) -> Option<Multiaddr> {
    let address = text.parse().ok();
    address.filter(|_| !text.contains(['@', '?', '#']))
}

/// `meant` tells what a value stands for, however it is written, or why it stands for nothing.
fn list(
    key: &'static str,
    values: &[String],
    meant: impl Fn(&str) -> Result<String, &'static str>,
) -> Result<(), SettingError> {
    let mut seen = HashSet::new();
    for value in values {
        let meant = meant(value).or_else(|reason| refuse(key, value, reason))?;
        if !seen.insert(meant) {
            return refuse(key, value, "it is there twice");
        }
    }
    if values.iter().map(String::len).sum::<usize>() > MAX_LIST_LEN {
        return refuse(key, &values.join(" "), "they have more than 4 KiB together");
    }
    Ok(())
}

fn in_seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

fn refuse<T>(key: &'static str, value: &str, reason: &'static str) -> Result<T, SettingError> {
    let value = title::beginning(value);
    Err(SettingError::Value { key, value, reason })
}
