//! What this node gives to others, by HTTP and by bitswap: nothing on a denylist and, unless everything is
//! served, nothing that was only fetched for a request.

mod hot;

use std::sync::Arc;

use cid::Cid;
use duka_config::ServePolicy;

use self::hot::Hot;
use crate::block::Block;
use crate::blocking::blocking;
use crate::denylist::Denylists;
use crate::source::{BlockSource, FetchError};
use crate::store::{Reach, Store, StoreError};

/// The blocks that this node serves. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Served {
    store: Store,
    reach: Reach,
    denylists: Denylists,
    hot: Arc<Hot>,
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
            hot: Arc::new(Hot::new(0)),
        }
    }

    /// Keeps small blocks that HTTP clients asked for in so many bytes of memory.
    pub fn with_memory(self, bytes: u64) -> Self {
        let most = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            hot: Arc::new(Hot::new(most)),
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
        if let Some(block) = &read {
            self.hot.put(*cid.hash(), block.data(), removals);
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
