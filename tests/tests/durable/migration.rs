//! A data directory of an older layout, opened by this duka: all is there, and wherever the process is
//! killed meanwhile, the next one goes on.
//!
//! `tests/data/layout-1.tar.gz` was made by the duka of commit 4654b04: two releases, two more pins, in
//! packs of format 1 and of 128 KiB with indexes of version 1, the last one without.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytesize::ByteSize;
use duka_config::Config;
use duka_node::fsck::{self, FsckOptions};
use duka_node::node::Node;
use duka_tests::disk::crash::memory;
use duka_tests::disk::{Hook, Hooked, NoSync, Op, Verdict};
use duka_tests::locate;
use duka_tests::process::{self, Output};
use rustix::process::{Signal, getpid, kill_process};
use tempfile::TempDir;

const RELEASES: [(&str, &str); 2] = [
    (
        "1",
        "bafybeiddc43vnqnh4vin7uunk5gkwku3o2cfvi655mjufpxjr2bvcwucrm",
    ),
    (
        "2",
        "bafybeifsiu7wjy53jxnqhfgxxgzjosa3fjsfnd2ch2t2g7as46otsaf654",
    ),
];
const PINS: [&str; 2] = [
    "bafkreidjyzx4vuvqqjg3oeq23ub3yt6el3ik7c65ehj6qolkvbzzua2u24",
    "bafkreigrvcneplrzdc2y5247bu6lckmmfooxg5x5y7ldlh4nmkfw62hf4i",
];

/// Makes a directory with the data directory of the older layout in it.
fn older() -> TempDir {
    let dir = tempfile::tempdir_in(memory()).unwrap();
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/data/layout-1.tar.gz");
    let mut tar = Command::new(locate::system("tar").unwrap());
    let unpacked = tar.arg("-xzf").arg(archive).arg("-C").arg(dir.path());
    assert!(unpacked.status().unwrap().success());
    dir
}

fn config() -> Config {
    let mut config = Config::default();
    config.network.offline = true;
    config.store.reserve = ByteSize::b(1);
    config
}

/// Opens the data directory and looks for everything that was in it.
async fn assert_all_is_there(data_dir: &Path) {
    let disk = Hooked::shared(NoSync);
    let node = Node::open_on(disk, data_dir, &config()).await.unwrap();
    let product = "album".parse().unwrap();
    for (version, root) in RELEASES {
        let release = node.manifest().release(&product, &version.parse().unwrap());
        assert_eq!(release.unwrap().unwrap().root.to_string(), root);
    }
    let pins = node.manifest().pins().map(|row| row.unwrap().0.to_string());
    let mut expected: Vec<_> = RELEASES
        .map(|(_, root)| root)
        .into_iter()
        .chain(PINS)
        .collect();
    expected.sort_unstable();
    let mut pins: Vec<_> = pins.collect();
    pins.sort_unstable();
    assert_eq!(pins, expected);
    let options = FsckOptions {
        deep: true,
        ..FsckOptions::default()
    };
    let report = fsck::run(&node, options, |_| {}).await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    node.shutdown().await;
    let packs = data_dir.join("blocks/packs");
    for number in 1..=3 {
        let index = std::fs::read(packs.join(format!("kept-{number:08}.idx"))).unwrap();
        assert_eq!(index[8], 3, "version of index {number}");
    }
    let layout = std::fs::read_to_string(data_dir.join("layout")).unwrap();
    assert_eq!(layout, "2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_layout_1_is_brought_up_to_date() {
    let dir = older();
    let data_dir = dir.path().join("data");
    assert!(!data_dir.join("layout").exists());
    let packs = data_dir.join("blocks/packs");
    assert_eq!(
        std::fs::read(packs.join("kept-00000001.idx")).unwrap()[8],
        1
    );
    let read_packs = || {
        let paths = (1..=3).map(|number| packs.join(format!("kept-{number:08}.car")));
        paths
            .map(|path| std::fs::read(path).unwrap())
            .collect::<Vec<_>>()
    };
    let before = read_packs();
    assert_all_is_there(&data_dir).await;
    assert_all_is_there(&data_dir).await;
    assert!(
        read_packs() == before,
        "packs of an older format are not written to"
    );
    let entries = std::fs::read_dir(data_dir.join("manifest")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside: Vec<_> = names.filter(|name| name.contains("broken")).collect();
    assert_eq!(aside.len(), 1, "only the index of layout 1: {aside:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_half_removed_is_made_anew() {
    let dir = older();
    let data_dir = dir.path().join("data");
    std::fs::remove_file(data_dir.join("manifest/index/db")).unwrap();
    assert_all_is_there(&data_dir).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_the_first_open_is_killed_the_next_one_goes_on() {
    let mut operations = 0;
    loop {
        let dir = older();
        let data_dir = dir.path().join("data");
        let ended = open_and_die(&data_dir, operations);
        if ended.code == Some(0) {
            break;
        }
        assert_eq!(ended.signal, Some(9), "operation {operations}: {ended:?}");
        assert_all_is_there(&data_dir).await;
        operations += 1;
    }
    assert!(operations > 20, "only {operations} operations");
}

/// Opens the data directory in a process that is killed before one of its operations.
fn open_and_die(data_dir: &Path, operation: u64) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "migration::child", "--ignored", "--nocapture"]);
    let input = format!("{operation}\n{}", data_dir.display()).into_bytes();
    process::run_with_input(&mut command, input, Duration::from_secs(60)).unwrap()
}

/// Run by [`open_and_die`]: operation and directory on standard input.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of another test"]
async fn child() {
    let mut input = String::new();
    io::stdin().read_to_string(&mut input).unwrap();
    let Some((operation, data_dir)) = input.trim_end().split_once('\n') else {
        return;
    };
    let disk = Hooked::shared(KillAt {
        operation: operation.parse().unwrap(),
        done: AtomicU64::new(0),
    });
    let data_dir = PathBuf::from(data_dir);
    Node::open_on(disk, &data_dir, &config()).await.unwrap();
}

/// Kills this process before an operation.
#[derive(Debug)]
struct KillAt {
    operation: u64,
    done: AtomicU64,
}

impl Hook for KillAt {
    fn before(&self, _: Op<'_>) -> io::Result<Verdict> {
        if self.done.fetch_add(1, Ordering::Relaxed) == self.operation {
            kill_process(getpid(), Signal::KILL)?;
        }
        Ok(Verdict::Do)
    }
}
