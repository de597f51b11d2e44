//! The flows over a real data directory, without a network: publish → head → names, pin, yank,
//! restart.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backup;
mod channel;
mod diff;
mod gc;
mod in_place;
mod keys;
mod large_shop;
mod pins;
mod publish_again;
mod rebuild;
mod schemas;
mod shop;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use duka_config::Config;
use duka_node::block::{Block, RAW};
use duka_node::dag::import::Profile;
use duka_node::dag::path::{ContentPath, Root};
use duka_node::fetch::FetchOptions;
use duka_node::fsck::{self, FsckOptions};
use duka_node::ids::{ProductId, Version};
use duka_node::keys::Name;
use duka_node::manifest::ManifestError;
use duka_node::manifest::change::{Change, Conflict, Op};
use duka_node::manifest::record::{Job, Product, Release, Text};
use duka_node::node::{self, Node, OpenError};
use duka_node::publish::{self, PublishError, PublishOptions, Published, Source};
use duka_node::store::PackKind;
use duka_node::{dag, yank};

const DEADLINE: Duration = Duration::from_secs(30);

fn offline_config() -> Config {
    let mut config = Config::default();
    config.network.offline = true;
    config.store.reserve = bytesize::ByteSize::mib(1);
    config
}

/// Every block is whole and here, and so is what lies between the blocks.
async fn assert_whole(node: &Node) {
    let options = FsckOptions {
        deep: true,
        ..FsckOptions::default()
    };
    let report = fsck::run(node, options, |_| {}).await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert!(report.bad_packs.is_empty(), "{report:?}");
}

async fn open(dir: &Path) -> Node {
    open_with(dir, &offline_config()).await
}

async fn open_with(dir: &Path, config: &Config) -> Node {
    node::init(dir).unwrap();
    Node::open(dir, config).await.unwrap()
}

fn album() -> ProductId {
    "album".parse().unwrap()
}

fn write_album(dir: &Path, lyrics: &str) {
    std::fs::create_dir_all(dir.join("lyrics")).unwrap();
    std::fs::write(dir.join("cover.svg"), "<svg/>").unwrap();
    std::fs::write(dir.join("lyrics/one.txt"), lyrics).unwrap();
}

async fn publish(node: &Node, folder: &Path, options: PublishOptions) -> Published {
    try_publish(node, folder, options).await.unwrap()
}

async fn try_publish(
    node: &Node,
    folder: &Path,
    options: PublishOptions,
) -> Result<Published, PublishError> {
    let source = Source::Path(folder.to_owned());
    publish::publish(node, source, options, Arc::new(|_| true)).await
}

/// Waits until a head covers `releases` releases, and reads a file of the shop.
async fn shop_file(node: &Node, releases: u64, path: &str) -> serde_json::Value {
    let mut heads = node.heads();
    let read = async {
        loop {
            // No lock over the awaits below.
            let head = heads.borrow_and_update().clone();
            if let Some(head) = head {
                let shop: serde_json::Value = read_json(node, &head.root, "shop.json").await;
                if shop["counts"]["releases"] == releases {
                    return read_json(node, &head.root, path).await;
                }
            }
            heads.changed().await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, read).await.unwrap()
}

async fn read_json(node: &Node, root: &cid::Cid, path: &str) -> serde_json::Value {
    serde_json::from_slice(&read(node, *root, path).await).unwrap()
}

async fn read(node: &Node, root: cid::Cid, path: &str) -> Vec<u8> {
    use futures::TryStreamExt;
    let source = node.fetcher(FetchOptions::offline());
    let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
    let resolved = dag::path::resolve(&source, root, &segments).await.unwrap();
    let chunks: Vec<bytes::Bytes> = dag::read::read_range(&source, resolved.cid, 0..u64::MAX)
        .try_collect()
        .await
        .unwrap();
    chunks.concat()
}

#[tokio::test]
async fn published_release_is_in_the_head_with_checksums() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    write_album(&folder, "la la la");
    let node = open(&dir.path().join("data")).await;

    let published = publish(&node, &folder, PublishOptions::new(album())).await;
    assert!(published.released);
    assert_eq!((published.files, published.bytes), (2, 14));

    let record = shop_file(&node, 1, "products/album/1.json").await;
    assert_eq!(record["cid"], published.cid);
    let lyrics = &record["files"][1];
    assert_eq!(lyrics["path"], "lyrics/one.txt");
    // printf 'la la la' | sha256sum
    let sum = "d488288a90852227c137cc78556c8f55fe20c052d61df3b4987643b42def93c3";
    assert_eq!(lyrics["sha256"], sum);
    node.shutdown().await;
}

#[tokio::test]
async fn shop_name_leads_through_both_records_to_the_release() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    write_album(&folder, "la la la");
    let node = open(&dir.path().join("data")).await;
    publish(&node, &folder, PublishOptions::new(album())).await;
    shop_file(&node, 1, "shop.json").await;

    let name: Name = node.shop_name();
    let resolved = node.resolve_name(&name, &[]).await.unwrap();
    assert!(
        resolved.record.value.starts_with("/ipns/k51"),
        "{}",
        resolved.record.value
    );
    let path = ContentPath::parse(&resolved.path).unwrap();
    let Root::Cid(root) = path.root else {
        panic!("{path:?} is no CID")
    };
    assert_eq!(
        read(&node, root, "p/album/1/lyrics/one.txt").await,
        b"la la la"
    );
    assert_eq!(
        read(&node, root, "p/album/stable/lyrics/one.txt").await,
        b"la la la"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn second_publish_takes_the_next_number_and_moves_the_channel() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    write_album(&folder, "la");
    publish(&node, &folder, PublishOptions::new(album())).await;
    write_album(&folder, "la la");
    let second = publish(&node, &folder, PublishOptions::new(album())).await;
    assert_eq!(second.version.as_str(), "2");

    let product = shop_file(&node, 2, "products/album/product.json").await;
    assert_eq!(product["channels"]["stable"], "2");
    let root = node.manifest().head().unwrap().unwrap().root;
    assert_eq!(read(&node, root, "p/album/1/lyrics/one.txt").await, b"la");
    assert_eq!(
        read(&node, root, "p/album/stable/lyrics/one.txt").await,
        b"la la"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn next_version_is_above_the_number_that_any_version_begins_with() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    for (version, expected) in [
        (Some("1"), "1"),
        (Some("9.5-beta"), "9.5-beta"),
        (Some("2+x"), "2+x"),
        (None, "10"),
    ] {
        write_album(&folder, expected);
        let options = PublishOptions {
            version: version.map(|version| version.parse().unwrap()),
            ..PublishOptions::new(album())
        };
        let published = publish(&node, &folder, options).await;
        assert_eq!(published.version.as_str(), expected);
    }
    node.shutdown().await;
}

#[tokio::test]
async fn link_to_a_folder_is_published_as_the_folder_and_links_inside_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, link) = (dir.path().join("album"), dir.path().join("link"));
    write_album(&folder, "la");
    std::os::unix::fs::symlink("cover.svg", folder.join("front.svg")).unwrap();
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    let node = open(&dir.path().join("data")).await;
    let direct = publish(&node, &folder, PublishOptions::new(album())).await;
    let followed = publish(&node, &link, PublishOptions::new(album())).await;
    assert_eq!((followed.files, &followed.cid), (2, &direct.cid));
    node.shutdown().await;
}

#[tokio::test]
async fn all_blocks_of_a_publish_and_its_head_are_put_under_a_temp_pin() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    write_album(&folder, "la");
    let node = open(&dir.path().join("data")).await;
    let (pins, unheld) = (node.temp_pins().clone(), Arc::new(AtomicUsize::new(0)));
    let counted = unheld.clone();
    node.store().on_put(move |blocks| {
        if !pins.any() {
            counted.fetch_add(blocks.len(), Ordering::Relaxed);
        }
    });
    publish(&node, &folder, PublishOptions::new(album())).await;
    shop_file(&node, 1, "shop.json").await;
    assert_eq!(unheld.load(Ordering::Relaxed), 0);
    node.shutdown().await;
}

#[tokio::test]
async fn same_version_twice_is_refused_and_the_first_stays() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    let options = PublishOptions {
        version: Some("1.0".parse().unwrap()),
        ..PublishOptions::new(album())
    };
    write_album(&folder, "la");
    let first = publish(&node, &folder, options.clone()).await;
    write_album(&folder, "la la");
    let error = try_publish(&node, &folder, options).await.unwrap_err();
    assert!(matches!(
        error,
        PublishError::Manifest(ManifestError::Conflict(Conflict::ReleaseExists { .. }))
    ));
    let release = node
        .manifest()
        .release(&album(), &"1.0".parse().unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(release.root.to_string(), first.cid);
    node.shutdown().await;
}

/// Input that must not be read.
struct Untouched;

impl Read for Untouched {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        panic!("it was imported");
    }
}

#[tokio::test]
async fn an_existing_version_is_refused_before_anything_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    write_album(&folder, "la");
    publish(&node, &folder, PublishOptions::new(album())).await;
    for dry_run in [false, true] {
        let options = PublishOptions {
            version: Some("1".parse().unwrap()),
            dry_run,
            ..PublishOptions::new(album())
        };
        let source = Source::Reader {
            name: "album.flac".to_owned(),
            reader: Box::new(Untouched),
        };
        let refused = publish::publish(&node, source, options, Arc::new(|_| true)).await;
        assert_exists(refused);
    }
    node.shutdown().await;
}

#[tokio::test]
async fn dry_run_of_changed_files_under_an_existing_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    write_album(&folder, "la");
    publish(&node, &folder, PublishOptions::new(album())).await;
    let options = PublishOptions {
        version: Some("1".parse().unwrap()),
        if_changed: true,
        dry_run: true,
        ..PublishOptions::new(album())
    };
    let same = try_publish(&node, &folder, options.clone()).await.unwrap();
    assert!(!same.released);
    write_album(&folder, "la la");
    assert_exists(try_publish(&node, &folder, options).await);
    node.shutdown().await;
}

fn assert_exists(result: Result<Published, PublishError>) {
    let Err(PublishError::Manifest(ManifestError::Conflict(conflict))) = result else {
        panic!("not refused: {result:?}");
    };
    assert!(
        matches!(conflict, Conflict::ReleaseExists { .. }),
        "{conflict}"
    );
}

#[tokio::test]
async fn publishes_at_the_same_time_get_versions_and_numbers_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir.path().join("data")).await;
    let folders: Vec<_> = (0..8).map(|n| dir.path().join(n.to_string())).collect();
    let publishes = folders.iter().map(|folder| {
        write_album(folder, &folder.display().to_string());
        publish(&node, folder, PublishOptions::new(album()))
    });
    futures::future::join_all(publishes).await;
    let releases = node.manifest().releases(&album());
    let numbered: Vec<_> = releases
        .map(|row| row.map(|(version, release)| (version.to_string(), release.number)))
        .collect::<Result<_, _>>()
        .unwrap();
    let expected: Vec<_> = (1..=8).map(|n: u64| (n.to_string(), n)).collect();
    assert_eq!(numbered, expected);
    node.shutdown().await;
}

#[tokio::test]
async fn if_changed_makes_no_second_release_of_the_same_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    let options = PublishOptions {
        if_changed: true,
        ..PublishOptions::new(album())
    };
    write_album(&folder, "la");
    let first = publish(&node, &folder, options.clone()).await;
    let second = publish(&node, &folder, options).await;
    assert!(first.released && !second.released);
    assert_eq!(first.version, second.version);
    assert_eq!(node.manifest().releases(&album()).count(), 1);
    node.shutdown().await;
}

#[tokio::test]
async fn dry_run_tells_the_root_and_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    write_album(&folder, "la");
    let options = PublishOptions {
        dry_run: true,
        ..PublishOptions::new(album())
    };
    let dry = publish(&node, &folder, options).await;
    assert!(!node.store().has(&dry.cid.parse().unwrap()).unwrap());
    assert!(node.manifest().product(&album()).unwrap().is_none());
    let wet = publish(&node, &folder, PublishOptions::new(album())).await;
    assert_eq!((dry.cid, dry.new_bytes), (wet.cid, wet.new_bytes));
    let again = PublishOptions {
        dry_run: true,
        ..PublishOptions::new(album())
    };
    assert_eq!(publish(&node, &folder, again).await.new_bytes, 0);
    node.shutdown().await;
}

#[tokio::test]
async fn yanked_release_stays_downloadable_and_leaves_the_channel() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    for lyrics in ["la", "la la"] {
        write_album(&folder, lyrics);
        publish(&node, &folder, PublishOptions::new(album())).await;
    }
    shop_file(&node, 2, "shop.json").await;
    let seq = node.manifest().head().unwrap().unwrap().seq;
    yank::yank(&node, &album(), &"2".parse().unwrap())
        .await
        .unwrap();
    let mut heads = node.heads();
    let head = heads
        .wait_for(|head| head.as_ref().is_some_and(|head| head.seq > seq))
        .await;
    let root = head.unwrap().as_ref().unwrap().root;

    let product = read_json(&node, &root, "products/album/product.json").await;
    assert_eq!(product["channels"]["stable"], "1");
    assert!(product["versions"][0]["yanked"].is_string(), "{product}");
    assert_eq!(
        read(&node, root, "p/album/2/lyrics/one.txt").await,
        b"la la"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn restart_finds_releases_head_and_names_again() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, data) = (dir.path().join("album"), dir.path().join("data"));
    write_album(&folder, "la");
    let node = open(&data).await;
    publish(&node, &folder, PublishOptions::new(album())).await;
    shop_file(&node, 1, "shop.json").await;
    let (name, head) = (node.shop_name(), node.manifest().head().unwrap());
    node.shutdown().await;
    drop(node);

    let node = open(&data).await;
    assert_eq!(node.manifest().head().unwrap(), head);
    assert_eq!(
        node.resolve_name(&name, &[]).await.unwrap().path,
        format!("/ipfs/{}", head.unwrap().root)
    );
    node.shutdown().await;
}

/// A release of the product `broken` whose file list is `list`.
async fn publish_broken(node: &Node, list: &Block) {
    let (id, version): (ProductId, Version) = ("broken".parse().unwrap(), "1".parse().unwrap());
    let now = jiff::Timestamp::now();
    let product = Product {
        title: "Broken".to_owned(),
        description: Text::Inline(String::new()),
        price: None,
        cover: None,
        created: now,
        channels: BTreeMap::new(),
        history: BTreeMap::new(),
    };
    let release = Release {
        root: *list.cid(),
        profile: Profile::default().name().to_owned(),
        size: 0,
        tsize: 0,
        blocks: 1,
        files: 1,
        file_list: *list.cid(),
        record: None,
        notes: None,
        issued: now,
        number: 1,
        yanked: None,
    };
    let job = Job::Checksum(id.clone(), version.clone());
    let change = Change {
        expect: Vec::new(),
        ops: vec![
            Op::PutProduct(id.clone(), product),
            Op::PutRelease(id, version, release),
            Op::PutJob(node.manifest().new_job_id(), job),
        ],
    };
    node.manifest().commit(change).await.unwrap();
}

#[tokio::test]
async fn a_release_without_checksums_waits_and_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, data) = (dir.path().join("album"), dir.path().join("data"));
    write_album(&folder, "la");
    let line = r#"{"path":"a","cid":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku","size":0,"executable":false}"#;
    let list = Block::of(RAW, line.into());
    let node = open(&data).await;
    publish_broken(&node, &list).await;
    publish(&node, &folder, PublishOptions::new(album())).await;
    let shop = shop_file(&node, 1, "shop.json").await;
    assert_eq!(shop["counts"]["products"], 1);
    node.store().put(PackKind::Kept, &[list]).unwrap();
    node.shutdown().await;
    drop(node);

    let node = open(&data).await;
    let record = shop_file(&node, 2, "products/broken/1.json").await;
    assert_eq!(record["files"][0]["path"], "a");
    node.shutdown().await;
}

#[tokio::test]
async fn second_node_on_the_same_directory_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    let error = Node::open(dir.path(), &offline_config()).await.unwrap_err();
    assert!(matches!(&error, OpenError::Lock(_)), "{error}");
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn directory_without_keys_asks_for_init() {
    let dir = tempfile::tempdir().unwrap();
    let error = Node::open(dir.path(), &offline_config()).await.unwrap_err();
    assert!(matches!(error, OpenError::NotInitialised { .. }), "{error}");
}

#[tokio::test]
async fn node_that_was_handed_over_leaves_the_directory_and_its_fetchers_read_on() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path()).await;
    let stored = Block::of(RAW, bytes::Bytes::from_static(b"stored"));
    old.store()
        .put(PackKind::Kept, std::slice::from_ref(&stored))
        .unwrap();
    let reader = old.served().clone();
    old.hand_over().await.unwrap();

    let new = open(dir.path()).await;
    let fetched = duka_node::source::BlockSource::fetch(&reader, stored.cid()).await;
    assert_eq!(fetched.unwrap(), stored);
    assert_eq!(new.store().get(stored.cid()).unwrap(), Some(stored));
    new.shutdown().await;
}

#[tokio::test]
async fn node_is_handed_over_when_the_last_who_uses_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    let user = node.clone();
    let handing_over = tokio::spawn(node.hand_over());
    while user.manifest().commit(Change::default()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!handing_over.is_finished());
    let held = Node::open(dir.path(), &offline_config()).await;
    assert!(matches!(held, Err(OpenError::Lock(_))), "{held:?}");
    drop(user);
    handing_over.await.unwrap().unwrap();
    open(dir.path()).await.shutdown().await;
}
