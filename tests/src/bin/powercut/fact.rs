//! What a writer was acknowledged, and whether it is so.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use cid::Cid;
use duka_node::block::Block;
use duka_node::dag::links::links;
use duka_node::manifest::Manifest;
use duka_node::store::Store;
use serde::{Deserialize, Serialize};

/// Something that must be so after it was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fact {
    /// The release has this root, which is pinned and whole.
    Released {
        product: String,
        version: String,
        root: Cid,
    },
    /// The root is pinned and whole.
    Pinned(Cid),
    /// The root is not pinned.
    Unpinned(Cid),
    /// The store has the block.
    Block(Cid),
    /// The manifest has the value.
    State { key: String, value: String },
}

impl Fact {
    /// What it is about: a later fact about the same takes its place.
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::Released {
                product, version, ..
            } => format!("{product} {version}"),
            Self::Pinned(cid) | Self::Unpinned(cid) | Self::Block(cid) => cid.to_string(),
            Self::State { key, .. } => key.clone(),
        }
    }
}

/// What a line of the writer says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// Everything that was acknowledged is so; writing begins.
    Ready,
    /// It is not.
    Lost(String),
    /// A write begins. What it is about may be either way until it is done.
    Begin(Option<Fact>),
    /// A write was acknowledged.
    Done(Fact),
}

/// Looks whether facts are so.
pub(crate) struct Checker<'a> {
    pub(crate) store: Option<&'a Store>,
    pub(crate) manifest: Option<&'a Manifest>,
    /// Blocks that are there with the right hash.
    pub(crate) whole: HashSet<Cid>,
}

impl Checker<'_> {
    pub(crate) fn check(&mut self, fact: &Fact) -> Result<()> {
        self.look(fact)
            .with_context(|| format!("{fact:?} was acknowledged"))
    }

    fn look(&mut self, fact: &Fact) -> Result<()> {
        match fact {
            Fact::Released {
                product,
                version,
                root,
            } => {
                let (product, version) = (product.parse()?, version.parse()?);
                let release = self.manifest()?.release(&product, &version)?;
                let release = release.context("there is no such release")?;
                ensure!(release.root == *root, "the release has another root");
                self.pinned(*root)
            }
            Fact::Pinned(root) => self.pinned(*root),
            Fact::Unpinned(root) => {
                ensure!(self.manifest()?.pin(root)?.is_none(), "it is pinned");
                Ok(())
            }
            Fact::Block(cid) => self.block(cid).map(drop),
            Fact::State { key, value } => {
                let found = self.manifest()?.state(key)?;
                ensure!(
                    found.as_deref() == Some(value.as_bytes()),
                    "found {found:?}"
                );
                Ok(())
            }
        }
    }

    fn manifest(&self) -> Result<&Manifest> {
        self.manifest.context("this workload has no manifest")
    }

    fn pinned(&mut self, root: Cid) -> Result<()> {
        ensure!(self.manifest()?.pin(&root)?.is_some(), "it is not pinned");
        let mut waiting = vec![root];
        while let Some(cid) = waiting.pop() {
            if self.whole.contains(&cid) {
                continue;
            }
            waiting.extend(links(&self.block(&cid)?)?);
            self.whole.insert(cid);
        }
        Ok(())
    }

    fn block(&self, cid: &Cid) -> Result<Block> {
        let store = self.store.context("this workload has no store")?;
        let Some(block) = store.get(cid)? else {
            bail!("block {cid} is missing");
        };
        Ok(Block::new(*cid, block.into_data())?)
    }
}
