//! PROVIDE: tells the DHT, again and again, which content is here: releases, pins and the shop, with
//! the files and directories below them, but not the chunks of files.
//!
//! A round goes over all roots in the order of their CIDs. How far it came is in the manifest, so
//! a restart goes on there. What was just published goes first. At most `PARALLEL` records are
//! under way, `SPACING` apart.

mod entries;

use std::collections::BTreeSet;
use std::future::ready;
use std::pin::pin;
use std::time::Duration;

use cid::Cid;
use futures::{Stream, StreamExt, TryStreamExt, stream};
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
            self.provide_new(root).await?;
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
        for row in self.manifest.mirrors() {
            let (_, mirror) = row?;
            roots.extend(mirror.held.map(|held| held.head.root));
        }
        roots.retain(|root| from.is_none_or(|from| *root >= from));
        roots.sort();
        roots.dedup();
        Ok(roots)
    }

    /// Announces the entries of one root from the cursor on; new roots go in between.
    async fn provide_tree(&mut self, cursor: &mut Cursor, root: Cid) -> Result<(), ProvideError> {
        let mut entries = self.entries(root);
        entries.skip(cursor.done).await?;
        let mut done = InOrder::from(cursor.done);
        let mut announced = pin!(self.announce(entries));
        loop {
            tokio::select! {
                Some(new) = self.urgent.recv() => {
                    self.provide_new(new).await?;
                }
                entry = announced.next() => {
                    let Some(entry) = entry else { return Ok(()) };
                    cursor.done = done.add(entry?);
                    if self.saved.elapsed() >= SAVE_INTERVAL {
                        self.save(cursor).await?;
                    }
                }
            }
        }
    }

    async fn provide_new(&self, root: Cid) -> Result<(), ProvideError> {
        let announced = self.announce(self.entries(root));
        announced.try_for_each(|_| ready(Ok(()))).await
    }

    /// Announces all entries; yields the position of each, from 0, as peers have its record.
    fn announce(&self, entries: Entries) -> impl Stream<Item = Result<u64, ProvideError>> + use<> {
        let network = self.network.clone();
        let pace = tokio::time::interval(SPACING);
        stream::try_unfold((entries, pace), |(mut entries, mut pace)| async move {
            let Some(cid) = entries.next().await? else {
                return Ok(None);
            };
            pace.tick().await;
            Ok::<_, ProvideError>(Some((cid, (entries, pace))))
        })
        .zip(stream::iter(0..))
        .map(move |(cid, position)| {
            let network = network.clone();
            async move {
                provide(&network, cid?).await?;
                Ok(position)
            }
        })
        .buffer_unordered(PARALLEL)
    }

    fn entries(&self, root: Cid) -> Entries {
        Entries::new(&self.store, &self.manifest, root)
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

/// How many entries are done without a gap, when they end in any order.
struct InOrder {
    done: u64,
    first: u64,
    ahead: BTreeSet<u64>,
}

impl InOrder {
    /// `first` were done before.
    fn from(first: u64) -> Self {
        Self {
            done: first,
            first,
            ahead: BTreeSet::new(),
        }
    }

    /// Adds the entry at this position after the first ones.
    fn add(&mut self, position: u64) -> u64 {
        self.ahead.insert(self.first + position);
        while self.ahead.remove(&self.done) {
            self.done += 1;
        }
        self.done
    }
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

#[cfg(test)]
mod tests;
