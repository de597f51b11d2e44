//! Trustless gateways as a source (specs.ipfs.tech/http-gateways/trustless-gateway): raw blocks over
//! HTTP, each verified as it arrives.
//!
//! ```text
//! fetch(cid) ──▶ schedule ──▶ board ──▶ health   which gateway is asked, and when another one as well
//!                   │
//!                   └──▶ http ──▶ verify         the one request
//! ```
//!
//! Each gateway has as many requests at a time as it answers without queueing them. One that fails is
//! left alone for a while, longer each time, and then tried by one request, or two once it sends. One
//! that sends wrong bytes is not asked again.

mod board;
mod health;
mod http;
mod memory;
mod progress;
mod refusal;
mod schedule;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::board::Rules;
use self::http::Http;
pub use self::memory::{Memory, Seen};
pub(crate) use self::progress::Progress;
use self::refusal::Refusal;
pub(crate) use self::schedule::Guest;
use self::schedule::Schedule;
use super::guard::Guard;
pub use super::guard::is_public;
use super::{BlockSource, FetchError};
use crate::block::{Block, BlockError, MAX_BLOCK_LEN};
use crate::keys::Name;

const RAW_BLOCK: &str = "application/vnd.ipld.raw";
const IPNS_RECORD: &str = "application/vnd.ipfs.ipns-record";
/// Longest IPNS record (IPNS spec, "record size limit").
const MAX_RECORD_LEN: usize = 10 << 10;
/// Time that gateways get to answer with a record.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the others once one has answered with a record.
const OTHER_RECORDS: Duration = Duration::from_secs(2);
/// Gateways that are named in errors.
const MAX_NAMED: usize = 3;

/// Reads the URL of a gateway: `http` or `https`.
pub fn gateway_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok();
    url.filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// Reads the URL of a gateway that everybody is told.
///
/// # Errors
/// Why it is not told.
pub fn told_gateway_url(text: &str) -> Result<Url, &'static str> {
    let url = gateway_url(text).ok_or("it is not an http or https URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user name or a password, which everybody would be told");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it has a query or a fragment, and paths are put behind it");
    }
    Ok(url)
}

/// How hard gateways are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// How often one that failed is asked again for the same block.
    pub retries: u32,
    /// How many are asked at a time.
    pub max_sources: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            retries: 3,
            max_sources: usize::MAX,
        }
    }
}

/// Gateways, asked for raw blocks. One that lies is never asked again. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TrustlessSource {
    http: Http,
    gateways: Arc<[Gateway]>,
    schedule: Arc<Schedule>,
    memory: Memory,
}

#[derive(Debug)]
struct Gateway {
    base: Url,
    /// How the bytes were wrong that it sent for a block.
    lie: OnceLock<BlockError>,
}

/// What one source gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The gateway, without what an URL may hold besides, or the peer.
    pub source: String,
    /// Whether it is a gateway.
    pub is_gateway: bool,
    /// Verified blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests that failed.
    pub errors: u64,
    /// It sent wrong bytes and was dropped.
    pub lied: bool,
}

/// How long gateways are listened to that are not the first to show a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A moment: what is known of the name tells a replayed record.
    Briefly,
    /// Until all have answered, or their time is over: whoever is first may replay an old record.
    ToAll,
}

/// What gateways say of a name.
#[derive(Debug, Default)]
pub struct Records {
    /// Records, not verified.
    pub found: Vec<Vec<u8>>,
    /// Gateways that gave no answer: they may have a record.
    pub silent: Vec<(Url, Silence)>,
}

/// Why a gateway gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// Not in time.
    #[error("it did not answer in time")]
    TimedOut,
    /// Not at all, or not as a gateway should.
    #[error("it could not be reached, or did not answer as a gateway")]
    Failed,
}

impl TrustlessSource {
    /// Asks `gateways`, each request bounded by `timeout` without progress.
    pub fn new(gateways: Vec<Url>, timeout: Duration) -> Self {
        Self::with(gateways, timeout, Effort::default(), Memory::default())
    }

    /// Asks `gateways` as hard as `effort` says, first those that answered before as far as `memory` knows.
    pub fn with(gateways: Vec<Url>, timeout: Duration, effort: Effort, memory: Memory) -> Self {
        let mut source = Self::guarded(gateways, timeout, effort, &Guard::system());
        for (index, gateway) in source.gateways.iter().enumerate() {
            if let Some(seen) = memory.of(&gateway.base) {
                source.schedule.know(index, &seen);
            }
        }
        source.memory = memory;
        source
    }

    /// Remembers how the gateways did. What is known of all.
    pub fn remember(&self) -> &Memory {
        for (gateway, seen) in self.gateways.iter().zip(self.schedule.seen()) {
            if let Some(seen) = seen {
                self.memory.remember(&gateway.base, seen);
            }
        }
        &self.memory
    }

    fn guarded(gateways: Vec<Url>, timeout: Duration, effort: Effort, guard: &Guard) -> Self {
        let rules = Rules {
            retries: effort.retries,
            max_sources: effort.max_sources.max(1),
        };
        let schedule = Schedule::new(gateways.len(), rules, timeout);
        let gateways = gateways.into_iter().map(|base| Gateway {
            base,
            lie: OnceLock::new(),
        });
        Self {
            http: Http::new(timeout, guard),
            gateways: gateways.collect(),
            schedule: Arc::new(schedule),
            memory: Memory::default(),
        }
    }

    /// How many gateways it was made with.
    pub fn count(&self) -> usize {
        self.gateways.len()
    }

    /// What each gateway gave so far.
    pub fn given(&self) -> Vec<Given> {
        let gateways = self.gateways.iter().zip(self.schedule.totals());
        let given = gateways.map(|(gateway, totals)| Given {
            source: gateway.base.origin().ascii_serialization(),
            is_gateway: true,
            blocks: totals.blocks,
            bytes: totals.bytes,
            errors: totals.errors,
            lied: gateway.lie.get().is_some(),
        });
        given.collect()
    }

    /// The signed record of a name, as gateways and delegated routers have it: not verified here.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the requests.
    pub async fn ipns_record(&self, name: &Name, listen: Listen) -> Records {
        let name = &name.to_string();
        let gateways = self.gateways.iter().enumerate();
        let requests = gateways
            .map(|(index, gateway)| async move { (index, self.record_at(gateway, name).await) });
        let mut requests: FuturesUnordered<_> = requests.collect();
        let mut records = Records::default();
        let mut deadline = Instant::now() + RECORD_TIMEOUT;
        let mut answered = vec![false; self.gateways.len()];
        while let Ok(Some((index, answer))) = timeout_at(deadline, requests.next()).await {
            answered[index] = true;
            let silence = match answer {
                Ok(record) => {
                    records.found.push(record.into());
                    if listen == Listen::Briefly {
                        deadline = deadline.min(Instant::now() + OTHER_RECORDS);
                    }
                    continue;
                }
                Err(Refusal::NotFound) => continue,
                Err(Refusal::TimedOut) => Silence::TimedOut,
                Err(_) => Silence::Failed,
            };
            let base = self.gateways[index].base.clone();
            records.silent.push((base, silence));
        }
        let late = self.gateways.iter().zip(answered);
        let late = late.filter(|(_, answered)| !answered);
        let late = late.map(|(gateway, _)| (gateway.base.clone(), Silence::TimedOut));
        records.silent.extend(late);
        records
    }

    /// The record as one gateway has it, or as a delegated router that is no gateway.
    async fn record_at(&self, gateway: &Gateway, name: &str) -> Result<Bytes, Refusal> {
        let ask = |url| self.http.get(url, IPNS_RECORD, MAX_RECORD_LEN, |_| {});
        let answer = ask(gateway.url("ipns", name, "ipns-record")).await;
        match answer {
            Err(Refusal::NotFound | Refusal::Failed) => {
                let routed = ask(gateway.below(&["routing", "v1", "ipns", name])).await;
                routed.or(answer)
            }
            answer => answer,
        }
    }

    /// The block from one gateway, verified.
    async fn ask(
        &self,
        index: usize,
        cid: Cid,
        request: &Progress,
        progress: &Progress,
    ) -> Result<Block, Refusal> {
        let gateway = &self.gateways[index];
        let url = gateway.url("ipfs", &cid.to_string(), "raw");
        let arrived = |share| {
            self.schedule.note(index, request, share);
            progress.note(share);
        };
        let bytes = self
            .http
            .get(url, RAW_BLOCK, MAX_BLOCK_LEN, arrived)
            .await?;
        Block::new(cid, bytes).map_err(|error| {
            tracing::warn!(gateway = %gateway.base, %cid, "sent wrong bytes; not asked again");
            let _first_lie_counts = gateway.lie.set(error);
            Refusal::Lied
        })
    }
}

impl BlockSource for TrustlessSource {
    async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        self.fetch_noting(cid, &Progress::default()).await
    }
}

impl TrustlessSource {
    /// The peers of one request as one more source, who last sent something when `heard` says.
    pub(crate) fn join(
        &self,
        heard: impl Fn() -> Option<std::time::Instant> + Send + Sync + 'static,
    ) -> Guest {
        self.schedule.join(heard)
    }

    /// [`BlockSource::fetch`], which notes when bytes arrive.
    pub(crate) async fn fetch_noting(
        &self,
        cid: &Cid,
        progress: &Progress,
    ) -> Result<Block, FetchError> {
        let ask_nobody = || std::future::ready(None);
        self.fetch_among(cid, progress, None, ask_nobody).await
    }

    /// The same, where a guest may be asked, too: `ask_guest` gives `None` when it does not have the block.
    pub(crate) async fn fetch_among<F>(
        &self,
        cid: &Cid,
        progress: &Progress,
        guest: Option<&Guest>,
        ask_guest: impl Fn() -> F,
    ) -> Result<Block, FetchError>
    where
        F: Future<Output = Option<Block>>,
    {
        if let Some(block) = Block::inlined(cid)? {
            return Ok(block);
        }
        // No gateway can send a block that nobody could verify.
        if let Err(error @ BlockError::UnsupportedHash { .. }) = Block::new(*cid, Bytes::new()) {
            return Err(error.into());
        }
        let cid = *cid;
        let ask_guest = &ask_guest;
        let ask = |index, own: Arc<Progress>| async move {
            if guest.is_some_and(|guest| guest.index() == index) {
                return ask_guest().await.ok_or(Refusal::NotFound);
            }
            self.ask(index, cid, &own, progress).await
        };
        self.schedule.fetch(guest, ask).await.map_err(|refusal| {
            let tried = self.tried();
            match refusal {
                Refusal::TimedOut => FetchError::TimedOut { cid, tried },
                Refusal::Failed | Refusal::Unreachable | Refusal::Later(_) => {
                    FetchError::Failed { cid, tried }
                }
                Refusal::NotFound => FetchError::NotFound { cid, tried },
                Refusal::Lied => match self.lie() {
                    Some((gateway, source)) => FetchError::Lied {
                        source_name: gateway.to_string(),
                        source,
                    },
                    // There are no gateways.
                    None => FetchError::NotFound { cid, tried },
                },
            }
        })
    }

    /// The block as the first gateway has it: it is asked not to fetch it from anywhere.
    ///
    /// # Errors
    /// [`FetchError::NotFound`] only when it says that it does not have it.
    pub(crate) async fn fetch_cached(&self, cid: &Cid) -> Result<Block, FetchError> {
        let (cid, tried) = (*cid, self.names());
        let Some(gateway) = self.gateways.first() else {
            return Err(FetchError::Failed { cid, tried });
        };
        let url = gateway.url("ipfs", &cid.to_string(), "raw");
        match self.http.get_cached(url, RAW_BLOCK, MAX_BLOCK_LEN).await {
            Ok(bytes) => Block::new(cid, bytes).map_err(|source| FetchError::Lied {
                source_name: tried,
                source,
            }),
            Err(Refusal::NotFound) => Err(FetchError::NotFound { cid, tried }),
            Err(Refusal::TimedOut) => Err(FetchError::TimedOut { cid, tried }),
            Err(_) => Err(FetchError::Failed { cid, tried }),
        }
    }

    /// The first gateway that lied, and how.
    fn lie(&self) -> Option<(&Url, BlockError)> {
        let mut gateways = self.gateways.iter();
        gateways.find_map(|gateway| Some((&gateway.base, gateway.lie.get()?.clone())))
    }

    /// The gateways in words, without what an URL may hold besides.
    pub(crate) fn names(&self) -> String {
        let named = self.gateways.iter().take(MAX_NAMED).map(|gateway| {
            let origin = gateway.base.origin();
            origin.ascii_serialization()
        });
        let named = named.collect::<Vec<_>>().join(", ");
        match self.gateways.len().saturating_sub(MAX_NAMED) {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    }

    fn tried(&self) -> String {
        let liars = self
            .gateways
            .iter()
            .filter(|gateway| gateway.lie.get().is_some());
        let liars = liars.count();
        let all = self.names();
        match liars {
            0 => all,
            _ => format!("{all}, {liars} dropped for sending wrong bytes"),
        }
    }
}

impl Gateway {
    /// `{base}/{namespace}/{name}?format={format}`.
    fn url(&self, namespace: &str, name: &str, format: &str) -> Url {
        let mut url = self.below(&[namespace, name]);
        url.query_pairs_mut().append_pair("format", format);
        url
    }

    /// `{base}/{segments}`.
    fn below(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}
