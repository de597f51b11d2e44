//! What this node gives to others, by HTTP and by bitswap: nothing on a denylist and, unless everything is
//! served, nothing that was only fetched for a request.

mod memory;
mod paths;

use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use duka_config::ServePolicy;

use self::memory::Memory;
use self::paths::Paths;
use crate::block::{Block, Multihash};
use crate::blocking::blocking;
use crate::dag::DagError;
use crate::dag::path::{self, Resolved};
use crate::denylist::Denylists;
use crate::rate::Rate;
use crate::source::{BlockSource, FetchError};
use crate::store::{Reach, Store, StoreError};

/// What part of the memory is for paths.
const PATHS_SHARE: usize = 8;

/// The blocks that this node serves. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Served {
    store: Store,
    reach: Reach,
    denylists: Denylists,
    /// Small blocks: folders, and files of a few kilobytes.
    hot: Arc<Memory<Multihash, Bytes>>,
    paths: Arc<Paths>,
    rate: Option<Rate>,
}

impl Served {
    /// What `policy` lets out of `store`, but for what is denied.
    pub fn new(store: Store, policy: ServePolicy, denylists: Denylists) -> Self {
        let reach = match policy {
            ServePolicy::Local => Reach::OnPurpose,
            ServePolicy::Any => Reach::All,
        };
        Self {
            store,
            reach,
            denylists,
            hot: Arc::new(Memory::new(0)),
            paths: Arc::new(Paths::new(0)),
            rate: None,
        }
    }

    /// Gives no more than so many bytes a second to all together; 0 is without limit.
    pub fn with_rate(self, bytes_per_second: u64) -> Self {
        let rate = (bytes_per_second > 0).then(|| Rate::new(bytes_per_second));
        Self { rate, ..self }
    }

    /// What those who send the blocks on must keep to.
    pub fn rate(&self) -> Option<&Rate> {
        self.rate.as_ref()
    }

    /// Keeps small blocks that HTTP clients asked for, and where paths led, in so many bytes of memory.
    pub fn with_memory(self, bytes: u64) -> Self {
        let most = usize::try_from(bytes).unwrap_or(usize::MAX);
        let for_paths = most / PATHS_SHARE;
        Self {
            hot: Arc::new(Memory::new(most - for_paths)),
            paths: Arc::new(Paths::new(for_paths)),
            ..self
        }
    }

    /// The denylists.
    pub fn denylists(&self) -> &Denylists {
        &self.denylists
    }

    /// Where the blocks come from.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Length of a block that is served, from the index. Blocking.
    pub(crate) fn block_len(&self, cid: &Cid) -> Result<Option<u32>, StoreError> {
        match self.denylists.check_block(cid) {
            Some(_) => Ok(None),
            None => self.store.block_len_in(self.reach, cid),
        }
    }

    /// Reads a block that is served. Blocking.
    pub(crate) fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        match self.denylists.check_block(cid) {
            Some(_) => Ok(None),
            None => self.store.get_in(self.reach, cid),
        }
    }

    /// Follows `segments` from `root` through blocks that are served, as [`path::resolve`]. What a path led
    /// to lately is known without reading them.
    ///
    /// # Errors
    /// As there.
    pub async fn resolve(&self, root: Cid, segments: &[String]) -> Result<Resolved, DagError> {
        if segments.is_empty() {
            return path::resolve(self, root, segments).await;
        }
        let removals = self.store.removals();
        let known = self.paths.get(&root, segments, &self.denylists, removals);
        if let Some(known) = known {
            return Ok(known);
        }
        let found = path::resolve(self, root, segments).await?;
        self.paths.put(&root, segments, &found, removals);
        Ok(found)
    }
}

impl BlockSource for Served {
    async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        if let Some(denied) = self.denylists.check_block(cid) {
            return Err(FetchError::Denied {
                cid: *cid,
                source: denied,
            });
        }
        if let Some(block) = Block::inlined(cid)? {
            return Ok(block);
        }
        let removals = self.store.removals();
        if let Some(data) = self.hot.get(cid.hash(), removals) {
            return Ok(Block::trusted(*cid, data));
        }
        let (store, reach, wanted) = (self.store.clone(), self.reach, *cid);
        let read = blocking(move || store.get_in(reach, &wanted)).await?;
        if let Some(data) = read.as_ref().map(Block::data)
            && self.hot.takes(data.len())
        {
            // A slice would hold all of what it is of.
            let copy = Bytes::copy_from_slice(data);
            self.hot.put(*cid.hash(), copy, data.len(), removals);
        }
        read.ok_or_else(|| FetchError::NotFound {
            cid: *cid,
            tried: match self.reach {
                Reach::All => "not in the local store, and the network was not asked",
                Reach::OnPurpose => {
                    "not among what this node holds on purpose, and the network was not asked"
                }
            }
            .to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::block::RAW;
    use crate::dag::hamt::{Entry, build_directory};
    use crate::dag::import::Profile;
    use crate::dag::unixfs::Metadata;
    use crate::store::{PackKind, StoreOptions};

    fn block(n: u8) -> Block {
        Block::of(RAW, vec![n; 100].into())
    }

    /// A store with one block in a kept pack, one in a cache pack, and a list that denies a third.
    fn served(dir: &std::path::Path, policy: ServePolicy) -> Served {
        let options = StoreOptions {
            reserve: 0,
            ..StoreOptions::default()
        };
        let (store, _) = Store::open(dir, options).unwrap();
        store.put(PackKind::Kept, &[block(1), block(3)]).unwrap();
        store.put(PackKind::Cache, &[block(2)]).unwrap();
        let list = dir.join("list.deny");
        let mut file = std::fs::File::create(&list).unwrap();
        writeln!(file, "/ipfs/{} gateway_status:451", block(3).cid()).unwrap();
        Served::new(store, policy, Denylists::load(&[list]).unwrap())
    }

    #[tokio::test]
    async fn what_was_fetched_for_a_request_is_served_only_when_everything_is() {
        for (policy, cached) in [(ServePolicy::Local, false), (ServePolicy::Any, true)] {
            let dir = tempfile::tempdir().unwrap();
            let served = served(dir.path(), policy);
            for (block, is_served) in [(block(1), true), (block(2), cached), (block(3), false)] {
                let cid = block.cid();
                assert_eq!(served.fetch(cid).await.is_ok(), is_served, "{policy:?}");
                assert_eq!(served.get(cid).unwrap().is_some(), is_served);
                assert_eq!(served.block_len(cid).unwrap().is_some(), is_served);
            }
        }
    }

    #[tokio::test]
    async fn what_is_in_memory_is_forgotten_when_the_store_removes_something() {
        let dir = tempfile::tempdir().unwrap();
        let served = served(dir.path(), ServePolicy::Any).with_memory(1 << 20);
        let cid = *block(1).cid();
        assert_eq!(served.fetch(&cid).await.unwrap(), block(1));
        served.store.commit().unwrap();
        std::fs::write(dir.path().join("packs/kept-00000001.car"), "").unwrap();
        assert_eq!(served.fetch(&cid).await.unwrap(), block(1), "from memory");
        served.store.note_removal();
        assert!(served.fetch(&cid).await.is_err());
    }

    /// Puts two folders of many files, one in the other, each too large for the memory of blocks: the path
    /// to the last file, and what it leads to.
    fn deep_folders(store: &Store) -> (Cid, Vec<String>, Resolved) {
        let (mut child, mut roots) = (*block(1).cid(), vec![*block(1).cid()]);
        for _ in 0..2 {
            let entry = |number| Entry {
                name: format!("file {number:0>100}"),
                cid: child,
                tsize: 0,
            };
            let entries = (0..300).map(entry).collect();
            let built = build_directory(entries, Metadata::default(), Profile::default()).unwrap();
            assert_eq!(built.blocks.len(), 1);
            assert!(built.blocks[0].data().len() > 32 << 10);
            store.put(PackKind::Kept, &built.blocks).unwrap();
            child = built.root;
            roots.insert(0, child);
        }
        let found = Resolved {
            cid: *block(1).cid(),
            visited: roots[..2].to_vec(),
            roots,
            remainder: Vec::new(),
        };
        (child, vec![format!("file {:0>100}", 299); 2], found)
    }

    #[tokio::test]
    async fn path_that_was_asked_for_is_known_without_a_read_until_the_store_removes_something() {
        for (memory, known) in [(1 << 20, true), (0, false)] {
            let dir = tempfile::tempdir().unwrap();
            let served = served(dir.path(), ServePolicy::Local).with_memory(memory);
            let (root, path, expected) = deep_folders(&served.store);
            assert_eq!(served.resolve(root, &path).await.unwrap(), expected);
            served.store.commit().unwrap();
            std::fs::write(dir.path().join("packs/kept-00000001.car"), "").unwrap();
            assert_eq!(served.resolve(root, &path).await.is_ok(), known, "{memory}");
            if known {
                assert_eq!(served.resolve(root, &path).await.unwrap(), expected);
                assert!(served.resolve(root, &path[..1]).await.is_err());
            }
            served.store.note_removal();
            assert!(served.resolve(root, &path).await.is_err());
        }
    }

    #[tokio::test]
    async fn known_path_is_denied_as_soon_as_a_folder_on_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let served = served(dir.path(), ServePolicy::Local).with_memory(1 << 20);
        let (root, path, expected) = deep_folders(&served.store);
        assert_eq!(served.resolve(root, &path).await.unwrap(), expected);
        let rule = format!("/ipfs/{}\n", expected.visited[1]);
        std::fs::write(dir.path().join("list.deny"), rule).unwrap();
        served.denylists.refresh();
        let denied = served.resolve(root, &path).await;
        let Err(DagError::Fetch(FetchError::Denied { cid, .. })) = denied else {
            panic!("{denied:?}");
        };
        assert_eq!(cid, expected.visited[1]);
    }

    #[tokio::test]
    async fn what_is_denied_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let served = served(dir.path(), ServePolicy::Any);
        let denied = served.fetch(block(3).cid()).await;
        let Err(FetchError::Denied { source, .. }) = denied else {
            panic!("{denied:?}");
        };
        assert_eq!(&*source.list, "list.deny");
    }

    #[tokio::test]
    async fn a_cached_copy_stands_for_a_kept_one_that_is_damaged() {
        use std::os::unix::fs::FileExt;

        let dir = tempfile::tempdir().unwrap();
        let served = served(dir.path(), ServePolicy::Local);
        served.store.commit().unwrap();
        let pack = std::fs::OpenOptions::new()
            .write(true)
            .open(dir.path().join("packs/kept-00000001.car"))
            .unwrap();
        pack.write_all_at(&[9], 4_096 + 60).unwrap();
        assert!(served.fetch(block(1).cid()).await.is_err());
        served.store.put(PackKind::Cache, &[block(1)]).unwrap();
        assert_eq!(served.fetch(block(1).cid()).await.unwrap(), block(1));
        assert!(served.block_len(block(1).cid()).unwrap().is_some());
    }
}
