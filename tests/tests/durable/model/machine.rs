//! A node on a disk whose power is cut now and then, and the model beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytesize::ByteSize;
use cid::Cid;
use duka_config::Config;
use duka_node::block::Block;
use duka_node::fetch::FetchOptions;
use duka_node::fsck::{self, FsckOptions};
use duka_node::gc::{self, GcOptions};
use duka_node::node::{self, Node};
use duka_node::pin::{self, PinError, PinRequest};
use duka_node::publish::{PublishOptions, Source, publish};
use duka_node::store::PackKind;
use duka_node::temp_pins::TempPin;
use duka_node::yank::yank;
use duka_tests::disk::Hooked;
use duka_tests::disk::crash::memory;
use duka_tests::disk::cut::Cut;
use duka_tests::disk::volatile::Volatile;
use duka_tests::random::Random;
use futures::TryStreamExt;
use tempfile::TempDir;

use super::operation::Operation;
use super::promises::Promises;
use super::tree::{Reference, Tree, walk};

/// Packs are small, so that many are sealed.
const PACK_SIZE: u64 = 64 << 10;
/// Most bytes of the cache.
const CACHE_SIZE: u64 = 128 << 10;
/// Time that heads have to be made.
const PATIENCE: Duration = Duration::from_secs(60);
/// A note of a block in use lasts for so many collections.
const GENERATIONS: usize = 3;
/// What a pack takes besides its blocks: its first page, and a footer or two.
const PACK_OVERHEAD: u64 = 4 * 4096;

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

    async fn attempt(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Add(tree) => {
                self.import(tree, PackKind::Kept)?;
                self.commit().await
            }
            Operation::AddPinned(tree) => self.add_pinned(tree).await,
            Operation::Pin {
                which,
                recursive,
                name,
            } => self.pin(*which, *recursive, name.as_ref()).await,
            Operation::Unpin(which) => self.unpin(*which).await,
            Operation::Publish { product, tree } => {
                self.publish(&format!("product-{product}"), tree).await
            }
            Operation::Yank(which) => self.yank(*which).await,
            Operation::Begin { tree, hold } => self.begin(tree, *hold),
            Operation::Hold(which) => self.hold(*which).await,
            Operation::End(which) => {
                let temp_pins = &mut self.running().temp_pins;
                if !temp_pins.is_empty() {
                    drop(temp_pins.swap_remove(which % temp_pins.len()));
                }
                Ok(())
            }
            Operation::Cache(tree) => {
                self.import(tree, PackKind::Cache)?;
                self.commit().await
            }
            Operation::Evict => self.evict(),
            Operation::Seal => Ok(self.node().store().seal()?),
            Operation::Collect { seal } => self.collect(*seal).await,
            Operation::CollectAll => self.collect_all().await,
            Operation::Check { repair } => self.fsck(*repair).await,
            Operation::Reopen => {
                self.stop().await;
                self.open().await
            }
            Operation::Cut { after, .. } => {
                self.disk.0.cut_after(*after);
                Ok(())
            }
        }
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

    /// Stores a tree. What is stored may be there again, whatever comes of it.
    fn import(&mut self, tree: &Tree, kind: PackKind) -> Result<Cid> {
        let root = self.reference.root(tree)?;
        for block in self.reference.blocks(&root) {
            self.gone.remove(block.cid());
        }
        let imported = tree.import(self.node().store(), kind)?;
        ensure!(
            imported == root,
            "{tree:?} has the root {imported}, not {root}"
        );
        Ok(root)
    }

    async fn commit(&self) -> Result<()> {
        Ok(self.node().commit_blocks().await?)
    }

    async fn add_pinned(&mut self, tree: &Tree) -> Result<()> {
        let node = self.node();
        let mut temp_pin = node.temp_pin();
        let root = self.import(tree, PackKind::Kept)?;
        temp_pin.hold(root);
        self.pin_root(root, true, None).await
    }

    /// Pins a tree that may be gone; then it is not pinned.
    async fn pin(&mut self, which: usize, recursive: bool, name: Option<&String>) -> Result<()> {
        let Some((root, _)) = chosen(self.reference.trees(), which) else {
            return Ok(());
        };
        let root = *root;
        let must_be_there = self.promises.whole().any(|promised| *promised == root)
            || self.held().any(|held| held == root);
        match self.pin_root(root, recursive, name.cloned()).await {
            Err(error)
                if !must_be_there
                    && matches!(error.downcast_ref(), Some(PinError::Dag(_)))
                    && !self.disk.0.is_cut() =>
            {
                self.under_way = None;
                Ok(())
            }
            pinned => pinned,
        }
    }

    async fn pin_root(&mut self, root: Cid, recursive: bool, name: Option<String>) -> Result<()> {
        let mut after = self.promises.clone();
        after.pin(root, recursive, name.clone());
        self.under_way = Some(after);
        let request = PinRequest {
            cid: root,
            recursive,
            name,
            fetch: FetchOptions::offline(),
        };
        let node = self.node();
        let progress = std::pin::pin!(pin::add(&node, request));
        progress
            .try_for_each(|_| std::future::ready(Ok(())))
            .await?;
        self.acknowledged();
        Ok(())
    }

    async fn unpin(&mut self, which: usize) -> Result<()> {
        let Some((root, _)) = chosen(self.promises.pins.iter(), which) else {
            return Ok(());
        };
        let root = *root;
        let offered = self.promises.offers(&root);
        let mut after = self.promises.clone();
        after.pins.remove(&root);
        self.under_way = Some(after);
        match pin::remove(&self.node(), root).await {
            Err(PinError::Offered { .. }) if offered => self.under_way = None,
            Ok(()) if offered => bail!("the pin of the release {root} was removed"),
            removed => {
                removed?;
                self.acknowledged();
            }
        }
        Ok(())
    }

    async fn publish(&mut self, product: &str, tree: &Tree) -> Result<()> {
        let root = self.reference.root(tree)?;
        for block in self.reference.blocks(&root) {
            self.gone.remove(block.cid());
        }
        let mut after = self.promises.clone();
        let version = after.publish(product, root);
        self.under_way = Some(after);
        let dir = tree.write()?;
        let source = Source::Path(dir.path().to_owned());
        let options = PublishOptions::new(product.parse()?);
        let published = publish(&self.node(), source, options, Arc::new(|_| true)).await?;
        self.acknowledged();
        ensure!(
            published.cid == root.to_string(),
            "another root: {published:?}"
        );
        ensure!(
            published.version.as_str() == version.to_string(),
            "{published:?}"
        );
        self.idle().await
    }

    async fn yank(&mut self, which: usize) -> Result<()> {
        let Some(((product, version), _)) = chosen(self.promises.releases.iter(), which) else {
            return Ok(());
        };
        let (product, version) = (product.clone(), *version);
        let mut after = self.promises.clone();
        if let Some(release) = after.releases.get_mut(&(product.clone(), version)) {
            release.yanked = true;
        }
        self.under_way = Some(after);
        yank(
            &self.node(),
            &product.parse()?,
            &version.to_string().parse()?,
        )
        .await?;
        self.acknowledged();
        self.idle().await
    }

    fn begin(&mut self, tree: &Tree, hold: bool) -> Result<()> {
        let mut temp_pin = self.node().temp_pin();
        let root = self.import(tree, PackKind::Kept)?;
        if hold {
            temp_pin.hold(root);
        }
        self.running().temp_pins.push((temp_pin, root));
        Ok(())
    }

    async fn hold(&mut self, which: usize) -> Result<()> {
        if let Some((root, pin)) = chosen(self.promises.pins.iter(), which)
            && pin.recursive
        {
            let root = *root;
            let mut temp_pin = self.node().temp_pin();
            temp_pin.hold(root);
            self.running().temp_pins.push((temp_pin, root));
        }
        self.unpin(which).await
    }

    fn evict(&mut self) -> Result<()> {
        let store = self.node().store().clone();
        store.evict()?;
        let cache = store.stats()?.cache_disk_bytes;
        ensure!(
            cache <= CACHE_SIZE,
            "the cache takes {cache} bytes after eviction"
        );
        Ok(())
    }

    async fn collect(&mut self, seal: bool) -> Result<()> {
        let options = GcOptions {
            dry_run: false,
            seal,
            bytes_per_second: 0,
        };
        let report = gc::collect(&self.node(), options).await?;
        if self.held().next().is_none() {
            let live = self.live()?.len() as u64;
            ensure!(
                (report.live_blocks, report.missing_blocks) == (live, 0),
                "{live} blocks are live, found {report:?}"
            );
        }
        // A cache pack that is under way out may still be there after a cut.
        self.node().store().evict()?;
        for (_, blocks) in self.reference.trees() {
            for block in blocks {
                if self.node().store().get_whole(block.cid())?.is_none() {
                    self.gone.insert(*block.cid());
                }
            }
        }
        Ok(())
    }

    async fn collect_all(&mut self) -> Result<()> {
        for _ in 0..GENERATIONS {
            self.collect(true).await?;
        }
        self.check()?;
        self.running().temp_pins.clear();
        for _ in 0..GENERATIONS {
            self.collect(true).await?;
        }
        self.figures().await?;
        let live: u64 = self.live()?.values().sum();
        let stats = self.node().store().stats()?;
        // A quarter of a pack may be dead.
        let most = live * 4 / 3 + PACK_OVERHEAD * (stats.packs + 1);
        ensure!(
            stats.kept_disk_bytes <= most,
            "{live} bytes are live, and packs take {} after collection",
            stats.kept_disk_bytes
        );
        Ok(())
    }

    /// Damaged may be what was never acknowledged.
    async fn fsck(&mut self, repair: bool) -> Result<()> {
        let options = FsckOptions {
            deep: true,
            repair,
            repair_index: false,
        };
        let report = fsck::run(&self.node(), options, |_| {}).await?;
        ensure!(report.missing.is_empty(), "{report:?}");
        let live = self.live()?;
        let lost = report.damaged.iter().find(|cid| live.contains_key(cid));
        ensure!(lost.is_none(), "{report:?}");
        self.figures().await
    }

    fn acknowledged(&mut self) {
        if let Some(after) = self.under_way.take() {
            self.promises = after;
        }
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

    fn held(&self) -> impl Iterator<Item = Cid> {
        let running = self.running.iter();
        running.flat_map(|running| running.temp_pins.iter().map(|(_, root)| *root))
    }

    /// Looks at everything that was promised or collected.
    fn check(&self) -> Result<()> {
        let node = self.node();
        let store = node.store();
        let whole = self.promises.whole().copied().chain(self.held());
        for root in whole {
            for block in self.reference.blocks(&root) {
                let found = store.get(block.cid())?;
                ensure!(
                    found.as_ref() == Some(block),
                    "{} of {root} is promised: {found:?}",
                    block.cid()
                );
            }
        }
        for root in self.promises.pins.keys() {
            ensure!(store.get(root)?.is_some(), "{root} is pinned and missing");
        }
        for (_, blocks) in self.reference.trees() {
            for block in blocks {
                if let Some(found) = store.get_whole(block.cid())? {
                    ensure!(found == *block, "{} has wrong bytes", block.cid());
                    ensure!(
                        !self.gone.contains(block.cid()),
                        "{} came back",
                        block.cid()
                    );
                }
            }
        }
        self.live()?;
        let counts = node.manifest().counts()?;
        let found = (counts.products, counts.releases, counts.pins);
        let promised = (
            self.promises.products(),
            self.promises.releases.len() as u64,
            self.promises.pins.len() as u64,
        );
        ensure!(found == promised, "{promised:?} are promised: {counts:?}");
        Ok(())
    }

    /// The blocks that something refers to, with their lengths. All of them are there.
    fn live(&self) -> Result<BTreeMap<Cid, u64>> {
        let node = self.node();
        let manifest = node.manifest();
        let mut roots: Vec<Cid> = self.promises.whole().copied().collect();
        for row in manifest.products() {
            for row in manifest.releases(&row?.0) {
                let (_, release) = row?;
                roots.push(release.file_list);
                roots.extend(release.record);
            }
        }
        for row in manifest.shop_entries() {
            if let Some(dirs) = row?.2.and_then(|entry| entry.dirs) {
                roots.extend([dirs.product.cid, dirs.releases.cid]);
            }
        }
        roots.extend(manifest.head()?.map(|head| head.root));
        let length = |block: &Block| (*block.cid(), block.data().len() as u64);
        let mut live = BTreeMap::new();
        for root in roots {
            live.extend(walk(node.store(), root)?.iter().map(length));
        }
        for root in self.promises.pins.keys() {
            let block = node.store().get(root)?.context("a pinned block")?;
            live.extend([length(&block)]);
        }
        Ok(live)
    }

    /// Compares the figures of the store with its files.
    async fn figures(&self) -> Result<()> {
        self.commit().await?;
        let stats = self.node().store().stats()?;
        let mut files = 0;
        for entry in std::fs::read_dir(self.dir.path().join("blocks/packs"))? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("kept-") && name.ends_with(".car") {
                files += entry.metadata()?.len();
            }
        }
        ensure!(
            stats.kept_disk_bytes == files,
            "the kept packs have {files} bytes: {stats:?}"
        );
        let live = self.live()?;
        let bytes: u64 = live.values().sum();
        ensure!(
            stats.kept_blocks >= live.len() as u64 && stats.kept_bytes >= bytes,
            "{} blocks with {bytes} bytes are live: {stats:?}",
            live.len()
        );
        Ok(())
    }
}

fn chosen<T>(all: impl ExactSizeIterator<Item = T>, which: usize) -> Option<T> {
    let count = all.len();
    let mut all = all;
    (count > 0)
        .then(|| which % count)
        .and_then(|at| all.nth(at))
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
