//! What is to be there.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use cid::Cid;
use duka_node::block::Block;

use super::Machine;
use crate::model::tree::walk;

impl Machine {
    pub(super) fn held(&self) -> impl Iterator<Item = Cid> {
        let running = self.running.iter();
        running.flat_map(|running| running.temp_pins.iter().map(|(_, root)| *root))
    }

    /// Looks at everything that was promised or collected.
    pub(super) fn check(&self) -> Result<()> {
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
    pub(super) fn live(&self) -> Result<BTreeMap<Cid, u64>> {
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
    pub(super) async fn figures(&self) -> Result<()> {
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
