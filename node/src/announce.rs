//! ANNOUNCE: the worker behind the publish. It computes the checksums of new releases, builds and
//! signs the next head, and tells the network. Its jobs are rows of the manifest, so a restart goes
//! on where it stopped.

mod checksum;
mod failed;

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::ipns::{self, Record};
use crate::keys::{Name, name_of};
use crate::manifest::ManifestError;
use crate::manifest::change::{Change, Expect, Op};
use crate::manifest::record::{Head, Job, JobId, NameRecord};
use crate::node::Node;
use crate::shop::{self, HeadInput, ShopError};
use crate::store::StoreError;

use failed::FailedJobs;

/// How long a resolved shop name may be cached.
const RECORD_TTL: Duration = Duration::from_secs(60);
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
}

/// Does the jobs as they come, and signs the same head again each `refresh`, until `stop`.
pub(crate) async fn run(node: Node, stop: CancellationToken) {
    let mut failed = FailedJobs::default();
    stop.run_until_cancelled(async {
        loop {
            let pause = match work(&node, &mut failed).await {
                Ok(()) => node.config().shop.refresh,
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

/// Checksums first, so that one head covers every release published so far. A release whose
/// checksums cannot be computed is left out of it until they can.
async fn work(node: &Node, failed: &mut FailedJobs) -> Result<(), AnnounceError> {
    for job in node.manifest().jobs() {
        let (id, Job::Checksum(product, version)) = job? else {
            continue;
        };
        if !failed.is_due(id) {
            continue;
        }
        match checksum::record_release(node, id, &product, &version).await {
            Ok(()) => failed.remove(id),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "{product} {version} is not announced for now");
                failed.add(id);
            }
        }
    }
    let mut announce = Vec::new();
    for job in node.manifest().jobs() {
        if let (id, Job::Announce) = job? {
            announce.push(id);
        }
    }
    if announce.is_empty() {
        refresh(node).await
    } else {
        next_head(node, announce).await
    }
}

/// Builds the next head, makes it durable with its signed records, then tells the network.
async fn next_head(node: &Node, done: Vec<JobId>) -> Result<(), AnnounceError> {
    let previous = node.manifest().head()?;
    let now = Timestamp::now();
    let shop = &node.config().shop;
    let seq = previous.as_ref().map_or(0, |head| head.seq);
    let input = HeadInput {
        title: shop.title.clone(),
        seq: seq + 1,
        prev: previous.as_ref().map(|head| head.root),
        issued: now,
        lifetime: shop.lifetime.as_secs(),
        refresh: shop.refresh.as_secs(),
        gateways: shop.gateways.clone(),
        mirrors: shop.mirrors.clone(),
    };
    let mut temp_pin = node.manifest().temp_pins().begin();
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
    let records = sign(node, &head, now)?;
    let mut ops = built.cache;
    ops.push(Op::PutHead(head.clone()));
    ops.extend(
        records
            .iter()
            .map(|(name, record)| put_name(name, record, now)),
    );
    ops.extend(done.into_iter().map(Op::DeleteJob));
    node.manifest()
        .commit(Change {
            expect: vec![Expect::HeadSeq(seq)],
            ops,
        })
        .await?;

    tracing::info!(seq = head.seq, root = %head.root, "new head");
    node.offer(head.root);
    node.head_changed(head);
    tell(node, &records).await;
    Ok(())
}

/// Signs the current head again when its record is older than `refresh`.
async fn refresh(node: &Node) -> Result<(), AnnounceError> {
    let Some(head) = node.manifest().head()? else {
        return Ok(());
    };
    let publishing = name_of(&node.keys().publishing);
    let signed = node
        .manifest()
        .name(&publishing.to_bytes())?
        .map(|record| record.seen);
    let now = Timestamp::now();
    let age = signed.map(|signed| now.duration_since(signed).unsigned_abs());
    if age.is_some_and(|age| age < node.config().shop.refresh) {
        return Ok(());
    }
    let records = sign(node, &head, now)?;
    let ops = records
        .iter()
        .map(|(name, record)| put_name(name, record, now))
        .collect();
    let expect = vec![Expect::HeadSeq(head.seq)];
    node.manifest().commit(Change { expect, ops }).await?;
    tell(node, &records).await;
    Ok(())
}

/// The two records of a shop: its name leads to the publishing key's name, and that to the head.
fn sign(node: &Node, head: &Head, now: Timestamp) -> Result<Vec<(Name, Record)>, ManifestError> {
    let keys = node.keys();
    let (shop, publishing) = (name_of(&keys.shop), name_of(&keys.publishing));
    let validity = now
        .saturating_add(node.config().shop.lifetime)
        .unwrap_or(Timestamp::MAX);
    let value = format!("/ipfs/{}", head.root);
    let head_record = ipns::sign(&keys.publishing, &value, head.seq, validity, RECORD_TTL);

    let value = format!("/ipns/{publishing}");
    let known = node.manifest().name(&shop.to_bytes())?;
    let sequence = known.map_or(1, |record| record.sequence);
    let shop_record = ipns::sign(&keys.shop, &value, sequence, validity, RECORD_TTL);
    Ok(vec![(publishing, head_record), (shop, shop_record)])
}

fn put_name(name: &Name, record: &Record, now: Timestamp) -> Op {
    let kept = NameRecord {
        bytes: record.bytes.clone(),
        sequence: record.sequence,
        seen: now,
    };
    Op::PutName(name.to_bytes(), kept)
}

/// Tells the network as far as it listens; what it misses is told again by the republisher and the
/// provide queue.
async fn tell(node: &Node, records: &[(Name, Record)]) {
    let Some(network) = node.network() else {
        return;
    };
    for (name, record) in records {
        if let Err(error) = network.put_record(name, record).await {
            tracing::debug!(%name, %error, "nobody took a record");
        }
    }
}
