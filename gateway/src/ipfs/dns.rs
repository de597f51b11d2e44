//! DNSLinks in the DNS: the TXT records of `_dnslink.<domain>`.
//!
//! Anybody can send any host name, so everything is bounded: answers kept (also that there is none),
//! look-ups at once, the time of each. Requests for the same domain wait for one look-up.

mod servers;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duka_node::dag::path::ContentPath;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::RData;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use self::servers::{Asked, Servers};

/// Domains whose answers are kept.
const MAX_KEPT: NonZeroUsize = NonZeroUsize::new(2048).expect("not zero");
/// Look-ups at once; more wait, within their time.
const MAX_LOOKUPS: usize = 256;
/// For one look-up, with its turn.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// Longest `dnslink=` text that is read.
const MAX_TEXT_LEN: usize = 512;
/// What is made of the seconds that a record may be kept.
const MIN_TTL: u64 = 10;
const MAX_TTL: u64 = 24 * 60 * 60;
/// How long it is believed that there is no DNSLink.
const NOTHING_FOR: Duration = Duration::from_secs(60);
/// How long a server that did not answer is left alone with a domain.
const SILENCE_FOR: Duration = Duration::from_secs(5);

/// Where the DNS says that a domain leads to, and for how many seconds it will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) path: ContentPath,
    pub(super) seconds: u64,
}

/// No DNS server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Silent {
    /// Who was asked, in a sentence.
    pub(crate) tried: Arc<str>,
}

/// DNS servers, and what they said.
pub(crate) struct Dns {
    servers: Servers,
    lookups: Semaphore,
    kept: Mutex<LruCache<String, Arc<OnceCell<Answer>>>>,
}

/// An answer, and how long it counts.
#[derive(Clone, Debug)]
struct Answer {
    path: Result<Option<ContentPath>, Silent>,
    until: Instant,
}

impl Dns {
    /// Asks `server`, or those of the system. `None` if it cannot be asked.
    pub(super) fn new(server: Option<SocketAddr>) -> Option<Self> {
        match Servers::new(server) {
            Ok(servers) => Some(Self {
                servers,
                lookups: Semaphore::new(MAX_LOOKUPS),
                kept: Mutex::new(LruCache::new(MAX_KEPT)),
            }),
            Err(error) => {
                tracing::warn!(%error, "the DNS server cannot be asked: DNSLinks are not looked up");
                None
            }
        }
    }

    /// Where the domain leads to; `None` if it has no DNSLink.
    pub(super) async fn dnslink(&self, domain: &str) -> Result<Option<Link>, Silent> {
        let answer = self.cell(domain);
        let answer = answer.get_or_init(|| self.look_up(domain)).await;
        let path = answer.path.as_ref().map_err(Silent::clone)?;
        let left = answer.until.saturating_duration_since(Instant::now());
        Ok(path.as_ref().map(|path| Link {
            path: path.clone(),
            seconds: left.as_secs(),
        }))
    }

    /// Where the answer for a domain is, or will be.
    fn cell(&self, domain: &str) -> Arc<OnceCell<Answer>> {
        let mut kept = self.kept.lock();
        if let Some(cell) = kept.get(domain)
            && cell
                .get()
                .is_none_or(|answer| answer.until > Instant::now())
        {
            return Arc::clone(cell);
        }
        let cell = Arc::new(OnceCell::new());
        kept.put(domain.to_owned(), Arc::clone(&cell));
        cell
    }

    async fn look_up(&self, domain: &str) -> Answer {
        let asked = self.servers.now().await;
        let (path, keep) = match &asked {
            None => (Err(silent("the system names no DNS server")), SILENCE_FOR),
            Some(asked) => self.ask(asked, domain).await,
        };
        Answer {
            path,
            until: Instant::now() + keep,
        }
    }

    /// What these servers say, and how long it counts.
    async fn ask(
        &self,
        asked: &Asked,
        domain: &str,
    ) -> (Result<Option<ContentPath>, Silent>, Duration) {
        let name = format!("_dnslink.{domain}.");
        let lookup = tokio::time::timeout(LOOKUP_TIME, async {
            let _turn = self.lookups.acquire().await;
            asked.resolver.txt_lookup(&*name).await
        });
        let why = match lookup.await {
            Ok(Ok(lookup)) => {
                return match link(&lookup) {
                    Some((path, ttl)) => (Ok(Some(path)), ttl),
                    None => (Ok(None), NOTHING_FOR),
                };
            }
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(_)))) => return (Ok(None), NOTHING_FOR),
            Ok(Err(error)) => error.to_string(),
            Err(late) => late.to_string(),
        };
        tracing::debug!(domain, servers = %asked.names, why, "a DNSLink could not be looked up");
        let tried = format!("{} was asked for the TXT records of {name}", asked.names);
        (Err(silent(&tried)), SILENCE_FOR)
    }
}

fn silent(tried: &str) -> Silent {
    Silent {
        tried: tried.into(),
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

/// The path of an answer, and how long it counts. Of several the first in alphabetical order is meant.
fn link(lookup: &Lookup) -> Option<(ContentPath, Duration)> {
    let answers = lookup.answers();
    let mut texts: Vec<Vec<u8>> = answers
        .iter()
        .filter_map(|record| text(&record.data))
        .collect();
    texts.sort();
    let path = texts.iter().find_map(|text| parse(text))?;
    let ttl = answers.iter().map(|record| u64::from(record.ttl)).min()?;
    Some((path, Duration::from_secs(ttl.clamp(MIN_TTL, MAX_TTL))))
}

/// The strings of a TXT record are one text.
fn text(data: &RData) -> Option<Vec<u8>> {
    match data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    }
}

/// `dnslink=/ipfs/…` or `dnslink=/ipns/…`.
fn parse(text: &[u8]) -> Option<ContentPath> {
    if text.len() > MAX_TEXT_LEN {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let path = text.strip_prefix("dnslink=")?.trim();
    let is_content = path.starts_with("/ipfs/") || path.starts_with("/ipns/");
    is_content.then(|| ContentPath::parse(path).ok()).flatten()
}
