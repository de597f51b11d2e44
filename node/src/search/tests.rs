use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::block::{Block, RAW, cid_of};
use crate::dag::import::{Chunker, ImportOptions, Sink, import_reader};
use crate::manifest::ManifestOptions;
use crate::manifest::change::{Change, Op};
use crate::manifest::record::{Card, DirLink, Head, ShopDirs, ShopEntry};
use crate::store::{PackKind, StoreOptions};

struct Shop {
    dir: TempDir,
    store: Store,
    manifest: Manifest,
    search: Search,
}

impl Shop {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            reserve: 0,
            ..StoreOptions::default()
        };
        let (store, _) = Store::open(&dir.path().join("blocks"), options).unwrap();
        let options = ManifestOptions {
            reserve: 0,
            ..ManifestOptions::default()
        };
        let (manifest, _) = Manifest::open_with(&dir.path().join("manifest"), options).unwrap();
        let search = Search::new(dir.path().join("search"));
        Self {
            dir,
            store,
            manifest,
            search,
        }
    }

    /// A product that is in the newest head, if `in_head`.
    fn put(&self, id: &str, title: &str, text: Text, in_head: bool) {
        let id: ProductId = id.parse().unwrap();
        let product = Product {
            title: title.to_owned(),
            description: text,
            price: None,
            cover: None,
            created: "2026-11-22T00:00:00Z".parse().unwrap(),
            channels: BTreeMap::new(),
            history: BTreeMap::new(),
        };
        self.commit(Op::PutProduct(id.clone(), product));
        let entries = self.manifest.shop_entries().map(Result::unwrap);
        let revision = entries.filter(|entry| entry.0 == id).map(|entry| entry.1);
        let link = DirLink {
            cid: "bafkqaaa".parse().unwrap(),
            tsize: 0,
        };
        let dirs = ShopDirs {
            product: link.clone(),
            releases: link,
            count: 1,
        };
        let entry = ShopEntry {
            revision: revision.last().unwrap(),
            dirs: in_head.then_some(dirs),
            look: 0,
            card: in_head.then(|| Card {
                title: title.to_owned(),
                summary: String::new(),
                price: None,
                cover: None,
                version: "1".parse().unwrap(),
                issued: Timestamp::UNIX_EPOCH,
            }),
        };
        self.commit(Op::PutShopEntry(id, entry));
        self.new_head();
    }

    /// The index follows the heads.
    fn new_head(&self) {
        let seq = self.manifest.head().unwrap().map_or(1, |head| head.seq + 1);
        let head = Head {
            seq,
            root: cid_of(RAW, &seq.to_be_bytes()),
            prev: None,
            issued: Timestamp::UNIX_EPOCH,
        };
        self.commit(Op::PutHead(head));
    }

    fn inline(&self, id: &str, title: &str, text: &str) {
        self.put(id, title, Text::Inline(text.to_owned()), true);
    }

    fn commit(&self, op: Op) {
        let change = Change {
            ops: vec![op],
            ..Change::default()
        };
        self.manifest.commit_blocking(change).unwrap();
    }

    fn find(&self, terms: &str) -> Vec<String> {
        let found = self.search.search(&self.store, &self.manifest, terms, 10);
        let products = found.unwrap().products;
        products.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn words_are_found_with_typos_without_case_and_accents_and_by_their_beginning() {
    let shop = Shop::new();
    shop.inline("light", "Lighthouse Songs", "Recorded at the sea.");
    shop.inline(
        "morgen",
        "Morgenröte",
        "Field recordings, with a lighthouse.",
    );
    shop.inline("other", "Something else", "Nothing of it.");
    assert_eq!(shop.find("LIGHTHOUSE"), ["light", "morgen"]);
    assert_eq!(shop.find("ligthuose songs"), ["light"]);
    assert_eq!(shop.find("morgenrote"), ["morgen"]);
    assert_eq!(shop.find("record"), ["light", "morgen"]);
    assert_eq!(shop.find("lighthouse nothing"), Vec::<String>::new());
    assert_eq!(shop.find("morgn"), ["morgen"]);
    assert_eq!(shop.find("  ?! "), Vec::<String>::new());
}

#[test]
fn the_index_follows_the_shop_and_may_be_deleted() {
    let mut shop = Shop::new();
    let text = Block::of(RAW, Bytes::from("a long text with a walrus"));
    let cid = *text.cid();
    shop.store.put(PackKind::Kept, &[text]).unwrap();
    shop.put("long", "Long", Text::Stored(cid), true);
    shop.put("draft", "Walrus", Text::Inline(String::new()), false);
    assert_eq!(shop.find("walrus"), ["long"]);
    shop.put("draft", "Walrus", Text::Inline(String::new()), true);
    assert_eq!(shop.find("walrus"), ["draft", "long"]);
    shop.inline("long", "Long", "no animals");
    assert_eq!(shop.find("walrus"), ["draft"]);

    let path = shop.dir.path().join("search");
    for damage in [true, false] {
        shop.search = Search::new(path.clone());
        assert_eq!(shop.find("animals"), ["long"]);
        shop.search = Search::new(path.clone());
        if damage {
            std::fs::write(path.join("meta.json"), b"{").unwrap();
        } else {
            std::fs::remove_dir_all(&path).unwrap();
        }
        assert_eq!(shop.find("animals"), ["long"]);
    }
}

#[test]
fn long_descriptions_are_found_by_their_words_whatever_blocks_they_take() {
    let shop = Shop::new();
    let sink = Sink::Store(shop.store.clone(), PackKind::Kept);
    let text = format!("{} walrus", "word ".repeat(5000));
    let options = ImportOptions {
        chunker: Some(Chunker::Size(1024)),
        ..ImportOptions::default()
    };
    let stored = import_reader(
        &sink,
        &mut text.as_bytes(),
        &options,
        &(Arc::new(|_| true) as _),
    );
    let root = stored.unwrap().root;
    assert_ne!(root.codec(), RAW, "more than one block");
    shop.put("long", "Long", Text::Stored(root), true);
    assert_eq!(shop.find("walrus"), ["long"]);
}

#[test]
fn products_are_found_while_the_index_is_brought_up_to_date() {
    let shop = Shop::new();
    shop.inline("light", "Lighthouse", "");
    assert_eq!(shop.find("lighthouse"), ["light"]);
    let updating = shop.search.opened.lock();
    shop.inline("other", "Lighthouses", "");
    assert_eq!(shop.find("lighthouse"), ["light"]);
    drop(updating);
    assert_eq!(shop.find("lighthouse"), ["light", "other"]);
}

#[test]
fn nothing_is_read_anew_before_there_is_another_head() {
    let shop = Shop::new();
    shop.inline("light", "Lighthouse", "");
    assert_eq!(shop.find("lighthouse"), ["light"]);
    // No index is opened, nor brought up to date.
    *shop.search.opened.lock() = None;
    assert_eq!(shop.find("lighthouse"), ["light"]);
    assert!(shop.search.opened.lock().is_none());
    shop.new_head();
    assert_eq!(shop.find("lighthouse"), ["light"]);
    assert!(shop.search.opened.lock().is_some());
}

#[tokio::test]
async fn who_would_wait_long_for_other_searches_is_refused() {
    let shop = Shop::new();
    let turn = || shop.search.turn_within(Duration::ZERO);
    let mine = turn().await.unwrap();
    let _other = turn().await.unwrap();
    assert!(matches!(turn().await, Err(SearchError::Busy)));
    drop(mine);
    assert!(turn().await.is_ok());
}
