//! Blocks from outside, for one request: bitswap session, provider search, trustless gateways.

use std::future::pending;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use cid::Cid;
use libp2p::PeerId;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::block::Block;
use crate::net::Network;
use crate::net::bitswap::{self, LastReceived};
use crate::source::trustless::{Given, Guest, Progress, TrustlessSource};
use crate::source::{BlockSource, FetchError};

/// Bytes of peers are progress for this long without a whole block: the longest block at the least pace
/// that peers may have.
const LONGEST_BLOCK: Duration = Duration::from_secs(128);
/// Peers that are named in errors.
const MAX_NAMED: usize = 3;
/// A timer that is seen so late was not polled: the reader paused.
const PAUSED: Duration = Duration::from_secs(1);
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
    /// Cancelled when the network stops; the gateways may still be asked.
    pub(crate) stop: CancellationToken,
}

/// One request's way to the outside.
#[derive(Debug)]
pub(super) struct Session {
    peers: Option<Peers>,
    gateways: Option<TrustlessSource>,
    /// The peers among the gateways, where both are there.
    guest: Option<Guest>,
    timeout: Duration,
    /// When a gateway last sent bytes.
    gateway_progress: Progress,
    /// Somebody could be asked at some time: who is gone may come back.
    had_somebody: AtomicBool,
}

/// A block that is wanted of peers and gateways.
#[derive(Debug, Default)]
struct Wanted {
    /// The peers are asked.
    of_peers: Notify,
    /// Who waits for their answer, as for that of a gateway.
    reply: Mutex<Option<oneshot::Sender<Block>>>,
}

#[derive(Debug)]
struct Peers {
    network: Network,
    bitswap: bitswap::Session,
    search: OnceLock<DropGuard>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Session {
    pub(super) fn new(outside: Outside) -> Self {
        let Outside {
            network,
            gateways,
            providers,
            timeout,
            tasks,
            stop,
        } = outside;
        let peers = network.map(|network| Peers {
            bitswap: network.bitswap().session(providers),
            network,
            search: OnceLock::new(),
            tasks,
            stop,
        });
        let both = peers.as_ref().zip(gateways.as_ref());
        let guest = both.map(|(peers, gateways)| {
            let bitswap = peers.bitswap.clone();
            gateways.join(move || bitswap.received().bytes)
        });
        Self {
            peers,
            gateways,
            guest,
            timeout,
            gateway_progress: Progress::default(),
            had_somebody: AtomicBool::new(false),
        }
    }

    /// The first good answer of peers and gateways.
    pub(super) async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        if !self.has_somebody() {
            return Err(FetchError::NotFound {
                cid: *cid,
                tried: "not in the local store; no peer is connected and no gateway is set, so \
                        nobody could be asked"
                    .to_owned(),
            });
        }
        let lie = Mutex::new(None);
        let wanted = Wanted::default();
        tokio::select! {
            // A block that is there counts more than the time it took.
            biased;
            block = self.ask_peers(cid, &wanted) => block,
            block = self.ask_gateways(cid, &wanted, &lie) => block,
            () = self.stalled() => Err(lie.lock().take().unwrap_or_else(|| FetchError::TimedOut {
                cid: *cid,
                tried: self.tried(),
            })),
        }
    }

    /// What each gateway and peer gave so far.
    pub(super) fn given(&self) -> Vec<Given> {
        let peers = self.peers.as_ref().map(|peers| peers.bitswap.stats());
        let peers = peers.into_iter().flatten();
        let peers = peers.map(|(peer, bytes, blocks)| Given {
            source: peer.to_string(),
            is_gateway: false,
            blocks,
            bytes,
            errors: 0,
            lied: false,
        });
        let gateways = self.gateways.as_ref();
        let gateways = gateways.into_iter().flat_map(TrustlessSource::given);
        peers.chain(gateways).collect()
    }

    fn has_somebody(&self) -> bool {
        let has = self.had_somebody.load(Relaxed)
            || self.gateways.is_some()
            || self
                .peers
                .as_ref()
                .is_some_and(|peers| peers.network.has_somebody());
        self.had_somebody.store(has, Relaxed);
        has
    }

    /// The peers' answer, if nobody else waits for it. Where there are gateways they are asked when it is
    /// their turn, and from then on until the block is there: who has it may yet be found.
    async fn ask_peers(&self, cid: &Cid, wanted: &Wanted) -> Result<Block, FetchError> {
        let Some(peers) = &self.peers else {
            return pending().await;
        };
        if self.guest.is_some() {
            wanted.of_peers.notified().await;
        }
        peers.start_search(cid);
        let block = match peers.bitswap.fetch(cid).await {
            Err(_) if peers.stop.is_cancelled() && self.gateways.is_some() => {
                return pending().await;
            }
            fetched => fetched?,
        };
        let Some(reply) = wanted.reply.lock().take() else {
            return Ok(block);
        };
        match reply.send(block) {
            Ok(()) => pending().await,
            Err(block) => Ok(block),
        }
    }

    /// The gateways' answer, or that of the peers when it was their turn. A failure counts only where there
    /// are no peers to wait for; a `lie` is kept, for the case that they have nothing.
    async fn ask_gateways(
        &self,
        cid: &Cid,
        wanted: &Wanted,
        lie: &Mutex<Option<FetchError>>,
    ) -> Result<Block, FetchError> {
        let Some(gateways) = &self.gateways else {
            return pending().await;
        };
        let (progress, guest) = (&self.gateway_progress, self.guest.as_ref());
        let ask_peers = || self.turn_of_peers(cid, wanted);
        match gateways.fetch_among(cid, progress, guest, ask_peers).await {
            Err(error) if self.peers.is_some() => {
                tracing::debug!(%cid, %error, "the gateways do not have a block");
                if matches!(error, FetchError::Lied { .. }) {
                    *lie.lock() = Some(error);
                }
                wanted.of_peers.notify_one();
                pending().await
            }
            answer => answer,
        }
    }

    /// The block from the peers; `None` when none of them has it.
    async fn turn_of_peers(&self, cid: &Cid, wanted: &Wanted) -> Option<Block> {
        let peers = self.peers.as_ref()?;
        let (reply, block) = oneshot::channel();
        *wanted.reply.lock() = Some(reply);
        wanted.of_peers.notify_one();
        tokio::select! {
            biased;
            block = block => block.ok(),
            () = peers.bitswap.starved_of(cid) => None,
            () = peers.stop.cancelled() => None,
        }
    }

    /// Returns when nothing has arrived for the time-out, counted from the call.
    async fn stalled(&self) {
        let mut since = Instant::now();
        loop {
            let deadline = since + self.timeout;
            sleep_until(deadline).await;
            match goes_on_from(since, deadline, Instant::now(), self.last_progress(since)) {
                Some(later) => since = later,
                None => return,
            }
        }
    }

    /// When something last arrived, whoever waited for it. It is asked by who waits since `start`.
    fn last_progress(&self, start: Instant) -> Option<Instant> {
        let peers = self.peers.as_ref();
        let from_peers = peers.and_then(|peers| progress_of(peers.bitswap.received(), start));
        let from_gateways = self.gateway_progress.last().map(Instant::from_std);
        from_peers.max(from_gateways)
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
        let peers = peers.map(|peers| match self.peer_names() {
            names if names.is_empty() => peers,
            names => format!("{peers}: {names}"),
        });
        let gateways = self.gateways.as_ref();
        let gateways = gateways.map(|gateways| format!("gateways: {}", gateways.names()));
        let tried: Vec<String> = peers.into_iter().chain(gateways).collect();
        tried.join("; ")
    }

    fn peer_names(&self) -> String {
        let stats = self.peers.as_ref().map(|peers| peers.bitswap.stats());
        let stats = stats.unwrap_or_default();
        let names: Vec<String> = stats
            .iter()
            .take(MAX_NAMED)
            .map(|(peer, ..)| peer.to_string())
            .collect();
        match stats.len().saturating_sub(MAX_NAMED) {
            0 => names.join(", "),
            more => format!("{} and {more} more", names.join(", ")),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(gateways) = &self.gateways {
            gateways.remember();
        }
    }
}

impl Peers {
    /// Starts the search for providers with the first block that is wanted; it ends with the
    /// request.
    fn start_search(&self, cid: &Cid) {
        self.search.get_or_init(|| {
            let stop = self.stop.child_token();
            let search = search(self.network.clone(), self.bitswap.clone(), *cid);
            self.tasks
                .spawn(stop.clone().run_until_cancelled_owned(search));
            stop.drop_guard()
        });
    }
}

/// From when on a time-out counts again whose `deadline` was seen at `now`; `None` when it has
/// passed. Time in which the reader paused does not count: nobody took what came.
fn goes_on_from(
    since: Instant,
    deadline: Instant,
    now: Instant,
    last_block: Option<Instant>,
) -> Option<Instant> {
    if now > deadline + PAUSED {
        return Some(now);
    }
    last_block.filter(|last| *last > since)
}

/// When peers last sent a block, or bytes that may become one.
fn progress_of(received: LastReceived, start: Instant) -> Option<Instant> {
    let block = received.block.map(Instant::from_std);
    let until = block.map_or(start, |block| block.max(start)) + LONGEST_BLOCK;
    let bytes = received.bytes.map(Instant::from_std);
    block.max(bytes.filter(|bytes| *bytes <= until))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn bytes_of_peers_are_progress_while_they_may_become_a_block() {
        let start = after(Instant::now(), 60_000);
        let at = |seconds| start + Duration::from_secs(seconds);
        let received = |bytes, block: Option<u64>| LastReceived {
            bytes: Some(at(bytes).into_std()),
            block: block.map(|block| at(block).into_std()),
        };
        assert_eq!(progress_of(LastReceived::default(), start), None);
        assert_eq!(progress_of(received(100, None), start), Some(at(100)));
        assert_eq!(progress_of(received(200, None), start), None);
        assert_eq!(progress_of(received(200, Some(90)), start), Some(at(200)));
        assert_eq!(progress_of(received(300, Some(90)), start), Some(at(90)));
    }

    #[test]
    fn a_time_out_passes_when_no_block_came_while_somebody_waited() {
        let start = Instant::now();
        let deadline = after(start, 30_000);
        let goes_on = |now, last| goes_on_from(start, deadline, after(start, now), last);
        assert_eq!(goes_on(30_001, None), None);
        assert_eq!(goes_on(30_001, Some(start)), None);
        let block = after(start, 20_000);
        assert_eq!(goes_on(30_001, Some(block)), Some(block));
        // The reader took nothing for a while.
        assert_eq!(goes_on(45_000, None), Some(after(start, 45_000)));
    }
}
