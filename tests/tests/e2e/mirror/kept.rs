//! What of mirrored shops survives a backup, and what a mirror learns of encrypted files.

use std::fs;
use std::path::Path;

use duka_tests::Duka;
use duka_tests::duka::{Options, field};

use super::Node;

fn passphrase(duka: &Duka) -> String {
    let file = duka.home().join("passphrase");
    fs::write(&file, "correct horse\n").unwrap();
    file.to_str().unwrap().to_owned()
}

/// Backs a stopped node up, and gives the node that is restored from that.
fn restored(duka: &Duka) -> Duka {
    let secret = passphrase(duka);
    duka.ok(&["backup", "backup", "--passphrase-file", &secret])
        .unwrap();
    let other = crate::buyer(&Options::default());
    let folder = duka.home().join("backup");
    let folder = folder.to_str().unwrap();
    other
        .ok(&["restore", folder, "--passphrase-file", &secret])
        .unwrap();
    other
}

#[test]
fn a_mirror_that_is_restored_from_a_backup_goes_on() {
    let creator = Node::start();
    for version in ["1", "2"] {
        creator.publish("album", version, 1 << 20);
    }
    let shop = creator.shop();
    let mirror = Node::start();
    mirror.mirror(&creator.url(&shop), &["--keep", "latest:1"]);
    mirror.has(creator.seq());
    let own = mirror.shop();
    mirror.serving.stop().unwrap();

    let mirror = Node::of(restored(&mirror.duka));
    assert_eq!(mirror.shop(), own);
    mirror.has(creator.seq());
    mirror.duka.ok(&["gc"]).unwrap();
    assert!(mirror.holds(&format!("/ipns/{shop}/p/album/2")));
    assert!(mirror.holds(&format!("/ipns/{shop}/products/album/1.json")));
    // It follows on, and refuses what it refused before.
    creator.publish("album", "3", 1 << 20);
    mirror.has(creator.seq());
    assert!(mirror.holds(&format!("/ipns/{shop}/p/album/3")));
}

#[test]
fn a_shop_without_its_key_is_restored_and_publishes() {
    let creator = Node::start();
    creator.publish("album", "1", 1000);
    let (shop, seq) = (creator.shop(), creator.seq());
    let exported = creator.duka.home().join("shop.age");
    let exported = exported.to_str().unwrap();
    let secret = passphrase(&creator.duka);
    creator
        .duka
        .ok(&["key", "offline", exported, "--passphrase-file", &secret])
        .unwrap();
    creator.serving.stop().unwrap();

    let other = Node::of(restored(&creator.duka));
    assert!(!other.duka.data_dir().join("keys/shop.key").exists());
    assert_eq!(other.shop(), shop);
    other.publish("album", "2", 1000);
    assert!(other.seq() > seq);
    let file = other.duka.home().join("shop.age");
    fs::copy(exported, &file).unwrap();
    let file = file.to_str().unwrap();
    let secret = passphrase(&other.duka);
    other
        .duka
        .ok(&["key", "import", file, "--passphrase-file", &secret])
        .unwrap();
    other.duka.ok(&["key", "rotate"]).unwrap();
}

/// Whether some file below a folder has these bytes.
fn is_in(folder: &Path, bytes: &[u8]) -> bool {
    let mut entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.any(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => is_in(&entry.path(), bytes),
        kind if kind.is_file() => {
            let content = fs::read(entry.path()).unwrap();
            content.windows(bytes.len()).any(|window| window == bytes)
        }
        _ => false,
    })
}

#[test]
fn a_mirror_of_encrypted_files_has_nothing_of_what_is_in_them() {
    let creator = Node::start();
    let secret = passphrase(&creator.duka);
    // The shop key stands for a file that only buyers may read.
    let file = creator.duka.home().join("album.age");
    let path = file.to_str().unwrap();
    creator
        .duka
        .ok(&[
            "key",
            "export",
            "--output",
            path,
            "--passphrase-file",
            &secret,
        ])
        .unwrap();
    let within = fs::read(creator.duka.data_dir().join("keys/shop.key")).unwrap();
    let publish = ["publish", path, "--product", "a1", "--version", "1"];
    creator.duka.ok(&publish).unwrap();
    creator.publish("plain", "1", 1000);
    let plain = fs::read(creator.duka.home().join("file")).unwrap();
    let shop = creator.shop();
    let mirror = Node::start();
    mirror.mirror(&creator.url(&shop), &[]);
    mirror.has(creator.seq());
    mirror.until("what is encrypted is there", |_| {
        mirror.holds(&format!("/ipns/{shop}/p/a1/1")).then_some(())
    });

    let stored = mirror
        .duka
        .ok(&["get", &format!("/ipns/{shop}/p/a1/1"), "-o", "out"]);
    field(&stored.unwrap(), "cid").unwrap();
    let out = mirror.duka.home().join("out");
    assert_eq!(fs::read(out).unwrap(), fs::read(&file).unwrap());
    let (data_dir, key) = (mirror.duka.data_dir(), &within[within.len() - 64..]);
    assert!(!is_in(&data_dir, key));
    // What is not encrypted is found by the same search.
    assert!(is_in(&data_dir, &plain[..64]));
}
