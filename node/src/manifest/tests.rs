//! What must survive: crashes, cuts, damage, a lost index.

mod any_input;
mod commit;
mod crash;
mod full_disk;
mod lost_index;
mod records;
mod torn_journal;

use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::change::{Conflict, Expect, Op};
use super::files::{Listing, checkpoint_path, index_path, journal_path};
use super::frame::{self, FileKind};
use super::record::{Job, Pin, Text};
use super::*;
use crate::block::{RAW, cid_of};

const EPOCH: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

/// No reserve: the test machine's disk may be nearly full.
const OPTIONS: ManifestOptions = ManifestOptions {
    journal_limit: 64 << 20,
    reserve: 0,
};

type States = BTreeMap<String, Vec<u8>>;

fn open(dir: &Path) -> (Manifest, Recovery) {
    Manifest::open_with(dir, OPTIONS).unwrap()
}

fn put(key: impl Into<String>, value: &[u8]) -> Change {
    change(vec![Op::PutState(key.into(), value.to_vec())])
}

fn change(ops: Vec<Op>) -> Change {
    Change {
        ops,
        ..Change::default()
    }
}

fn states(manifest: &Manifest) -> States {
    let scan = manifest.inner.index.scan(&[key::STATE]);
    scan.map(|item| {
        let (key, value) = item.unwrap();
        (String::from_utf8(key).unwrap(), value.to_vec())
    })
    .collect()
}

fn close(manifest: Manifest) {
    futures::executor::block_on(manifest.close()).unwrap();
}

fn id(word: &str) -> ProductId {
    word.parse().unwrap()
}

fn version(word: &str) -> Version {
    word.parse().unwrap()
}

fn product(title: &str) -> Product {
    Product {
        title: title.to_owned(),
        description: Text::Inline(String::new()),
        price: None,
        cover: None,
        created: EPOCH,
        channels: BTreeMap::new(),
        history: BTreeMap::new(),
    }
}

fn release(number: u64) -> Release {
    let root = cid_of(RAW, &number.to_be_bytes());
    Release {
        root,
        profile: "unixfs-v1-2025".to_owned(),
        size: 8,
        tsize: 8,
        blocks: 1,
        files: 1,
        file_list: root,
        record: None,
        notes: None,
        issued: EPOCH,
        number,
        yanked: None,
    }
}

fn pin() -> Pin {
    Pin {
        recursive: true,
        name: None,
        created: EPOCH,
    }
}

/// A directory with one journal of three one-value entries, and where each entry ends.
fn three_entries() -> (TempDir, Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let (manifest, _) = open(dir.path());
    let mut ends = vec![frame::HEADER_LEN as u64];
    for n in 1..=3u8 {
        manifest
            .commit_blocking(put(format!("k{n}"), &[n]))
            .unwrap();
        ends.push(journal_path(dir.path(), 1).metadata().unwrap().len());
    }
    drop(manifest);
    (dir, ends)
}
