//! FETCH: local → peers → trustless gateways; yields verified blocks only.
//!
//! A [`Fetcher`] serves one request. What is not in the local store is asked of one bitswap session and
//! of the trustless gateways: the peers are one source among the gateways, the first to be tried, and
//! each block goes to the one that will probably give it first. When no peer has a block, the DHT is asked for
//! providers meanwhile. The first good answer wins. No
//! deadline while bytes arrive: a block is given up when nothing has arrived for the configured time,
//! and at once when there is nobody to ask. Requests that wait for the same block share its fetch.

mod dag;
mod flights;
mod outside;

use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use libp2p::PeerId;

use crate::block::Block;
use crate::blocking::blocking;
use crate::rate::Rate;
use crate::source::trustless::{Effort, Given};
use crate::source::{BlockSource, FetchError, Obtained};
use crate::store::{PackKind, Store, StoreError};

pub(crate) use dag::fetch_dag_up_to;
pub use dag::{Progress, fetch_dag};
pub(crate) use flights::Flights;
pub(crate) use outside::Outside;
use outside::Session;

/// Options of [`crate::node::Node::fetcher`].
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Local store only.
    pub offline: bool,
    /// Where fetched blocks are stored.
    pub kind: PackKind,
    /// Peers that are said to have the DAG.
    pub providers: Vec<PeerId>,
    /// Trustless gateways to ask besides the configured ones.
    pub gateways: Vec<url::Url>,
    /// How hard gateways are tried.
    pub effort: Effort,
    /// How long nothing may arrive before a block is given up; `None` is as configured.
    pub timeout: Option<Duration>,
}

impl FetchOptions {
    /// Local store only.
    pub fn offline() -> Self {
        Self {
            offline: true,
            ..Self::cached()
        }
    }

    /// From anywhere, into cache packs.
    pub fn cached() -> Self {
        Self {
            offline: false,
            kind: PackKind::Cache,
            providers: Vec::new(),
            gateways: Vec::new(),
            effort: Effort::default(),
            timeout: None,
        }
    }

    /// From anywhere, to be kept: pinned or published.
    pub fn kept() -> Self {
        Self {
            kind: PackKind::Kept,
            ..Self::cached()
        }
    }
}

/// Fetches blocks for one request. Cheap to clone; the wants end with the last clone.
#[derive(Clone, Debug)]
pub struct Fetcher {
    store: Store,
    kind: PackKind,
    session: Option<Arc<Session>>,
    flights: Option<Flights>,
    rate: Option<Rate>,
}

impl Fetcher {
    pub(crate) fn new(store: Store, kind: PackKind, outside: Option<Outside>) -> Self {
        Self {
            store,
            kind,
            session: outside.map(|outside| Arc::new(Session::new(outside))),
            flights: None,
            rate: None,
        }
    }

    /// Takes no more from outside than the rate lets through.
    #[must_use]
    pub fn limited(self, rate: Option<Rate>) -> Self {
        Self { rate, ..self }
    }

    /// Shares fetches of single blocks with all others of these `flights`.
    pub(crate) fn sharing(self, flights: Flights) -> Self {
        Self {
            flights: Some(flights),
            ..self
        }
    }

    /// What each gateway and peer gave so far.
    pub fn given(&self) -> Vec<Given> {
        let session = self.session.as_ref();
        session.map(|session| session.given()).unwrap_or_default()
    }

    /// The block, not stored yet when it comes from outside.
    async fn look_for(&self, cid: &Cid) -> Result<Obtained, FetchError> {
        if let Some(block) = Block::inlined(cid)? {
            return Ok(Obtained {
                block,
                from_outside: false,
            });
        }
        match self.stored(cid).await {
            // Others may have what is damaged here.
            Ok(None) => {}
            Ok(Some(obtained)) => return Ok(obtained),
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error.into()),
        }
        match self.obtain_outside(cid).await {
            Ok(obtained) => Ok(obtained),
            // That it is damaged here says more than that nobody else has it.
            Err(error) => self.stored(cid).await?.ok_or(error),
        }
    }

    /// The block, which is not in the local store.
    pub(crate) async fn obtain_outside(&self, cid: &Cid) -> Result<Obtained, FetchError> {
        let Some(session) = &self.session else {
            return Err(FetchError::NotFound {
                cid: *cid,
                tried: "not in the local store, and the network was not asked".to_owned(),
            });
        };
        let block = session.fetch(cid).await?;
        if let Some(rate) = &self.rate {
            rate.take(block.data().len() as u64).await;
        }
        Ok(Obtained {
            block,
            from_outside: true,
        })
    }

    async fn stored(&self, cid: &Cid) -> Result<Option<Obtained>, StoreError> {
        let block = self.store.read(cid).await?;
        Ok(block.map(|block| Obtained {
            block,
            from_outside: false,
        }))
    }

    /// Whether the block is where this request wants it.
    fn holds(&self, cid: &Cid) -> Result<bool, FetchError> {
        Ok(self.store.holds(self.kind, cid)?)
    }

    /// Stores blocks where this request wants them.
    async fn put(&self, blocks: Vec<Block>) -> Result<(), FetchError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let (store, kind) = (self.store.clone(), self.kind);
        blocking(move || store.put(kind, &blocks)).await?;
        Ok(())
    }
}

impl BlockSource for Fetcher {
    /// What comes from outside is stored before it is yielded (not durable before the next commit), unless
    /// there is no room for the cache, or another process has the store by now.
    async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        let Some(flights) = &self.flights else {
            return self.fetch_alone(cid).await;
        };
        let (fetcher, wanted) = (self.clone(), *cid);
        let fetch = async move { fetcher.fetch_alone(&wanted).await };
        flights.join(cid, fetch).await
    }

    async fn obtain(&self, cid: &Cid) -> Result<Obtained, FetchError> {
        self.obtain_alone(cid).await
    }
}

impl Fetcher {
    async fn fetch_alone(&self, cid: &Cid) -> Result<Block, FetchError> {
        Ok(self.obtain_alone(cid).await?.block)
    }

    async fn obtain_alone(&self, cid: &Cid) -> Result<Obtained, FetchError> {
        let obtained = self.look_for(cid).await?;
        if !self.holds(cid)? {
            match self.put(vec![obtained.block.clone()]).await {
                // That it cannot be kept is no reason to hold back what somebody asked for.
                Err(FetchError::Store(
                    StoreError::Full { .. } | StoreError::Quota { .. } | StoreError::HandedOver,
                )) if self.kind == PackKind::Cache => {}
                stored => stored?,
            }
        }
        Ok(obtained)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::block::RAW;
    use crate::source::test_gateway;
    use crate::source::trustless::TrustlessSource;
    use crate::store::StoreOptions;

    /// A store whose only block is damaged on disk, and that block as it was.
    fn damaged_store(dir: &Path) -> (Store, Block) {
        let options = StoreOptions {
            reserve: 0,
            ..StoreOptions::default()
        };
        let (store, _) = Store::open(dir, options).unwrap();
        let block = Block::of(RAW, vec![7; 5_000].into());
        store
            .put(PackKind::Kept, std::slice::from_ref(&block))
            .unwrap();
        store.commit().unwrap();
        let pack = std::fs::OpenOptions::new()
            .write(true)
            .open(dir.join("packs/kept-00000001.car"))
            .unwrap();
        pack.write_all_at(&[8], 4_096 + 2_000).unwrap();
        (store, block)
    }

    /// A gateway that has `block`, or nothing.
    async fn gateway(block: Option<Block>) -> TrustlessSource {
        let url = test_gateway::serve(block.as_slice()).await;
        TrustlessSource::new(vec![url.parse().unwrap()], Duration::from_secs(20))
    }

    fn online(store: &Store, gateways: TrustlessSource) -> Fetcher {
        online_into(PackKind::Kept, store, gateways)
    }

    fn online_into(kind: PackKind, store: &Store, gateways: TrustlessSource) -> Fetcher {
        let outside = Outside {
            network: None,
            gateways: Some(gateways),
            providers: Vec::new(),
            timeout: Duration::from_secs(20),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        Fetcher::new(store.clone(), kind, Some(outside))
    }

    fn is_corrupt(fetched: &Result<Block, FetchError>) -> bool {
        matches!(fetched, Err(FetchError::Store(StoreError::Corrupt { .. })))
    }

    #[tokio::test]
    async fn a_damaged_block_is_healed_from_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (store, block) = damaged_store(dir.path());
        let fetcher = online(&store, gateway(Some(block.clone())).await);
        assert_eq!(fetcher.fetch(block.cid()).await.unwrap(), block);
        assert!(store.has(block.cid()).unwrap());
        assert_eq!(store.get(block.cid()).unwrap(), Some(block));
    }

    #[tokio::test]
    async fn requests_that_wait_for_the_same_block_ask_once() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            reserve: 0,
            ..StoreOptions::default()
        };
        let (store, _) = Store::open(dir.path(), options).unwrap();
        let block = Block::of(RAW, vec![7; 5_000].into());
        // It answers one request, and no other one.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let body = block.data().clone();
        let answering = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};

            let (mut stream, _) = listener.accept().await.unwrap();
            drop(listener);
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
        });
        let flights = Flights::default();
        let request = || {
            let urls = vec![url.parse().unwrap()];
            let source = TrustlessSource::new(urls, Duration::from_secs(20));
            online_into(PackKind::Cache, &store, source).sharing(flights.clone())
        };
        let (one, two) = (request(), request());
        let (one, two) = tokio::join!(one.fetch(block.cid()), two.fetch(block.cid()));
        assert_eq!((one.unwrap(), two.unwrap()), (block.clone(), block));
        answering.await.unwrap();
    }

    #[tokio::test]
    async fn a_full_cache_holds_nothing_back_and_a_full_store_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            reserve: 0,
            max_size: 1,
            ..StoreOptions::default()
        };
        let (store, _) = Store::open(dir.path(), options).unwrap();
        let block = Block::of(RAW, vec![7; 5_000].into());
        let cached = online_into(PackKind::Cache, &store, gateway(Some(block.clone())).await);
        assert_eq!(cached.fetch(block.cid()).await.unwrap(), block);
        assert!(!store.has(block.cid()).unwrap());
        let kept = online(&store, gateway(Some(block.clone())).await);
        let refused = kept.fetch(block.cid()).await;
        let is_quota = matches!(refused, Err(FetchError::Store(StoreError::Quota { .. })));
        assert!(is_quota, "{refused:?}");
    }

    #[tokio::test]
    async fn what_the_gateways_have_is_yielded_after_the_store_was_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let block = Block::of(RAW, vec![7; 5_000].into());
        let gateway = gateway(Some(block.clone())).await;
        store.hand_over().unwrap();
        let kept = online(&store, gateway.clone()).fetch(block.cid()).await;
        let refused = matches!(kept, Err(FetchError::Store(StoreError::HandedOver)));
        assert!(refused, "{kept:?}");
        let cached = online_into(PackKind::Cache, &store, gateway);
        assert_eq!(cached.fetch(block.cid()).await.unwrap(), block);
    }

    #[tokio::test]
    async fn a_damaged_block_that_nobody_else_has_is_called_damaged_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let (store, block) = damaged_store(dir.path());
        let offline = Fetcher::new(store.clone(), PackKind::Kept, None);
        assert!(is_corrupt(&offline.fetch(block.cid()).await));
        assert!(is_corrupt(&offline.fetch(block.cid()).await));
        let fetcher = online(&store, gateway(None).await);
        assert!(is_corrupt(&fetcher.fetch(block.cid()).await));
        assert!(is_corrupt(&fetcher.fetch(block.cid()).await));
    }
}
