//! NAME: resolve, put and publish IPNS names: local record → DHT and gateways; the newest valid one
//! wins and is kept. Check first, then persist.

pub(crate) mod hear;
mod lookups;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use url::Url;

use crate::announce;
use crate::dag::path::{ContentPath, Root};
use crate::ipns::{self, Record, RecordError};
use crate::keys::{Name, name_of};
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Conflict, Expect, Op};
use crate::manifest::record::NameRecord;
use crate::net::NetError;
use crate::node::Node;
use crate::source::trustless::{Listen, Silence, TrustlessSource};

use lookups::Ended;
pub(crate) use lookups::Lookups;

/// How long a resolved name may be cached, by default as Kubo's.
const DEFAULT_TTL: Duration = Duration::from_secs(300);
/// Names that may lead to one another before it is called a loop (IPNS spec, "recursion").
const MAX_NAMES: usize = 32;

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
    /// Nobody has a valid record of those who answered, and not all did.
    #[error("{gateway} was asked for the record of {name}, but {silence}")]
    Silent {
        /// The name.
        name: Name,
        /// Who may have one.
        gateway: Url,
        /// Why there was no answer.
        silence: Silence,
    },
    /// The record is not valid.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A newer record is known: by its sequence number or, where that is the same, its validity.
    #[error("a newer record of the name is known, with sequence {known}; this one has {given}")]
    Rollback {
        /// Known.
        known: u64,
        /// Given.
        given: u64,
    },
    /// This node signs the records of the name, and takes none from others.
    #[error("{name} is this shop's publishing key, and this node alone signs for it")]
    Own {
        /// The name.
        name: Name,
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

/// Who is asked for records.
#[derive(Clone, Copy)]
enum Ask<'a> {
    /// Everyone, and these gateways besides the configured ones.
    Everyone(Option<&'a TrustlessSource>),
    /// Nobody: what is kept is used, be it old.
    Nobody,
}

/// Follows `name` to a content path. The gateways in `further` are asked besides the configured ones.
pub(crate) async fn resolve(
    node: &Node,
    name: &Name,
    further: Option<&TrustlessSource>,
) -> Result<ResolvedName, NameError> {
    follow(node, name, Ask::Everyone(further)).await
}

/// A record, and who of the further gateways did not say whether there is a newer one.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The newest valid record.
    pub record: Record,
    /// Those that did not answer.
    pub silent: Vec<Url>,
}

/// The record of `name` alone, wherever it leads.
pub(crate) async fn resolve_record(
    node: &Node,
    name: &Name,
    further: Option<&TrustlessSource>,
    listen: Listen,
) -> Result<Heard, NameError> {
    newest_record(node, name, further, listen).await
}

/// The same by kept records alone.
pub(crate) async fn resolve_kept(node: &Node, name: &Name) -> Result<ResolvedName, NameError> {
    follow(node, name, Ask::Nobody).await
}

async fn follow(node: &Node, name: &Name, ask: Ask<'_>) -> Result<ResolvedName, NameError> {
    let record = record(node, name, ask).await?;
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
        let next_record = self::record(node, next_name, ask).await?;
        max_age = max_age.min(age_limit(&next_record));
        value = join(&next_record.value, &next.segments);
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
    let keys = node.keys();
    let key = &keys.peer;
    let name = name_of(key);
    let record = loop {
        let known = node.manifest().name(&name.to_bytes())?;
        let known = known.map_or(0, |known| known.sequence);
        let Some(sequence) = known.checked_add(1) else {
            let given = known;
            return Err(NameError::Rollback { known, given });
        };
        let validity = Timestamp::now()
            .saturating_add(lifetime)
            .unwrap_or(Timestamp::MAX);
        let record = ipns::sign(key, &path.to_string(), sequence, validity, DEFAULT_TTL);
        let expect = Expect::NameSeqBelow(name.to_bytes(), sequence);
        match keep(node, &name, &record, expect).await {
            Ok(()) => break record,
            // Another publish was first.
            Err(ManifestError::Conflict(Conflict::NameOlder { .. })) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if let Some(network) = node.network() {
        network.tell(&name, &record).await?;
        network.put_record(&name, &record).await?;
    }
    Ok((name, record))
}

/// Verifies and keeps a record, then tells the network.
pub(crate) async fn put(node: &Node, name: &Name, bytes: &[u8]) -> Result<Record, NameError> {
    let record = ipns::verify(name, bytes, Timestamp::now())?;
    if announce::is_publishing(node, name)? {
        return Err(NameError::Own { name: name.clone() });
    }
    if node
        .mirrors()
        .hear(name, &record, "the operator".to_owned())
    {
        return Ok(record);
    }
    match keep_newest(node, name, &record).await {
        Err(ManifestError::Conflict(Conflict::NameOlder { found })) => {
            return Err(NameError::Rollback {
                known: found,
                given: record.sequence,
            });
        }
        kept => kept?,
    }
    if let Some(network) = node.network() {
        network.put_record(name, &record).await?;
    }
    Ok(record)
}

async fn record(node: &Node, name: &Name, ask: Ask<'_>) -> Result<Record, NameError> {
    match ask {
        Ask::Everyone(further) => {
            let heard = newest_record(node, name, further, Listen::Briefly).await?;
            Ok(heard.record)
        }
        Ask::Nobody => match known_record(node, name)? {
            Some(known) => Ok(known.record),
            None => Err(NameError::NotFound {
                name: name.clone(),
                tried: "the network was not asked".to_owned(),
            }),
        },
    }
}

/// Own names are answered from the manifest. For others everyone is asked; the newest valid record
/// wins and is kept. A kept one is used without asking until its TTL has passed, and for as long
/// again while it is asked for.
async fn newest_record(
    node: &Node,
    name: &Name,
    further: Option<&TrustlessSource>,
    listen: Listen,
) -> Result<Heard, NameError> {
    let unasked = |record| Heard {
        record,
        silent: Vec::new(),
    };
    if let Some(known) = known_record(node, name)? {
        if is_own(node, name)?
            || node.mirrors().has(name)
            || node.network().is_none()
            || known.age < known.record.ttl
        {
            return Ok(unasked(known.record));
        }
        if known.age < known.record.ttl.saturating_mul(2) {
            look_up(node, name);
            return Ok(unasked(known.record));
        }
    }
    let mut lookup = look_up(node, name);
    let usual = async {
        match lookup.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().transpose(),
            // The node is shutting down.
            Err(_) => Ok(None),
        }
    };
    let (usual, from_further) = tokio::join!(usual, ask_gateways(further, name, listen));
    keep_if_newer(node, name, from_further.best).await?;
    let usual = usual?.flatten();
    if let Some(known) = known_record(node, name)? {
        let silent = from_further.silent.into_iter();
        return Ok(Heard {
            record: known.record,
            silent: silent.map(|(gateway, _)| gateway).collect(),
        });
    }
    let silent = usual.or(from_further.silent.into_iter().next());
    let name = name.clone();
    Err(match silent {
        Some((gateway, silence)) => NameError::Silent {
            name,
            gateway,
            silence,
        },
        None => NameError::NotFound {
            name,
            tried: tried(node, further),
        },
    })
}

/// Joins the lookup of the name that is under way, or starts one, which goes on by itself.
fn look_up(node: &Node, name: &Name) -> watch::Receiver<Option<Ended>> {
    let (found, sender) = node.lookups().join(name);
    if let Some(sender) = sender {
        let (node, name) = (node.clone(), name.clone());
        node.clone().spawn(async move {
            let ended = refresh(&node, &name).await;
            node.lookups().ended(&name);
            sender.send_replace(Some(ended));
        });
    }
    found
}

/// Asks everyone, and keeps what is newer than the known record. Returns one who did not answer.
async fn refresh(node: &Node, name: &Name) -> Ended {
    let Answers { best, silent } = ask(node, name).await;
    keep_if_newer(node, name, best).await?;
    Ok(silent.into_iter().next())
}

/// What those who were asked say of a name.
#[derive(Default)]
struct Answers {
    /// The best valid record.
    best: Option<Record>,
    /// Those who did not answer.
    silent: Vec<(Url, Silence)>,
}

/// Asks the peers that follow the name, the DHT and the configured gateways.
async fn ask(node: &Node, name: &Name) -> Answers {
    let from_peers = async { heard_by(name, node.network()?.ask_subscribers(name).await) };
    let from_dht = async { heard_by(name, node.network()?.get_record(name).await) };
    let from_gateways = ask_gateways(node.gateways(), name, Listen::Briefly);
    let (from_peers, from_dht, mut answers) = tokio::join!(from_peers, from_dht, from_gateways);
    let all = answers.best.into_iter().chain(from_peers).chain(from_dht);
    answers.best = newest(all);
    answers
}

fn heard_by(name: &Name, answer: Result<Option<Record>, NetError>) -> Option<Record> {
    answer
        .inspect_err(|error| tracing::debug!(%name, %error, "asking for a record failed"))
        .ok()
        .flatten()
}

async fn ask_gateways(gateways: Option<&TrustlessSource>, name: &Name, listen: Listen) -> Answers {
    let Some(gateways) = gateways else {
        return Answers::default();
    };
    let records = gateways.ipns_record(name, listen).await;
    let now = Timestamp::now();
    let verified = |bytes: &Vec<u8>| ipns::verify(name, bytes, now).ok();
    Answers {
        best: newest(records.found.iter().filter_map(verified)),
        silent: records.silent,
    }
}

fn newest(records: impl Iterator<Item = Record>) -> Option<Record> {
    records.reduce(|best, record| {
        if ipns::newer(&record, &best) {
            record
        } else {
            best
        }
    })
}

pub(crate) async fn keep_if_newer(
    node: &Node,
    name: &Name,
    found: Option<Record>,
) -> Result<(), ManifestError> {
    // Of a mirrored shop only what was checked is kept.
    let Some(found) = found.filter(|_| !node.mirrors().has(name)) else {
        return Ok(());
    };
    if announce::is_publishing(node, name)? && !announce::may_keep(node, &found).await? {
        return Ok(());
    }
    let known = known_record(node, name)?;
    if known.is_some_and(|known| !ipns::newer(&found, &known.record)) {
        return Ok(());
    }
    match keep_newest(node, name, &found).await {
        // A newer one came meanwhile.
        Err(ManifestError::Conflict(Conflict::NameOlder { .. })) => Ok(()),
        kept => kept,
    }
}

/// The kept record of a name, while it is valid.
pub(crate) fn kept(node: &Node, name: &Name) -> Result<Option<Record>, ManifestError> {
    Ok(known_record(node, name)?.map(|known| known.record))
}

/// A kept record.
struct Known {
    record: Record,
    /// Time since it was last checked, or asked for.
    age: Duration,
}

/// The kept record, while it is valid.
fn known_record(node: &Node, name: &Name) -> Result<Option<Known>, ManifestError> {
    let now = Timestamp::now();
    let Some(kept) = node.manifest().name(&name.to_bytes())? else {
        return Ok(None);
    };
    let Ok(record) = ipns::verify(name, &kept.bytes, now) else {
        return Ok(None);
    };
    let seen = now.duration_since(kept.seen).unsigned_abs();
    let asked = node.lookups().age(name);
    Ok(Some(Known {
        record,
        age: asked.map_or(seen, |asked| asked.min(seen)),
    }))
}

fn is_own(node: &Node, name: &Name) -> Result<bool, ManifestError> {
    Ok(node.keys().names().contains(name) || announce::is_publishing(node, name)?)
}

/// Keeps a record, unless a newer one is.
async fn keep_newest(node: &Node, name: &Name, record: &Record) -> Result<(), ManifestError> {
    let expect = Expect::NoNewerRecord(name.clone(), record.clone());
    keep(node, name, record, expect).await
}

async fn keep(
    node: &Node,
    name: &Name,
    record: &Record,
    expect: Expect,
) -> Result<(), ManifestError> {
    let kept = NameRecord {
        bytes: record.bytes.clone(),
        sequence: record.sequence,
        seen: Timestamp::now(),
    };
    let change = Change {
        expect: vec![expect],
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

fn tried(node: &Node, further: Option<&TrustlessSource>) -> String {
    let gateways = [node.gateways(), further].into_iter().flatten();
    let count: usize = gateways.map(TrustlessSource::count).sum();
    match (node.network(), count) {
        (None, 0) => "the network was not asked".to_owned(),
        (None, count) => format!("{count} gateways were asked"),
        (Some(_), 0) => "the DHT was asked".to_owned(),
        (Some(_), count) => format!("the DHT and {count} gateways were asked"),
    }
}
