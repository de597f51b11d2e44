//! The own shop, and those of others, as they are shown.

use duka_node::channel::Moved;
use duka_node::shop::follow::Followed;
use serde::{Deserialize, Serialize};

use crate::control::release::Chosen;

/// A product, without its texts.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Product {
    /// Its id.
    pub product: String,
    /// Title.
    pub title: String,
    /// Price, such as `9.50 USD`.
    pub price: Option<String>,
    /// Channels and the version that each names.
    pub channels: std::collections::BTreeMap<String, String>,
    /// Number of releases.
    pub releases: u64,
    /// When it was first published.
    pub created: String,
}

/// Where a channel leads.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ChannelMove {
    /// From which version to which.
    #[serde(flatten)]
    pub moved: Moved,
    /// The root of the release that it names now.
    pub cid: Option<String>,
    /// Whether a signed head shows it.
    pub signed: bool,
}

/// The own shop.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Shop {
    /// Its name, `k51…`.
    pub name: String,
    /// Title; empty while there is neither one nor a product.
    pub title: String,
    /// Description, Markdown.
    pub description: String,
    /// URLs of gateways that serve the shop.
    pub gateways: Vec<String>,
    /// Addresses of mirrors.
    pub mirrors: Vec<String>,
    /// Seconds that a signed head is valid.
    pub expiry_seconds: u64,
    /// Seconds between signatures of the same head.
    pub refresh_seconds: u64,
    /// Those of the above that the shop says itself; for the others the settings file counts.
    pub own: Vec<String>,
    /// Products.
    pub products: u64,
    /// Releases of all products, yanked ones included.
    pub releases: u64,
    /// The newest signed head.
    pub head: Option<Head>,
}

/// A signed head.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Head {
    /// Its sequence number.
    pub seq: u64,
    /// The shop directory.
    pub cid: String,
    /// When it was built.
    pub issued: String,
    /// When it was signed last.
    pub signed: Option<String>,
}

/// A release.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Release {
    /// The product.
    pub product: String,
    /// The version.
    pub version: String,
    /// The root of its tree.
    pub cid: String,
    /// Number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When it was published.
    pub issued: String,
    /// When it was withdrawn.
    pub yanked: Option<String>,
}

/// The head of somebody's shop.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ShopHead {
    /// The shop's name.
    pub name: String,
    /// What to remember of it.
    pub followed: Followed,
    /// Its title; `None` where the head was known.
    pub title: Option<String>,
    /// Gateways and mirrors that it names; `None` where the head was known.
    pub gateways: Option<Vec<String>>,
    /// The release that was wanted.
    pub chosen: Option<Chosen>,
    /// What the user should know.
    pub warnings: Vec<String>,
}
