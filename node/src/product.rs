//! What a product says of itself besides its releases: title, description, price, cover.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::announce;
use crate::dag::import::ImportError;
use crate::ids::ProductId;
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Op};
use crate::manifest::record::{JobId, Price, Text};
use crate::node::Node;
use crate::publish::PublishError;
use crate::publish::texts::{self, check_cover, check_title};
use crate::store::StoreError;

/// One thing that a product says, with its value; `None` takes it away.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Setting {
    /// Title shown to buyers.
    Title(String),
    /// Description, Markdown.
    Description(Option<String>),
    /// Price; without one the product is free.
    Price(Option<Price>),
    /// Cover picture, a file.
    Cover(Option<PathBuf>),
}

/// Why a product was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProductError {
    /// The value cannot be used.
    #[error(transparent)]
    Value(#[from] PublishError),
    /// The text or the cover could not be read or stored.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Changes what a product says. Returns the job of the head that shows it.
///
/// # Errors
/// [`ProductError`]; nothing was changed then.
pub async fn change(node: &Node, id: &ProductId, setting: Setting) -> Result<JobId, ProductError> {
    match &setting {
        Setting::Title(title) => check_title(title)?,
        Setting::Cover(Some(cover)) => check_cover(node, cover.clone()).await?,
        _ => {}
    }
    let _turn = node.publish_turn().await;
    let mut product = node.manifest().known_product(id)?;
    // Until the commit nothing refers to the text or the cover.
    let _temp_pin = node.temp_pin();
    match setting {
        Setting::Title(title) => product.title = title,
        Setting::Description(text) => {
            let text = text.unwrap_or_default();
            product.description = match texts::import_description(node, text).await? {
                stored @ Text::Stored(_) => {
                    node.commit_blocks().await?;
                    stored
                }
                inline @ Text::Inline(_) => inline,
            };
        }
        Setting::Price(price) => product.price = price,
        Setting::Cover(None) => product.cover = None,
        Setting::Cover(Some(file)) => {
            product.cover = Some(texts::import_cover(node, file).await?);
            node.commit_blocks().await?;
        }
    }
    let change = Change {
        expect: Vec::new(),
        ops: vec![Op::PutProduct(id.clone(), product)],
    };
    Ok(announce::commit(node, change).await?)
}
