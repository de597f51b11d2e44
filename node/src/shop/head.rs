//! Builds the shop directory.
//!
//! A product is built again only when its revision in the manifest has changed since the last head;
//! of all others the manifest remembers the two directories. The two top-level directories are put
//! together from these each time, which takes milliseconds for thousands of products.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use ipld_dagpb::PbNode;

use super::json::{
    self, FORMAT, PriceJson, ProductJson, ShopCounts, ShopJson, VersionJson, canonical,
};
use super::storefront::{self, Listed, Lists, Page, Previous};
use super::{BuiltHead, HeadInput, ShopError};
use crate::block::{Block, DAG_PB, RAW};
use crate::channel::history;
use crate::dag::hamt::{BuiltDirectory, Entry, build_directory};
use crate::dag::import::{self, ImportOptions, Profile, Sink};
use crate::dag::unixfs::Metadata;
use crate::ids::{Channel, ProductId, Version};
use crate::manifest::Manifest;
use crate::manifest::change::Op;
use crate::manifest::record::{Card, Cover, DirLink, Product, Release, ShopDirs, ShopEntry, Text};
use crate::store::{PackKind, Store, StoreError};

/// Longest file that is one raw block under the default profile, in bytes.
const CHUNK_LEN: usize = 1 << 20;
/// Longest file extension that a cover keeps.
const MAX_EXTENSION_LEN: usize = 8;

/// See [`super::build_head`].
pub(super) fn build(
    store: &Store,
    manifest: &Manifest,
    input: &HeadInput,
) -> Result<BuiltHead, ShopError> {
    let look = storefront::look(input);
    let mut shop = Builder {
        store,
        input,
        left_out: false,
    };
    let (mut products, mut releases) = (Vec::new(), Vec::new());
    let mut cards = Vec::new();
    let mut counts = ShopCounts::default();
    let mut cache = Vec::new();
    for entry in manifest.shop_entries() {
        let (id, revision, cached) = entry?;
        let is_same = |cached: &ShopEntry| cached.revision == revision && cached.look == look;
        let entry = match cached {
            Some(cached) if is_same(&cached) => cached,
            cached => {
                shop.left_out = false;
                let before = cached.and_then(|cached| cached.dirs);
                let built = shop.product(manifest, &id, before.as_ref())?;
                let (dirs, card) = built.unzip();
                let card = card.flatten();
                let entry = ShopEntry {
                    revision,
                    dirs,
                    look,
                    card,
                };
                // What was left out may be here again when the next head is built.
                if !shop.left_out {
                    cache.push(Op::PutShopEntry(id.clone(), entry.clone()));
                }
                entry
            }
        };
        cards.extend(entry.card.map(|card| (id.clone(), card)));
        if let Some(dirs) = entry.dirs {
            counts.products += 1;
            counts.releases += dirs.count;
            products.push(link(id.as_str(), &dirs.product));
            releases.push(link(id.as_str(), &dirs.releases));
        }
    }

    let mut entries = vec![
        link("products", &shop.directory(products)?),
        link("p", &shop.directory(releases)?),
    ];
    if !input.past.files.is_empty() {
        entries.push(link("heads", &shop.directory(input.past.files.clone())?));
    }
    entries.extend(Lists::new(input, cards).build(&shop, &Previous::read(store, input.prev)?)?);
    let head = ShopJson {
        counts,
        description: input.description.clone(),
        entries: entries
            .iter()
            .map(|entry| (entry.name.clone(), entry.cid.to_string()))
            .collect(),
        format: FORMAT,
        gateways: input.gateways.clone(),
        history: input.past.history.clone(),
        issued: input.issued,
        lifetime: input.lifetime,
        mirrors: input.mirrors.clone(),
        prev: input.prev.map(|cid| cid.to_string()),
        refresh: input.refresh,
        seq: input.seq,
        title: input.title.clone(),
    };
    entries.push(shop.file("shop.json".to_owned(), canonical(&head))?);
    let root = shop.directory(entries)?;
    Ok(BuiltHead {
        root: root.cid,
        tsize: root.tsize,
        cache,
    })
}

fn link(name: &str, dir: &DirLink) -> Entry {
    Entry {
        name: name.to_owned(),
        cid: dir.cid,
        tsize: dir.tsize,
    }
}

pub(super) struct Builder<'a> {
    store: &'a Store,
    input: &'a HeadInput,
    /// Whether the product under way lacks a file that is missing or damaged here.
    left_out: bool,
}

impl Builder<'_> {
    /// Builds the two directories of a product, and what lists show of it, if they do; `None` while it has no
    /// finished release. `before`: those of the head before.
    fn product(
        &mut self,
        manifest: &Manifest,
        id: &ProductId,
        before: Option<&ShopDirs>,
    ) -> Result<Option<(ShopDirs, Option<Card>)>, ShopError> {
        let Some(product) = manifest.product(id)? else {
            return Ok(None);
        };
        let all: Vec<(Version, Release)> = manifest.releases(id).collect::<Result<_, _>>()?;
        let finished: Vec<_> = all.iter().filter(|(_, r)| r.record.is_some()).collect();
        if finished.is_empty() {
            return Ok(None);
        }
        let mut channels: Vec<(&Channel, &(Version, Release))> = Vec::new();
        for channel in product.channels.keys() {
            let named = history::until_now(manifest, id, &product, channel)?;
            channels.extend(offered(&all, &named).map(|offered| (channel, offered)));
        }

        let mut entries = Vec::new();
        let mut trees = Vec::new();
        for (version, release) in &finished {
            if let Some(record) = release.record {
                entries.extend(self.whole(id, json::release_file(version), record)?);
            }
            if let Some(notes) = release.notes {
                entries.extend(self.whole(id, json::notes_file(version), notes)?);
            }
            trees.push(tree(version.as_str(), release));
        }
        trees.extend(channels.iter().map(|(c, (_, r))| tree(c.as_str(), r)));

        let cover = match &product.cover {
            Some(cover) => self.whole(id, cover_file(cover), cover.cid)?,
            None => None,
        };
        let description = match &product.description {
            Text::Stored(cid) => self.whole(id, "description.md".to_owned(), *cid)?,
            Text::Inline(_) => None,
        };
        let page = ProductJson {
            channels: channels
                .iter()
                .map(|(channel, (version, _))| ((*channel).clone(), version.clone()))
                .collect(),
            cover: cover.as_ref().map(|entry| entry.name.clone()),
            created: product.created,
            description: inline(&product),
            description_path: description.as_ref().map(|entry| entry.name.clone()),
            format: FORMAT,
            id: id.clone(),
            price: product.price.as_ref().map(PriceJson::from),
            title: product.title.clone(),
            versions: finished
                .iter()
                .rev()
                .map(|(version, release)| VersionJson {
                    issued: release.issued,
                    version: version.clone(),
                    yanked: release.yanked,
                })
                .collect(),
        };
        let listed = match &cover {
            Some(cover) => self.listed(before, cover)?,
            None => Listed::Art,
        };
        let cover_name = cover.as_ref().map(|entry| entry.name.as_str());
        let shown = Page {
            id,
            product: &product,
            releases: &finished,
            channels: &channels,
            cover: cover_name,
            listed: match &listed {
                Listed::Cover => cover_name,
                Listed::Small(made) => Some(made.name),
                Listed::Kept(entry) => Some(&entry.name),
                Listed::Art => None,
            },
            has_description_file: description.is_some(),
        };
        let Some(made) = storefront::page(self.store, self.input, shown)? else {
            return Ok(None);
        };
        self.left_out |= !made.is_whole;
        entries.push(self.file("index.html".to_owned(), made.html)?);
        entries.extend(cover);
        match listed {
            Listed::Small(made) => entries.push(self.file(made.name.to_owned(), made.bytes)?),
            Listed::Kept(entry) => entries.push(entry),
            Listed::Cover | Listed::Art => {}
        }
        entries.extend(description);
        entries.push(self.file("product.json".to_owned(), canonical(&page))?);
        let dirs = ShopDirs {
            product: self.directory(entries)?,
            releases: self.directory(trees)?,
            count: finished.len() as u64,
        };
        Ok(Some((dirs, made.card)))
    }

    /// What lists show of a product with this cover.
    fn listed(&self, before: Option<&ShopDirs>, cover: &Entry) -> Result<Listed, StoreError> {
        let kept = match before {
            Some(before) => storefront::kept(self.store, &before.product.cid, cover)?,
            None => None,
        };
        match kept {
            Some(kept) => Ok(kept),
            None => storefront::of_cover(self.store, &cover.cid, cover.tsize),
        }
    }

    /// An entry for a file of a product; `None` with a warning when it is missing or damaged, so that
    /// one bad block does not keep the whole shop from its next head.
    fn whole(
        &mut self,
        product: &ProductId,
        name: String,
        cid: Cid,
    ) -> Result<Option<Entry>, ShopError> {
        match self.stored(name.clone(), cid) {
            Err(
                error @ (ShopError::Missing { .. }
                | ShopError::Store(StoreError::Corrupt { .. } | StoreError::Changed { .. })),
            ) => {
                tracing::warn!(%error, "{product} has no {name} in the new head; put it back by another publish");
                self.left_out = true;
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    /// An entry for a file that is in the store.
    fn stored(&self, name: String, cid: Cid) -> Result<Entry, ShopError> {
        let missing = || ShopError::Missing { cid };
        let tsize = if cid.codec() == DAG_PB {
            let block = self.store.get(&cid)?.ok_or_else(missing)?;
            let len = block.data().len() as u64;
            let node = PbNode::from_bytes(block.into_data()).map_err(|_| missing())?;
            let below = node.links.iter().map(|link| link.size.unwrap_or(0));
            below.fold(len, u64::saturating_add)
        } else {
            self.store.block_len(&cid)?.ok_or_else(missing)?.into()
        };
        Ok(Entry { name, cid, tsize })
    }

    /// Stores a new file. Small ones are one raw block, as an import makes them.
    pub(super) fn file(&self, name: String, bytes: Vec<u8>) -> Result<Entry, ShopError> {
        if bytes.len() > CHUNK_LEN {
            let sink = Sink::Store(self.store.clone(), PackKind::Kept);
            let mut reader = Cursor::new(bytes);
            let options = ImportOptions::default();
            let imported =
                import::import_reader(&sink, &mut reader, &options, &(Arc::new(|_| true) as _))?;
            return Ok(Entry {
                name,
                cid: imported.root,
                tsize: imported.tsize,
            });
        }
        let block = Block::of(RAW, Bytes::from(bytes));
        let entry = Entry {
            name,
            cid: *block.cid(),
            tsize: block.data().len() as u64,
        };
        self.store.put(PackKind::Kept, &[block])?;
        Ok(entry)
    }

    pub(super) fn folder(&self, name: &str, entries: Vec<Entry>) -> Result<Entry, ShopError> {
        Ok(link(name, &self.directory(entries)?))
    }

    fn directory(&self, entries: Vec<Entry>) -> Result<DirLink, ShopError> {
        let BuiltDirectory {
            blocks,
            root,
            tsize,
        } = build_directory(entries, Metadata::default(), Profile::default())?;
        self.store.put(PackKind::Kept, &blocks)?;
        Ok(DirLink { cid: root, tsize })
    }
}

/// The release that a channel offers: the last of those that it named, or, while that one's record is not
/// computed yet, the newest finished one before it that is not yanked.
fn offered<'a>(
    releases: &'a [(Version, Release)],
    named: &[u64],
) -> Option<&'a (Version, Release)> {
    let numbered = |number: &u64| {
        let at = releases.binary_search_by_key(number, |(_, release)| release.number);
        releases.get(at.ok()?)
    };
    let (now, before) = named.split_last()?;
    let now = numbered(now).filter(|(_, release)| release.record.is_some());
    now.or_else(|| {
        let mut before = before.iter().rev().filter_map(numbered);
        before.find(|(_, release)| release.record.is_some() && release.yanked.is_none())
    })
}

fn tree(name: &str, release: &Release) -> Entry {
    Entry {
        name: name.to_owned(),
        cid: release.root,
        tsize: release.tsize,
    }
}

fn inline(product: &Product) -> Option<String> {
    match &product.description {
        Text::Inline(text) => Some(text.clone()),
        Text::Stored(_) => None,
    }
}

/// `cover`, with the extension of the creator's file when it is a plain one.
fn cover_file(cover: &Cover) -> String {
    let extension = cover.name.rsplit_once('.').map(|(_, extension)| extension);
    let plain = |e: &&str| {
        (1..=MAX_EXTENSION_LEN).contains(&e.len()) && e.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    match extension.filter(plain) {
        Some(extension) => format!("cover.{}", extension.to_ascii_lowercase()),
        None => "cover".to_owned(),
    }
}
