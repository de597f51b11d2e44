//! The lists of products: front page, pages of the catalogue, and the index for search.
//!
//! The pieces are cut by content, and each list says in its `index.json` what every piece was made
//! from, so the next head takes over those that are the same.

use std::collections::BTreeMap;

use askama::Template;
use cid::Cid;
use pulldown_cmark::HeadingLevel;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::head::Builder;
use super::super::json::{FORMAT, canonical};
use super::super::{HeadInput, ShopError};
use super::cut::{Lengths, cut};
use super::stored::folder;
use super::{ASSETS, Frame, first_number, look, markdown, show};
use crate::dag::hamt::Entry;
use crate::dag::unixfs::Link;
use crate::ids::{ProductId, Version};
use crate::manifest::record::Card;
use crate::store::{Store, StoreError};

/// Products on the front page.
const FRONT: usize = 24;
/// Products on a page of the catalogue.
const PAGE: Lengths = Lengths { mean: 48, most: 96 };
/// Products in a piece of the index for search.
const SHARD: Lengths = Lengths {
    mean: 256,
    most: 512,
};

type Row = (ProductId, Card);

/// The lists of one head.
pub(in super::super) struct Lists<'a> {
    input: &'a HeadInput,
    look: u64,
    rows: Vec<Row>,
}

impl<'a> Lists<'a> {
    /// Of these products, which are sorted by id.
    pub(in super::super) fn new(input: &'a HeadInput, rows: Vec<Row>) -> Self {
        Self {
            input,
            look: look(input),
            rows,
        }
    }

    /// Builds all lists and gives their entries in the shop's directory.
    pub(in super::super) fn build(
        &self,
        shop: &Builder<'_>,
        previous: &Previous,
    ) -> Result<Vec<Entry>, ShopError> {
        let mut entries = vec![
            shop.file("index.html".to_owned(), self.front()?)?,
            shop.folder("search", self.search(shop, previous)?)?,
        ];
        if self.has_catalogue() {
            entries.push(shop.folder("catalogue", self.catalogue(shop, previous)?)?);
        }
        let assets = ASSETS.iter().map(|(name, bytes)| {
            let name = (*name).to_owned();
            shop.file(name, bytes.to_vec())
        });
        entries.push(shop.folder("assets", assets.collect::<Result<_, _>>()?)?);
        Ok(entries)
    }

    /// Whether the front page has not room for all.
    fn has_catalogue(&self) -> bool {
        self.rows.len() > FRONT
    }

    fn front(&self) -> Result<Vec<u8>, ShopError> {
        let mut newest: Vec<&Row> = self.rows.iter().collect();
        newest.sort_by(|(a_id, a), (b_id, b)| b.issued.cmp(&a.issued).then(a_id.cmp(b_id)));
        newest.truncate(FRONT);
        let page = FrontPage {
            frame: Frame::of(self.input, "./"),
            description: markdown::to_html(&self.input.description, HeadingLevel::H1),
            count: show::count(self.rows.len() as u64, "product", "products"),
            has_catalogue: self.has_catalogue(),
            cards: newest.into_iter().map(CardView::from).collect(),
        };
        Ok(page.render()?.into_bytes())
    }

    fn search(&self, shop: &Builder<'_>, previous: &Previous) -> Result<Vec<Entry>, ShopError> {
        let pieces = cut(&self.rows, SHARD, |(id, _)| id);
        let mut folder = Folder::new(shop, &previous.search);
        for rows in pieces {
            let products: Vec<Indexed<'_>> = rows.iter().map(Indexed::from).collect();
            let made_from = self.print(rows, &[])?;
            folder.piece(&name_of(rows, "json"), made_from, || {
                Ok(canonical(&SearchShard {
                    format: FORMAT,
                    products,
                }))
            })?;
        }
        folder.finish(self.rows.len())
    }

    fn catalogue(&self, shop: &Builder<'_>, previous: &Previous) -> Result<Vec<Entry>, ShopError> {
        let frame = Frame::of(self.input, "../");
        let pieces = cut(&self.rows, PAGE, |(id, _)| id);
        let mut folder = Folder::new(shop, &previous.catalogue);
        for (at, rows) in pieces.iter().enumerate() {
            let neighbour = |at: Option<usize>| Some(name_of(pieces.get(at?)?, "html"));
            let before = neighbour(at.checked_sub(1));
            let after = neighbour(at.checked_add(1));
            let made_from = self.print(rows, &[&before, &after])?;
            folder.piece(&name_of(rows, "html"), made_from, || {
                let page = CataloguePage {
                    frame,
                    range: range(rows),
                    cards: rows.iter().map(CardView::from).collect(),
                    before,
                    after,
                };
                Ok(page.render()?.into_bytes())
            })?;
        }
        let contents = ContentsPage {
            frame,
            count: show::count(self.rows.len() as u64, "product", "products"),
            pages: pieces
                .iter()
                .map(|rows| (name_of(rows, "html"), range(rows)))
                .collect(),
        };
        folder.add("index.html", contents.render()?.into_bytes())?;
        folder.finish(self.rows.len())
    }

    /// Of everything that a piece is made from.
    fn print(&self, rows: &[Row], neighbours: &[&Option<String>]) -> Result<String, ShopError> {
        let mut hasher = Sha256::new();
        hasher.update(self.look.to_be_bytes());
        let rows = serde_ipld_dagcbor::to_vec(&(rows, neighbours)).map_err(|_| ShopError::Page)?;
        hasher.update(rows);
        Ok(format!("{:016x}", first_number(hasher)))
    }
}

fn name_of(rows: &[Row], extension: &str) -> String {
    let first = rows.first().map_or("", |(id, _)| id.as_str());
    format!("from-{first}.{extension}")
}

/// The first and last id of a piece.
fn range(rows: &[Row]) -> (String, String) {
    let id = |row: Option<&Row>| row.map(|(id, _)| id.to_string()).unwrap_or_default();
    (id(rows.first()), id(rows.last()))
}

/// A folder of pieces under way.
struct Folder<'a> {
    shop: &'a Builder<'a>,
    previous: &'a Pieces,
    entries: Vec<Entry>,
    index: Vec<Piece>,
}

impl<'a> Folder<'a> {
    fn new(shop: &'a Builder<'a>, previous: &'a Pieces) -> Self {
        Self {
            shop,
            previous,
            entries: Vec::new(),
            index: Vec::new(),
        }
    }

    fn add(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), ShopError> {
        self.entries.push(self.shop.file(name.to_owned(), bytes)?);
        Ok(())
    }

    /// Adds a piece: the one of the head before, when it was made from the same.
    fn piece(
        &mut self,
        name: &str,
        made_from: String,
        make: impl FnOnce() -> Result<Vec<u8>, ShopError>,
    ) -> Result<(), ShopError> {
        match self.previous.get(name) {
            Some((print, entry)) if *print == made_from => self.entries.push(entry.clone()),
            _ => self.add(name, make()?)?,
        }
        self.index.push(Piece {
            file: name.to_owned(),
            print: made_from,
        });
        Ok(())
    }

    fn finish(mut self, products: usize) -> Result<Vec<Entry>, ShopError> {
        let index = Index {
            count: products as u64,
            format: FORMAT,
            pieces: std::mem::take(&mut self.index),
        };
        self.add(INDEX, canonical(&index))?;
        Ok(self.entries)
    }
}

/// What a folder says of its pieces.
const INDEX: &str = "index.json";

#[derive(Serialize, Deserialize)]
struct Index {
    count: u64,
    format: u64,
    pieces: Vec<Piece>,
}

#[derive(Serialize, Deserialize)]
struct Piece {
    file: String,
    /// Of what it was made from.
    print: String,
}

/// The pieces of a folder by name, each with what it was made from.
type Pieces = BTreeMap<String, (String, Entry)>;

/// The pieces of the head before.
#[derive(Debug, Default)]
pub(in super::super) struct Previous {
    catalogue: Pieces,
    search: Pieces,
}

impl Previous {
    /// Reads them, as far as they are here.
    pub(in super::super) fn read(store: &Store, head: Option<Cid>) -> Result<Self, StoreError> {
        let Some(head) = head else {
            return Ok(Self::default());
        };
        let shop = folder(store, &head)?;
        let pieces = |name: &[u8]| match shop.iter().find(|link| link.name == name) {
            Some(link) => pieces(store, &link.cid),
            None => Ok(Pieces::new()),
        };
        Ok(Self {
            catalogue: pieces(b"catalogue")?,
            search: pieces(b"search")?,
        })
    }
}

fn pieces(store: &Store, folder_cid: &Cid) -> Result<Pieces, StoreError> {
    let mut links: BTreeMap<Vec<u8>, Link> = folder(store, folder_cid)?
        .into_iter()
        .map(|link| (link.name.clone(), link))
        .collect();
    let index = match links.get(INDEX.as_bytes()) {
        Some(link) => store.get_whole(&link.cid)?,
        None => None,
    };
    let index = index.and_then(|block| serde_json::from_slice::<Index>(block.data()).ok());
    let mut pieces = Pieces::new();
    for Piece { file, print } in index.into_iter().flat_map(|index| index.pieces) {
        // One that is gone from here is made again.
        if let Some(link) = links.remove(file.as_bytes())
            && store.block_len(&link.cid)?.is_some()
        {
            let entry = Entry {
                name: file.clone(),
                cid: link.cid,
                tsize: link.tsize,
            };
            pieces.insert(file, (print, entry));
        }
    }
    Ok(pieces)
}

/// A piece of the index for search.
#[derive(Serialize)]
struct SearchShard<'a> {
    format: u64,
    products: Vec<Indexed<'a>>,
}

/// A product in it. Keys that say nothing are left out.
#[derive(Serialize)]
struct Indexed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cover: Option<&'a str>,
    id: &'a ProductId,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    summary: &'a str,
    title: &'a str,
    version: &'a Version,
}

impl<'a> From<&'a Row> for Indexed<'a> {
    fn from((id, card): &'a Row) -> Self {
        Self {
            cover: card.cover.as_deref(),
            id,
            price: card.price.as_deref(),
            summary: &card.summary,
            title: &card.title,
            version: &card.version,
        }
    }
}

/// A product as lists show it.
#[derive(Debug)]
struct CardView<'a> {
    id: &'a ProductId,
    card: &'a Card,
    /// SVG, when it has no cover.
    art: String,
    /// HTML.
    date: String,
}

impl<'a> From<&'a Row> for CardView<'a> {
    fn from((id, card): &'a Row) -> Self {
        Self {
            id,
            card,
            art: match card.cover {
                Some(_) => String::new(),
                None => show::art(id, &card.title),
            },
            date: show::date(card.issued),
        }
    }
}

#[derive(Template)]
#[template(path = "storefront/front.html")]
struct FrontPage<'a> {
    frame: Frame<'a>,
    /// HTML.
    description: String,
    count: String,
    has_catalogue: bool,
    cards: Vec<CardView<'a>>,
}

#[derive(Template)]
#[template(path = "storefront/catalogue.html")]
struct CataloguePage<'a> {
    frame: Frame<'a>,
    range: (String, String),
    cards: Vec<CardView<'a>>,
    before: Option<String>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "storefront/contents.html")]
struct ContentsPage<'a> {
    frame: Frame<'a>,
    count: String,
    pages: Vec<(String, (String, String))>,
}
