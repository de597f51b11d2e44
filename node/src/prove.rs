//! PROVE: others have a release. Who publishes asks from outside what a buyer would ask: does this gateway,
//! or this mirror, give the newest head, and blocks of the release that are chosen by chance?

use std::time::Duration;

use cid::Cid;
use jiff::Timestamp;
use libp2p::{Multiaddr, PeerId};
use rand::seq::IndexedRandom;
use url::Url;

use crate::announce;
use crate::block::RAW;
use crate::dag::links::links;
use crate::ipns;
use crate::keys::Name;
use crate::manifest::ManifestError;
use crate::manifest::record::Head;
use crate::net::Network;
use crate::node::Node;
use crate::shop::settings;
use crate::source::trustless::{TrustlessSource, gateway_url};
use crate::source::{BlockSource, FetchError};
use crate::store::{Store, StoreError};

/// Blocks of a release that each has to give.
const SAMPLES: usize = 3;
/// Levels below a root at most.
const MAX_DEPTH: usize = 64;
/// Time for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Who must have a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This gateway.
    Gateway(Url),
    /// So many of the gateways and mirrors that the shop's head names.
    Mirrors(usize),
}

/// Why a head and a release are not proved to be somewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// It does not give a valid record of the shop.
    #[error("it gives no valid record of the shop")]
    NoRecord,
    /// It gives an older head.
    #[error("it gives head {found}, and the newest is {wanted}")]
    OldHead {
        /// Its number.
        found: u64,
        /// The newest one.
        wanted: u64,
    },
    /// It cannot be connected to.
    #[error("it cannot be connected to")]
    Unreachable,
    /// It does not give a block.
    #[error("it does not give block {cid}")]
    NoBlock {
        /// The block.
        cid: Cid,
    },
    /// It gives wrong bytes.
    #[error("it gives wrong bytes for block {cid}")]
    Lie {
        /// The block.
        cid: Cid,
    },
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What was found out about one gateway or mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which.
    pub place: String,
    /// What is missing; `None` when it has all that was asked for.
    pub missing: Option<Missing>,
}

/// Asks those that are wanted once, all at the same time, for the newest head and for blocks of the release
/// with this root.
pub async fn ask(node: &Node, release: Cid, wanted: &Wanted) -> Result<Vec<Answer>, ProveError> {
    let Some(head) = node.manifest().head()? else {
        return Ok(Vec::new());
    };
    let samples = {
        let store = node.store().clone();
        node.blocking(move || samples(&store, release)).await?
    };
    let asked = Asked {
        node,
        shop: node.shop_name(),
        head,
        samples,
    };
    let answers = match wanted {
        Wanted::Gateway(url) => vec![asked.gateway(url).await],
        Wanted::Mirrors(_) => {
            let named = settings::read(node)?;
            let gateways = named.gateways.iter().filter_map(|url| gateway_url(url));
            let gateways = gateways.map(|url| {
                let asked = &asked;
                async move { asked.gateway(&url).await }
            });
            let mirrors = named.mirrors.iter().map(|address| asked.mirror(address));
            let both = futures::future::join(
                futures::future::join_all(gateways),
                futures::future::join_all(mirrors),
            );
            let (mut answers, mirrors) = both.await;
            answers.extend(mirrors);
            answers
        }
    };
    Ok(answers)
}

/// Whether that is all that was wanted.
pub fn is_proved(wanted: &Wanted, answers: &[Answer]) -> bool {
    let have = answers.iter().filter(|answer| answer.missing.is_none());
    match wanted {
        Wanted::Gateway(_) => have.count() == 1,
        Wanted::Mirrors(least) => have.count() >= *least,
    }
}

struct Asked<'a> {
    node: &'a Node,
    shop: Name,
    head: Head,
    samples: Vec<Cid>,
}

impl Asked<'_> {
    async fn gateway(&self, url: &Url) -> Answer {
        let source = TrustlessSource::new(vec![url.clone()], ANSWER_LIMIT);
        let missing = async {
            self.newest_by(&source).await?;
            for cid in &self.samples {
                source
                    .fetch(cid)
                    .await
                    .map_err(|error| lacks(*cid, &error))?;
            }
            Ok(())
        };
        Answer {
            place: url.to_string(),
            missing: missing.await.err(),
        }
    }

    /// The newest head, by the names, as a buyer finds it.
    async fn newest_by(&self, source: &TrustlessSource) -> Result<(), Missing> {
        let shop = newest_record(source, &self.shop).await?;
        let publishing = announce::leads_to(&shop).ok_or(Missing::NoRecord)?;
        let found = newest_record(source, &publishing).await?;
        let is_newest = found.value == format!("/ipfs/{}", self.head.root);
        if is_newest || found.sequence > self.head.seq {
            Ok(())
        } else {
            Err(Missing::OldHead {
                found: found.sequence,
                wanted: self.head.seq,
            })
        }
    }

    async fn mirror(&self, address: &str) -> Answer {
        let missing = async {
            let network = self.node.network().ok_or(Missing::Unreachable)?;
            let parsed: Multiaddr = address.parse().map_err(|_| Missing::Unreachable)?;
            let peer = tokio::time::timeout(ANSWER_LIMIT, network.connect(parsed)).await;
            let peer = peer.ok().and_then(Result::ok).ok_or(Missing::Unreachable)?;
            for cid in std::iter::once(&self.head.root).chain(&self.samples) {
                from_peer(network, peer, cid).await?;
            }
            Ok(())
        };
        Answer {
            place: address.to_owned(),
            missing: missing.await.err(),
        }
    }
}

/// The newest valid record of a name that the gateway gives.
async fn newest_record(source: &TrustlessSource, name: &Name) -> Result<ipns::Record, Missing> {
    let found = source.ipns_record(name).await.found;
    let now = Timestamp::now();
    let valid = found
        .iter()
        .filter_map(|bytes| ipns::verify(name, bytes, now).ok());
    let newest = valid.reduce(|one, other| match ipns::newer(&other, &one) {
        true => other,
        false => one,
    });
    newest.ok_or(Missing::NoRecord)
}

/// Fetches a block over bitswap, and makes sure that it came from this peer.
async fn from_peer(network: &Network, peer: PeerId, cid: &Cid) -> Result<(), Missing> {
    let no_block = || Missing::NoBlock { cid: *cid };
    let session = network.bitswap().session(vec![peer]);
    let fetched = tokio::time::timeout(ANSWER_LIMIT, session.fetch(cid)).await;
    fetched
        .map_err(|_| no_block())?
        .map_err(|error| lacks(*cid, &error))?;
    let from = session.stats();
    let is_from_it = from
        .iter()
        .any(|(from, _, blocks)| *from == peer && *blocks > 0);
    if is_from_it { Ok(()) } else { Err(no_block()) }
}

fn lacks(cid: Cid, error: &FetchError) -> Missing {
    match error {
        FetchError::Lied { .. } | FetchError::Block(_) => Missing::Lie { cid },
        _ => Missing::NoBlock { cid },
    }
}

/// Leaves of a DAG, chosen by chance: at each level one of the links.
fn samples(store: &Store, root: Cid) -> Result<Vec<Cid>, StoreError> {
    let mut random = rand::rng();
    let mut chosen = vec![root];
    for _ in 0..SAMPLES {
        let mut cid = root;
        for _ in 0..MAX_DEPTH {
            if cid.codec() == RAW {
                break;
            }
            let Some(block) = store.get(&cid)? else {
                break;
            };
            match links(&block).unwrap_or_default().choose(&mut random) {
                Some(next) => cid = *next,
                None => break,
            }
        }
        if !chosen.contains(&cid) {
            chosen.push(cid);
        }
    }
    Ok(chosen)
}
