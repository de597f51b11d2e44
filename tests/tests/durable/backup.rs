//! Backups: what is in a folder is always the one before or the new one.

use std::path::Path;
use std::sync::Arc;

use duka_config::Config;
use duka_node::backup::{self, BackupOptions, List, ListError};
use duka_node::block::{Block, RAW};
use duka_node::disk::Disk;
use duka_node::gc::{self, GcOptions};
use duka_node::manifest::change::{Change, Op};
use duka_node::node::{self, Node};
use duka_node::restore::{self, RestoreOptions};
use duka_node::store::PackKind;
use duka_tests::disk::crash::memory;
use duka_tests::disk::point::SyncKind;
use duka_tests::disk::{Hook, Hooked};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{Events, Workload, cuts_lose_nothing_and_each_sync_is_needed, fail_everywhere};

/// Backups that are made one after the other.
const BACKUPS: u64 = 3;

#[test]
fn a_disk_that_fails_at_any_operation_leaves_a_whole_backup() {
    fail_everywhere::<Backups>();
}

#[test]
fn a_power_cut_at_any_operation_leaves_a_whole_backup() {
    cuts_lose_nothing_and_each_sync_is_needed::<Backups>(&[
        SyncKind::Directory,
        SyncKind::BackupFile,
        SyncKind::BackupFileName,
        SyncKind::BackupList,
        SyncKind::BackupListName,
    ]);
}

#[derive(Default)]
struct Backups {
    /// The last one that was said to be made.
    acknowledged: Mutex<u64>,
}

impl Workload for Backups {
    fn run<H: Hook + 'static>(&self, disk: &Arc<Hooked<H>>, root: &Path, events: &dyn Events) {
        let data_dir = tempfile::tempdir_in(memory()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let node = open(data_dir.path()).await;
            for number in 1..=BACKUPS {
                change(&node, number).await;
                let options = BackupOptions {
                    dir: root.join("backup"),
                    keys: Some(format!("{number}")),
                    settings: None,
                };
                let make = || {
                    let disk = Arc::clone(disk) as Arc<dyn Disk>;
                    backup::run_on(disk, &node, options.clone(), |_, _| {})
                };
                if make().await.is_err() {
                    assert!(events.fault().is_some());
                    make().await.unwrap();
                }
                *self.acknowledged.lock() = number;
                events.idle();
            }
            node.shutdown().await;
        });
    }

    fn check(&self, root: &Path) -> Result<(), String> {
        let acknowledged = *self.acknowledged.lock();
        let options = RestoreOptions {
            dir: root.join("backup"),
            opener: None,
            dry_run: true,
        };
        let list = match List::read(&options.dir) {
            Err(ListError::Missing { .. }) if acknowledged == 0 => return Ok(()),
            read => read.map_err(|error| error.to_string())?,
        };
        let stop = CancellationToken::new();
        restore::run(root, &options, &stop, &|_, _| {}).map_err(|error| error.to_string())?;
        let keys = list.keys.ok_or("no keys")?;
        let number = std::fs::read_to_string(options.dir.join(keys.file)).unwrap();
        if number.parse::<u64>().unwrap() < acknowledged {
            return Err(format!("{acknowledged} was made, {number} is there"));
        }
        Ok(())
    }
}

async fn open(data_dir: &Path) -> Node {
    let mut config = Config::default();
    config.network.offline = true;
    config.store.reserve = bytesize::ByteSize::b(1);
    node::init(data_dir).unwrap();
    Node::open(data_dir, &config).await.unwrap()
}

/// Pins a new block in a pack of its own, and gives up the one before, with its pack.
async fn change(node: &Node, number: u64) {
    let block = |number: u64| Block::of(RAW, number.to_le_bytes().repeat(500).into());
    let guard = node.temp_pin();
    let new = block(number);
    node.store()
        .put(PackKind::Kept, std::slice::from_ref(&new))
        .unwrap();
    node.commit_blocks().await.unwrap();
    let pin = duka_node::manifest::record::Pin {
        recursive: true,
        name: None,
        created: jiff::Timestamp::UNIX_EPOCH,
    };
    let mut ops = vec![Op::PutPin(*new.cid(), pin)];
    if number > 1 {
        ops.push(Op::DeletePin(*block(number - 1).cid()));
    }
    let change = Change {
        ops,
        ..Change::default()
    };
    node.manifest().commit(change).await.unwrap();
    drop(guard);
    let options = GcOptions {
        dry_run: false,
        seal: false,
        bytes_per_second: 0,
        spare_recent: false,
    };
    gc::collect(node, options).await.unwrap();
}
