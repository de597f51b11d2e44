//! What a newer duka wrote is refused with one sentence, and stays as it is.

use std::fs;
use std::path::{Path, PathBuf};

use super::Home;

/// A data directory with one file in it; a node has closed it.
fn stored() -> (Home, PathBuf) {
    let home = Home::new();
    fs::write(home.path().join("file"), "content").unwrap();
    let added = home.run(&["--offline", "add", "file"]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    let data_dir = home.path().join(".local/share/duka");
    assert!(data_dir.is_dir());
    (home, data_dir)
}

/// The only file in `dir` whose name begins so.
fn only(dir: &Path, prefix: &str) -> PathBuf {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut found: Vec<_> = entries
        .filter(|path| name(path).starts_with(prefix))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn put_u32(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn assert_refused(home: &Home, path: &Path, what: &str) {
    let before = fs::read(path).unwrap();
    for command in [&["pin", "ls"][..], &["add", "file"], &["rebuild"]] {
        let refused = home.run(&[&["--offline"], command].concat());
        assert_eq!(refused.code, 6, "{what}, {command:?}: {}", refused.stderr);
        let newer = refused
            .stderr
            .matches("was written by a newer duka")
            .count();
        assert_eq!(newer, 1, "{what}, {command:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains("use the newer duka"),
            "{}",
            refused.stderr
        );
        assert_eq!(refused.stdout, "");
    }
    assert_eq!(fs::read(path).unwrap(), before, "{what}");
}

#[test]
fn a_newer_layout_is_refused() {
    let (home, data_dir) = stored();
    let path = data_dir.join("layout");
    assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
    fs::write(&path, "3\n").unwrap();
    assert_refused(&home, &path, "layout");
    let refused = home.run(&["init"]);
    assert_eq!(refused.code, 6, "{}", refused.stderr);
}

#[test]
fn a_newer_pack_is_refused() {
    let (home, data_dir) = stored();
    let path = only(&data_dir.join("blocks/packs"), "kept-");
    let mut bytes = fs::read(&path).unwrap();
    let body = bytes
        .windows(8)
        .position(|word| word == b"dukafoot")
        .unwrap();
    put_u32(&mut bytes, body + 8, 99);
    let crc = crc32fast::hash(&bytes[body..4076]);
    put_u32(&mut bytes, 4076, crc);
    fs::write(&path, bytes).unwrap();
    assert_refused(&home, &path, "pack");
}

#[test]
fn a_newer_journal_is_refused() {
    let (home, data_dir) = stored();
    let path = only(&data_dir.join("manifest"), "journal-");
    let mut bytes = fs::read(&path).unwrap();
    put_u32(&mut bytes, 8, 99);
    let crc = crc32fast::hash(&bytes[..28]);
    put_u32(&mut bytes, 28, crc);
    fs::write(&path, bytes).unwrap();
    assert_refused(&home, &path, "journal");
}
