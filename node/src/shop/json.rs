//! The JSON files of a shop: `shop.json`, `product.json`, `<version>.json`.
//!
//! Written canonically (RFC 8785): keys sorted, no white space, no fractions, so that the same
//! content has the same CID everywhere. The structs below list their fields in that order. Schemas:
//! `node/schemas/`. Readers accept unknown keys and refuse a higher `format`.

use std::collections::BTreeMap;
use std::io::{self, Read};

use cid::Cid;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::read::ReadError;
use crate::ids::{Channel, ProductId, Version};
use crate::manifest::record::{self, Release};

/// Format of the files written here, and the newest that is read.
pub const FORMAT: u64 = 1;
/// Largest `shop.json` that is read, in bytes.
pub const MAX_SHOP_LEN: usize = 256 << 10;
/// Largest `product.json` that is read, in bytes: about 30,000 versions.
pub const MAX_PRODUCT_LEN: usize = 4 << 20;
/// Largest `<version>.json` that is read, in bytes: more than 200,000 files.
pub const MAX_RELEASE_LEN: usize = 64 << 20;
/// Largest number that every JSON reader keeps exactly (2^53 - 1).
const MAX_NUMBER: u64 = (1 << 53) - 1;
/// Highest sequence number of a head.
pub const MAX_SEQ: u64 = MAX_NUMBER;

/// `shop.json`: the head.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct ShopJson {
    /// What the shop holds.
    pub counts: ShopCounts,
    /// Description, Markdown; empty when there is none.
    #[serde(default)]
    pub description: String,
    /// CIDs of all entries of the shop's root but this file, by name.
    #[serde(default)]
    pub entries: BTreeMap<String, String>,
    /// [`FORMAT`].
    pub format: u64,
    /// URLs of gateways that serve the shop.
    pub gateways: Vec<String>,
    /// Heads before this one, newest first; `heads/` has their files.
    #[serde(default)]
    pub history: Vec<Ancestor>,
    /// When the head was built.
    #[serde(with = "seconds")]
    pub issued: Timestamp,
    /// Seconds that a signed record of the head is valid.
    pub lifetime: u64,
    /// Addresses of mirrors.
    pub mirrors: Vec<String>,
    /// Root of the head before.
    pub prev: Option<String>,
    /// Seconds between signatures of the same head.
    pub refresh: u64,
    /// Sequence number, from 1.
    pub seq: u64,
    /// Title of the shop.
    pub title: String,
}

/// A head before another one.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Ancestor {
    /// CID of its `shop.json`, which names all else of it.
    pub cid: String,
    /// Its sequence number.
    pub seq: u64,
}

impl Ancestor {
    /// The CID.
    ///
    /// # Errors
    /// [`ReadError::Ancestor`] when it is none.
    pub(super) fn cid(&self) -> Result<Cid, ReadError> {
        let text = &self.cid;
        text.parse()
            .map_err(|_| ReadError::Ancestor { text: text.clone() })
    }
}

/// What the shop holds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct ShopCounts {
    /// Entries of `products/`.
    pub products: u64,
    /// Releases of all of them, yanked ones included.
    pub releases: u64,
}

/// `products/<product>/product.json`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct ProductJson {
    /// The version that each channel names.
    pub channels: BTreeMap<Channel, Version>,
    /// Path of the cover picture beside this file.
    pub cover: Option<String>,
    /// When the product was first published.
    #[serde(with = "seconds")]
    pub created: Timestamp,
    /// Description, Markdown, when it is short; else `null`.
    pub description: Option<String>,
    /// Path of a long description beside this file.
    pub description_path: Option<String>,
    /// [`FORMAT`].
    pub format: u64,
    /// The product.
    pub id: ProductId,
    /// Price; `null` when it is free.
    pub price: Option<PriceJson>,
    /// Title.
    pub title: String,
    /// All versions, newest first.
    pub versions: Vec<VersionJson>,
}

/// A price.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct PriceJson {
    /// Decimal amount, such as `9.50`: text, since JSON numbers are not exact.
    pub amount: String,
    /// ISO 4217 code.
    pub currency: String,
}

impl From<&record::Price> for PriceJson {
    fn from(price: &record::Price) -> Self {
        Self {
            amount: price.amount(),
            currency: price.currency.clone(),
        }
    }
}

/// One line of a product's versions.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct VersionJson {
    /// When it was published.
    #[serde(with = "seconds")]
    pub issued: Timestamp,
    /// The version.
    pub version: Version,
    /// When the creator stopped offering it; `null` while it is offered.
    #[serde(with = "optional_seconds")]
    pub yanked: Option<Timestamp>,
}

/// `products/<product>/<version>.json`: never changes once written.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct ReleaseJson {
    /// Root of the release.
    pub cid: String,
    /// Its files, in path order.
    pub files: Vec<FileJson>,
    /// All else.
    #[serde(flatten)]
    pub facts: ReleaseFacts,
}

/// The keys of [`ReleaseJson`] that come after its files.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct ReleaseFacts {
    /// [`FORMAT`].
    pub format: u64,
    /// When it was published.
    #[serde(with = "seconds")]
    pub issued: Timestamp,
    /// Path of the release notes beside this file.
    pub notes: Option<String>,
    /// The product.
    pub product: ProductId,
    /// Import profile.
    pub profile: String,
    /// Bytes of all files.
    pub size: u64,
    /// The version.
    pub version: Version,
}

/// A file of a release.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct FileJson {
    /// Whether it is executable.
    pub executable: bool,
    /// Path inside the release, segments joined by `/`; the file's name when the root is a file.
    pub path: String,
    /// SHA-256 of its bytes, hex, lower case.
    pub sha256: String,
    /// Length in bytes.
    pub size: u64,
}

/// Why a file of a shop was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Larger than this kind of file may be.
    #[error("it has {len} bytes; at most {limit} are read")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not JSON, or not of this shape.
    #[error("it is not a valid file of a shop")]
    Malformed(#[source] serde_json::Error),
    /// A value that may not be there.
    #[error("its {key} is not allowed: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// Written by a newer duka.
    #[error("it has format {found}; this duka knows {FORMAT}")]
    TooNew {
        /// Its format.
        found: u64,
    },
}

/// Reads `shop.json`.
pub fn parse_shop(bytes: &[u8]) -> Result<ShopJson, JsonError> {
    parse(bytes, MAX_SHOP_LEN)
}

/// Reads `product.json`.
pub fn parse_product(bytes: &[u8]) -> Result<ProductJson, JsonError> {
    parse(bytes, MAX_PRODUCT_LEN)
}

/// Reads `<version>.json`. Its paths never lead out of the release.
pub fn parse_release(bytes: &[u8]) -> Result<ReleaseJson, JsonError> {
    let release: ReleaseJson = parse(bytes, MAX_RELEASE_LEN)?;
    // A release that is one file has no name for it.
    let is_nameless = matches!(release.files.as_slice(), [only] if only.path.is_empty());
    for file in &release.files {
        let value = |key, reason| Err(JsonError::Value { key, reason });
        if !is_nameless && !is_inside(&file.path) {
            return value("path", "it leads out of the release");
        }
        if file.sha256.len() != 64
            || !file
                .sha256
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            return value("sha256", "it is not 64 hex digits");
        }
        if file.size > MAX_NUMBER {
            return value("size", "it is too large");
        }
    }
    Ok(release)
}

/// Whether a path of a release leads to nowhere else.
pub(crate) fn is_inside(path: &str) -> bool {
    path.split('/')
        .all(|segment| !matches!(segment, "" | "." | "..") && !segment.contains('\0'))
}

fn parse<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, JsonError> {
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }

    if bytes.len() > limit {
        return Err(JsonError::TooLarge {
            len: bytes.len(),
            limit,
        });
    }
    let Format { format } = serde_json::from_slice(bytes).map_err(JsonError::Malformed)?;
    if format > FORMAT {
        return Err(JsonError::TooNew { found: format });
    }
    serde_json::from_slice(bytes).map_err(JsonError::Malformed)
}

/// The canonical bytes of a file.
pub(super) fn canonical(file: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(file).expect("strings, whole numbers and lists have a JSON form")
}

/// Length of a file's entry in a release's record.
pub(crate) fn file_len(file: &FileJson) -> usize {
    canonical(file).len()
}

/// Name of a release's record beside `product.json`.
pub(crate) fn release_file(version: &Version) -> String {
    format!("{version}.json")
}

/// Name of a release's notes beside `product.json`.
pub(super) fn notes_file(version: &Version) -> String {
    format!("{version}.md")
}

/// `<version>.json` as a stream of canonical bytes. Memory is bounded by one file's entry, so a
/// release may have any number of files. Import it with the default profile.
pub fn release_json<I>(
    product: &ProductId,
    version: &Version,
    release: &Release,
    files: I,
) -> ReleaseJsonReader<I::IntoIter>
where
    I: IntoIterator<Item = io::Result<FileJson>>,
{
    let facts = ReleaseFacts {
        format: FORMAT,
        issued: release.issued,
        notes: release.notes.is_some().then(|| notes_file(version)),
        product: product.clone(),
        profile: release.profile.clone(),
        size: release.size,
        version: version.clone(),
    };
    let mut tail = canonical(&facts);
    // The object's opening brace stands before the files already.
    tail.splice(..1, *b"],");
    ReleaseJsonReader {
        files: files.into_iter(),
        pending: format!("{{\"cid\":\"{}\",\"files\":[", release.root).into_bytes(),
        read: 0,
        tail: Some(tail),
        first: true,
    }
}

/// See [`release_json`].
#[derive(Debug)]
pub struct ReleaseJsonReader<I> {
    files: I,
    pending: Vec<u8>,
    read: usize,
    tail: Option<Vec<u8>>,
    first: bool,
}

impl<I: Iterator<Item = io::Result<FileJson>>> Read for ReleaseJsonReader<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.pending.len() {
            self.pending.clear();
            self.read = 0;
            self.refill()?;
        }
        let waiting = self.pending.get(self.read..).unwrap_or_default();
        let len = waiting.len().min(buffer.len());
        buffer[..len].copy_from_slice(&waiting[..len]);
        self.read += len;
        Ok(len)
    }
}

impl<I: Iterator<Item = io::Result<FileJson>>> ReleaseJsonReader<I> {
    fn refill(&mut self) -> io::Result<()> {
        if self.tail.is_none() {
            return Ok(());
        }
        match self.files.next().transpose()? {
            Some(file) => {
                if !std::mem::replace(&mut self.first, false) {
                    self.pending.push(b',');
                }
                serde_json::to_writer(&mut self.pending, &file)?;
            }
            None => self.pending.extend(self.tail.take().unwrap_or_default()),
        }
        Ok(())
    }
}

/// RFC 3339 in UTC, whole seconds.
mod seconds {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn format(time: Timestamp) -> String {
        time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        format(*time).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(d)
    }
}

mod optional_seconds {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(super::seconds::format).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Option::deserialize(d)
    }
}
