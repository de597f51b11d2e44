//! The page of one product.

use askama::Template;
use pulldown_cmark::HeadingLevel;

use super::super::json::{PriceJson, release_file};
use super::super::{HeadInput, ShopError};
use super::{Frame, markdown, show, stored};
use crate::human::human_size;
use crate::ids::{Channel, ProductId, Version};
use crate::manifest::record::{Card, Product, Release, Text};
use crate::store::{Store, StoreError};

/// Files that a page lists; of more it leads to the gateway's listing.
const MAX_FILES: usize = 200;
/// Versions that a page lists.
const MAX_VERSIONS: usize = 50;
/// Characters of a description in lists.
const SUMMARY_LEN: usize = 120;

/// What a page is made of.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Page<'a> {
    pub(in super::super) id: &'a ProductId,
    pub(in super::super) product: &'a Product,
    /// Finished releases, oldest first; not empty.
    pub(in super::super) releases: &'a [&'a (Version, Release)],
    /// What each channel offers.
    pub(in super::super) channels: &'a [(&'a Channel, &'a (Version, Release))],
    /// Name of the cover in the product's directory.
    pub(in super::super) cover: Option<&'a str>,
    /// Name of the picture there that lists show; without one they show a drawing.
    pub(in super::super) listed: Option<&'a str>,
    /// Whether the whole description is a file in the product's directory.
    pub(in super::super) has_description_file: bool,
}

/// A made page.
#[derive(Debug)]
pub(in super::super) struct Made {
    pub(in super::super) html: Vec<u8>,
    /// What lists show of it; `None` when all of it is withdrawn.
    pub(in super::super) card: Option<Card>,
    /// Nothing that it shows was missing here.
    pub(in super::super) is_whole: bool,
}

/// Makes the page of a product, and what lists show of it. `None` without a release.
pub(in super::super) fn page(
    store: &Store,
    input: &HeadInput,
    page: Page<'_>,
) -> Result<Option<Made>, ShopError> {
    let Some((version, release)) = page.offered() else {
        return Ok(None);
    };
    let Page { id, product, .. } = page;
    let mut is_whole = true;
    let mut whole_or_empty = |text: Option<String>| {
        is_whole &= text.is_some();
        text.unwrap_or_default()
    };
    let description = match &product.description {
        Text::Inline(text) => text.clone(),
        Text::Stored(cid) => whole_or_empty(stored::text(store, cid)?),
    };
    let notes = match &release.notes {
        Some(cid) => whole_or_empty(stored::text(store, cid)?),
        None => String::new(),
    };
    let files = files(store, id, version, release)?;
    is_whole &= files.is_some();

    let price = product.price.as_ref().map(PriceJson::from);
    let card = Card {
        title: product.title.clone(),
        summary: markdown::to_summary(&description, SUMMARY_LEN),
        price: price.map(|price| format!("{} {}", price.amount, price.currency)),
        cover: page.listed.map(str::to_owned),
        version: version.clone(),
        issued: release.issued,
    };
    let is_file = |release: &Release, files: &[File]| matches!(files, [only] if release.files == 1 && only.cid == release.root.to_string());
    let files = files.unwrap_or_default();
    let is_withdrawn = release.yanked.is_some();
    let html = ProductPage {
        frame: Frame::of(input, "../../"),
        id,
        title: &product.title,
        art: show::art(id, &product.title),
        card: &card,
        cover: page.cover,
        description: markdown::to_html(&description, HeadingLevel::H2),
        has_description_file: page.has_description_file,
        notes: markdown::to_html(&notes, HeadingLevel::H2),
        only_file: is_file(release, &files),
        version: page.version(store, version, release)?,
        is_default: page.is_default(version),
        more_files: release.files.saturating_sub(files.len() as u64),
        files,
        more_versions: page.releases.len().saturating_sub(MAX_VERSIONS) as u64,
        versions: page.versions(store)?,
    };
    Ok(Some(Made {
        html: html.render()?.into_bytes(),
        card: (!is_withdrawn).then_some(card),
        is_whole,
    }))
}

impl<'a> Page<'a> {
    /// What the page offers first: `stable`, else the newest release that is not yanked, else the
    /// newest.
    fn offered(&self) -> Option<&'a (Version, Release)> {
        let stable = self.channels.iter().find(|(c, _)| c.as_str() == "stable");
        let stable = stable.map(|(_, offered)| *offered);
        let mut newest_first = self.releases.iter().rev().copied();
        stable
            .filter(|(_, release)| release.yanked.is_none())
            .or_else(|| newest_first.find(|(_, release)| release.yanked.is_none()))
            .or_else(|| self.releases.last().copied())
    }

    /// Whether `duka get` takes this version when it is told none.
    fn is_default(&self, version: &Version) -> bool {
        let mut channels = self.channels.iter();
        channels.any(|(c, (offered, _))| c.as_str() == "stable" && offered == version)
    }

    fn versions(&self, store: &Store) -> Result<Vec<VersionRow>, StoreError> {
        let newest = self.releases.iter().rev().take(MAX_VERSIONS);
        newest.map(|(v, r)| self.version(store, v, r)).collect()
    }

    fn version(
        &self,
        store: &Store,
        version: &Version,
        release: &Release,
    ) -> Result<VersionRow, StoreError> {
        let names = |(channel, (offered, _)): &(&Channel, &(Version, Release))| {
            (offered == version).then(|| channel.to_string())
        };
        let tree = format!("../../p/{}/{}", self.id, show::word(version.as_str()));
        let only_file = only_file(store, self.id, version, release)?;
        Ok(VersionRow {
            href: match &only_file {
                Some(name) => download(&tree, name),
                None => format!("{tree}/"),
            },
            version: version.clone(),
            date: show::date(release.issued),
            size: human_size(release.size),
            files: show::count(release.files, "file", "files"),
            is_folder: only_file.is_none(),
            cid: release.root.to_string(),
            record: show::word(&release_file(version)),
            channels: self.channels.iter().filter_map(names).collect(),
            is_yanked: release.yanked.is_some(),
        })
    }
}

/// The name of the file that is the whole release.
fn only_file(
    store: &Store,
    id: &ProductId,
    version: &Version,
    release: &Release,
) -> Result<Option<String>, StoreError> {
    if release.files != 1 {
        return Ok(None);
    }
    let listed = stored::files(store, &release.file_list, 1)?;
    let root = release.root.to_string();
    Ok(match listed.unwrap_or_default().first() {
        Some(file) if file.cid != root => None,
        Some(file) => Some(name_of(&file.path, id, version)),
        None => Some(name_of("", id, version)),
    })
}

/// The name that a file of a release is downloaded by.
fn name_of(path: &str, id: &ProductId, version: &Version) -> String {
    match path.rsplit('/').next() {
        None | Some("") => format!("{id}-{version}"),
        Some(name) => name.to_owned(),
    }
}

/// A link by which a gateway gives a file under this name.
fn download(href: &str, name: &str) -> String {
    format!("{href}?download=true&filename={}", show::word(name))
}

/// The first files of a release; `None` when their list is not here.
fn files(
    store: &Store,
    id: &ProductId,
    version: &Version,
    release: &Release,
) -> Result<Option<Vec<File>>, ShopError> {
    let Some(listed) = stored::files(store, &release.file_list, MAX_FILES)? else {
        return Ok(None);
    };
    let checksums = match &release.record {
        Some(record) => stored::checksums(store, record)?.unwrap_or_default(),
        None => return Ok(None),
    };
    let tree = format!("../../p/{id}/{}", show::word(version.as_str()));
    let root = release.root.to_string();
    let files = listed.into_iter().map(|file| {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let name = name_of(&file.path, id, version);
        let href = if file.cid == root {
            tree.clone()
        } else {
            format!("{tree}/{}", show::path(&file.path))
        };
        File {
            href: download(&href, &name),
            name,
            folder: folder.to_owned(),
            shown_size: human_size(file.size),
            size: file.size,
            sha256: checksums.get(&file.path).cloned(),
            cid: file.cid,
            executable: file.executable,
        }
    });
    Ok(Some(files.collect()))
}

#[derive(Debug)]
struct File {
    name: String,
    /// Where it is in the release.
    folder: String,
    href: String,
    cid: String,
    size: u64,
    shown_size: String,
    sha256: Option<String>,
    executable: bool,
}

#[derive(Debug)]
struct VersionRow {
    version: Version,
    href: String,
    /// HTML.
    date: String,
    size: String,
    files: String,
    is_folder: bool,
    cid: String,
    /// File name of the release's record.
    record: String,
    channels: Vec<String>,
    is_yanked: bool,
}

#[derive(Template)]
#[template(path = "storefront/product.html")]
struct ProductPage<'a> {
    frame: Frame<'a>,
    id: &'a ProductId,
    title: &'a str,
    card: &'a Card,
    /// Name of the file.
    cover: Option<&'a str>,
    /// SVG.
    art: String,
    /// HTML.
    description: String,
    has_description_file: bool,
    /// HTML.
    notes: String,
    version: VersionRow,
    is_default: bool,
    /// The release is this one file.
    only_file: bool,
    files: Vec<File>,
    more_files: u64,
    versions: Vec<VersionRow>,
    more_versions: u64,
}
