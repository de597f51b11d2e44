//! NAME: resolve, put and publish IPNS names: local record → DHT and gateways; the newest valid one
//! wins and is kept. Check first, then persist.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;

use crate::dag::path::{ContentPath, Root};
use crate::ipns::{self, Record, RecordError};
use crate::keys::{Name, name_of};
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Op};
use crate::manifest::record::NameRecord;
use crate::net::NetError;
use crate::node::Node;
use crate::source::trustless::TrustlessSource;

/// How long a resolved name may be cached, by default as Kubo's.
const DEFAULT_TTL: Duration = Duration::from_secs(300);
/// Names that may lead to one another before it is called a loop (IPNS spec, "recursion").
const MAX_NAMES: usize = 32;
/// Time that gateways get to answer.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a name did not resolve, or a record was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nobody who was asked has a valid record.
    #[error("no valid record of {name} was found ({tried})")]
    NotFound {
        /// The name.
        name: Name,
        /// Where it was looked for, in words.
        tried: String,
    },
    /// The record is not valid.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record with a higher sequence number is known.
    #[error("a record with sequence {known} is known; this one has {given}")]
    Rollback {
        /// Known.
        known: u64,
        /// Given.
        given: u64,
    },
    /// Names point to names without end.
    #[error("{name} goes through more than 32 names")]
    Loop {
        /// The first name.
        name: Name,
    },
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The network failed.
    #[error(transparent)]
    Net(#[from] NetError),
}

/// A resolved name.
#[derive(Clone, Debug)]
pub struct ResolvedName {
    /// The record of the name itself.
    pub record: Record,
    /// Where it leads in the end: `/ipfs/<cid>[/path]`, after all further names.
    pub path: String,
    /// Seconds this may be cached: the least of all TTLs and remaining validities on the way.
    pub max_age: u64,
}

/// Follows `name` to a content path.
pub(crate) async fn resolve(node: &Node, name: &Name) -> Result<ResolvedName, NameError> {
    let record = newest_record(node, name).await?;
    let mut max_age = age_limit(&record);
    let mut value = record.value.clone();
    for _ in 0..MAX_NAMES {
        let Ok(next) = ContentPath::parse(&value) else {
            return Err(RecordError::Malformed("its value is not a path").into());
        };
        let Root::Name(next_name) = &next.root else {
            return Ok(ResolvedName {
                record,
                path: value,
                max_age,
            });
        };
        let further = newest_record(node, next_name).await?;
        max_age = max_age.min(age_limit(&further));
        value = join(&further.value, &next.segments);
    }
    Err(NameError::Loop { name: name.clone() })
}

/// Signs a record of the peer key's name that leads to `path`, keeps it and tells the network. The
/// names of the shop belong to the announce worker.
pub async fn publish(
    node: &Node,
    path: &ContentPath,
    lifetime: Duration,
) -> Result<(Name, Record), NameError> {
    let key = &node.keys().peer;
    let name = name_of(key);
    let known = node.manifest().name(&name.to_bytes())?;
    let sequence = known.map_or(1, |known| known.sequence.saturating_add(1));
    let validity = Timestamp::now()
        .saturating_add(lifetime)
        .unwrap_or(Timestamp::MAX);
    let record = ipns::sign(key, &path.to_string(), sequence, validity, DEFAULT_TTL);
    keep(node, &name, &record).await?;
    if let Some(network) = node.network() {
        network.put_record(&name, &record).await?;
    }
    Ok((name, record))
}

/// Verifies and keeps a record, then tells the network.
pub(crate) async fn put(node: &Node, name: &Name, bytes: &[u8]) -> Result<Record, NameError> {
    let record = ipns::verify(name, bytes, Timestamp::now())?;
    if let Some(known) = known_record(node, name)?
        && known.sequence > record.sequence
    {
        return Err(NameError::Rollback {
            known: known.sequence,
            given: record.sequence,
        });
    }
    keep(node, name, &record).await?;
    if let Some(network) = node.network() {
        network.put_record(name, &record).await?;
    }
    Ok(record)
}

/// Own names are answered from the manifest. For others everyone is asked; the newest valid record
/// wins and is kept. What is kept is used without asking until its TTL has passed.
async fn newest_record(node: &Node, name: &Name) -> Result<Record, NameError> {
    let known = known_record(node, name)?;
    if let Some(known) = &known
        && (is_own(node, name) || is_fresh(node, name, known)?)
    {
        return Ok(known.clone());
    }
    let found = ask(node, name).await;
    let newest = match (known, found) {
        (Some(known), Some(found)) if ipns::newer(&found, &known) => found,
        (Some(known), _) => return Ok(known),
        (None, Some(found)) => found,
        (None, None) => {
            return Err(NameError::NotFound {
                name: name.clone(),
                tried: tried(node),
            });
        }
    };
    keep(node, name, &newest).await?;
    Ok(newest)
}

/// The best valid record that the DHT and the configured gateways have.
async fn ask(node: &Node, name: &Name) -> Option<Record> {
    let from_network = async {
        match node.network()?.get_record(name).await {
            Ok(record) => record,
            Err(error) => {
                tracing::debug!(%name, %error, "asking the DHT for a record failed");
                None
            }
        }
    };
    let from_gateways = async {
        let Some(gateways) = node.gateways() else {
            return Vec::new();
        };
        let answers = timeout(GATEWAY_TIMEOUT, gateways.ipns_record(name)).await;
        answers.unwrap_or_default()
    };
    let (from_network, from_gateways) = tokio::join!(from_network, from_gateways);
    let now = Timestamp::now();
    let valid = from_gateways
        .iter()
        .filter_map(|bytes| ipns::verify(name, bytes, now).ok());
    let mut best = from_network;
    for record in valid {
        if best.as_ref().is_none_or(|best| ipns::newer(&record, best)) {
            best = Some(record);
        }
    }
    best
}

/// The kept record, while it is valid.
fn known_record(node: &Node, name: &Name) -> Result<Option<Record>, ManifestError> {
    let kept = node.manifest().name(&name.to_bytes())?;
    Ok(kept.and_then(|kept| ipns::verify(name, &kept.bytes, Timestamp::now()).ok()))
}

fn is_fresh(node: &Node, name: &Name, record: &Record) -> Result<bool, ManifestError> {
    let seen = node
        .manifest()
        .name(&name.to_bytes())?
        .map(|kept| kept.seen);
    let age = seen.map(|seen| Timestamp::now().duration_since(seen).unsigned_abs());
    Ok(node.network().is_none() || age.is_some_and(|age| age < record.ttl))
}

fn is_own(node: &Node, name: &Name) -> bool {
    let keys = node.keys();
    *name == name_of(&keys.shop)
        || *name == name_of(&keys.publishing)
        || *name == name_of(&keys.peer)
}

async fn keep(node: &Node, name: &Name, record: &Record) -> Result<(), ManifestError> {
    let kept = NameRecord {
        bytes: record.bytes.clone(),
        sequence: record.sequence,
        seen: Timestamp::now(),
    };
    let change = Change {
        expect: Vec::new(),
        ops: vec![Op::PutName(name.to_bytes(), kept)],
    };
    node.manifest().commit(change).await?;
    Ok(())
}

fn age_limit(record: &Record) -> u64 {
    let left = record.validity.duration_since(Timestamp::now());
    let left = u64::try_from(left.as_secs()).unwrap_or(0);
    record.ttl.as_secs().min(left)
}

fn join(value: &str, segments: &[String]) -> String {
    let mut path = value.trim_end_matches('/').to_owned();
    for segment in segments {
        path.push('/');
        path.push_str(segment);
    }
    path
}

fn tried(node: &Node) -> String {
    match (
        node.network(),
        node.gateways().map_or(0, TrustlessSource::count),
    ) {
        (None, _) => "the network was not asked".to_owned(),
        (Some(_), 0) => "the DHT was asked".to_owned(),
        (Some(_), count) => format!("the DHT and {count} gateways were asked"),
    }
}
