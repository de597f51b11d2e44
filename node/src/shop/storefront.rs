//! The storefront: static pages in the head, which any gateway serves as they are.
//!
//! ```text
//! index.html                    the newest products
//! products/<id>/index.html      one product
//! catalogue/from-<id>.html      all of them, in pages, when there are more than the front page has
//! search/from-<id>.json         the same for the script, node/schemas/search.schema.json
//! …/index.json                  the pieces of both, node/schemas/lists.schema.json
//! assets/                       styles and scripts
//! ```
//! All links are relative, so that it is the same under `/ipns/<key>/`, on a host of its own, and out
//! of a CAR. Pages are whole without their scripts, which add search and verified downloads.

mod catalogue;
mod cut;
mod markdown;
mod product;
mod show;
mod stored;
mod thumbnail;

use sha2::{Digest, Sha256};

use super::HeadInput;

pub(super) use catalogue::{Lists, Previous};
pub(super) use product::{Page, page};
pub(crate) use stored::beginning;
pub(super) use thumbnail::{Listed, kept, of_cover};
pub(crate) use thumbnail::{MAX_COVER_LEN, is_too_large_a_cover};

/// What a shop without a title is called.
const UNTITLED: &str = "Shop";
/// Raised when pages change in a way that their templates do not tell.
const REVISION: u64 = 2;

macro_rules! asset {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../../assets/storefront/", $name)),
        )
    };
}

/// Styles and scripts, by their names in `assets/`.
pub(super) const ASSETS: &[(&str, &[u8])] = &[
    asset!("dag.js"),
    asset!("download.js"),
    asset!("icon.svg"),
    asset!("search.js"),
    (
        "sha256.wasm",
        include_bytes!(concat!(env!("OUT_DIR"), "/sha256.wasm")),
    ),
    asset!("sha256.js"),
    asset!("shop.css"),
    asset!("shop.js"),
    asset!("worker.js"),
];

/// What all pages of one shop share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// Title of the shop.
    pub(super) shop: &'a str,
    /// Its name, `k51…`.
    pub(super) name: &'a str,
    /// Relative path to the root of the shop.
    pub(super) root: &'static str,
}

impl<'a> Frame<'a> {
    fn of(input: &'a HeadInput, root: &'static str) -> Self {
        let title = input.title.trim();
        Self {
            shop: if title.is_empty() { UNTITLED } else { title },
            name: &input.name,
            root,
        }
    }
}

/// Tells pages that would look different: of another title, or made by another version of duka.
pub(super) fn look(input: &HeadInput) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(REVISION.to_be_bytes());
    for part in [
        include_str!("../../templates/storefront/base.html"),
        include_str!("../../templates/storefront/card.html"),
        include_str!("../../templates/storefront/catalogue.html"),
        include_str!("../../templates/storefront/product.html"),
        &input.title,
        &input.name,
    ] {
        hasher.update(part.len().to_be_bytes());
        hasher.update(part);
    }
    first_number(hasher)
}

fn first_number(hasher: Sha256) -> u64 {
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hasher.finalize().into();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
