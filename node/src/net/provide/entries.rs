//! The entries of a tree that are worth a provider record: directories, their HAMT shards, and
//! files, but not the chunks of files.

use cid::Cid;

use crate::block::RAW;
use crate::dag::unixfs::{self, UnixFs};
use crate::manifest::{Manifest, ManifestError};
use crate::store::{Store, StoreError};

use super::ProvideError;

/// Walks depth first, the root before what is below it. The order is always the same, since a tree
/// never changes. Blocks that are not here or are damaged are passed over with what is below them.
pub(super) struct Entries {
    store: Store,
    manifest: Manifest,
    root: Cid,
    /// Still to visit; as many as the directories on the way to here have entries.
    stack: Vec<Cid>,
}

impl Entries {
    pub(super) fn new(store: &Store, manifest: &Manifest, root: Cid) -> Self {
        Self {
            store: store.clone(),
            manifest: manifest.clone(),
            root,
            stack: vec![root],
        }
    }

    /// The next entry; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Cid>, ProvideError> {
        while let Some(cid) = self.stack.pop() {
            if self.is_another_root(&cid)? {
                continue;
            }
            if cid.codec() == RAW {
                if self.has(&cid)? {
                    return Ok(Some(cid));
                }
                continue;
            }
            let block = match self.store.read(&cid).await {
                Ok(Some(block)) => block,
                Ok(None) => continue,
                // Nobody can be given a damaged one either.
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error.into()),
            };
            match unixfs::decode(&block) {
                Ok(UnixFs::Directory(node)) => self.push(node.links),
                Ok(UnixFs::Shard(node)) => self.push(node.links),
                // Other codecs are announced as they are.
                Ok(UnixFs::File(_) | UnixFs::Symlink { .. }) | Err(_) => {}
            }
            return Ok(Some(cid));
        }
        Ok(None)
    }

    /// Leaves out the next `count` entries.
    pub(super) async fn skip(&mut self, count: u64) -> Result<(), ProvideError> {
        for _ in 0..count {
            if self.next().await?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn push(&mut self, links: Vec<unixfs::Link>) {
        self.stack
            .extend(links.into_iter().rev().map(|link| link.cid));
    }

    /// A release inside the shop has its own turn.
    fn is_another_root(&self, cid: &Cid) -> Result<bool, ManifestError> {
        Ok(*cid != self.root && self.manifest.pin(cid)?.is_some())
    }

    fn has(&self, cid: &Cid) -> Result<bool, StoreError> {
        self.store.has(cid)
    }
}
