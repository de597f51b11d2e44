//! The DAGs that the manifest promises: what a check must find and garbage collection must leave.

use cid::Cid;

use crate::manifest::record::Text;
use crate::manifest::{Manifest, ManifestError};
use crate::mirror::kept;
use crate::store::{Store, StoreError};

/// A DAG that must be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    /// Its root.
    pub(crate) cid: Cid,
    /// The whole DAG, or the one block.
    pub(crate) recursive: bool,
}

impl Root {
    pub(crate) fn whole(cid: Cid) -> Self {
        Self {
            cid,
            recursive: true,
        }
    }
}

/// What pins, products, releases, the newest head and mirrors refer to. Blocking.
pub(crate) fn promised<E>(store: &Store, manifest: &Manifest) -> Result<Vec<Root>, E>
where
    E: From<ManifestError> + From<StoreError>,
{
    let mut roots = Vec::new();
    for pin in manifest.pins() {
        let (cid, pin) = pin?;
        roots.push(Root {
            cid,
            recursive: pin.recursive,
        });
    }
    let mut whole = Vec::new();
    for product in manifest.products() {
        let (id, product) = product?;
        whole.extend(product.cover.map(|cover| cover.cid));
        if let Text::Stored(cid) = product.description {
            whole.push(cid);
        }
        for release in manifest.releases(&id) {
            let (_, release) = release?;
            whole.extend([release.root, release.file_list]);
            whole.extend(release.record);
            whole.extend(release.notes);
        }
    }
    whole.extend(manifest.head()?.map(|head| head.root));
    roots.extend(whole.into_iter().map(Root::whole));
    for row in manifest.mirrors() {
        let (_, mirror) = row?;
        if let Some(held) = mirror.held {
            roots.extend(kept::read(store, held.kept)?);
        }
    }
    Ok(roots)
}

/// What the next head is built from.
pub(crate) fn cached(manifest: &Manifest) -> Result<Vec<Root>, ManifestError> {
    let mut roots = Vec::new();
    for entry in manifest.shop_entries() {
        let (_, _, entry) = entry?;
        if let Some(dirs) = entry.and_then(|entry| entry.dirs) {
            roots.extend([dirs.product.cid, dirs.releases.cid].map(Root::whole));
        }
    }
    Ok(roots)
}
