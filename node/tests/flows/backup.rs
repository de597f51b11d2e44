//! Backups of a node at work, and what is restored from them.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use duka_node::backup::{self, BackupError, BackupOptions, List, Lock, Opener, Report};
use duka_node::gc::{self, GcOptions};
use duka_node::restore::{self, RestoreError, RestoreOptions, Restored};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::*;

/// A key pair of the age project's own tests.
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
const IDENTITY: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

/// A shop, and where its backup goes.
struct Place {
    dir: TempDir,
    node: Node,
}

impl Place {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = offline_config();
        config.store.pack_size = bytesize::ByteSize::kib(256);
        let node = open_with(&dir.path().join("data"), &config).await;
        Self { dir, node }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn folder(&self) -> PathBuf {
        self.path("backup")
    }

    async fn back_up(&self) -> Result<Report, BackupError> {
        let lock = Lock::Recipients(vec![RECIPIENT.to_owned()]);
        let options = BackupOptions {
            dir: self.folder(),
            keys: Some(backup::encrypt_keys(self.node.data_dir(), &lock)?),
            settings: None,
        };
        backup::run(&self.node, options, |_, _| {}).await
    }

    fn restore(&self, to: &str) -> Result<Restored, RestoreError> {
        let options = RestoreOptions {
            dir: self.folder(),
            opener: Some(Opener::Identities(Zeroizing::new(IDENTITY.to_owned()))),
            dry_run: false,
        };
        restore::run(
            &self.path(to),
            &options,
            &CancellationToken::new(),
            &|_, _| {},
        )
    }

    async fn publish(&self, content: &str) -> Published {
        let folder = self.path("album");
        write_album(&folder, content);
        publish(&self.node, &folder, PublishOptions::new(album())).await
    }

    async fn collect(&self) {
        let options = GcOptions {
            dry_run: false,
            seal: true,
            bytes_per_second: 0,
            spare_recent: false,
        };
        gc::collect(&self.node, options).await.unwrap();
    }

    /// Puts and pins a block that fills a pack.
    async fn pin(&self, seed: u8) -> cid::Cid {
        let block = Block::of(RAW, vec![seed; 300 << 10].into());
        let _guard = self.node.temp_pin();
        let put = std::slice::from_ref(&block);
        self.node.store().put(PackKind::Kept, put).unwrap();
        self.node.commit_blocks().await.unwrap();
        let pin = duka_node::manifest::record::Pin {
            recursive: true,
            name: None,
            created: jiff::Timestamp::now(),
        };
        self.change(Op::PutPin(*block.cid(), pin)).await;
        *block.cid()
    }

    async fn change(&self, op: Op) {
        let change = Change {
            ops: vec![op],
            ..Change::default()
        };
        self.node.manifest().commit(change).await.unwrap();
    }

    /// The packs of the backup, by their name in the data directory.
    fn packs(&self) -> BTreeMap<String, PathBuf> {
        let list = List::read(&self.folder()).unwrap();
        let packs = list.files.into_iter();
        let packs = packs.filter(|placed| placed.to.ends_with(".car"));
        packs
            .map(|placed| (placed.to, self.folder().join(placed.source.file)))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_publishes_and_collections_restores_the_same_shop() {
    let place = Place::new().await;
    let mut published = Vec::new();
    for number in 0..3 {
        published.push(place.publish(&format!("{number}\n").repeat(100_000)).await);
    }
    let stop = AtomicBool::new(false);
    let publishing = async {
        let mut number = 100;
        while !stop.load(Ordering::Relaxed) {
            place.publish(&format!("{number}\n").repeat(50_000)).await;
            place.collect().await;
            number += 1;
        }
    };
    let backing_up = async {
        for _ in 0..4 {
            place.back_up().await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(publishing, backing_up);
    let name = place.node.shop_name();
    place.node.shutdown().await;

    let restored = place.restore("restored").unwrap();
    assert_eq!(restored.shop, name.to_string());
    assert!(restored.keys);
    let node = Node::open(&place.path("restored"), &offline_config())
        .await
        .unwrap();
    assert_eq!(node.recovery().store.rebuilt_indexes, 0);
    assert_eq!(node.shop_name(), name);
    assert_whole(&node).await;
    for (number, one) in published.iter().enumerate() {
        let release = node
            .manifest()
            .release(&album(), &one.version)
            .unwrap()
            .unwrap();
        assert_eq!(release.root.to_string(), one.cid);
        let lyrics = read(&node, release.root, "lyrics/one.txt").await;
        assert_eq!(lyrics, format!("{number}\n").repeat(100_000).into_bytes());
    }
    // It goes on: the next version has the next number.
    let versions: BTreeSet<_> = node
        .manifest()
        .releases(&album())
        .map(|release| release.unwrap().0)
        .collect();
    let next = publish(&node, &place.path("album"), PublishOptions::new(album())).await;
    assert!(!versions.contains(&next.version));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backup_takes_what_is_new_and_removes_what_is_gone() {
    let place = Place::new().await;
    let gone = place.pin(1).await;
    place.pin(2).await;
    let first = place.back_up().await.unwrap();
    assert!(first.new_packs >= 2, "{first:?}");
    assert_eq!(
        (first.new_packs, first.linked_packs),
        (first.packs, first.packs)
    );
    for (to, file) in place.packs() {
        let inode = |path: PathBuf| path.metadata().unwrap().ino();
        assert_eq!(inode(place.path("data").join(to)), inode(file));
    }
    let keys = List::read(&place.folder()).unwrap().keys.unwrap();
    let keys = place.folder().join(keys.file);
    assert_eq!(keys.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let before: BTreeSet<_> = place.packs().into_values().collect();
    place.pin(3).await;
    place.change(Op::DeletePin(gone)).await;
    place.collect().await;
    let second = place.back_up().await.unwrap();
    let after: BTreeSet<_> = place.packs().into_values().collect();
    assert_eq!(second.new_packs, after.difference(&before).count() as u64);
    let mut removed = before.difference(&after);
    assert!(removed.clone().count() > 0, "{second:?}");
    assert!(removed.all(|file| !file.exists()));
    assert!(!keys.exists());

    let third = place.back_up().await.unwrap();
    assert_eq!(third.new_packs, 0, "{third:?}");
    // What a backup that was not finished left is used, without a list.
    std::fs::remove_file(place.folder().join("backup.json")).unwrap();
    let linked = place.packs_on_disk();
    place.back_up().await.unwrap();
    assert_eq!(place.packs_on_disk(), linked);
    place.node.shutdown().await;
    place.restore("restored").unwrap();
    let node = Node::open(&place.path("restored"), &offline_config())
        .await
        .unwrap();
    assert_whole(&node).await;
    assert!(node.manifest().pin(&gone).unwrap().is_none());
    node.shutdown().await;
}

impl Place {
    /// Names and inodes of the packs in the backup.
    fn packs_on_disk(&self) -> BTreeSet<(std::ffi::OsString, u64)> {
        let entries = std::fs::read_dir(self.folder().join("packs")).unwrap();
        let entries = entries.map(|entry| entry.unwrap());
        entries
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().ino()))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_to_a_pack_that_a_backup_shares() {
    let place = Place::new().await;
    for seed in 0..8 {
        place.pin(seed).await;
    }
    let folder = place.path("album");
    write_album(&folder, "small");
    publish(&place.node, &folder, PublishOptions::new(album())).await;
    // From here on nothing is put by itself.
    shop_file(&place.node, 1, "shop.json").await;
    place.back_up().await.unwrap();
    place.node.shutdown().await;
    let data_dir = place.path("data");
    let dir = place.dir;
    drop(place.node);
    // The worst that can happen to the newest pack: no index, and its last footers are damaged.
    let newest = std::fs::read_dir(data_dir.join("blocks/packs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "car"))
        .max()
        .unwrap();
    std::fs::remove_file(newest.with_extension("idx")).unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    assert!(newest.metadata().unwrap().nlink() > 1);
    let end = bytes.len();
    bytes[end - 20] ^= 1;
    // In place: both names show it.
    std::fs::write(&newest, &bytes).unwrap();

    let node = Node::open(&data_dir, &offline_config()).await.unwrap();
    let block = Block::of(RAW, vec![77; 1000].into());
    node.store().put(PackKind::Kept, &[block]).unwrap();
    node.commit_blocks().await.unwrap();
    node.shutdown().await;
    assert!(
        std::fs::read(&newest).unwrap() == bytes,
        "the pack was written to"
    );
    drop(dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damaged_or_missing_file_is_named_and_nothing_is_restored() {
    let place = Place::new().await;
    place.pin(1).await;
    place.back_up().await.unwrap();
    place.node.shutdown().await;
    let list = List::read(&place.folder()).unwrap();
    let all = list.files.iter().map(|placed| &placed.source);
    for listed in all.chain(&list.keys) {
        let path = place.folder().join(&listed.file);
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [&flipped[..], &whole[1..], &[]] {
            std::fs::remove_file(&path).unwrap();
            if !damaged.is_empty() {
                std::fs::write(&path, damaged).unwrap();
            }
            let error = place.restore("restored").unwrap_err();
            let named = match &error {
                RestoreError::Damaged { path } if !damaged.is_empty() => path,
                RestoreError::Missing { path } if damaged.is_empty() => path,
                error => panic!("{error}"),
            };
            assert_eq!(named, &path);
            let left = std::fs::read_dir(place.path("restored"))
                .into_iter()
                .flatten();
            let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
            assert!(left.iter().all(|name| name == "lock"), "{left:?}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    // The attempts left nothing in the way.
    place.restore("restored").unwrap();
    let again = place.restore("restored");
    assert!(
        matches!(again, Err(RestoreError::NotEmpty { .. })),
        "{again:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_backup_before_stay_when_none_are_given() {
    let place = Place::new().await;
    assert!(place.back_up().await.unwrap().keys);
    let without = BackupOptions {
        dir: place.folder(),
        keys: None,
        settings: None,
    };
    let report = backup::run(&place.node, without, |_, _| {}).await.unwrap();
    assert!(report.keys);
    place.restore("restored").unwrap();
    place.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pack_behind_a_symbolic_link_is_taken_in_itself() {
    let place = Place::new().await;
    place.publish("la").await;
    place.node.store().seal_all().unwrap();
    let packs = place.path("data").join("blocks/packs");
    let pack = std::fs::read_dir(&packs).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        path.extension().is_some_and(|e| e == "car").then_some(path)
    });
    let pack = pack.unwrap();
    let elsewhere = place.path("elsewhere.car");
    std::fs::rename(&pack, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &pack).unwrap();
    place.back_up().await.unwrap();
    let taken = std::fs::read_dir(place.folder().join("packs")).unwrap();
    for entry in taken {
        assert!(entry.unwrap().file_type().unwrap().is_file());
    }
    place.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_something_else_in_it_is_left_alone() {
    let place = Place::new().await;
    std::fs::create_dir(place.folder()).unwrap();
    std::fs::write(place.folder().join("letter"), "dear").unwrap();
    let refused = place.back_up().await;
    assert!(
        matches!(refused, Err(BackupError::NotForBackups { .. })),
        "{refused:?}"
    );
    let file = BackupOptions {
        dir: place.folder().join("letter/below"),
        keys: None,
        settings: None,
    };
    let refused = backup::run(&place.node, file, |_, _| {}).await;
    assert!(
        matches!(refused, Err(BackupError::NoFolder { .. })),
        "{refused:?}"
    );
    std::fs::remove_file(place.folder().join("letter")).unwrap();
    place.back_up().await.unwrap();
    place.node.shutdown().await;

    let other = Place::new().await;
    let options = BackupOptions {
        dir: place.folder(),
        keys: None,
        settings: None,
    };
    let refused = backup::run(&other.node, options.clone(), |_, _| {}).await;
    assert!(
        matches!(refused, Err(BackupError::OtherShop { .. })),
        "{refused:?}"
    );
    let inside = BackupOptions {
        dir: other.path("data").join("backup"),
        ..options
    };
    let refused = backup::run(&other.node, inside, |_, _| {}).await;
    assert!(
        matches!(refused, Err(BackupError::Inside { .. })),
        "{refused:?}"
    );
    other.node.shutdown().await;
}
