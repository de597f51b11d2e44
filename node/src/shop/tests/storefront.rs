use std::collections::{BTreeMap, BTreeSet};

use url::Url;

use super::*;
use crate::dag::hamt::{Entry, build_directory};
use crate::dag::import::Profile;
use crate::dag::links::links;
use crate::dag::unixfs::Metadata;

/// Where the tests put the shop: below a path, as a gateway does.
const BASE: &str = "https://gateway.example/ipns/k51shop/";

/// Every file of the shop's own pages by path.
fn files(shop: &Shop, folder: Cid, path: &str, found: &mut BTreeMap<String, Bytes>) {
    let block = shop.store.get(&folder).unwrap().unwrap();
    match decode(&block).unwrap() {
        UnixFs::Directory(dir) => {
            for link in dir.links {
                let name = String::from_utf8(link.name).unwrap();
                files(shop, link.cid, &format!("{path}/{name}"), found);
            }
        }
        UnixFs::File(_) => {
            found.insert(path.trim_start_matches('/').to_owned(), block.into_data());
        }
        _ => panic!("{path} is neither file nor folder"),
    }
}

fn all_files(shop: &Shop, root: Cid) -> BTreeMap<String, Bytes> {
    let mut found = BTreeMap::new();
    files(shop, root, "", &mut found);
    found
}

fn pages(files: &BTreeMap<String, Bytes>) -> impl Iterator<Item = (&str, &str)> {
    let pages = files.iter().filter(|(path, _)| path.ends_with(".html"));
    pages.map(|(path, page)| (path.as_str(), std::str::from_utf8(page).unwrap()))
}

/// The values of `href` and `src`.
fn urls(page: &str) -> impl Iterator<Item = &str> {
    let values = [" href=\"", " src=\""].map(|key| page.split(key).skip(1));
    let values = values.into_iter().flatten();
    values.map(|rest| rest.split('"').next().unwrap())
}

/// Blocks below a root.
fn blocks(shop: &Shop, root: Cid) -> BTreeSet<Cid> {
    let mut all = BTreeSet::from([root]);
    let mut todo = vec![root];
    while let Some(cid) = todo.pop() {
        let block = shop.store.get(&cid).unwrap().unwrap();
        todo.extend(
            links(&block)
                .unwrap()
                .into_iter()
                .filter(|cid| all.insert(*cid)),
        );
    }
    all
}

#[test]
fn every_link_of_every_page_is_relative_and_leads_to_something() {
    let shop = Shop::new();
    for n in 0..130 {
        shop.publish(&format!("product-{n}"), "1.0+a", true);
    }
    shop.publish("product-3", "1.1", true);
    let root = shop.build().root;
    let files = all_files(&shop, root);
    assert!(pages(&files).count() > 133, "no catalogue");
    let mut checked = 0;
    for (path, page) in pages(&files) {
        let here = Url::parse(BASE).unwrap().join(path).unwrap();
        for link in urls(page).filter(|link| !link.starts_with('#')) {
            assert!(
                !link.contains("://") && !link.starts_with('/'),
                "{path}: {link}"
            );
            let target = here.join(link).unwrap();
            let below = target.as_str().strip_prefix(BASE).expect("inside the shop");
            let below = below.split(['?', '#']).next().unwrap();
            let below = percent_encoding::percent_decode_str(below)
                .decode_utf8()
                .unwrap();
            let file = match below.strip_suffix('/') {
                _ if below.is_empty() => "index.html".to_owned(),
                Some(folder) if folder.starts_with("p/") => folder.to_owned(),
                Some(folder) => format!("{folder}/index.html"),
                None => below.into_owned(),
            };
            assert!(files.contains_key(&file), "{path}: {link} leads to {file}");
            checked += 1;
        }
    }
    assert!(checked > 1000, "{checked}");
}

#[test]
fn pages_have_no_script_or_style_of_their_own() {
    let shop = Shop::new();
    shop.publish("album", "1", true);
    let mut product = shop.manifest.product(&id("album")).unwrap().unwrap();
    let attack = "\"><script>alert(1)</script><img src=x onerror=alert(1)>";
    product.title = attack.to_owned();
    product.description = Text::Inline(format!("{attack}\n\n[x](javascript:alert(1))"));
    shop.commit(vec![Op::PutProduct(id("album"), product)]);
    let root = shop.build().root;
    for (path, page) in pages(&all_files(&shop, root)) {
        assert!(
            page.contains("http-equiv=\"Content-Security-Policy\""),
            "{path}"
        );
        assert_eq!(page.matches("<script").count(), 1, "{path}: {page}");
        for harm in ["style=", "<style", "href=\"javascript", "<img src=x"] {
            assert!(!page.contains(harm), "{path}: {harm}");
        }
        assert!(!page.contains("\"><script>alert"), "{path}: {page}");
    }
}

#[test]
fn publish_writes_few_blocks_and_builds_the_same_as_from_nothing() {
    let all = |shop: &Shop| {
        for n in 0..600 {
            shop.publish(&format!("product-{n}"), "1", true);
        }
    };
    let shop = Shop::new();
    all(&shop);
    let first = shop.build();
    shop.commit(first.cache);
    let before = blocks(&shop, first.root);

    shop.publish("product-300", "2", true);
    let second = shop.build_after(Some(first.root));
    let new = blocks(&shop, second.root).difference(&before).count();
    assert!((8..40).contains(&new), "{new} blocks");

    let fresh = Shop::new();
    all(&fresh);
    fresh.publish("product-300", "2", true);
    assert_eq!(fresh.build_after(Some(first.root)).root, second.root);
}

#[test]
fn piece_of_the_head_before_is_taken_over_only_for_the_same_content() {
    let shop = Shop::new();
    for n in 0..60 {
        shop.publish(&format!("product-{n}"), "1", true);
    }
    let first = shop.build();
    shop.commit(first.cache);
    let mut product = shop.manifest.product(&id("product-7")).unwrap().unwrap();
    product.title = "Another title".to_owned();
    shop.commit(vec![Op::PutProduct(id("product-7"), product)]);
    let second = shop.build_after(Some(first.root));
    let with_title = |root: Cid, end: &str| {
        let files = all_files(&shop, root);
        let mut ours = files.iter().filter(|(path, _)| path.ends_with(end));
        ours.any(|(path, bytes)| {
            !path.starts_with("products/")
                && String::from_utf8_lossy(bytes).contains("Another title")
        })
    };
    assert!(!with_title(first.root, ".json"));
    assert!(with_title(second.root, ".json") && with_title(second.root, ".html"));
}

#[test]
fn another_title_of_the_shop_is_on_every_page() {
    let shop = Shop::new();
    shop.publish("album", "1", true);
    shop.commit(shop.build().cache);
    let mut input = Shop::input(None);
    input.title = "Renamed".to_owned();
    let root = build_head(&shop.store, &shop.manifest, &input)
        .unwrap()
        .root;
    for (path, page) in pages(&all_files(&shop, root)) {
        assert!(page.contains("Renamed"), "{path}");
    }
}

#[test]
fn names_and_titles_on_pages_turn_no_direction() {
    let shop = Shop::new();
    shop.publish("album", "1", true);
    let turned = "song\u{202e}3pm.exe";
    let mut product = shop.manifest.product(&id("album")).unwrap().unwrap();
    product.title = turned.to_owned();
    let release = shop.manifest.release(&id("album"), &ver("1"));
    let mut release = release.unwrap().unwrap();
    let cid = release.root;
    release.file_list = shop.file(&format!(
        "{{\"path\":\"{turned}/{turned}\",\"cid\":\"{cid}\",\"size\":7,\"executable\":false}}\n"
    ));
    shop.commit(vec![
        Op::PutProduct(id("album"), product),
        Op::PutRelease(id("album"), ver("1"), release),
    ]);
    let mut input = Shop::input(None);
    input.title = turned.to_owned();
    let head = build_head(&shop.store, &shop.manifest, &input).unwrap();
    let shown = "song\\u{202e}3pm.exe";
    for (path, page) in pages(&all_files(&shop, head.root)) {
        assert!(page.contains(shown), "{path}: {page}");
        // What a file is saved as is its name, which browsers make safe.
        let mut text = page.split(['<', '>']).skip(2).step_by(2);
        assert!(
            !text.any(|text| text.contains('\u{202e}')),
            "{path}: {page}"
        );
    }
}

#[test]
fn page_shows_the_files_with_their_checksums() {
    let shop = Shop::new();
    shop.publish("album", "1", true);
    let mut release = shop
        .manifest
        .release(&id("album"), &ver("1"))
        .unwrap()
        .unwrap();
    let cid = release.root;
    let list = format!(
        "{{\"path\":\"a \\\"b\\\"/ü#1.txt\",\"cid\":\"{cid}\",\"size\":7,\"executable\":true}}\n"
    );
    release.file_list = shop.file(&list);
    release.files = 2;
    let record = format!(
        "{{\"cid\":\"{cid}\",\"files\":[{{\"executable\":true,\"path\":\"a \\\"b\\\"/ü#1.txt\",\"sha256\":\"{}\",\"size\":7}}]}}",
        "ab".repeat(32)
    );
    release.record = Some(shop.file(&record));
    shop.commit(vec![Op::PutRelease(id("album"), ver("1"), release)]);
    let root = shop.build().root;
    let page = shop.read(root, "products/album/index.html");
    let page = std::str::from_utf8(&page).unwrap();
    assert!(page.contains(&"ab".repeat(32)), "{page}");
    assert!(page.contains(&format!("data-cid=\"{cid}\"")), "{page}");
    assert!(page.contains("duka get k51shop/album<"), "{page}");
    assert!(page.contains("1 more are in"), "{page}");
}

/// Gives the album this cover.
fn cover(shop: &Shop, picture: Vec<u8>) {
    let mut product = shop.manifest.product(&id("album")).unwrap().unwrap();
    let cover = Block::of(RAW, Bytes::from(picture));
    product.cover = Some(Cover {
        cid: *cover.cid(),
        name: "front.png".to_owned(),
    });
    shop.store.put(PackKind::Kept, &[cover]).unwrap();
    shop.commit(vec![Op::PutProduct(id("album"), product)]);
}

#[test]
fn small_picture_is_made_again_only_of_another_cover() {
    let shop = Shop::new();
    shop.publish("album", "1", true);
    cover(&shop, noise(800, 600));
    let mut cache = shop.build().cache;
    // A picture that nobody would make of it.
    let Some(Op::PutShopEntry(_, entry)) = cache.first_mut() else {
        panic!("one product is built");
    };
    let product = &mut entry.dirs.as_mut().unwrap().product;
    let kept = shop.file("the one of before");
    let block = shop.store.get(&product.cid).unwrap().unwrap();
    let UnixFs::Directory(folder) = decode(&block).unwrap() else {
        panic!("a plain directory");
    };
    let entries = folder.links.into_iter().map(|link| Entry {
        cid: match link.name.as_slice() {
            b"cover-small.jpg" => kept,
            _ => link.cid,
        },
        name: String::from_utf8(link.name).unwrap(),
        tsize: link.tsize,
    });
    let built =
        build_directory(entries.collect(), Metadata::default(), Profile::default()).unwrap();
    shop.store.put(PackKind::Kept, &built.blocks).unwrap();
    product.cid = built.root;
    shop.commit(cache);

    let small = || {
        let mut input = Shop::input(None);
        input.title = "Renamed".to_owned();
        let head = build_head(&shop.store, &shop.manifest, &input).unwrap();
        let front = shop.read(head.root, "index.html");
        assert!(String::from_utf8_lossy(&front).contains("cover-small.jpg"));
        shop.resolve(head.root, "products/album/cover-small.jpg")
    };
    assert_eq!(small(), Some(kept));
    cover(&shop, noise(800, 601));
    assert_ne!(small(), Some(kept));
}

#[test]
fn lists_show_a_small_picture_of_a_large_cover_and_its_own_page_the_cover() {
    let shop = Shop::new();
    shop.publish("album", "1", true);
    shop.publish("songs", "1", true);
    let picture = noise(800, 600);
    let len = picture.len();
    cover(&shop, picture);
    let root = shop.build().root;
    let files = all_files(&shop, root);
    let small = files["products/album/cover-small.jpg"].len();
    assert!(small * 4 < len, "{small} of {len}");
    for list in ["index.html", "search/from-album.json"] {
        let list = String::from_utf8_lossy(&files[list]);
        assert!(list.contains("cover-small.jpg"), "{list}");
        // What is no picture, or small, is shown as it is.
        assert!(list.contains("cover.jpg"), "{list}");
        assert!(!list.contains("cover.png"), "{list}");
    }
    let page = String::from_utf8_lossy(&files["products/album/index.html"]);
    assert!(page.contains("src=\"cover.png\""), "{page}");
    let described = parse_product(&files["products/album/product.json"]).unwrap();
    assert_eq!(described.cover.as_deref(), Some("cover.png"));
}

#[test]
fn a_product_that_is_withdrawn_keeps_its_page_and_is_in_no_list() {
    let shop = Shop::new();
    shop.publish("album", "1", true);
    shop.publish("songs", "1", true);
    let (songs, one) = (id("songs"), ver("1"));
    let release = shop.manifest.release(&songs, &one).unwrap().unwrap();
    let yank = |yanked| {
        let release = Release {
            yanked,
            ..release.clone()
        };
        shop.commit(vec![Op::PutRelease(songs.clone(), one.clone(), release)]);
        all_files(&shop, shop.build().root)
    };
    let listed = |files: &BTreeMap<String, Bytes>, list: &str| {
        String::from_utf8_lossy(&files[list]).contains("Title of songs")
    };
    let lists = ["index.html", "search/from-album.json"];
    let files = yank(Some(time()));
    assert!(lists.iter().all(|list| !listed(&files, list)));
    let page = String::from_utf8_lossy(&files["products/songs/index.html"]);
    assert!(page.contains("has withdrawn this product"), "{page}");
    assert!(!page.contains("9.50 USD"), "{page}");
    let head = parse_shop(&files["shop.json"]).unwrap();
    assert_eq!(head.counts.products, 2);
    assert!(files.contains_key("products/songs/1.json"));
    let files = yank(None);
    assert!(lists.iter().all(|list| listed(&files, list)));
}

#[test]
fn lists_show_a_drawing_where_no_small_picture_can_be_made_and_the_page_the_cover() {
    let shop = Shop::new();
    shop.publish("album", "1", true);
    let mut product = shop.manifest.product(&id("album")).unwrap().unwrap();
    let large = format!("<svg><!--{}--></svg>", " ".repeat(200 << 10));
    product.cover = Some(Cover {
        cid: shop.file(&large),
        name: "front.svg".to_owned(),
    });
    shop.commit(vec![Op::PutProduct(id("album"), product)]);
    let files = all_files(&shop, shop.build().root);
    let front = String::from_utf8_lossy(&files["index.html"]);
    assert!(
        front.contains("<svg class=\"art\"") && !front.contains("cover.svg"),
        "{front}"
    );
    assert!(!String::from_utf8_lossy(&files["search/from-album.json"]).contains("cover"));
    let page = String::from_utf8_lossy(&files["products/album/index.html"]);
    assert!(page.contains("src=\"cover.svg\""), "{page}");
}

/// A PNG that does not compress.
fn noise(width: u32, height: u32) -> Vec<u8> {
    let mut state = 1_u32;
    let picture = image::RgbImage::from_fn(width, height, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [r, g, b, _] = state.to_be_bytes();
        image::Rgb([r, g, b])
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}
