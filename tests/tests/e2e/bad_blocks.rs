//! Damage on disk, a full disk, and a peer whose blocks are wrong.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use duka_tests::duka::Options;
use duka_tests::http::{BadGateway, Fault};
use duka_tests::kubo::{self, Kubo};
use duka_tests::{Duka, files, process};

use crate::get::impatient;
use crate::kept::Kept;
use crate::{add, assert_refused, cat, is_root, system};

const MIB: u64 = 1 << 20;

/// Files below a folder that contain these bytes, and where.
fn find_bytes(folder: &Path, wanted: &[u8]) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for path in files::tree(folder)
        .unwrap()
        .into_keys()
        .map(|path| folder.join(path))
    {
        if !path.is_file() {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes
            .windows(wanted.len())
            .position(|window| window == wanted)
        {
            found.push((path, at as u64));
        }
    }
    found
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_damaged_block_is_never_handed_out_and_fsck_names_it() {
    let duka = Duka::with(&impatient()).unwrap();
    let (good, bad) = (
        files::random_bytes(60, 500_000),
        files::random_bytes(61, 500_000),
    );
    fs::write(duka.home().join("good"), &good).unwrap();
    fs::write(duka.home().join("bad"), &bad).unwrap();
    let good_cid = add(&duka, &duka.home().join("good")).unwrap();
    let bad_cid = add(&duka, &duka.home().join("bad")).unwrap();
    let places = find_bytes(&duka.data_dir(), &bad[250_000..250_032]);
    assert_eq!(places.len(), 1, "a block is stored once: {places:?}");
    flip(&places[0].0, places[0].1);

    let outcome = duka.cmd(&["cat", &bad_cid]).unwrap();
    assert_eq!(outcome.code, 4, "{outcome:?}");
    let outcome = duka.cmd(&["fsck", "--deep"]).unwrap();
    assert_refused(&outcome, 4, &[&bad_cid]);
    assert!(
        cat(&duka, &good_cid).unwrap() == good,
        "another block suffered"
    );

    // Adding the same content again heals it.
    assert_eq!(add(&duka, &duka.home().join("bad")).unwrap(), bad_cid);
    assert!(
        cat(&duka, &bad_cid).unwrap() == bad,
        "the damaged copy is still preferred"
    );
}

#[test]
fn a_torn_journal_loses_only_what_was_not_acknowledged() {
    let duka = Duka::new().unwrap();
    for product in ["one", "two", "three"] {
        fs::write(duka.home().join(product), product).unwrap();
        let release = ["publish", product, "--product", product, "--version", "1"];
        duka.ok(&release).unwrap();
    }
    let journal = journal(&duka.data_dir());
    // What a power cut leaves of a record that was being written.
    let mut bytes = fs::read(&journal).unwrap();
    bytes.extend([0x55; 37]);
    fs::write(&journal, bytes).unwrap();
    let products = duka.plain(&["product", "list"]).unwrap().text();
    for product in ["one", "two", "three"] {
        assert!(products.contains(product), "{products}");
    }
    fs::write(duka.home().join("four"), "four").unwrap();
    duka.ok(&["publish", "four", "--product", "four", "--version", "1"])
        .unwrap();
    assert!(
        duka.plain(&["product", "list"])
            .unwrap()
            .text()
            .contains("four")
    );
}

#[test]
fn a_lost_index_is_rebuilt_from_the_journal() {
    let duka = Duka::new().unwrap();
    for product in ["one", "two"] {
        fs::write(duka.home().join(product), product).unwrap();
        duka.ok(&["publish", product, "--product", product, "--version", "1"])
            .unwrap();
    }
    for (path, _) in find_sled(&duka.data_dir()) {
        fs::write(path, [0x55; 4096]).unwrap();
    }
    let products = duka.plain(&["product", "list"]).unwrap().text();
    assert!(
        products.contains("one") && products.contains("two"),
        "{products}"
    );
    duka.ok(&["fsck", "--deep"]).unwrap();
}

#[test]
fn a_damaged_journal_is_reported_and_nothing_is_thrown_away() {
    let duka = Duka::new().unwrap();
    for product in ["one", "two", "three"] {
        fs::write(duka.home().join(product), product).unwrap();
        duka.ok(&["publish", product, "--product", product, "--version", "1"])
            .unwrap();
    }
    let journal = journal(&duka.data_dir());
    let bytes = fs::read(&journal).unwrap();
    let at = bytes
        .windows(3)
        .position(|window| window == b"two")
        .unwrap();
    flip(&journal, at as u64);
    let outcome = duka.cmd(&["product", "list"]).unwrap();
    assert_refused(&outcome, 4, &["journal"]);
    assert_eq!(
        fs::read(&journal).unwrap().len(),
        bytes.len(),
        "the journal was cut"
    );

    // Nothing was lost: as the byte is right again, so is everything.
    flip(&journal, at as u64);
    let products = duka.plain(&["product", "list"]).unwrap().text();
    for product in ["one", "two", "three"] {
        assert!(products.contains(product), "{products}");
    }
    duka.ok(&["fsck", "--deep"]).unwrap();
}

/// The file that the manifest's records are appended to.
fn journal(data: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> = files::tree(data)
        .unwrap()
        .into_keys()
        .filter(|path| path.to_string_lossy().contains("journal"))
        .map(|path| data.join(path))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.pop().expect("a journal in the data directory")
}

/// sled's own files.
fn find_sled(data: &Path) -> Vec<(PathBuf, u64)> {
    let tree = files::tree(data).unwrap().into_keys();
    let found: Vec<_> = tree
        .filter(|path| path.file_name().is_some_and(|name| name == "db"))
        .map(|path| (data.join(path), 0))
        .filter(|(path, _)| path.is_file())
        .collect();
    assert!(!found.is_empty(), "no index of sled in the data directory");
    found
}

/// A file system of its own, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Result<Self> {
        anyhow::ensure!(
            is_root(),
            "this test mounts a file system, which only root may: run the tests as root"
        );
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_str().expect("a test's path is text");
        let output = system(
            "mount",
            &["-t", "tmpfs", "-o", &format!("size={size}"), "duka", path],
        )?;
        anyhow::ensure!(output.code == Some(0), "{}", output.stderr);
        Ok(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(system(
            "umount",
            &["--lazy", self.0.path().to_str().unwrap_or_default()],
        ));
    }
}

#[test]
fn a_full_disk_exits_with_9_and_what_was_stored_stays() {
    let disk = SmallDisk::mount("96m").unwrap();
    let options = Options {
        reserve: "8 MiB",
        ..Options::default()
    };
    let duka = Duka::in_folder(disk.0.path(), &options).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let (small, large) = (outside.path().join("small"), outside.path().join("large"));
    files::write_random(&small, 62, 4 * MIB).unwrap();
    files::write_random(&large, 63, 200 * MIB).unwrap();
    let cid = add(&duka, &small).unwrap();
    let outcome = duka.cmd(&["add", large.to_str().unwrap()]).unwrap();
    assert_refused(&outcome, 9, &[]);
    assert!(
        cat(&duka, &cid).unwrap() == files::random_bytes(62, 4 << 20),
        "stored bytes changed"
    );
    duka.ok(&["fsck", "--deep"]).unwrap();
}

#[test]
fn a_disk_without_any_room_exits_with_9_and_everything_works_again_with_room() {
    let disk = SmallDisk::mount("160m").unwrap();
    let duka = Duka::in_folder(disk.0.path(), &Options::default()).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let (file, filler) = (outside.path().join("file"), disk.0.path().join("filler"));
    files::write_random(&file, 65, 4 * MIB).unwrap();
    let cid = add(&duka, &file).unwrap();
    fs::write(outside.path().join("other"), "given up").unwrap();
    let other = add(&duka, &outside.path().join("other")).unwrap();
    let node = duka.serve().unwrap();

    // Less than the manifest leaves free: what gives something up is done all the same.
    fs::write(&filler, vec![0; 110 << 20]).unwrap();
    duka.ok(&["pin", "rm", &other]).unwrap();
    let again = duka.cmd(&["pin", "add", "--direct", &other]).unwrap();
    assert_refused(&again, 9, &["no room"]);
    // Then nothing at all.
    let filled = fs::write(&filler, vec![0; 200 << 20]).unwrap_err();
    assert_eq!(filled.kind(), std::io::ErrorKind::StorageFull);
    assert_refused(&duka.cmd(&["pin", "rm", &cid]).unwrap(), 9, &["no room"]);
    assert!(cat(&duka, &cid).unwrap() == files::random_bytes(65, 4 << 20));
    node.stop().unwrap();
    assert_refused(&duka.cmd(&["pin", "ls"]).unwrap(), 9, &["no room"]);

    fs::remove_file(&filler).unwrap();
    let pins = duka.plain(&["pin", "ls"]).unwrap().text();
    assert!(pins.contains(&cid), "{pins}");
    assert!(cat(&duka, &cid).unwrap() == files::random_bytes(65, 4 << 20));
    duka.ok(&["pin", "rm", &cid]).unwrap();
    duka.ok(&["fsck", "--deep"]).unwrap();
    let broken = files::tree(duka.data_dir().as_ref()).unwrap().into_keys();
    let broken = broken.filter(|path| path.to_string_lossy().contains("broken"));
    assert_eq!(broken.count(), 0, "no index was set aside");
}

#[test]
fn the_reserve_is_kept_free() {
    let options = Options {
        reserve: "1 EiB",
        ..Options::default()
    };
    let kept = Kept::new();
    kept.duka.configure(&options).unwrap();
    fs::write(kept.duka.home().join("file"), "no room").unwrap();
    let outcome = kept.duka.cmd(&["add", "file"]).unwrap();
    assert_refused(&outcome, 9, &[]);
    kept.assert_whole();
}

#[test]
fn a_peer_with_a_wrong_block_is_not_believed() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let kept = Kept::with(&impatient());
    let duka = &kept.duka;
    let content = files::random_bytes(64, 100_000);
    let file = duka.home().join("file");
    fs::write(&file, &content).unwrap();
    let cid = kubo.add(&file).unwrap();
    // Kubo does not hash what it reads: it sends the damaged block.
    let blocks = find_bytes(&kubo.repo().join("blocks"), &content[50_000..50_032]);
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    flip(&blocks[0].0, blocks[0].1);

    let node = duka.serve().unwrap();
    duka.ok(&["swarm", "connect", &kubo.address("/tcp/").unwrap()])
        .unwrap();
    let out = duka.home().join("out");
    let outcome = duka
        .cmd(&["get", &cid, "-o", out.to_str().unwrap()])
        .unwrap();
    assert!([3, 4, 5, 124].contains(&outcome.code), "{outcome:?}");
    assert_refused(&outcome, outcome.code, &[]);
    assert!(!out.exists(), "wrong bytes were written");
    node.stop().unwrap();
    let outcome = duka.cmd(&["--offline", "cat", &cid]).unwrap();
    assert_eq!(outcome.code, 3, "a wrong block was stored: {outcome:?}");
    kept.assert_whole();
}

#[test]
fn a_node_believes_no_gateway_that_lies_and_waits_for_none_that_hangs() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let kept = Kept::with(&impatient());
    let file = kept.duka.home().join("file");
    fs::write(&file, files::random_bytes(66, 100_000)).unwrap();
    let cid = kubo.add(&file).unwrap();
    let gateway = |fault| BadGateway::start(&kubo.gateway().unwrap(), fault).unwrap();
    // That one lied is said; one that broke off or hangs may do better the next time.
    for (fault, wanted) in [
        (Fault::FlipsABit, 4),
        (Fault::Truncates, 5),
        (Fault::Hangs, 5),
    ] {
        let mut command = kept.duka.command();
        command
            .env("DUKA_GATEWAY_UPSTREAMS", gateway(fault).url())
            .args(["--json", "pin", "add", &cid]);
        let output = process::run(&mut command, Duration::from_secs(60)).unwrap();
        let code = output.code;
        assert_eq!(code, Some(wanted), "{fault:?}: {output:?}");
        let last = output.text().lines().last().unwrap().to_owned();
        let error: serde_json::Value = serde_json::from_str(&last).unwrap();
        assert_eq!(error["type"], "error", "{fault:?}: {last}");
        let pins = kept.duka.plain(&["pin", "ls"]).unwrap().text();
        assert!(!pins.contains(&cid), "{fault:?}: pinned all the same");
        let absent = kept.duka.cmd(&["--offline", "cat", &cid]).unwrap();
        assert_eq!(
            absent.code, 3,
            "{fault:?}: wrong bytes are stored: {absent:?}"
        );
        kept.assert_whole();
    }
}

#[test]
fn a_pack_that_lost_its_end_is_reported_and_the_rest_stays() {
    let kept = Kept::new();
    let late = kept.duka.home().join("late");
    fs::write(&late, files::random_bytes(67, 500_000)).unwrap();
    let cid = add(&kept.duka, &late).unwrap();
    let wanted = &files::random_bytes(67, 500_000)[250_000..250_032];
    let [(pack, at)] = &find_bytes(&kept.duka.data_dir(), wanted)[..] else {
        panic!("a block is stored once");
    };
    let file = fs::OpenOptions::new().write(true).open(pack).unwrap();
    file.set_len(*at).unwrap();
    let outcome = kept.duka.cmd(&["cat", &cid]).unwrap();
    assert!([3, 4].contains(&outcome.code), "{outcome:?}");
    assert_refused(&kept.duka.cmd(&["fsck", "--deep"]).unwrap(), 4, &[&cid]);

    // Adding the same content again heals it.
    assert_eq!(add(&kept.duka, &late).unwrap(), cid);
    assert!(cat(&kept.duka, &cid).unwrap() == files::random_bytes(67, 500_000));
    kept.assert_whole();
}
