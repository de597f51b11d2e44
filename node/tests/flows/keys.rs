//! The shop key elsewhere, another publishing key, and crashes in between.

use duka_node::announce::{self, AnnounceError};
use duka_node::backup::{Lock, Opener};
use duka_node::ipns;
use duka_node::keyring::{self, Exported, KeyringError};
use duka_node::keys::{self, KeyError, Kind};
use duka_node::shop::settings::{self, Setting};
use jiff::{Timestamp, ToSpan};

use super::*;

const SECRET: &str = "a long passphrase";

/// A shop with one release in a signed head.
async fn with_head(dir: &Path) -> Node {
    let node = open(&dir.join("data")).await;
    publish_song(&node, dir, 1).await;
    node
}

async fn publish_song(node: &Node, dir: &Path, number: u64) {
    let folder = dir.join("album");
    write_album(&folder, &format!("song {number}"));
    publish(node, &folder, PublishOptions::new(album())).await;
    shop_file(node, number, "shop.json").await;
}

fn record(node: &Node, name: &Name) -> Option<ipns::Record> {
    let kept = node.manifest().name(&name.to_bytes()).unwrap()?;
    Some(ipns::verify(name, &kept.bytes, Timestamp::now()).unwrap())
}

/// The shop's name leads over the publishing key to the newest head.
async fn assert_resolves(node: &Node) {
    let publishing = node.keys().publishing.name().unwrap();
    let shop = record(node, &node.shop_name()).unwrap();
    assert_eq!(shop.value, format!("/ipns/{publishing}"));
    let root = node.manifest().head().unwrap().unwrap().root;
    let resolved = node.resolve_name(&node.shop_name(), &[]).await.unwrap();
    assert_eq!(resolved.path, format!("/ipfs/{root}"));
}

fn exported(data: &Path, kind: Kind) -> Exported {
    let secret = || zeroize::Zeroizing::new(SECRET.to_owned());
    let text = keyring::export(data, kind, &Lock::Passphrase(secret())).unwrap();
    assert!(text.contains("AGE ENCRYPTED FILE") && !text.contains("shop.key"));
    let wrong = Opener::Passphrase(zeroize::Zeroizing::new("another".to_owned()));
    assert!(Exported::open(text.as_bytes(), &wrong).is_err());
    Exported::open(text.as_bytes(), &Opener::Passphrase(secret())).unwrap()
}

fn key_files(data: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(node::keys_dir(data)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn without_its_key_a_shop_publishes_and_serves_until_the_key_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = with_head(dir.path()).await;
    let (name, publishing) = (node.shop_name(), node.keys().publishing.name().unwrap());
    let key = exported(&data, Kind::Shop);
    assert!(key.is_of(&data, Kind::Shop).unwrap());
    assert!(!key.is_of(&data, Kind::Publishing).unwrap());
    let expiry = Duration::from_secs(3650 * 86_400);
    let valid_until = keyring::take_offline(&node, expiry).await.unwrap();
    assert!(valid_until > Timestamp::now() + (3649 * 24).hours());
    assert_eq!(
        key_files(&data),
        ["peer.key", "publishing.key", "shop.name"]
    );
    assert!(node.keys().shop.key().is_none());
    publish_song(&node, dir.path(), 2).await;
    assert_resolves(&node).await;
    assert_eq!(record(&node, &name).unwrap().validity, valid_until);
    for refused in [
        keyring::rotate(&node).await.map(drop),
        keyring::take_offline(&node, expiry).await.map(drop),
    ] {
        assert!(matches!(refused, Err(KeyringError::Offline)), "{refused:?}");
    }
    node.shutdown().await;
    drop(node);

    node::init(&data).unwrap();
    assert_eq!(
        key_files(&data),
        ["peer.key", "publishing.key", "shop.name"]
    );
    let node = open(&data).await;
    assert_eq!(node.shop_name(), name);
    publish_song(&node, dir.path(), 3).await;
    assert_resolves(&node).await;

    key.put(&data).unwrap();
    keyring::reload(&node).await.unwrap();
    assert!(node.keys().shop.key().is_some());
    let renewed = keyring::rotate(&node).await.unwrap();
    assert_ne!(renewed, publishing);
    assert_resolves(&node).await;
    publish_song(&node, dir.path(), 4).await;
    assert_resolves(&node).await;
    node.shutdown().await;
}

#[tokio::test]
async fn rotation_keeps_the_links_and_signs_the_newest_head_with_a_new_key() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = with_head(dir.path()).await;
    let (name, old) = (node.shop_name(), node.keys().publishing.name().unwrap());
    let before = record(&node, &name).unwrap();
    let head = node.manifest().head().unwrap().unwrap();
    let new = keyring::rotate(&node).await.unwrap();
    assert_eq!(new, node.keys().publishing.name().unwrap());
    assert_ne!(new, old);
    assert_eq!(node.shop_name(), name);
    let after = record(&node, &name).unwrap();
    assert_eq!(after.sequence, before.sequence + 1);
    assert_eq!(record(&node, &new).unwrap().sequence, head.seq);
    assert_eq!(node.manifest().head().unwrap(), Some(head));
    assert_resolves(&node).await;
    publish_song(&node, dir.path(), 2).await;
    assert_resolves(&node).await;
    assert_eq!(record(&node, &name).unwrap().sequence, after.sequence);
    node.shutdown().await;
    drop(node);
    let node = open(&data).await;
    assert_eq!(node.keys().publishing.name().unwrap(), new);
    assert_resolves(&node).await;
    node.shutdown().await;
}

/// The folder of keys, to be put back as a crash would have left it.
fn copy_keys(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let keys = node::keys_dir(data);
    let read = |name: String| (name.clone(), std::fs::read(keys.join(name)).unwrap());
    key_files(data).into_iter().map(read).collect()
}

fn write_keys(data: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let keys = node::keys_dir(data);
    std::fs::remove_dir_all(&keys).unwrap();
    std::fs::create_dir(&keys).unwrap();
    for (name, bytes) in files {
        let file = keys.join(name);
        std::fs::write(&file, bytes).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).unwrap();
    }
}

#[tokio::test]
async fn rotation_that_was_cut_short_is_finished_or_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = with_head(dir.path()).await;
    let old = node.keys().publishing.name().unwrap();
    node.shutdown().await;
    drop(node);
    let before = copy_keys(&data);

    // The next key was made, whole or not, and nothing was signed for it.
    for next in [before["peer.key"].clone(), b"half".to_vec()] {
        let mut cut = before.clone();
        cut.insert("publishing.key.next".to_owned(), next);
        write_keys(&data, &cut);
        let node = open(&data).await;
        assert_eq!(node.keys().publishing.name().unwrap(), old);
        assert_resolves(&node).await;
        node.shutdown().await;
        drop(node);
        assert_eq!(copy_keys(&data), before);
    }

    // The record was signed, and the key had not got its name.
    let node = open(&data).await;
    let new = keyring::rotate(&node).await.unwrap();
    node.shutdown().await;
    drop(node);
    let after = copy_keys(&data);
    let mut cut = before.clone();
    cut.insert(
        "publishing.key.next".to_owned(),
        after["publishing.key"].clone(),
    );
    write_keys(&data, &cut);
    let node = open(&data).await;
    assert_eq!(node.keys().publishing.name().unwrap(), new);
    assert_resolves(&node).await;
    publish_song(&node, dir.path(), 2).await;
    assert_resolves(&node).await;
    node.shutdown().await;
    assert_eq!(copy_keys(&data), after);
}

#[tokio::test]
async fn removal_of_the_shop_key_that_was_cut_short_leaves_the_key_or_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = with_head(dir.path()).await;
    let name = node.shop_name();
    let before = copy_keys(&data);
    let year = Duration::from_secs(365 * 86_400);
    keyring::take_offline(&node, year).await.unwrap();
    node.shutdown().await;
    drop(node);
    let after = copy_keys(&data);
    let shop_key = &before["shop.key"];

    let mut named = before.clone();
    named.insert("shop.name".to_owned(), after["shop.name"].clone());
    let removed = |rest: &[u8]| {
        let mut cut = after.clone();
        cut.insert("shop.key.removed".to_owned(), rest.to_vec());
        cut
    };
    for (cut, is_here) in [
        (before.clone(), true),
        (named, true),
        (removed(shop_key), false),
        (removed(&vec![0; shop_key.len()]), false),
        (removed(b""), false),
    ] {
        write_keys(&data, &cut);
        let node = open(&data).await;
        assert_eq!(
            node.keys().shop.key().is_some(),
            is_here,
            "{:?}",
            cut.keys()
        );
        assert_eq!(node.shop_name(), name);
        assert_resolves(&node).await;
        if is_here {
            keyring::take_offline(&node, year).await.unwrap();
        }
        node.shutdown().await;
        drop(node);
        assert_eq!(copy_keys(&data), after);
    }
}

#[tokio::test]
async fn keys_are_put_where_none_are_and_replace_none() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = with_head(dir.path()).await;
    let name = node.shop_name();
    node.shutdown().await;
    drop(node);
    let all = [Kind::Shop, Kind::Publishing, Kind::Peer].map(|kind| exported(&data, kind));
    let before = copy_keys(&data);
    for key in &all {
        key.put(&data).unwrap();
    }
    assert_eq!(copy_keys(&data), before);

    let other = dir.path().join("other");
    node::init(&other).unwrap();
    let kept = copy_keys(&other);
    for key in &all {
        let refused = key.put(&other);
        assert!(
            matches!(
                refused,
                Err(KeyringError::Keys(
                    KeyError::Other { .. } | KeyError::OtherShop { .. }
                ))
            ),
            "{refused:?}"
        );
    }
    assert_eq!(copy_keys(&other), kept);

    // A publishing key alone, with the name of its shop, is enough for another machine.
    let elsewhere = dir.path().join("elsewhere");
    all[1].put(&elsewhere).unwrap();
    let made = node::init(&elsewhere).unwrap();
    assert_eq!(made.keys.shop.name(), name);
    assert_eq!(made.origin, keys::Origin::Restored);
    assert_eq!(
        key_files(&elsewhere),
        ["peer.key", "publishing.key", "shop.name"]
    );
}

#[tokio::test]
async fn a_publishing_key_that_is_lost_is_replaced_and_links_stay() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut node = with_head(dir.path()).await;
    let file = keys::file(&node::keys_dir(&data), Kind::Publishing);
    let name = node.shop_name();
    let half = std::fs::read(&file).unwrap()[..20].to_vec();
    for (number, damage) in [(2, None), (3, Some(half)), (4, Some(Vec::new()))] {
        let lost = node.keys().publishing.name().unwrap();
        node.shutdown().await;
        drop(node);
        match damage {
            None => std::fs::remove_file(&file).unwrap(),
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
        }
        node::init(&data).unwrap();
        node = open(&data).await;
        assert!(node.keys().publishing.key().is_err());
        // What was signed is still shown.
        let root = node.manifest().head().unwrap().unwrap().root;
        let resolved = node.resolve_name(&name, &[]).await.unwrap();
        assert_eq!(resolved.path, format!("/ipfs/{root}"));
        let year = Duration::from_secs(365 * 86_400);
        let refused = keyring::take_offline(&node, year).await;
        assert!(matches!(refused, Err(KeyringError::Lost(_))), "{refused:?}");

        let new = keyring::rotate(&node).await.unwrap();
        assert_ne!(new, lost);
        assert_eq!(node.shop_name(), name);
        assert_resolves(&node).await;
        publish_song(&node, dir.path(), number).await;
        assert_resolves(&node).await;
    }
    node.shutdown().await;
}

#[tokio::test]
async fn a_damaged_publishing_key_is_put_back_from_its_export() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = with_head(dir.path()).await;
    let publishing = node.keys().publishing.name();
    let key = exported(&data, Kind::Publishing);
    node.shutdown().await;
    drop(node);
    let file = keys::file(&node::keys_dir(&data), Kind::Publishing);
    std::fs::write(&file, "half").unwrap();
    let node = open(&data).await;
    key.put(&data).unwrap();
    keyring::reload(&node).await.unwrap();
    assert_eq!(node.keys().publishing.name(), publishing);
    publish_song(&node, dir.path(), 2).await;
    assert_resolves(&node).await;
    node.shutdown().await;
}

#[tokio::test]
async fn without_the_shop_key_a_lost_publishing_key_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = with_head(dir.path()).await;
    let year = Duration::from_secs(365 * 86_400);
    keyring::take_offline(&node, year).await.unwrap();
    node.shutdown().await;
    drop(node);
    std::fs::remove_file(keys::file(&node::keys_dir(&data), Kind::Publishing)).unwrap();
    let error = Node::open(&data, &offline_config()).await.unwrap_err();
    assert!(
        matches!(error, node::OpenError::Keys(KeyError::Missing { .. })),
        "{error}"
    );
}

/// Waits for a head, and says whether it came.
async fn titled(node: &Node, title: &str, limit: Duration) -> bool {
    let setting = Setting::Title(Some(title.to_owned()));
    let job = settings::change(node, setting).await.unwrap();
    announce::wait_for_job(node, job, limit).await.unwrap()
}

#[tokio::test]
async fn a_publishing_key_that_was_replaced_is_not_put_back_and_signs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = with_head(dir.path()).await;
    let (old, before) = (exported(&data, Kind::Publishing), copy_keys(&data));
    let new = keyring::rotate(&node).await.unwrap();
    let present = exported(&data, Kind::Publishing);
    keyring::check(&node, &present.owner().unwrap()).unwrap();
    let is_refused = |refused: Result<(), KeyringError>| {
        let is_it = matches!(refused, Err(KeyringError::Replaced { .. }));
        assert!(is_it, "{refused:?}");
    };
    is_refused(keyring::check(&node, &old.owner().unwrap()));
    let after = copy_keys(&data);
    write_keys(&data, &before);
    is_refused(keyring::reload(&node).await);
    assert_eq!(node.keys().publishing.name(), Some(new.clone()));
    write_keys(&data, &after);
    node.shutdown().await;
    drop(node);
    present.check(&data).await.unwrap();
    is_refused(old.check(&data).await);

    // A copy of the keys from before comes back without a word.
    write_keys(&data, &before);
    let node = open(&data).await;
    assert!(matches!(
        announce::check_publisher(&node),
        Err(AnnounceError::OtherPublisher)
    ));
    assert!(!titled(&node, "two", Duration::from_secs(2)).await);
    let leads_to = format!("/ipns/{new}");
    assert_eq!(record(&node, &node.shop_name()).unwrap().value, leads_to);
    let year = Duration::from_secs(365 * 86_400);
    let refused = keyring::take_offline(&node, year).await;
    assert!(
        matches!(
            refused,
            Err(KeyringError::Announce(AnnounceError::OtherPublisher))
        ),
        "{refused:?}"
    );
    keyring::rotate(&node).await.unwrap();
    assert!(titled(&node, "three", DEADLINE).await);
    assert_resolves(&node).await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_rotation_that_nobody_waits_for_is_done_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let node = with_head(dir.path()).await;
    let old = node.keys().publishing.name();
    let dropped = tokio::time::timeout(Duration::ZERO, keyring::rotate(&node)).await;
    assert!(dropped.is_err());
    let rotated = async {
        while node.keys().publishing.name() == old {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, rotated).await.unwrap();
    assert_resolves(&node).await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_damaged_shop_key_is_put_back_from_its_export() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = with_head(dir.path()).await;
    let name = node.shop_name();
    let key = exported(&data, Kind::Shop);
    node.shutdown().await;
    drop(node);
    let other = dir.path().join("other");
    node::init(&other).unwrap();
    let of_other = exported(&other, Kind::Shop);
    std::fs::write(keys::file(&node::keys_dir(&data), Kind::Shop), "half").unwrap();

    let refused = of_other.check(&data).await;
    assert!(
        matches!(refused, Err(KeyringError::OtherShop { .. })),
        "{refused:?}"
    );
    key.check(&data).await.unwrap();
    key.put(&data).unwrap();
    let node = open(&data).await;
    assert_eq!(node.shop_name(), name);
    publish_song(&node, dir.path(), 2).await;
    assert_resolves(&node).await;
    node.shutdown().await;
}
