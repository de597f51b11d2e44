//! What is done to the node.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use cid::Cid;
use duka_node::fetch::FetchOptions;
use duka_node::fsck::{self, FsckOptions};
use duka_node::gc::{self, GcOptions};
use duka_node::pin::{self, PinError, PinRequest};
use duka_node::publish::{PublishOptions, Source, publish};
use duka_node::store::PackKind;
use duka_node::yank::yank;
use futures::TryStreamExt;

use super::{CACHE_SIZE, Machine};
use crate::model::operation::Operation;
use crate::model::tree::Tree;

/// A note of a block in use lasts for so many collections.
const GENERATIONS: usize = 3;
/// What a pack takes besides its blocks: its first page, and a footer or two.
const PACK_OVERHEAD: u64 = 4 * 4096;

impl Machine {
    /// Does an operation.
    pub(super) async fn attempt(&mut self, operation: &Operation) -> Result<()> {
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

    pub(super) async fn commit(&self) -> Result<()> {
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
            spare_recent: false,
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
}

fn chosen<T>(all: impl ExactSizeIterator<Item = T>, which: usize) -> Option<T> {
    let count = all.len();
    let mut all = all;
    (count > 0)
        .then(|| which % count)
        .and_then(|at| all.nth(at))
}
