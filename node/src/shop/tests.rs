mod storefront;

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;

use super::json::{
    FileJson, JsonError, PriceJson, ReleaseJson, canonical, parse_product, parse_release,
    parse_shop, release_json,
};
use super::*;
use crate::block::{Block, RAW};
use crate::dag::unixfs::{UnixFs, decode};
use crate::ids::{Channel, ProductId, Version};
use crate::manifest::ManifestOptions;
use crate::manifest::change::{Change, Op};
use crate::manifest::record::{Cover, Price, Product, Release, Text};
use crate::store::{PackKind, StoreOptions};

struct Shop {
    _dir: TempDir,
    store: Store,
    manifest: Manifest,
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
        Self {
            _dir: dir,
            store,
            manifest,
        }
    }

    fn file(&self, bytes: &str) -> Cid {
        let block = Block::of(RAW, Bytes::copy_from_slice(bytes.as_bytes()));
        let cid = *block.cid();
        self.store.put(PackKind::Kept, &[block]).unwrap();
        cid
    }

    fn commit(&self, ops: Vec<Op>) {
        let change = Change {
            ops,
            ..Change::default()
        };
        self.manifest.commit_blocking(change).unwrap();
    }

    /// Publishes with `stable` on this version; `finished`: with its record.
    fn publish(&self, product: &str, version: &str, finished: bool) {
        let (product, version) = (id(product), ver(version));
        let number = self.manifest.next_release_number(&product).unwrap();
        let root = self.file(&format!("{product} {version}"));
        let release = Release {
            root,
            profile: "unixfs-v1-2025".to_owned(),
            size: 9,
            tsize: 9,
            blocks: 1,
            files: 1,
            file_list: root,
            record: finished.then(|| self.file(&format!("record {product} {version}"))),
            notes: Some(self.file("notes")),
            issued: time(),
            number,
            yanked: None,
        };
        let page = Product {
            title: format!("Title of {product}"),
            description: Text::Inline("*short*".to_owned()),
            price: Some(Price {
                minor: 950,
                digits: 2,
                currency: "USD".to_owned(),
            }),
            cover: Some(Cover {
                cid: self.file("picture"),
                name: "Front Page.JPG".to_owned(),
            }),
            created: time(),
            channels: BTreeMap::from([(stable(), version.clone())]),
            history: BTreeMap::new(),
        };
        self.commit(vec![
            Op::PutProduct(product.clone(), page),
            Op::PutRelease(product, version, release),
        ]);
    }

    fn build(&self) -> BuiltHead {
        self.build_after(None)
    }

    fn build_after(&self, prev: Option<Cid>) -> BuiltHead {
        build_head(&self.store, &self.manifest, &Self::input(prev)).unwrap()
    }

    fn input(prev: Option<Cid>) -> HeadInput {
        HeadInput {
            name: "k51shop".to_owned(),
            title: "A shop".to_owned(),
            description: "*All* of it".to_owned(),
            seq: 3,
            prev,
            past: Past::default(),
            issued: time(),
            lifetime: 31_536_000,
            refresh: 86_400,
            gateways: vec!["https://gateway.example".to_owned()],
            mirrors: Vec::new(),
        }
    }

    /// Follows a path through plain directories.
    fn resolve(&self, root: Cid, path: &str) -> Option<Cid> {
        path.split('/').try_fold(root, |cid, name| {
            let block = self
                .store
                .get(&cid)
                .unwrap()
                .expect("the directory is stored");
            let UnixFs::Directory(dir) = decode(&block).unwrap() else {
                panic!("{cid} is no plain directory");
            };
            let link = dir.links.iter().find(|l| l.name == name.as_bytes());
            link.map(|l| l.cid)
        })
    }

    fn read(&self, root: Cid, path: &str) -> Bytes {
        let cid = self.resolve(root, path).expect("the path is there");
        self.store.get(&cid).unwrap().unwrap().into_data()
    }
}

fn id(word: &str) -> ProductId {
    word.parse().unwrap()
}

fn ver(word: &str) -> Version {
    word.parse().unwrap()
}

fn stable() -> Channel {
    "stable".parse().unwrap()
}

fn time() -> Timestamp {
    "2026-11-21T06:54:04.5Z".parse().unwrap()
}

#[test]
fn missing_cover_and_notes_are_left_out_until_they_are_here_again() {
    let shop = Shop::new();
    shop.publish("broken", "1", true);
    shop.publish("whole", "1", true);
    let (cover, notes) = ["cover again", "notes again"]
        .map(|text| Block::of(RAW, Bytes::from(text)))
        .into();
    let mut product = shop.manifest.product(&id("broken")).unwrap().unwrap();
    product.cover.as_mut().unwrap().cid = *cover.cid();
    let mut release = shop
        .manifest
        .release(&id("broken"), &ver("1"))
        .unwrap()
        .unwrap();
    release.notes = Some(*notes.cid());
    shop.commit(vec![
        Op::PutProduct(id("broken"), product),
        Op::PutRelease(id("broken"), ver("1"), release),
    ]);

    let head = shop.build();
    let there = |head: &BuiltHead, path: &str| shop.resolve(head.root, path).is_some();
    assert!(there(&head, "products/whole/cover.jpg"));
    assert!(there(&head, "p/broken/1") && there(&head, "products/broken/1.json"));
    assert!(!there(&head, "products/broken/cover.jpg"));
    assert!(!there(&head, "products/broken/1.md"));
    let page = parse_product(&shop.read(head.root, "products/broken/product.json")).unwrap();
    assert_eq!(page.cover, None);
    shop.commit(head.cache);

    shop.store.put(PackKind::Kept, &[cover, notes]).unwrap();
    let head = shop.build();
    assert!(there(&head, "products/broken/cover.jpg"));
    assert!(there(&head, "products/broken/1.md"));
}

#[test]
fn head_has_the_paths_of_the_format() {
    let shop = Shop::new();
    shop.publish("album", "1.0", true);
    shop.publish("album", "1.1", true);
    let root = shop.build().root;

    let head = parse_shop(&shop.read(root, "shop.json")).unwrap();
    assert_eq!((head.format, head.seq), (1, 3));
    assert_eq!((head.counts.products, head.counts.releases), (1, 2));

    let page = parse_product(&shop.read(root, "products/album/product.json")).unwrap();
    let versions: Vec<_> = page.versions.iter().map(|v| v.version.as_str()).collect();
    assert_eq!(versions, ["1.1", "1.0"], "newest first");
    assert_eq!(page.channels, BTreeMap::from([(stable(), ver("1.1"))]));
    assert_eq!(page.cover.as_deref(), Some("cover.jpg"));
    let value = serde_json::from_slice(&shop.read(root, "products/album/product.json")).unwrap();
    assert_eq!(
        shop.read(root, "products/album/product.json"),
        sorted(&value)
    );
    assert_eq!(shop.read(root, "products/album/cover.jpg"), "picture");
    assert_eq!(
        shop.read(root, "products/album/1.0.json"),
        "record album 1.0"
    );
    assert_eq!(shop.read(root, "products/album/1.1.md"), "notes");
    assert_eq!(shop.read(root, "p/album/1.0"), "album 1.0");
    assert_eq!(shop.read(root, "p/album/stable"), "album 1.1");
}

#[test]
fn shop_json_is_canonical() {
    let shop = Shop::new();
    let root = shop.build().root;
    let entries = ["assets", "index.html", "p", "products", "search"].map(|name| {
        let cid = shop.resolve(root, name).expect("an entry of the root");
        format!("\"{name}\":\"{cid}\"")
    });
    let expected = format!(
        "{}{}{}",
        r#"{"counts":{"products":0,"releases":0},"description":"*All* of it","entries":{"#,
        entries.join(","),
        concat!(
            r#"},"format":1,"gateways":["https://gateway.example"],"history":[],"#,
            r#""issued":"2026-11-21T06:54:04Z","lifetime":31536000,"mirrors":[],"prev":null,"#,
            r#""refresh":86400,"seq":3,"title":"A shop"}"#
        )
    );
    assert_eq!(shop.read(root, "shop.json"), expected);
}

#[test]
fn only_changed_products_are_built_again_and_the_root_is_the_same() {
    let shop = Shop::new();
    for n in 0..40 {
        shop.publish(&format!("product-{n}"), "1", true);
    }
    let first = shop.build();
    assert_eq!(first.cache.len(), 40);
    shop.commit(first.cache);
    let again = shop.build();
    assert_eq!((again.root, again.cache.len()), (first.root, 0));

    shop.publish("product-7", "2", true);
    let cached = shop.build();
    assert_eq!(cached.cache.len(), 1);

    let fresh = Shop::new();
    for n in 0..40 {
        fresh.publish(&format!("product-{n}"), "1", true);
    }
    fresh.publish("product-7", "2", true);
    assert_eq!(fresh.build().root, cached.root);
}

#[test]
fn change_committed_after_the_head_was_built_is_in_the_next_head() {
    let shop = Shop::new();
    shop.publish("album", "1", true);
    let built = shop.build();
    shop.publish("album", "2", true);
    shop.commit(built.cache);
    let root = shop.build().root;
    assert_eq!(shop.read(root, "p/album/stable"), "album 2");
}

#[test]
fn release_without_its_record_is_left_out_and_the_channel_stays_where_it_was() {
    let shop = Shop::new();
    shop.publish("new", "1", false);
    shop.publish("album", "1", true);
    shop.publish("album", "2", false);
    let root = shop.build().root;
    assert_eq!(shop.resolve(root, "p/new"), None);
    assert_eq!(shop.resolve(root, "p/album/2"), None);
    assert_eq!(shop.read(root, "p/album/stable"), "album 1");
}

#[test]
fn yanked_release_can_still_be_downloaded_by_version() {
    let shop = Shop::new();
    shop.publish("album", "1", true);
    let mut release = shop
        .manifest
        .release(&id("album"), &ver("1"))
        .unwrap()
        .unwrap();
    release.yanked = Some(time());
    shop.commit(vec![Op::PutRelease(id("album"), ver("1"), release)]);
    let root = shop.build().root;
    assert_eq!(shop.read(root, "p/album/1"), "album 1");
    let page = parse_product(&shop.read(root, "products/album/product.json")).unwrap();
    assert!(page.versions[0].yanked.is_some());
}

#[test]
fn prices_are_exact_decimals() {
    let amount = |minor, digits| {
        let currency = "XXX".to_owned();
        PriceJson::from(&Price {
            minor,
            digits,
            currency,
        })
        .amount
    };
    assert_eq!(amount(950, 2), "9.50");
    assert_eq!(amount(5, 2), "0.05");
    assert_eq!(amount(1200, 0), "1200");
    assert_eq!(amount(0, 3), "0.000");
}

fn files(count: usize) -> Vec<FileJson> {
    (0..count)
        .map(|n| FileJson {
            executable: n % 2 == 1,
            path: format!("dir \"é\"/file\u{1} {n}"),
            sha256: format!("{n:064x}"),
            size: n as u64,
        })
        .collect()
}

fn stream(count: usize) -> Vec<u8> {
    let shop = Shop::new();
    shop.publish("album", "1", false);
    let release = shop
        .manifest
        .release(&id("album"), &ver("1"))
        .unwrap()
        .unwrap();
    let mut bytes = Vec::new();
    let entries = files(count).into_iter().map(Ok);
    release_json(&id("album"), &ver("1"), &release, entries)
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

#[test]
fn release_record_is_canonical_for_any_number_of_files() {
    for count in [0, 1, 3, 1000] {
        let bytes = stream(count);
        let parsed = parse_release(&bytes).unwrap();
        assert_eq!(parsed.files, files(count));
        assert_eq!(canonical(&parsed), bytes);
        let value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(sorted(&value).into_bytes(), bytes);
    }
}

/// RFC 8785 for values without fractions.
fn sorted(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let map: BTreeMap<_, _> = map.iter().collect();
            let pairs = map.iter().map(|(k, v)| format!("{k:?}:{}", sorted(v)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(sorted).collect();
            format!("[{}]", items.join(","))
        }
        plain => plain.to_string(),
    }
}

#[test]
fn record_with_a_path_out_of_the_release_is_refused() {
    for path in ["../x", "/etc/passwd", "a//b", "a/./b", "", "a\0b"] {
        let mut release: ReleaseJson = parse_release(&stream(1)).unwrap();
        // A file alone may be nameless: it is the release.
        release.files.push(release.files[0].clone());
        path.clone_into(&mut release.files[0].path);
        let result = parse_release(&canonical(&release));
        assert!(
            matches!(result, Err(JsonError::Value { key: "path", .. })),
            "{path:?}"
        );
    }
}

#[test]
fn file_of_a_newer_format_is_refused_as_such() {
    let result = parse_shop(br#"{"format":2,"something":"else"}"#);
    assert!(matches!(result, Err(JsonError::TooNew { found: 2 })));
}

#[test]
fn oversized_file_is_refused_before_it_is_parsed() {
    let result = parse_shop(&vec![b' '; json::MAX_SHOP_LEN + 1]);
    assert!(matches!(result, Err(JsonError::TooLarge { .. })));
}
