//! Trustless gateways as a source (specs.ipfs.tech/http-gateways/trustless-gateway): raw blocks over
//! HTTP, each verified as it arrives.
//!
//! A block is asked of one gateway at a time, the one that is expected to answer first: its usual
//! time for a block, times the requests it already has. What it cannot give the next one is asked
//! for. A gateway that sends wrong bytes is not asked again.

use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use cid::Cid;
use futures::future::join_all;
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, RETRY_AFTER};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode};
use tokio::sync::Semaphore;
use url::Url;

use super::guard::Guard;
use super::{BlockSource, FetchError};
use crate::block::{Block, BlockError, MAX_BLOCK_LEN};
use crate::keys::Name;

const RAW_BLOCK: &str = "application/vnd.ipld.raw";
const IPNS_RECORD: &str = "application/vnd.ipfs.ipns-record";
/// Longest IPNS record (IPNS spec, "record size limit").
const MAX_RECORD_LEN: usize = 10 << 10;
/// Time that each gateway gets to answer with a record.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that one gateway has at a time; with HTTP/1.1 as many connections.
const MAX_PARALLEL: usize = 64;
const MAX_REDIRECTS: usize = 4;
/// How often a gateway that says "later" is asked again for the same block.
const MAX_RETRIES: u32 = 3;
/// Gateways that are named in errors.
const MAX_NAMED: usize = 3;
/// A whole block may take this many times the time allowed without progress.
const WHOLE_BLOCK: u32 = 8;

/// Reads the URL of a gateway: `http` or `https`.
pub fn gateway_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok();
    url.filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// A few gateways, asked for raw blocks. One that lies is never asked again. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TrustlessSource {
    client: Client,
    gateways: Arc<[Gateway]>,
    timeout: Duration,
}

/// When bytes last arrived for a request.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Option<Instant>>);

impl Progress {
    fn note(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    pub(crate) fn last(&self) -> Option<Instant> {
        *self.0.lock()
    }
}

#[derive(Debug)]
struct Gateway {
    base: Url,
    slots: Semaphore,
    in_flight: AtomicUsize,
    /// Moving average of the microseconds that a block takes; failures count as the timeout.
    usual_micros: AtomicU64,
    /// How the bytes were wrong that it sent for a block.
    lie: OnceLock<BlockError>,
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

/// Why one gateway did not give what it was asked for; the later ones say more about it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Refusal {
    NotFound,
    Lied,
    /// It did not answer as a gateway should, or the connection failed.
    Failed,
    TimedOut,
}

impl TrustlessSource {
    /// Asks `gateways`, each request bounded by `timeout` without progress.
    pub fn new(gateways: Vec<Url>, timeout: Duration) -> Self {
        Self::guarded(gateways, timeout, &Guard::system())
    }

    fn guarded(gateways: Vec<Url>, timeout: Duration, guard: &Guard) -> Self {
        let client = || {
            Client::builder()
                .user_agent(concat!("duka/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(timeout)
                .pool_max_idle_per_host(MAX_PARALLEL)
                .http2_adaptive_window(true)
                .redirect(Policy::custom(follow))
                .dns_resolver(guard.clone())
                .no_proxy()
        };
        let client = client()
            .build()
            .or_else(|error| {
                // A machine without CA certificates can still use gateways over plain HTTP.
                tracing::warn!(%error, "no certificates to check gateways with: HTTPS will fail");
                client().tls_certs_only([]).build()
            })
            .expect("a client without certificates needs nothing from the machine");
        let gateways = gateways.into_iter().map(|base| Gateway {
            base,
            slots: Semaphore::new(MAX_PARALLEL),
            in_flight: AtomicUsize::new(0),
            usual_micros: AtomicU64::new(0),
            lie: OnceLock::new(),
        });
        Self {
            client,
            gateways: gateways.collect(),
            timeout,
        }
    }

    /// How many gateways it was made with.
    pub fn count(&self) -> usize {
        self.gateways.len()
    }

    /// The signed record of a name, as gateways have it: not verified here.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the requests.
    pub async fn ipns_record(&self, name: &Name) -> Records {
        let name = &name.to_string();
        let requests = self.gateways.iter().map(|gateway| async move {
            let url = gateway.url("ipns", name, "ipns-record");
            let progress = Progress::default();
            let answer = self.download(url, IPNS_RECORD, MAX_RECORD_LEN, &progress);
            let answer = tokio::time::timeout(RECORD_TIMEOUT, answer).await;
            (gateway, answer.unwrap_or(Err(Refusal::TimedOut)))
        });
        let mut records = Records::default();
        for (gateway, answer) in join_all(requests).await {
            match answer {
                Ok(record) => records.found.push(record.into()),
                Err(Refusal::NotFound) => {}
                Err(Refusal::TimedOut) => {
                    let silent = (gateway.base.clone(), Silence::TimedOut);
                    records.silent.push(silent);
                }
                Err(Refusal::Failed | Refusal::Lied) => {
                    let silent = (gateway.base.clone(), Silence::Failed);
                    records.silent.push(silent);
                }
            }
        }
        records
    }

    /// The block from `gateway`, verified.
    async fn ask(
        &self,
        gateway: &Gateway,
        cid: &Cid,
        progress: &Progress,
    ) -> Result<Block, Refusal> {
        let _slot = gateway.slots.acquire().await;
        let _counted = InFlight::new(gateway);
        let started = Instant::now();
        let url = gateway.url("ipfs", &cid.to_string(), "raw");
        let downloaded = self.download(url, RAW_BLOCK, MAX_BLOCK_LEN, progress).await;
        let took = match &downloaded {
            Err(Refusal::TimedOut) => self.timeout,
            _ => started.elapsed(),
        };
        gateway.took(took);
        Block::new(*cid, downloaded?).map_err(|error| {
            tracing::warn!(gateway = %gateway.base, %cid, "sent wrong bytes; not asked again");
            let _first_lie_counts = gateway.lie.set(error);
            Refusal::Lied
        })
    }

    async fn download(
        &self,
        url: Url,
        accept: &str,
        most: usize,
        progress: &Progress,
    ) -> Result<Bytes, Refusal> {
        let whole = self.timeout.saturating_mul(WHOLE_BLOCK);
        let download = self.try_download(url, accept, most, progress);
        match tokio::time::timeout(whole, download).await {
            Ok(done) => done,
            Err(_) => Err(Refusal::TimedOut),
        }
    }

    async fn try_download(
        &self,
        url: Url,
        accept: &str,
        most: usize,
        progress: &Progress,
    ) -> Result<Bytes, Refusal> {
        let mut retries = 0;
        let mut response = loop {
            let request = self.client.get(url.clone()).header(ACCEPT, accept);
            let response = self.progress(request.send()).await?;
            let later = matches!(
                response.status(),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            );
            match response.status() {
                StatusCode::OK => break response,
                _ if later && retries < MAX_RETRIES => {
                    retries += 1;
                    tokio::time::sleep(retry_after(&response).min(self.timeout)).await;
                }
                StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Refusal::NotFound),
                _ => return Err(Refusal::Failed),
            }
        };

        let mut body = BytesMut::new();
        if let Some(len) = response.content_length() {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            if len > most {
                return Err(Refusal::Failed);
            }
            body.reserve(len);
        }
        while let Some(chunk) = self.progress(response.chunk()).await? {
            if body.len() + chunk.len() > most {
                return Err(Refusal::Failed);
            }
            body.extend_from_slice(&chunk);
            progress.note();
        }
        Ok(body.freeze())
    }

    /// One step of a transfer, bounded by the time allowed without progress.
    async fn progress<T>(
        &self,
        step: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, Refusal> {
        match tokio::time::timeout(self.timeout, step).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if error.is_timeout() => Err(Refusal::TimedOut),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a gateway failed");
                Err(Refusal::Failed)
            }
            Err(_) => Err(Refusal::TimedOut),
        }
    }

    /// The honest gateway that is expected to answer first, of those not asked yet.
    fn next(&self, asked: &[usize]) -> Option<usize> {
        (0..self.gateways.len())
            .filter(|i| !asked.contains(i) && self.gateways[*i].lie.get().is_none())
            .min_by_key(|i| self.gateways[*i].expected_micros())
    }
}

impl BlockSource for TrustlessSource {
    async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        self.fetch_noting(cid, &Progress::default()).await
    }
}

impl TrustlessSource {
    /// [`BlockSource::fetch`], which notes when bytes arrive.
    pub(crate) async fn fetch_noting(
        &self,
        cid: &Cid,
        progress: &Progress,
    ) -> Result<Block, FetchError> {
        if let Some(block) = Block::inlined(cid)? {
            return Ok(block);
        }
        // No gateway can send a block that nobody could verify.
        if let Err(error @ BlockError::UnsupportedHash { .. }) = Block::new(*cid, Bytes::new()) {
            return Err(error.into());
        }
        let mut asked = Vec::new();
        let all_lied = self.next(&asked).is_none();
        let mut worst = if all_lied {
            Refusal::Lied
        } else {
            Refusal::NotFound
        };
        while let Some(next) = self.next(&asked) {
            asked.push(next);
            match self.ask(&self.gateways[next], cid, progress).await {
                Ok(block) => return Ok(block),
                Err(refusal) => worst = worst.max(refusal),
            }
        }
        let (cid, tried) = (*cid, self.tried());
        Err(match worst {
            Refusal::TimedOut => FetchError::TimedOut { cid, tried },
            Refusal::Failed => FetchError::Failed { cid, tried },
            Refusal::NotFound => FetchError::NotFound { cid, tried },
            Refusal::Lied => match self.lie() {
                Some((gateway, source)) => FetchError::Lied {
                    source_name: gateway.to_string(),
                    source,
                },
                // There are no gateways.
                None => FetchError::NotFound { cid, tried },
            },
        })
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
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend([namespace, name]);
        }
        url.query_pairs_mut().clear().append_pair("format", format);
        url
    }

    fn expected_micros(&self) -> u64 {
        let waiting = self.in_flight.load(Ordering::Relaxed) as u64 + 1;
        let usual = self.usual_micros.load(Ordering::Relaxed).max(1);
        usual.saturating_mul(waiting)
    }

    fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 8);
        let usual = self.usual_micros.load(Ordering::Relaxed);
        let next = if usual == 0 {
            micros
        } else {
            (usual * 7 + micros) / 8
        };
        self.usual_micros.store(next.max(1), Ordering::Relaxed);
    }
}

/// Counts a request while it is under way, dropped futures included.
struct InFlight<'a>(&'a Gateway);

impl<'a> InFlight<'a> {
    fn new(gateway: &'a Gateway) -> Self {
        gateway.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(gateway)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A gateway may move a request to its own subdomains, and nowhere else: not to another scheme, and
/// not to hosts that only this machine can reach.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let first = attempt.previous().first();
    let own = first.is_some_and(|first| {
        let (Some(from), Some(to)) = (first.host_str(), attempt.url().host_str()) else {
            return false;
        };
        let subdomain = to.strip_suffix(from).is_some_and(|sub| sub.ends_with('.'));
        first.scheme() == attempt.url().scheme()
            && first.port_or_known_default() == attempt.url().port_or_known_default()
            && (to == from || subdomain)
    });
    if own && attempt.previous().len() <= MAX_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

fn retry_after(response: &Response) -> Duration {
    let seconds = response.headers().get(RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::block::RAW;

    /// What a test gateway does with a request for a block it has.
    #[derive(Clone, Copy, PartialEq)]
    enum Manner {
        Honest,
        Lies,
        Hangs,
        HangsInBody,
        Endless,
        BusyOnce,
        RedirectsAway,
    }

    struct TestGateway {
        url: Url,
        asked: Arc<AtomicUsize>,
    }

    async fn gateway(manner: Manner, blocks: &[Block]) -> TestGateway {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let blocks: HashMap<String, Bytes> = blocks
            .iter()
            .map(|block| (block.cid().to_string(), block.data().clone()))
            .collect();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, manner, blocks.clone(), Arc::clone(&counter)));
            }
        });
        TestGateway {
            url: url.parse().unwrap(),
            asked,
        }
    }

    async fn serve(
        mut stream: TcpStream,
        manner: Manner,
        blocks: HashMap<String, Bytes>,
        asked: Arc<AtomicUsize>,
    ) -> Option<()> {
        let mut request = Vec::new();
        loop {
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.ok()?);
            }
            let text = String::from_utf8(std::mem::take(&mut request)).ok()?;
            let nth = asked.fetch_add(1, Ordering::Relaxed);
            let (path, format) = text.split(' ').nth(1)?.split_once("?format=")?;
            assert!(text.contains(&format!(
                "accept: application/vnd.ip{}",
                match format {
                    "raw" => "ld.raw",
                    _ => "fs.ipns-record",
                }
            )));
            let body = path
                .strip_prefix("/ipfs/")
                .and_then(|cid| blocks.get(cid).cloned());
            let ok = |len: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n");
            let (head, body) = match (manner, body) {
                (Manner::Hangs, _) => (String::new(), Bytes::new()),
                (_, None) => (
                    "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    Bytes::new(),
                ),
                (Manner::BusyOnce, Some(_)) if nth == 0 => (
                    "HTTP/1.1 429 Busy\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    Bytes::new(),
                ),
                (Manner::RedirectsAway, Some(_)) => (
                    "HTTP/1.1 302 Found\r\nlocation: http://localhost:1/\r\ncontent-length: 0\r\n\r\n"
                        .to_owned(),
                    Bytes::new(),
                ),
                (Manner::Honest | Manner::BusyOnce, Some(body)) => (ok(body.len()), body),
                (Manner::Lies, Some(body)) => (ok(body.len()), Bytes::from(vec![0; body.len()])),
                (Manner::HangsInBody, Some(body)) => (ok(body.len() + 1), body),
                (Manner::Endless, Some(_)) => (
                    "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
                    Bytes::from(vec![0; MAX_BLOCK_LEN + 1]),
                ),
            };
            stream.write_all(head.as_bytes()).await.ok()?;
            stream.write_all(&body).await.ok()?;
        }
    }

    /// A gateway at this name, which a DNS under foreign control says is at 127.0.0.1 from the second
    /// look-up on, and before at an address that nobody has.
    fn rebound(name: &str, gateway: &TestGateway) -> TrustlessSource {
        let asked = AtomicUsize::new(0);
        let guard = Guard::new(move |_| {
            let ip = match asked.fetch_add(1, Ordering::Relaxed) {
                0 => [192, 0, 2, 1],
                _ => [127, 0, 0, 1],
            };
            Box::pin(std::future::ready(Ok(vec![ip.into()])))
        });
        let mut url = gateway.url.clone();
        url.set_host(Some(name)).unwrap();
        TrustlessSource::guarded(vec![url], Duration::from_millis(300), &guard)
    }

    #[tokio::test]
    async fn a_name_that_is_rebound_to_this_machine_leads_nowhere() {
        let wanted = block("content");
        let inside = gateway(Manner::Honest, std::slice::from_ref(&wanted)).await;
        let source = rebound("gateway.example", &inside);
        for _ in 0..3 {
            let refused = source.fetch(wanted.cid()).await;
            assert!(refused.is_err());
        }
        assert_eq!(inside.asked.load(Ordering::Relaxed), 0);
        // A name that only the local network has is meant so.
        let local = rebound("gateway.lan", &inside);
        drop(local.fetch(wanted.cid()).await);
        assert_eq!(local.fetch(wanted.cid()).await.unwrap(), wanted);
    }

    #[tokio::test]
    async fn redirects_to_private_addresses_ask_nobody() {
        let wanted = block("content");
        let inside = gateway(Manner::Honest, std::slice::from_ref(&wanted)).await;
        let port = inside.url.port().unwrap();
        let path = format!("/ipfs/{}?format=raw", wanted.cid());
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let away = format!("http://{}", listener.local_addr().unwrap());
            let to = format!("http://{host}:{port}{path}");
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let answer =
                    format!("HTTP/1.1 307 Moved\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            let source = TrustlessSource::new(vec![away.parse().unwrap()], Duration::from_secs(20));
            let refused = source.fetch(wanted.cid()).await;
            assert!(matches!(refused, Err(FetchError::Failed { .. })), "{host}");
        }
        assert_eq!(inside.asked.load(Ordering::Relaxed), 0);
    }

    fn source(gateways: &[&TestGateway]) -> TrustlessSource {
        let urls = gateways.iter().map(|gateway| gateway.url.clone()).collect();
        TrustlessSource::new(urls, Duration::from_millis(300))
    }

    fn block(text: &'static str) -> Block {
        Block::of(RAW, Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn an_honest_gateway_gives_the_block() {
        let wanted = block("content");
        let honest = gateway(Manner::Honest, std::slice::from_ref(&wanted)).await;
        let source = source(&[&honest]);
        assert_eq!(source.fetch(wanted.cid()).await.unwrap(), wanted);
        let absent = source.fetch(block("absent").cid()).await;
        assert!(matches!(absent, Err(FetchError::NotFound { .. })));
    }

    #[tokio::test]
    async fn a_liar_is_dropped_and_the_others_are_asked() {
        let blocks = [block("one"), block("two"), block("three")];
        let liar = gateway(Manner::Lies, &blocks).await;
        let honest = gateway(Manner::Honest, &blocks).await;
        let source = source(&[&liar, &honest]);
        for wanted in &blocks {
            assert_eq!(&source.fetch(wanted.cid()).await.unwrap(), wanted);
        }
        assert_eq!(liar.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_lone_liar_is_named() {
        let wanted = block("content");
        let liar = gateway(Manner::Lies, std::slice::from_ref(&wanted)).await;
        let source = source(&[&liar]);
        let Err(FetchError::Lied { source_name, .. }) = source.fetch(wanted.cid()).await else {
            panic!("not noticed");
        };
        assert_eq!(source_name, liar.url.to_string());
        // It is not asked again, and that is still the reason.
        let again = source.fetch(wanted.cid()).await;
        assert!(matches!(again, Err(FetchError::Lied { .. })), "{again:?}");
        assert_eq!(liar.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_liar_among_those_that_have_nothing_is_named() {
        let wanted = block("content");
        let liar = gateway(Manner::Lies, std::slice::from_ref(&wanted)).await;
        let empty = gateway(Manner::Honest, &[]).await;
        let source = source(&[&liar, &empty]);
        let lied = source.fetch(wanted.cid()).await;
        assert!(matches!(lied, Err(FetchError::Lied { .. })), "{lied:?}");
        // An honest one is left: what it does not have is not found.
        let absent = source.fetch(block("absent").cid()).await;
        assert!(
            matches!(absent, Err(FetchError::NotFound { .. })),
            "{absent:?}"
        );
    }

    #[tokio::test]
    async fn a_gateway_that_hangs_is_left_for_another() {
        for manner in [Manner::Hangs, Manner::HangsInBody] {
            let wanted = block("content");
            let hangs = gateway(manner, std::slice::from_ref(&wanted)).await;
            let honest = gateway(Manner::Honest, std::slice::from_ref(&wanted)).await;
            let alone = source(&[&hangs]).fetch(wanted.cid()).await;
            assert!(matches!(alone, Err(FetchError::TimedOut { .. })));
            let both = source(&[&hangs, &honest]);
            assert_eq!(both.fetch(wanted.cid()).await.unwrap(), wanted);
        }
    }

    #[tokio::test]
    async fn a_gateway_that_has_no_record_is_told_from_one_that_says_nothing() {
        let name = crate::keys::name_of(&libp2p::identity::Keypair::generate_ed25519());
        let empty = gateway(Manner::Honest, &[]).await;
        let hangs = gateway(Manner::Hangs, &[]).await;
        let records = source(&[&empty, &hangs]).ipns_record(&name).await;
        assert!(records.found.is_empty());
        let silent: Vec<_> = records.silent.iter().map(|(url, _)| url).collect();
        assert_eq!(silent, [&hangs.url]);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_cut() {
        let wanted = block("content");
        let endless = gateway(Manner::Endless, std::slice::from_ref(&wanted)).await;
        let refused = source(&[&endless]).fetch(wanted.cid()).await;
        assert!(matches!(refused, Err(FetchError::Failed { .. })));
    }

    #[tokio::test]
    async fn a_busy_gateway_is_asked_again() {
        let wanted = block("content");
        let busy = gateway(Manner::BusyOnce, std::slice::from_ref(&wanted)).await;
        assert_eq!(source(&[&busy]).fetch(wanted.cid()).await.unwrap(), wanted);
    }

    #[tokio::test]
    async fn redirects_to_other_hosts_are_not_followed() {
        let wanted = block("content");
        let away = gateway(Manner::RedirectsAway, std::slice::from_ref(&wanted)).await;
        let refused = source(&[&away]).fetch(wanted.cid()).await;
        assert!(matches!(refused, Err(FetchError::Failed { .. })));
    }
}
