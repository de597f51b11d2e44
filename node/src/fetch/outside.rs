//! Blocks from outside, for one request: bitswap session, provider search, trustless gateways.

use std::future::pending;
use std::sync::OnceLock;
use std::time::Duration;

use cid::Cid;
use libp2p::PeerId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::block::Block;
use crate::net::Network;
use crate::net::bitswap;
use crate::source::trustless::TrustlessSource;
use crate::source::{BlockSource, FetchError};

/// How long connected peers get to answer before the gateways are asked as well.
const PEERS_FIRST: Duration = Duration::from_millis(500);
/// Providers that are looked for at a time.
const PROVIDERS: usize = 10;
/// Pause before the DHT is asked for the same DAG again.
const SEARCH_AGAIN: Duration = Duration::from_secs(10);

/// What a request may use outside of the local store.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) network: Option<Network>,
    pub(crate) gateways: Option<TrustlessSource>,
    pub(crate) providers: Vec<PeerId>,
    pub(crate) timeout: Duration,
    pub(crate) tasks: TaskTracker,
}

/// One request's way to the outside.
#[derive(Debug)]
pub(super) struct Session {
    peers: Option<Peers>,
    gateways: Option<TrustlessSource>,
    timeout: Duration,
    /// When the last block arrived, whoever asked for it.
    progress: watch::Sender<Instant>,
}

#[derive(Debug)]
struct Peers {
    network: Network,
    bitswap: bitswap::Session,
    search: OnceLock<DropGuard>,
    tasks: TaskTracker,
}

impl Session {
    pub(super) fn new(outside: Outside) -> Self {
        let Outside {
            network,
            gateways,
            providers,
            timeout,
            tasks,
        } = outside;
        Self {
            peers: network.map(|network| Peers {
                bitswap: network.bitswap().session(providers),
                network,
                search: OnceLock::new(),
                tasks,
            }),
            gateways,
            timeout,
            progress: watch::Sender::new(Instant::now()),
        }
    }

    /// The first good answer of peers and gateways.
    pub(super) async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        let block = tokio::select! {
            block = self.ask_peers(cid) => block?,
            block = self.ask_gateways(cid) => block?,
            () = self.stalled() => {
                return Err(FetchError::TimedOut { cid: *cid, tried: self.tried() });
            }
        };
        self.progress.send_replace(Instant::now());
        Ok(block)
    }

    /// Offers blocks that are now in the store to the peers that wait for them.
    pub(super) fn notify(&self, cids: &[Cid]) {
        if let Some(peers) = &self.peers {
            peers.network.bitswap().notify(cids);
        }
    }

    async fn ask_peers(&self, cid: &Cid) -> Result<Block, FetchError> {
        let Some(peers) = &self.peers else {
            return pending().await;
        };
        peers.start_search(cid);
        peers.bitswap.fetch(cid).await
    }

    /// Peers go first. A gateway's failure counts only where there are no peers to wait for.
    async fn ask_gateways(&self, cid: &Cid) -> Result<Block, FetchError> {
        let Some(gateways) = &self.gateways else {
            return pending().await;
        };
        if let Some(peers) = &self.peers {
            tokio::select! {
                () = peers.bitswap.starved() => {}
                () = sleep(PEERS_FIRST) => {}
            }
        }
        match gateways.fetch(cid).await {
            Err(error) if self.peers.is_some() => {
                tracing::debug!(%cid, %error, "the gateways do not have a block");
                pending().await
            }
            answer => answer,
        }
    }

    /// Returns when no block has arrived for the time-out, counted from the call.
    async fn stalled(&self) {
        let mut last = Instant::now();
        loop {
            sleep_until(last + self.timeout).await;
            let newest = *self.progress.borrow();
            if newest <= last {
                return;
            }
            last = newest;
        }
    }

    fn tried(&self) -> String {
        let peers = self
            .peers
            .as_ref()
            .map(|peers| match peers.bitswap.stats().len() {
                0 => "no peer has it".to_owned(),
                1 => "1 peer was asked".to_owned(),
                count => format!("{count} peers were asked"),
            });
        let gateways = match self.gateways.as_ref().map_or(0, TrustlessSource::count) {
            0 => None,
            1 => Some("1 gateway was asked".to_owned()),
            count => Some(format!("{count} gateways were asked")),
        };
        let tried: Vec<String> = peers.into_iter().chain(gateways).collect();
        tried.join(", ")
    }
}

impl Peers {
    /// Starts the search for providers with the first block that is wanted; it ends with the
    /// request.
    fn start_search(&self, cid: &Cid) {
        self.search.get_or_init(|| {
            let stop = CancellationToken::new();
            let search = search(self.network.clone(), self.bitswap.clone(), *cid);
            self.tasks
                .spawn(stop.clone().run_until_cancelled_owned(search));
            stop.drop_guard()
        });
    }
}

/// Asks the DHT for providers whenever no peer of the session has what it wants. Later blocks of a
/// DAG seldom have provider records of their own, so it is the first one that is looked for.
async fn search(network: Network, session: bitswap::Session, cid: Cid) {
    loop {
        session.starved().await;
        match network.find_providers(&cid, PROVIDERS).await {
            Ok(providers) => session.add_providers(&providers),
            Err(error) => tracing::debug!(%cid, %error, "looking for providers failed"),
        }
        sleep(SEARCH_AGAIN).await;
    }
}
