//! ANNOUNCE: the worker behind the publish. It computes the checksums of new releases, builds and
//! signs the next head, and tells the network. Its jobs are rows of the manifest, so a restart goes
//! on where it stopped.

mod before;
mod checksum;
mod failed;
mod stranger;

use std::time::{Duration, Instant};

use cid::Cid;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::dag::{DagError, path};
use crate::fetch::FetchOptions;
use crate::ids::{ProductId, Version};
use crate::ipns::{self, Record};
use crate::keys::{LostKey, Name, name_of};
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Expect, Op};
use crate::manifest::record::{Head, Job, JobId, NameRecord};
use crate::node::Node;
use crate::shop::json::MAX_SEQ;
use crate::shop::settings::{self, Settings};
use crate::shop::{self, HeadInput, Past, ShopError};
use crate::store::StoreError;

pub(crate) use before::{ask, is_restored, leads_to, published_in};
use failed::FailedJobs;
pub use stranger::{Stranger, stranger};
pub(crate) use stranger::{forget, is_publishing, may_keep};

/// How long a resolved shop name may be cached.
pub(crate) const RECORD_TTL: Duration = Duration::from_secs(60);
/// Releases whose checksums are committed together at most.
const BATCH: usize = 256;
/// How long checksums are computed before a head is built of those that are there.
const BATCH_TIME: Duration = Duration::from_millis(500);
/// How long before its end the record of a shop whose key is elsewhere is warned of.
const EXPIRY_WARNING: SignedDuration = SignedDuration::from_hours(60 * 24);
/// Pause before a head that could not be made is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Why there is no new head now; the job stays in the manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// The head could not be built.
    #[error(transparent)]
    Shop(#[from] ShopError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The shop key says that another key publishes.
    #[error(
        "the shop's record leads to another publishing key than the one here: nobody would see a head that it signs"
    )]
    OtherPublisher,
    /// The first head of a restored shop must be above those that others know.
    #[error(
        "the shop was restored: its head waits until the network can be asked for the newest one"
    )]
    NotAsked,
    /// The publishing key must be replaced.
    #[error("{0}; `duka key rotate` makes a new one")]
    Lost(#[from] LostKey),
    /// All sequence numbers are used up.
    #[error("head {seq} has the highest number that a head can have, so there is no next one")]
    Numbers {
        /// The newest head.
        seq: u64,
    },
    /// All sequence numbers of the shop key are used up.
    #[error("the shop's record has the highest number that there is: no other can replace it")]
    ShopNumbers,
}

/// Does the jobs as they come, and signs the same head again each `refresh`, until `stop`.
pub(crate) async fn run(node: Node, stop: CancellationToken) {
    let mut failed = FailedJobs::default();
    stop.run_until_cancelled(async {
        loop {
            let pause = match work(&node, &mut failed).await {
                Ok(refresh) => refresh,
                // That stays so until somebody does something.
                Err(error @ (AnnounceError::NotAsked | AnnounceError::Lost(_))) => {
                    tracing::warn!("{error}");
                    node.config().shop.refresh
                }
                Err(error @ AnnounceError::OtherPublisher) => {
                    tracing::error!(
                        "{error}; `duka key rotate` makes a new one, once `duka key import FILE` has brought \
                         the shop key back if that is elsewhere"
                    );
                    node.config().shop.refresh
                }
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "no new head");
                    RETRY
                }
            };
            let pause = failed.next().map_or(pause, |next| pause.min(next));
            tokio::select! {
                () = node.wait_for_jobs() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    })
    .await;
}

/// Waits until a head that has the release is signed. Returns whether it was within `limit`.
pub async fn wait_for_head(
    node: &Node,
    product: &ProductId,
    version: &Version,
    limit: Duration,
) -> Result<bool, ManifestError> {
    wait(node, limit, Awaited::Release(product, version)).await
}

/// Waits until a head is signed that shows what was committed with this job. Returns whether it was
/// within `limit`.
pub async fn wait_for_job(node: &Node, job: JobId, limit: Duration) -> Result<bool, ManifestError> {
    wait(node, limit, Awaited::Job(job)).await
}

/// Commits a change of what the shop shows together with the job for the head that shows it.
pub(crate) async fn commit(node: &Node, mut change: Change) -> Result<JobId, ManifestError> {
    let job = node.manifest().new_job_id();
    change.ops.push(Op::PutJob(job, Job::Announce));
    node.manifest().commit(change).await?;
    node.jobs_changed();
    Ok(job)
}

/// What a head is waited for.
enum Awaited<'a> {
    /// It has this release.
    Release(&'a ProductId, &'a Version),
    /// It does this job.
    Job(JobId),
}

impl Awaited<'_> {
    async fn is_so(&self, node: &Node) -> Result<bool, ManifestError> {
        match self {
            Self::Release(product, version) => is_announced(node, product, version).await,
            Self::Job(job) => Ok(!node.manifest().has_job(*job)?),
        }
    }
}

/// Asks after every head until it is so.
async fn wait(node: &Node, limit: Duration, awaited: Awaited<'_>) -> Result<bool, ManifestError> {
    if node.network().is_none() && before::is_restored(node)? {
        return Ok(false);
    }
    let mut heads = node.heads();
    let signed = async {
        loop {
            heads.borrow_and_update();
            if awaited.is_so(node).await? {
                return Ok(true);
            }
            if heads.changed().await.is_err() {
                return Ok(false);
            }
        }
    };
    tokio::time::timeout(limit, signed)
        .await
        .unwrap_or(Ok(false))
}

/// Whether the signed head has the release, with what was published along with it. Others that wait for their
/// head do not count.
pub async fn is_announced(
    node: &Node,
    product: &ProductId,
    version: &Version,
) -> Result<bool, ManifestError> {
    let Some(release) = node.manifest().release(product, version)? else {
        return Ok(false);
    };
    let Some(head) = node.manifest().head()? else {
        return Ok(false);
    };
    let segments = ["p".to_owned(), product.to_string(), version.to_string()];
    let here = node.fetcher(FetchOptions::offline());
    Ok(match path::resolve(&here, head.root, &segments).await {
        Ok(found) => found.cid == release.root,
        Err(DagError::NoLink { .. }) => false,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, root = %head.root, "the head cannot be read");
            false
        }
    })
}

/// Checksums first, so that one head covers the releases published so far, but not for longer than
/// [`BATCH_TIME`] unless one release alone takes longer: while many come, heads come, too. Returns the time
/// until there is more to do.
async fn work(node: &Node, failed: &mut FailedJobs) -> Result<Duration, AnnounceError> {
    let is_all = record_releases(node, failed).await?;
    let mut announce = Vec::new();
    for job in node.manifest().jobs() {
        if let (id, Job::Announce) = job? {
            announce.push(id);
        }
    }
    let settings = settings::read(node)?;
    if announce.is_empty() {
        refresh(node, &settings).await?;
    } else {
        next_head(node, &settings, announce).await?;
    }
    Ok(match is_all {
        true => settings.refresh,
        false => Duration::ZERO,
    })
}

/// Computes and commits the checksums of releases that have none. One whose checksums cannot be computed
/// is left out of heads until they can. Returns whether that were all that are due.
async fn record_releases(node: &Node, failed: &mut FailedJobs) -> Result<bool, AnnounceError> {
    let started = Instant::now();
    let _temp_pin = node.temp_pin();
    let (mut recorded, mut is_all) = (Vec::new(), true);
    for job in node.manifest().jobs() {
        let (id, Job::Checksum(product, version)) = job? else {
            continue;
        };
        if !failed.is_due(id) {
            continue;
        }
        if recorded.len() == BATCH || started.elapsed() > BATCH_TIME {
            is_all = false;
            break;
        }
        match checksum::record_release(node, id, product.clone(), version.clone()).await {
            Ok(done) => recorded.push(done),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "{product} {version} is not announced for now");
                failed.add(id);
            }
        }
    }
    if !recorded.is_empty() {
        checksum::commit(node, &recorded).await?;
    }
    for done in recorded {
        failed.remove(done.job);
    }
    Ok(is_all)
}

/// Builds the next head, makes it durable with its signed records, then tells the network.
async fn next_head(
    node: &Node,
    settings: &Settings,
    done: Vec<JobId>,
) -> Result<(), AnnounceError> {
    let before = before::newest(node).await?;
    check_publisher(node)?;
    let own = node.manifest().head()?.map_or(0, |head| head.seq);
    let seq = next_number(before.map_or(0, |head| head.seq))?;
    let past = past(node, before.and_then(|head| head.root)).await;
    let now = Timestamp::now();
    let input = HeadInput {
        name: node.shop_name().to_string(),
        title: settings.title.clone(),
        description: settings.description.clone(),
        seq,
        prev: before.and_then(|head| head.root),
        past,
        issued: now,
        lifetime: settings.lifetime.as_secs(),
        refresh: settings.refresh.as_secs(),
        gateways: settings.gateways.clone(),
        mirrors: settings.mirrors.clone(),
    };
    let mut temp_pin = node.temp_pin();
    let built = {
        let (store, manifest, input) =
            (node.store().clone(), node.manifest().clone(), input.clone());
        node.blocking(move || shop::build_head(&store, &manifest, &input))
            .await?
    };
    temp_pin.hold(built.root);
    node.commit_blocks().await?;

    let head = Head {
        seq: input.seq,
        root: built.root,
        prev: input.prev,
        issued: now,
    };
    let signing_turn = node.signing_turn().await;
    let records = sign(node, settings, &head, now)?;
    let mut change = Change {
        expect: vec![Expect::HeadSeq(own)],
        ops: built.cache,
    };
    change.ops.push(Op::PutHead(head.clone()));
    change.ops.extend(done.into_iter().map(Op::DeleteJob));
    commit_signed(node, change, &records, now).await?;
    drop(signing_turn);
    node.shop_is_known();

    tracing::info!(seq = head.seq, root = %head.root, "new head");
    node.offer(head.root);
    node.head_changed(head);
    tell(node, &records).await;
    Ok(())
}

fn next_number(seq: u64) -> Result<u64, AnnounceError> {
    match seq < MAX_SEQ {
        true => Ok(seq + 1),
        false => Err(AnnounceError::Numbers { seq }),
    }
}

/// What the next head says of those before it: nothing, when the last one cannot be had any more.
async fn past(node: &Node, root: Option<Cid>) -> Past {
    let Some(root) = root else {
        return Past::default();
    };
    match shop::past_of(&node.fetcher(FetchOptions::kept()), root).await {
        Ok(past) => past,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the head before, {root}, cannot be read: whoever follows the shop will refuse the next \
                 one until the publishing key is replaced by `duka key rotate`"
            );
            Past::default()
        }
    }
}

/// Signs the current head again when its record is older than `refresh`.
async fn refresh(node: &Node, settings: &Settings) -> Result<(), AnnounceError> {
    let Some(head) = node.manifest().head()? else {
        return Ok(());
    };
    let publishing = name_of(node.keys().publishing.key()?);
    let signed = node
        .manifest()
        .name(&publishing.to_bytes())?
        .map(|record| record.seen);
    let now = Timestamp::now();
    let age = signed.map(|signed| now.duration_since(signed).unsigned_abs());
    if age.is_some_and(|age| age < settings.refresh) {
        return Ok(());
    }
    let signing_turn = node.signing_turn().await;
    let records = sign(node, settings, &head, now)?;
    let change = Change {
        expect: vec![Expect::HeadSeq(head.seq)],
        ops: Vec::new(),
    };
    commit_signed(node, change, &records, now).await?;
    drop(signing_turn);
    tell(node, &records).await;
    Ok(())
}

/// Commits what was signed, with what comes along. A key that was made for a restored shop takes the place of
/// the one before once: who replaces it later is heeded.
async fn commit_signed(
    node: &Node,
    mut change: Change,
    records: &[(Name, Record)],
    now: Timestamp,
) -> Result<(), ManifestError> {
    let replaced = before::published_by(node)?;
    put_names(&mut change, &node.shop_name(), records, now);
    node.manifest().commit(change).await?;
    if replaced.is_some() && replaced != node.keys().publishing.name() {
        node.key_is_known();
    }
    Ok(())
}

/// Whether the publishing key that is here speaks for the shop, so that what it signs is seen. One that the
/// owner replaced, here or elsewhere, may be stolen, and does not come back by itself; one that was made here
/// for a restored shop takes the place of the one before.
///
/// # Errors
/// [`AnnounceError::OtherPublisher`], and [`AnnounceError::Lost`] when there is none.
pub fn check_publisher(node: &Node) -> Result<(), AnnounceError> {
    let publishing = name_of(node.keys().publishing.key()?);
    match before::published_by(node)? {
        Some(other) if other != publishing && !node.is_new_key(&publishing) => {
            Err(AnnounceError::OtherPublisher)
        }
        _ => Ok(()),
    }
}

/// The records of a shop, the head's first: the shop's name leads to the publishing key's name, and that
/// to the head. Without the shop key its record stays as it is, and is told with the head's.
fn sign(
    node: &Node,
    settings: &Settings,
    head: &Head,
    now: Timestamp,
) -> Result<Vec<(Name, Record)>, AnnounceError> {
    check_publisher(node)?;
    let keys = node.keys();
    let publishing_key = keys.publishing.key()?;
    let (shop, publishing) = (keys.shop.name(), name_of(publishing_key));
    let validity = now
        .saturating_add(settings.lifetime)
        .unwrap_or(Timestamp::MAX);
    let value = format!("/ipfs/{}", head.root);
    let head_record = ipns::sign(publishing_key, &value, head.seq, validity, RECORD_TTL);
    let head_record = newest_of(node, &publishing, head_record)?;

    let value = format!("/ipns/{publishing}");
    let Some(shop_key) = keys.shop.key() else {
        return match before::kept(node, &shop)? {
            Some(known) if known.value != value => Err(AnnounceError::OtherPublisher),
            known => {
                warn_of_expiry(known.as_ref(), now);
                let shop_record = known.map(|known| (shop, known));
                let records = [(publishing, head_record)].into_iter().chain(shop_record);
                Ok(records.collect())
            }
        };
    };
    let sequence = shop_sequence(node, &shop, &value)?;
    let shop_record = ipns::sign(shop_key, &value, sequence, validity, RECORD_TTL);
    let shop_record = newest_of(node, &shop, shop_record)?;
    Ok(vec![(publishing, head_record), (shop, shop_record)])
}

/// Says in time that the shop's links will end: only the shop key, which is somewhere else, can sign its
/// record again.
fn warn_of_expiry(record: Option<&Record>, now: Timestamp) {
    let ends = record.map(|record| record.validity);
    if ends.is_none_or(|ends| ends.duration_since(now) < EXPIRY_WARNING) {
        let ends = ends.map_or_else(
            || "has ended".to_owned(),
            |ends| format!("ends at {ends:.0}"),
        );
        tracing::warn!(
            "the record that the shop's links need {ends}: `duka key import FILE` brings the shop key back, which \
             signs it again"
        );
    }
}

/// The sequence number of the next record of the shop key: it grows when the record leads elsewhere.
pub(crate) fn shop_sequence(node: &Node, shop: &Name, value: &str) -> Result<u64, AnnounceError> {
    let before = match before::kept(node, shop)? {
        Some(known) if known.value == value => return Ok(known.sequence),
        // It leads to another publishing key.
        Some(known) => known.sequence,
        None => {
            let expired = node.manifest().name(&shop.to_bytes())?;
            expired.map_or(0, |record| record.sequence)
        }
    };
    before.checked_add(1).ok_or(AnnounceError::ShopNumbers)
}

/// The new record, or the kept one where that says the same for longer: the clock was set back.
pub(crate) fn newest_of(node: &Node, name: &Name, record: Record) -> Result<Record, ManifestError> {
    let same = |known: &Record| (known.sequence, &known.value) == (record.sequence, &record.value);
    Ok(match before::kept(node, name)? {
        Some(known) if same(&known) && ipns::newer(&known, &record) => known,
        _ => record,
    })
}

/// Keeps the records: that of the shop's key unless a newer one is known, which it may have signed elsewhere.
pub(crate) fn put_names(
    change: &mut Change,
    shop: &Name,
    records: &[(Name, Record)],
    now: Timestamp,
) {
    for (name, record) in records {
        if name == shop {
            let newest = Expect::NoNewerRecord(name.clone(), record.clone());
            change.expect.push(newest);
        }
        let kept = NameRecord {
            bytes: record.bytes.clone(),
            sequence: record.sequence,
            seen: now,
        };
        change.ops.push(Op::PutName(name.to_bytes(), kept));
    }
}

/// Tells the network as far as it listens; what it misses is told again by the republisher and the
/// provide queue.
pub(crate) async fn tell(node: &Node, records: &[(Name, Record)]) {
    let Some(network) = node.network() else {
        return;
    };
    for (name, record) in records {
        // Fails only when the network is off, which the DHT says as well.
        network.tell(name, record).await.ok();
    }
    for (name, record) in records {
        if let Err(error) = network.put_record(name, record).await {
            tracing::debug!(%name, %error, "nobody took a record");
        }
    }
}
