//! PROVIDE: tells the DHT, again and again, which content is here: releases, pins and the shop, with
//! the files and directories below them, but not the chunks of files.
//!
//! A round goes over all roots in the order of their CIDs. How far it came is in the manifest, so
//! a restart goes on there. What was just published goes first. At most `PARALLEL` records are
//! under way, `SPACING` apart.

mod entries;

use std::time::Duration;

use cid::Cid;
use futures::future;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::entries::Entries;
use super::{NetError, Network};
use crate::manifest::change::{Change, Op};
use crate::manifest::{Manifest, ManifestError};
use crate::store::{Store, StoreError};

/// Records under way at once.
const PARALLEL: usize = 8;
/// Least time between two records.
const SPACING: Duration = Duration::from_millis(5);
/// The cursor is stored this often at most: each time is a sync of the journal.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);
/// First pause when no peer takes a record; doubles up to [`LONGEST_RETRY`].
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(5 * 60);
/// New roots that wait.
const URGENT: usize = 256;
/// Where the cursor is in the manifest.
const CURSOR: &str = "net/provide";
const CURSOR_VERSION: u32 = 1;

/// Tells the worker about new content. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Provider {
    urgent: mpsc::Sender<Cid>,
}

impl Provider {
    /// Announces the tree below `root` before anything else. When too many wait, it is left to the
    /// next round.
    pub fn soon(&self, root: Cid) {
        if self.urgent.try_send(root).is_err() {
            tracing::debug!(%root, "left to the next round of announcements");
        }
    }
}

/// The worker; its owner runs it.
#[derive(Debug)]
pub struct Worker {
    network: Network,
    store: Store,
    manifest: Manifest,
    interval: Duration,
    urgent: mpsc::Receiver<Cid>,
    saved: Instant,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum ProvideError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far the round came.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
struct Cursor {
    version: u32,
    /// When the round began.
    started: Timestamp,
    /// The root that is under way; all smaller ones are done. `None`: the round is over.
    root: Option<Cid>,
    /// Entries of that root that are done.
    done: u64,
}

/// Makes the worker that announces everything each `interval`.
pub fn new(
    network: Network,
    store: Store,
    manifest: Manifest,
    interval: Duration,
) -> (Provider, Worker) {
    let (sender, urgent) = mpsc::channel(URGENT);
    let worker = Worker {
        network,
        store,
        manifest,
        interval,
        urgent,
        saved: Instant::now(),
    };
    (Provider { urgent: sender }, worker)
}

impl Worker {
    /// Announces until `stop`.
    ///
    /// # Cancel safety
    /// A round that is cut off goes on from the last stored cursor.
    pub async fn run(mut self, stop: CancellationToken) {
        let rounds = async {
            loop {
                match self.round().await {
                    Ok(()) => {}
                    Err(ProvideError::Net(NetError::Off)) => return,
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "announcing content failed"
                        );
                        tokio::time::sleep(LONGEST_RETRY).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(rounds).await;
    }

    /// Waits until a round is due or under way, and finishes it.
    async fn round(&mut self) -> Result<(), ProvideError> {
        let mut cursor = match self.load()? {
            Some(cursor) if cursor.root.is_some() => cursor,
            finished => {
                if let Some(finished) = finished {
                    self.wait_until_due(finished.started).await?;
                }
                Cursor {
                    version: CURSOR_VERSION,
                    started: Timestamp::now(),
                    root: None,
                    done: 0,
                }
            }
        };
        for root in self.roots(cursor.root)? {
            if cursor.root != Some(root) {
                cursor.root = Some(root);
                cursor.done = 0;
            }
            self.provide_tree(&mut cursor, root).await?;
        }
        cursor.root = None;
        cursor.done = 0;
        self.save(&cursor).await
    }

    /// Announces new roots meanwhile.
    async fn wait_until_due(&mut self, started: Timestamp) -> Result<(), ProvideError> {
        let age = Timestamp::now().duration_since(started).unsigned_abs();
        let due = Instant::now() + self.interval.saturating_sub(age);
        // A closed channel has no more new roots: only the time counts.
        while let Ok(Some(root)) = tokio::time::timeout_at(due, self.urgent.recv()).await {
            self.provide_all(root).await?;
        }
        tokio::time::sleep_until(due).await;
        Ok(())
    }

    /// Pins and the head, from `from` on, sorted.
    fn roots(&self, from: Option<Cid>) -> Result<Vec<Cid>, ProvideError> {
        let mut roots = Vec::new();
        for pin in self.manifest.pins() {
            roots.push(pin?.0);
        }
        roots.extend(self.manifest.head()?.map(|head| head.root));
        roots.retain(|root| from.is_none_or(|from| *root >= from));
        roots.sort();
        roots.dedup();
        Ok(roots)
    }

    /// Announces the entries of one root from the cursor on; new roots go in between.
    async fn provide_tree(&mut self, cursor: &mut Cursor, root: Cid) -> Result<(), ProvideError> {
        let mut entries = Entries::new(&self.store, &self.manifest, root);
        let mut skip = cursor.done;
        loop {
            while let Ok(new) = self.urgent.try_recv() {
                self.provide_all(new).await?;
            }
            let batch = entries.next(PARALLEL).await?;
            if batch.is_empty() {
                return Ok(());
            }
            let length = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            if skip >= length {
                skip -= length;
                continue;
            }
            skip = 0;
            provide_batch(&self.network, &batch).await?;
            cursor.done += length;
            if self.saved.elapsed() >= SAVE_INTERVAL {
                self.save(cursor).await?;
            }
        }
    }

    async fn provide_all(&self, root: Cid) -> Result<(), ProvideError> {
        let mut entries = Entries::new(&self.store, &self.manifest, root);
        loop {
            let batch = entries.next(PARALLEL).await?;
            if batch.is_empty() {
                return Ok(());
            }
            provide_batch(&self.network, &batch).await?;
        }
    }

    fn load(&self) -> Result<Option<Cursor>, ProvideError> {
        let Some(bytes) = self.manifest.state(CURSOR)? else {
            return Ok(None);
        };
        // A cursor of another version starts a new round: every record is announced once more.
        let cursor = serde_ipld_dagcbor::from_slice::<Cursor>(&bytes).ok();
        Ok(cursor.filter(|cursor| cursor.version == CURSOR_VERSION))
    }

    async fn save(&mut self, cursor: &Cursor) -> Result<(), ProvideError> {
        let Ok(bytes) = serde_ipld_dagcbor::to_vec(cursor) else {
            return Ok(());
        };
        let change = Change {
            ops: vec![Op::PutState(CURSOR.to_owned(), bytes)],
            ..Change::default()
        };
        self.manifest.commit(change).await?;
        self.saved = Instant::now();
        Ok(())
    }
}

/// Announces each; returns when peers have all the records.
async fn provide_batch(network: &Network, batch: &[Cid]) -> Result<(), NetError> {
    let start = Instant::now();
    let records = (0u32..).zip(batch).map(|(turn, cid)| async move {
        tokio::time::sleep_until(start + SPACING * turn).await;
        provide(network, *cid).await
    });
    future::try_join_all(records).await.map(drop)
}

/// Tries until a peer takes the record.
async fn provide(network: &Network, cid: Cid) -> Result<(), NetError> {
    let mut pause = RETRY;
    loop {
        match network.provide(&cid).await {
            Err(NetError::NotStored { reason }) => {
                tracing::debug!(%cid, reason, "nobody to tell");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_RETRY);
            }
            result => return result,
        }
    }
}
