//! The shop: one UnixFS directory under one IPNS name. Built from the manifest; the format is in
//! `node/DESIGN.md`.

pub mod follow;
mod head;
pub mod hear;
pub mod json;
mod past;
pub mod read;
pub mod settings;
mod storefront;
#[cfg(test)]
mod tests;

use cid::Cid;

use crate::dag::hamt::DirectoryError;
use crate::dag::import::ImportError;
use crate::manifest::change::Op;
use crate::manifest::{Manifest, ManifestError};
use crate::store::{Store, StoreError};

pub use past::{Past, past_of};
pub use read::{ReadError, read_small};
pub(crate) use storefront::{MAX_COVER_LEN, beginning, is_too_large_a_cover};

/// Why a head could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShopError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A large file of the shop could not be stored.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The names of the products cannot be in one directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A page of the storefront could not be made.
    #[error("a page of the storefront could not be made")]
    Page,
    /// A file that the shop links to is not in the store, or damaged.
    #[error("{cid}, a file of the shop, is not in the store")]
    Missing {
        /// Root of the file.
        cid: Cid,
    },
}

impl From<askama::Error> for ShopError {
    fn from(_: askama::Error) -> Self {
        Self::Page
    }
}

/// What goes into `shop.json` besides the manifest.
#[derive(Clone, Debug)]
pub struct HeadInput {
    /// Name of the shop, which its pages tell.
    pub name: String,
    /// Title.
    pub title: String,
    /// Description, Markdown.
    pub description: String,
    /// Sequence number of the new head.
    pub seq: u64,
    /// Root of the head before.
    pub prev: Option<Cid>,
    /// It and those before it.
    pub past: Past,
    /// Now.
    pub issued: jiff::Timestamp,
    /// Seconds a signed record is valid.
    pub lifetime: u64,
    /// Seconds between signatures.
    pub refresh: u64,
    /// Gateways that serve the shop.
    pub gateways: Vec<String>,
    /// Peer addresses of mirrors.
    pub mirrors: Vec<String>,
}

/// A built head.
#[derive(Clone, Debug)]
pub struct BuiltHead {
    /// The shop directory.
    pub root: Cid,
    /// Cumulative size of its DAG in bytes, releases included.
    pub tsize: u64,
    /// What the next head need not build again. Commit them together with `Op::PutHead`, after
    /// `Store::commit`: they name blocks that must be there.
    pub cache: Vec<Op>,
}

/// Builds the shop directory and puts its blocks into the store (not durable before commit).
/// Deterministic: the same manifest and input give the same root. Blocking.
///
/// Releases whose record is not computed yet are left out; their job builds another head.
pub fn build_head(
    store: &Store,
    manifest: &Manifest,
    input: &HeadInput,
) -> Result<BuiltHead, ShopError> {
    head::build(store, manifest, input)
}
