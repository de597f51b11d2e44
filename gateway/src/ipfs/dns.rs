//! DNSLinks in the DNS: the TXT records of `_dnslink.<domain>`.
//!
//! Anybody can send any host name, so everything is bounded: answers kept (also that there is none),
//! look-ups at once, the time of each. Requests for the same domain wait for one look-up.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duka_node::dag::path::ContentPath;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, TokioResolver};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

/// Domains whose answers are kept.
const MAX_KEPT: NonZeroUsize = NonZeroUsize::new(2048).expect("not zero");
/// Look-ups at once; more wait, within their time.
const MAX_LOOKUPS: usize = 256;
/// For one look-up, with its turn.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// For one answer of a server, before the question is repeated.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Longest `dnslink=` text that is read.
const MAX_TEXT_LEN: usize = 512;
/// What is made of the seconds that a record may be kept.
const MIN_TTL: u64 = 10;
const MAX_TTL: u64 = 24 * 60 * 60;
/// How long it is believed that there is no DNSLink.
const NOTHING_FOR: Duration = Duration::from_secs(60);
/// How long a server that did not answer is left alone with a domain.
const SILENCE_FOR: Duration = Duration::from_secs(5);

/// What the DNS says of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It leads there, and will for some seconds.
    Link { path: ContentPath, seconds: u64 },
    /// It has no DNSLink.
    Nothing,
    /// Nobody answered.
    Silence,
}

/// DNS servers, and what they said.
pub(super) struct Dns {
    resolver: TokioResolver,
    lookups: Semaphore,
    kept: Mutex<LruCache<String, Arc<OnceCell<Answer>>>>,
}

/// An answer, and how long it counts.
#[derive(Clone, Debug)]
struct Answer {
    path: Result<Option<ContentPath>, Silence>,
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Silence;

impl Dns {
    /// Asks `server`, or those of the system. `None` if the system has none.
    pub(super) fn new(server: Option<SocketAddr>) -> Option<Self> {
        match resolver(server) {
            Ok(resolver) => Some(Self {
                resolver,
                lookups: Semaphore::new(MAX_LOOKUPS),
                kept: Mutex::new(LruCache::new(MAX_KEPT)),
            }),
            Err(error) => {
                tracing::warn!(%error, "the system names no DNS server: DNSLinks are not looked up");
                None
            }
        }
    }

    /// Where the domain leads to.
    pub(super) async fn dnslink(&self, domain: &str) -> Found {
        let answer = self.cell(domain);
        let answer = answer.get_or_init(|| self.look_up(domain)).await;
        match &answer.path {
            Ok(Some(path)) => Found::Link {
                path: path.clone(),
                seconds: answer
                    .until
                    .saturating_duration_since(Instant::now())
                    .as_secs(),
            },
            Ok(None) => Found::Nothing,
            Err(Silence) => Found::Silence,
        }
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
        let name = format!("_dnslink.{domain}.");
        let asked = tokio::time::timeout(LOOKUP_TIME, async {
            let _turn = self.lookups.acquire().await;
            self.resolver.txt_lookup(name).await
        });
        let (path, keep) = match asked.await {
            Ok(Ok(lookup)) => match link(&lookup) {
                Some((path, ttl)) => (Ok(Some(path)), ttl),
                None => (Ok(None), NOTHING_FOR),
            },
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(_)))) => (Ok(None), NOTHING_FOR),
            Ok(Err(error)) => {
                tracing::debug!(domain, %error, "a DNSLink could not be looked up");
                (Err(Silence), SILENCE_FOR)
            }
            Err(_) => (Err(Silence), SILENCE_FOR),
        };
        Answer {
            path,
            until: Instant::now() + keep,
        }
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let mut builder = match server {
        Some(server) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let connections = connections.map(|mut connection| {
                connection.port = server.port();
                connection
            });
            let server = NameServerConfig::new(server.ip(), true, connections.into());
            let config = ResolverConfig::from_name_servers(vec![server]);
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => Resolver::builder_tokio()?,
    };
    let options = builder.options_mut();
    options.timeout = ANSWER_TIME;
    options.attempts = 1;
    options.use_hosts_file = ResolveHosts::Never;
    options.max_active_requests = MAX_LOOKUPS;
    // Answers are kept here, as content paths.
    options.cache_size = 0;
    builder.build()
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
