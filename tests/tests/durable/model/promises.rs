//! The model: what a node has promised.

use std::collections::BTreeMap;

use anyhow::Result;
use cid::Cid;
use duka_node::manifest::Manifest;

/// Pins and releases, as they were acknowledged, or as a manifest has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Promises {
    pub(crate) pins: BTreeMap<Cid, Pinned>,
    /// By product and number.
    pub(crate) releases: BTreeMap<(String, u64), Released>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) recursive: bool,
    pub(crate) name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Released {
    pub(crate) root: Cid,
    pub(crate) yanked: bool,
}

impl Promises {
    /// What a manifest has.
    pub(crate) fn of(manifest: &Manifest) -> Result<Self> {
        let mut found = Self::default();
        for row in manifest.pins() {
            let (cid, pin) = row?;
            let pinned = Pinned {
                recursive: pin.recursive,
                name: pin.name,
            };
            found.pins.insert(cid, pinned);
        }
        for row in manifest.products() {
            let (product, _) = row?;
            for row in manifest.releases(&product) {
                let (version, release) = row?;
                let released = Released {
                    root: release.root,
                    yanked: release.yanked.is_some(),
                };
                let key = (product.to_string(), version.as_str().parse()?);
                found.releases.insert(key, released);
            }
        }
        Ok(found)
    }

    /// Products with a release.
    pub(crate) fn products(&self) -> u64 {
        let mut products: Vec<_> = self.releases.keys().map(|(product, _)| product).collect();
        products.dedup();
        products.len() as u64
    }

    /// Whether the shop offers the tree, so that its pin cannot be removed.
    pub(crate) fn offers(&self, root: &Cid) -> bool {
        let mut releases = self.releases.values();
        releases.any(|release| release.root == *root && !release.yanked)
    }

    fn is_released(&self, root: &Cid) -> bool {
        self.releases.values().any(|release| release.root == *root)
    }

    /// Pins: what was pinned as a whole stays so, and the label of a release stays.
    pub(crate) fn pin(&mut self, root: Cid, recursive: bool, name: Option<String>) {
        let keeps_name = self.is_released(&root);
        let pin = self.pins.entry(root).or_insert_with(|| Pinned {
            recursive,
            name: name.clone(),
        });
        pin.recursive |= recursive;
        if name.is_some() && !keeps_name {
            pin.name = name;
        }
    }

    /// Publishes the next version.
    pub(crate) fn publish(&mut self, product: &str, root: Cid) -> u64 {
        let versions = self.releases.keys().filter(|(other, _)| other == product);
        let version = versions.count() as u64 + 1;
        let released = Released {
            root,
            yanked: false,
        };
        self.releases
            .insert((product.to_owned(), version), released);
        let pinned = Pinned {
            recursive: true,
            name: Some(format!("{product} {version}")),
        };
        self.pins.insert(root, pinned);
        version
    }

    /// The trees that must be whole.
    pub(crate) fn whole(&self) -> impl Iterator<Item = &Cid> {
        let pins = self.pins.iter().filter(|(_, pin)| pin.recursive);
        let releases = self.releases.values().map(|release| &release.root);
        pins.map(|(root, _)| root).chain(releases)
    }
}
