//! A node on a disk whose power is cut now and then, and the model beside it.

mod actions;
mod checks;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytesize::ByteSize;
use cid::Cid;
use duka_config::Config;
use duka_node::node::{self, Node};
use duka_node::temp_pins::TempPin;
use duka_tests::disk::Hooked;
use duka_tests::disk::crash::memory;
use duka_tests::disk::cut::Cut;
use duka_tests::disk::volatile::Volatile;
use duka_tests::random::Random;
use tempfile::TempDir;

use super::operation::Operation;
use super::promises::Promises;
use super::tree::Reference;

/// Packs are small, so that many are sealed.
const PACK_SIZE: u64 = 64 << 10;
/// Most bytes of the cache.
const CACHE_SIZE: u64 = 128 << 10;
/// Time that heads have to be made.
const PATIENCE: Duration = Duration::from_secs(60);
/// The node, and what is to be there.
pub(crate) struct Machine {
    random: Random,
    config: Config,
    reference: Reference,
    promises: Promises,
    /// What is promised if the change that was cut off was made.
    under_way: Option<Promises>,
    /// Blocks that were collected, and not stored again since.
    gone: BTreeSet<Cid>,
    dir: TempDir,
    disk: Arc<Hooked<Cut>>,
    /// The manifest's index as it was before the node was opened.
    old_index: TempDir,
    running: Option<Running>,
    cuts: u64,
}

/// What ends with the process.
struct Running {
    temp_pins: Vec<(TempPin, Cid)>,
    node: Node,
}

impl Machine {
    /// An empty node.
    pub(crate) async fn new(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x00c0_ffee << 32);
        let mut config = Config::default();
        config.network.offline = true;
        config.store.pack_size = ByteSize(PACK_SIZE);
        config.store.cache_size = ByteSize(CACHE_SIZE);
        config.store.reserve = ByteSize(0);
        let dir = tempfile::tempdir_in(memory()).unwrap();
        node::init(dir.path()).unwrap();
        let disk = Hooked::shared(Cut::new(Volatile::new(dir.path()), random.number()));
        let mut machine = Self {
            random,
            config,
            reference: Reference::new().unwrap(),
            promises: Promises::default(),
            under_way: None,
            gone: BTreeSet::new(),
            dir,
            disk,
            old_index: tempfile::tempdir_in(memory()).unwrap(),
            running: None,
            cuts: 0,
        };
        machine.open().await.unwrap();
        machine
    }

    /// How often the power was cut.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts
    }

    /// Does an operation, opens the node again if the power was cut, and looks at everything.
    pub(crate) async fn run(&mut self, operation: &Operation) -> Result<()> {
        let done = self.attempt(operation).await;
        let mut again = None;
        if let Operation::Cut {
            again: Some(after), ..
        } = operation
        {
            again = Some(*after);
        }
        if self.disk.0.is_cut() {
            while self.disk.0.is_cut() {
                self.recover(again.take()).await?;
            }
        } else {
            done?;
        }
        self.settle()?;
        self.check()
    }

    /// Stops the node.
    pub(crate) async fn close(mut self) {
        self.stop().await;
    }

    fn node(&self) -> Node {
        let running = self.running.as_ref().expect("the node is open");
        running.node.clone()
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("the node is open")
    }

    async fn open(&mut self) -> Result<()> {
        let index = index_of(self.dir.path());
        self.old_index = tempfile::tempdir_in(memory())?;
        if index.exists() {
            copy(&index, &index_of(self.old_index.path()))?;
        }
        let disk = Arc::clone(&self.disk);
        let node = Node::open_on(disk, self.dir.path(), &self.config).await?;
        self.running = Some(Running {
            temp_pins: Vec::new(),
            node,
        });
        self.idle().await
    }

    async fn stop(&mut self) {
        if let Some(Running { temp_pins, node }) = self.running.take() {
            drop(temp_pins);
            node.shutdown().await;
        }
    }

    /// Opens what a cut left. With `again` the power goes once more, while that is done.
    async fn recover(&mut self, again: Option<u64>) -> Result<()> {
        self.cuts += 1;
        self.stop().await;
        let dir = tempfile::tempdir_in(memory())?;
        let volatile = self.disk.0.leave(dir.path())?;
        let index = index_of(dir.path());
        let old_index = index_of(self.old_index.path());
        match self.random.below(4) {
            0 if index.exists() => std::fs::remove_dir_all(&index)?,
            1 if index.exists() && old_index.exists() => {
                std::fs::remove_dir_all(&index)?;
                copy(&old_index, &index)?;
            }
            _ => {}
        }
        self.dir = dir;
        self.disk = Hooked::shared(Cut::new(volatile, self.random.number()));
        if let Some(operations) = again {
            self.disk.0.cut_after(operations);
        }
        match self.open().await {
            Err(_) if self.disk.0.is_cut() => Ok(()),
            opened => opened.context("opening what a cut left"),
        }
    }

    /// Waits until the newest head has all releases.
    async fn idle(&self) -> Result<()> {
        let node = self.node();
        let mut heads = node.heads();
        let announced = async {
            loop {
                heads.borrow_and_update();
                if node.manifest().jobs().next().is_none() {
                    return;
                }
                tokio::select! {
                    _ = heads.changed() => {}
                    () = self.disk.0.wait_for_cut() => return,
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, announced).await;
        waited.context("no head has all releases")
    }

    /// Decides whether a change that was cut off was made.
    fn settle(&mut self) -> Result<()> {
        let found = Promises::of(self.node().manifest())?;
        if let Some(after) = self.under_way.take()
            && after == found
        {
            self.promises = after;
        }
        ensure!(
            found == self.promises,
            "promised {:#?}\nfound {found:#?}",
            self.promises
        );
        Ok(())
    }
}

fn index_of(dir: &Path) -> PathBuf {
    dir.join("manifest/index")
}

/// Copies a directory.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
