//! What happened to the manifest is said, and no collection follows that takes what was pinned.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Home;

/// A stopped node with two pinned files.
fn two_pins() -> Home {
    let home = Home::new();
    for name in ["one", "two"] {
        fs::write(home.path().join(name), format!("the file {name}")).unwrap();
        let added = home.run(&["--offline", "add", name]);
        assert_eq!(added.code, 0, "{}", added.stderr);
    }
    home
}

fn data_dir(home: &Home) -> PathBuf {
    home.path().join(".local/share/duka")
}

fn journal(home: &Home) -> PathBuf {
    data_dir(home).join("manifest/journal-00000000000000000001.log")
}

/// Where each entry ends.
fn ends(journal: &[u8]) -> Vec<usize> {
    let mut ends = vec![32];
    while let Some(len) = journal.get(ends[ends.len() - 1]..).and_then(|r| r.get(..4)) {
        let len = u32::from_le_bytes(len.try_into().unwrap()) as usize;
        ends.push(ends[ends.len() - 1] + 16 + len);
    }
    ends
}

fn packs(home: &Home) -> BTreeMap<PathBuf, Vec<u8>> {
    files(&data_dir(home).join("blocks/packs"))
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// Each command is refused in one sentence, and what is stored stays.
fn assert_refused(home: &Home, sentence: &str) {
    let before = packs(home);
    for command in [&["rebuild"][..], &["pin", "ls"], &["gc"], &["fsck"]] {
        let refused = home.run(&[&["--offline"], command].concat());
        assert_eq!(refused.code, 4, "{command:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(sentence), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("duka restore"),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(packs(home), before);
}

#[test]
fn a_journal_that_was_cut_is_refused() {
    let home = two_pins();
    let whole = fs::read(journal(&home)).unwrap();
    let ends = ends(&whole);
    for cut in [32, ends[1], whole.len() - 3] {
        fs::write(journal(&home), &whole[..cut]).unwrap();
        assert_refused(&home, "the journal ends at");
    }
    fs::write(journal(&home), b"").unwrap();
    assert_refused(&home, "manifest");
    fs::write(journal(&home), &whole).unwrap();
    let pins = home.run(&["--offline", "pin", "ls"]);
    assert_eq!(
        (pins.code, pins.stdout.lines().count()),
        (0, 2),
        "{}",
        pins.stderr
    );
}

#[test]
fn an_older_layout_with_a_cut_journal_is_refused() {
    let home = two_pins();
    fs::remove_file(data_dir(&home).join("layout")).unwrap();
    let whole = fs::read(journal(&home)).unwrap();
    fs::write(journal(&home), &whole[..whole.len() - 3]).unwrap();
    assert_refused(&home, "the journal ends at");
}

#[test]
fn packs_without_a_manifest_are_refused() {
    let home = two_pins();
    fs::remove_dir_all(data_dir(&home).join("manifest")).unwrap();
    assert_refused(&home, "manifest");
    assert!(!data_dir(&home).join("manifest").exists());
}
