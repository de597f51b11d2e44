//! What the manifest stores. Each stored form carries a version; older ones are migrated when read.
//! Values stay under 4 KiB: anything longer is a block, and the record holds its CID. (IPNS records
//! of other people may have up to 10 KiB.)
//!
//! To change a record: keep its old shape in a module `v1`, add `V2` to its `Stored…` enum with a
//! conversion from the old shape, and raise `frame::FORMAT`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cid::Cid;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ManifestError;
use crate::ids::{Channel, ProductId, Version};
use crate::shop::follow::Followed;

/// A product.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Product {
    /// Title shown to buyers.
    pub title: String,
    /// Description, Markdown. Long texts are a block of their own.
    pub description: Text,
    /// Price, if the product is not free.
    pub price: Option<Price>,
    /// Cover picture: root of a UnixFS file.
    pub cover: Option<Cover>,
    /// When it was first published.
    pub created: Timestamp,
    /// The version that each channel names.
    pub channels: BTreeMap<Channel, Version>,
    /// Numbers of the releases that each channel named one after the other, the present one among them. Of a
    /// channel from before this was noted there are none.
    #[serde(default)]
    pub history: BTreeMap<Channel, Vec<u64>>,
}

/// A text: short ones inline, long ones as a raw block.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub enum Text {
    /// Up to 1 KiB.
    Inline(String),
    /// Root of a UnixFS file.
    Stored(Cid),
}

/// A price: an amount in the smallest unit of a currency.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Price {
    /// Amount in minor units: 950 is 9.50 USD.
    pub minor: u64,
    /// Digits after the point: 2 for USD, 0 for JPY (ISO 4217).
    pub digits: u8,
    /// ISO 4217 code, upper case.
    pub currency: String,
}

impl Price {
    /// Decimal amount, such as `9.50`.
    pub fn amount(&self) -> String {
        let digits = usize::from(self.digits);
        let padded = format!("{:0>width$}", self.minor, width = digits + 1);
        let (whole, fraction) = padded.split_at(padded.len() - digits);
        let point = if digits == 0 { "" } else { "." };
        format!("{whole}{point}{fraction}")
    }
}

/// `9.50 USD`.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount(), self.currency)
    }
}

/// A cover picture.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Cover {
    /// Root of the UnixFS file.
    pub cid: Cid,
    /// File name, with its extension.
    pub name: String,
}

/// One immutable published version of a product.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Release {
    /// Root of the release's tree.
    pub root: Cid,
    /// Import profile, such as `unixfs-v1-2025`, with its chunker where it has another one: `…+buzhash`.
    pub profile: String,
    /// Bytes of all files.
    pub size: u64,
    /// Cumulative size of the DAG, the `Tsize` of a link to it.
    pub tsize: u64,
    /// Blocks of the tree.
    pub blocks: u64,
    /// Number of files.
    pub files: u64,
    /// The file list: a UnixFS file of JSON lines (`crate::publish::FileEntry`).
    pub file_list: Cid,
    /// `products/<product>/<version>.json`, once the checksums are known.
    pub record: Option<Cid>,
    /// Release notes: root of a UnixFS file.
    pub notes: Option<Cid>,
    /// When it was published.
    pub issued: Timestamp,
    /// Position among the product's releases, from 1.
    pub number: u64,
    /// Set when the creator no longer offers it.
    pub yanked: Option<Timestamp>,
}

/// Why a DAG is kept.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Pin {
    /// The whole DAG, or the one block.
    pub recursive: bool,
    /// A label.
    pub name: Option<String>,
    /// When.
    pub created: Timestamp,
}

/// Number of a job; grows.
pub type JobId = u64;

/// Work that must be done even if the node stops first.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[non_exhaustive]
pub enum Job {
    /// Compute the checksums of a release and write its record.
    Checksum(ProductId, Version),
    /// Build, sign and announce a new head.
    Announce,
}

/// A head of the own shop.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Head {
    /// Sequence number, from 1.
    pub seq: u64,
    /// The shop directory.
    pub root: Cid,
    /// The one before.
    pub prev: Option<Cid>,
    /// When it was built.
    pub issued: Timestamp,
}

/// What the own shop says of itself. For what it does not say the settings file counts.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Shop {
    /// Title shown to buyers.
    pub title: Option<String>,
    /// Description, Markdown.
    pub description: Option<String>,
    /// URLs of gateways that serve the shop.
    pub gateways: Option<Vec<String>>,
    /// Addresses of mirrors.
    pub mirrors: Option<Vec<String>>,
    /// Seconds that a signed head is valid.
    pub lifetime: Option<u64>,
    /// Seconds between signatures of the same head.
    pub refresh: Option<u64>,
    /// The product whose title the shop has while it has none of its own: the first in its first head.
    pub first_product: Option<ProductId>,
}

/// A shop of somebody else that is mirrored here.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Mirror {
    /// What is kept of it.
    pub policy: MirrorPolicy,
    /// Gateways that the operator named.
    pub gateways: Vec<String>,
    /// Since when.
    pub added: Timestamp,
    /// Nothing is fetched.
    pub paused: bool,
    /// The newest head that was checked.
    pub known: Option<Followed>,
    /// The newest head that is whole here.
    pub held: Option<Held>,
    /// Heads that were refused, newest first.
    pub refused: Vec<RefusedHead>,
}

impl Mirror {
    /// A mirror that keeps everything and has nothing yet.
    pub fn new(added: Timestamp) -> Self {
        Self {
            policy: MirrorPolicy::default(),
            gateways: Vec::new(),
            added,
            paused: false,
            known: None,
            held: None,
            refused: Vec::new(),
        }
    }
}

/// What a mirror keeps of a shop.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct MirrorPolicy {
    /// Most bytes; `None` without a limit.
    pub quota: Option<u64>,
    /// How many releases of each product; `None` is all, or with channels the one that each names.
    pub keep: Option<Keep>,
    /// What these channels name, and releases before that; of all channels when there are none here.
    pub channels: BTreeSet<Channel>,
    /// Releases of these products; of all when there are none here.
    pub products: BTreeSet<ProductId>,
    /// Most bytes that are fetched in a second.
    pub bytes_per_second: Option<u64>,
    /// When it may fetch.
    pub hours: Option<Hours>,
}

impl MirrorPolicy {
    /// The same, and of `before` what it leaves open.
    #[must_use]
    pub fn or(self, before: &Self) -> Self {
        let of = |own: bool| if own { &self } else { before };
        Self {
            quota: self.quota.or(before.quota),
            keep: self.keep.or(before.keep),
            channels: of(!self.channels.is_empty()).channels.clone(),
            products: of(!self.products.is_empty()).products.clone(),
            bytes_per_second: self.bytes_per_second.or(before.bytes_per_second),
            hours: self.hours.or(before.hours),
        }
    }
}

/// How many releases of a product are kept.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// All.
    All,
    /// The newest ones.
    Latest(u32),
}

/// A part of each day, in minutes since midnight.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Hours {
    /// From this minute.
    pub from: u16,
    /// Up to this minute; before `from`, it is that of the next day.
    pub to: u16,
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Latest(count) => write!(f, "latest:{count}"),
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.from, self.to].map(|minute| (minute / 60, minute % 60));
        write!(f, "{:02}:{:02}-{:02}:{:02}", from.0, from.1, to.0, to.1)
    }
}

impl Hours {
    /// How long it is until they begin, at this minute of a day; `None` within them.
    pub fn until_open(self, minute: u16) -> Option<std::time::Duration> {
        const DAY: u16 = 24 * 60;
        let since = (minute % DAY + DAY - self.from % DAY) % DAY;
        let len = (self.to % DAY + DAY - self.from % DAY) % DAY;
        if len == 0 || since < len {
            return None;
        }
        Some(std::time::Duration::from_secs(u64::from(DAY - since) * 60))
    }
}

/// A head of a mirrored shop that is whole here.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Held {
    /// The head.
    pub head: Followed,
    /// The list of what is kept of it.
    pub kept: Cid,
    /// By which policy.
    pub policy: MirrorPolicy,
    /// Bytes of that.
    pub bytes: u64,
}

/// A head of a mirrored shop that was refused.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct RefusedHead {
    /// The sequence number of its record, if that is valid.
    pub seq: Option<u64>,
    /// Why.
    pub why: String,
    /// Who showed it.
    pub from: String,
    /// When it was first seen.
    pub when: Timestamp,
    /// How often.
    pub times: u64,
}

/// An IPNS record as it travels.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct NameRecord {
    /// The signed protobuf.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Its sequence number.
    pub sequence: u64,
    /// When it was last checked or made.
    pub seen: Timestamp,
}

/// What the newest head holds of one product: kept so that a new head rewrites only the products
/// that changed.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ShopEntry {
    /// The product's revision ([`super::Manifest::shop_entries`]) that it was built from.
    pub revision: u64,
    /// Its directories; `None` while no release of it is finished.
    pub dirs: Option<ShopDirs>,
    /// Which look of the storefront its page has. An entry of before there were pages has none, and
    /// is built again like any other that is out of date.
    #[serde(default)]
    pub look: u64,
    /// What the lists of the storefront show of it; nothing while all of it is withdrawn.
    #[serde(default)]
    pub card: Option<Card>,
}

/// What the lists of the storefront show of a product.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Card {
    /// Title.
    pub title: String,
    /// The beginning of its description, without markup.
    pub summary: String,
    /// `9.50 USD`; `None` when it is free.
    pub price: Option<String>,
    /// Name of the cover in the product's directory.
    pub cover: Option<String>,
    /// The version that is offered.
    pub version: Version,
    /// When that was published.
    pub issued: Timestamp,
}

/// The directories of one product in the shop.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ShopDirs {
    /// `products/<product>`.
    pub product: DirLink,
    /// `p/<product>`.
    pub releases: DirLink,
    /// Number of releases in it.
    pub count: u64,
}

/// A link to a built directory.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct DirLink {
    /// Root of the directory.
    pub cid: Cid,
    /// Cumulative size in bytes.
    pub tsize: u64,
}

/// How many records there are, without reading them.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Counts {
    /// Products.
    pub products: u64,
    /// Releases of all products, yanked ones included.
    pub releases: u64,
    /// Pins.
    pub pins: u64,
    /// Jobs that are not done.
    pub jobs: u64,
    /// IPNS names with a stored record.
    pub names: u64,
}

/// A record with a version history.
pub(crate) trait Record: Clone {
    /// What error messages call it.
    const KIND: &'static str;
    /// All its shapes, oldest first.
    type Stored: Serialize + DeserializeOwned + From<Self> + Into<Self>;

    /// The stored bytes: DAG-CBOR of [`Record::Stored`].
    fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        serde_ipld_dagcbor::to_vec(&Self::Stored::from(self.clone()))
            .map_err(|_| ManifestError::Record { kind: Self::KIND })
    }

    /// Decodes any known version.
    fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        serde_ipld_dagcbor::from_slice::<Self::Stored>(bytes)
            .map(Into::into)
            .map_err(|_| ManifestError::Record { kind: Self::KIND })
    }
}

macro_rules! record {
    ($record:ident, $stored:ident, $kind:literal) => {
        #[derive(Serialize, Deserialize)]
        pub(crate) enum $stored {
            V1($record),
        }

        impl From<$record> for $stored {
            fn from(record: $record) -> Self {
                Self::V1(record)
            }
        }

        impl From<$stored> for $record {
            fn from($stored::V1(record): $stored) -> Self {
                record
            }
        }

        impl Record for $record {
            const KIND: &'static str = $kind;
            type Stored = $stored;
        }
    };
}

record!(Product, StoredProduct, "product");
record!(Release, StoredRelease, "release");
record!(Pin, StoredPin, "pin");
record!(Job, StoredJob, "job");
record!(Head, StoredHead, "head");
record!(Shop, StoredShop, "shop");
record!(Mirror, StoredMirror, "mirror");
record!(NameRecord, StoredNameRecord, "name");
record!(ShopEntry, StoredShopEntry, "shop entry");
record!(Counts, StoredCounts, "count");

/// `#[serde(with)]` for a record inside an operation: writes and reads its versioned form.
pub(crate) mod versioned {
    use super::{Deserialize, Deserializer, Record, Serialize, Serializer};

    pub(crate) fn serialize<R: Record, S: Serializer>(
        record: &R,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        R::Stored::from(record.clone()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, R: Record, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<R, D::Error> {
        R::Stored::deserialize(deserializer).map(Into::into)
    }
}
