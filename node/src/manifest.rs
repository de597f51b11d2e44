//! The manifest: products, releases, pins, names and jobs, behind one durable [`Manifest::commit`].
//!
//! An append-only journal is the only commit point; sled is its index and can be rebuilt from it.
//! A commit goes: check the conditions → append to the journal → `fdatasync` → one atomic batch into
//! sled that also stores the applied sequence number → acknowledge. Every open replays what sled has
//! not applied, so recovery runs every day. Formats and crash rules: `node/DESIGN.md`.

pub mod change;
mod checkpoint;
mod draft;
mod files;
mod frame;
pub(crate) mod fuzz;
mod index;
mod journal;
pub mod record;
mod recover;
mod sources;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use cid::Cid;
use tokio::sync::{mpsc, oneshot};

use crate::disk::{Disk, FileSystem};
use crate::ids::{ProductId, Version};
use crate::keys::Name;
use change::{Change, Conflict};
pub(crate) use files::checkpoint_name;
use index::{Index, key};
use record::{
    Counts, Head, Job, JobId, Mirror, NameRecord, Pin, Product, Record, Release, Shop, ShopEntry,
};
pub use sources::Loss;
use writer::{Request, Writer};

/// Changes that may wait for the writer; more callers wait outside.
const QUEUE: usize = 256;

/// Handle to the manifest of one data directory. Cheap to clone.
///
/// Reads come from sled and see everything that was acknowledged. They are short and may be called
/// from async code.
#[derive(Clone, Debug)]
pub struct Manifest {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    index: Index,
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    next_job: AtomicU64,
    /// Released last, when nothing touches the directory any more.
    _lock: File,
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the manifest's writer panicked");
        }
    }
}

/// Settings of a [`Manifest`].
#[derive(Clone, Copy, Debug)]
pub struct ManifestOptions {
    /// A checkpoint is written when the journal reaches this many bytes. Default 64 MiB; smaller
    /// opens faster after a crash.
    pub journal_limit: u64,
    /// Changes are refused when the disk has less free space, in bytes. Default 64 MiB: less than
    /// the block store's, so that pins can still be removed when that is full.
    pub reserve: u64,
}

impl Default for ManifestOptions {
    fn default() -> Self {
        Self {
            journal_limit: 64 << 20,
            reserve: 64 << 20,
        }
    }
}

/// What opening found and repaired.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Journal entries that sled had not applied.
    pub replayed: u64,
    /// Bytes of an unfinished journal entry that were cut off.
    pub truncated_bytes: u64,
    /// Where the old sled directory was put, when it had to be rebuilt.
    pub rebuilt_from: Option<PathBuf>,
}

/// What a check of the manifest wrote anew.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Renewed {
    /// The journal or checkpoint that was damaged or missing.
    pub damaged: PathBuf,
    /// Where it is kept as it was.
    pub aside: Option<PathBuf>,
}

/// Why the manifest refused or failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A condition of the change does not hold; nothing was changed.
    #[error("{0}")]
    Conflict(change::Conflict),
    /// The journal is damaged before its end: acknowledged entries may be missing.
    #[error("the journal {} is damaged at byte {offset}", path.display())]
    Corrupt {
        /// The journal file.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
    },
    /// The journal ends before the index, which gets an entry only after the journal's sync: acknowledged
    /// entries are missing.
    #[error(
        "the index in {} holds change {applied}, the journal ends at {last}: the changes after that were \
         acknowledged and are missing in it",
        dir.display()
    )]
    JournalCut {
        /// The manifest's directory.
        dir: PathBuf,
        /// The last change that the index holds.
        applied: u64,
        /// The last change that the journal holds.
        last: u64,
    },
    /// Journal or checkpoint are damaged, and the index cannot take their place.
    #[error("{} is damaged, and the index is not whole: what it held cannot be written anew", path.display())]
    NotRenewed {
        /// The damaged file.
        path: PathBuf,
    },
    /// Written by a newer duka.
    #[error("{} was written by a newer duka (format {found}; this one knows {known})", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// The disk is full or under the reserve; nothing was changed.
    #[error("the disk holding {} has no room for the manifest", path.display())]
    Full {
        /// The manifest's directory.
        path: PathBuf,
    },
    /// Reading or writing failed. After a failed sync the manifest refuses all changes.
    #[error("{action} {} failed", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// sled failed on an open database. A change that fails so may still be in the journal: the
    /// next open decides.
    #[error("the manifest index failed")]
    Index(#[source] sled::Error),
    /// A stored record does not decode.
    #[error("a {kind} record of the manifest does not decode")]
    Record {
        /// Which kind.
        kind: &'static str,
    },
    /// A record is longer than the manifest takes; nothing was changed.
    #[error("a {kind} of {len} bytes is over the manifest's limit of {limit}")]
    TooLarge {
        /// Which kind.
        kind: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Another process has the manifest open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The manifest's directory.
        path: PathBuf,
    },
    /// The manifest was closed.
    #[error("the manifest is closed")]
    Closed,
}

/// Why the index was not made anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// It does not follow from what is left.
    #[error(transparent)]
    Lost(#[from] Loss),
    /// It cannot be removed or made.
    #[error(transparent)]
    Failed(#[from] ManifestError),
}

impl ManifestError {
    /// Whether the cause is a full disk.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => files::is_full(source),
            Self::Index(sled::Error::Io(source)) => files::is_full(source),
            _ => false,
        }
    }
}

impl Manifest {
    /// Opens or makes the manifest in `dir`, replaying what sled has not applied. Blocking.
    pub fn open(dir: &Path) -> Result<(Self, Recovery), ManifestError> {
        Self::open_with(dir, ManifestOptions::default())
    }

    /// [`Manifest::open`] with other settings than the default.
    pub fn open_with(
        dir: &Path,
        options: ManifestOptions,
    ) -> Result<(Self, Recovery), ManifestError> {
        Self::open_on(Arc::new(FileSystem), dir, options)
    }

    /// [`Manifest::open_with`] on another file system.
    #[doc(hidden)]
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: ManifestOptions,
    ) -> Result<(Self, Recovery), ManifestError> {
        files::make_dir(disk.as_ref(), dir)?;
        let lock = files::lock(disk.as_ref(), dir)?;
        let (index, journal, recovery) = recover::open(&disk, dir, &options)?;
        let last_job = index.number(key::LAST_JOB)?.unwrap_or(0);
        let writer = Writer::new(disk, dir.to_owned(), index.clone(), journal, options);
        let (requests, receiver) = mpsc::channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("manifest".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(|e| io_error("starting the writer of", dir, e))?;
        let inner = Inner {
            index,
            requests: Some(requests),
            writer: Some(writer),
            next_job: AtomicU64::new(last_job.saturating_add(1)),
            _lock: lock,
        };
        let manifest = Self {
            inner: Arc::new(inner),
        };
        Ok((manifest, recovery))
    }

    /// Whether `dir` has neither a checkpoint nor the beginning of a journal: there was no manifest, or
    /// it is gone.
    pub(crate) fn is_absent(dir: &Path) -> Result<bool, ManifestError> {
        files::is_absent(dir)
    }

    /// Makes the index anew from checkpoint and journal, and opens the manifest. The index before is
    /// set aside. Blocking.
    ///
    /// # Errors
    /// [`RebuildError::Lost`] says what is not in them any more; the index is as it was then.
    pub fn rebuild(dir: &Path) -> Result<Self, RebuildError> {
        sources::give_index_up(dir)?;
        Ok(Self::open(dir)?.0)
    }

    /// Sets the index aside, so that the next open makes it anew. Blocking.
    ///
    /// # Errors
    /// [`RebuildError::Lost`] when it would not be what it was; it stays then.
    pub(crate) fn forget_index(dir: &Path) -> Result<(), RebuildError> {
        if !files::index_path(dir).exists() {
            return Ok(());
        }
        sources::give_index_up(dir)
    }

    /// Checks the change's conditions, then makes all of it durable, or nothing. Changes that wait
    /// at the same time share one sync. Returns the sequence number of the journal entry.
    ///
    /// # Errors
    /// [`ManifestError::Conflict`], [`ManifestError::TooLarge`] and [`ManifestError::Full`] change
    /// nothing. After [`ManifestError::Io`] and [`ManifestError::Index`] all further changes are
    /// refused until the manifest is opened again; reads go on.
    ///
    /// # Cancel safety
    /// A dropped future leaves the change either whole or absent.
    pub async fn commit(&self, change: Change) -> Result<u64, ManifestError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::Commit(change, reply)).await?;
        answer.await.map_err(|_| ManifestError::Closed)?
    }

    /// [`Manifest::commit`] for blocking callers.
    pub fn commit_blocking(&self, change: Change) -> Result<u64, ManifestError> {
        futures::executor::block_on(self.commit(change))
    }

    /// Finishes the changes that wait, writes a checkpoint when the journal has grown, and refuses
    /// further changes. Without it nothing is lost; the next open only takes longer.
    pub async fn close(&self) -> Result<(), ManifestError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::Close(reply)).await?;
        answer.await.map_err(|_| ManifestError::Closed)?
    }

    /// Writes a checkpoint of everything that was acknowledged to `path`, durably but for its name.
    /// Returns the sequence number of the last entry in it. Changes wait meanwhile. Blocking.
    pub(crate) fn export(&self, disk: Arc<dyn Disk>, path: PathBuf) -> Result<u64, ManifestError> {
        futures::executor::block_on(async {
            let (reply, answer) = oneshot::channel();
            self.request(Request::Export(disk, path, reply)).await?;
            answer.await.map_err(|_| ManifestError::Closed)?
        })
    }

    /// Reads journal and checkpoint. Where one is damaged, cut or missing, both are written anew from the index,
    /// and what was damaged is set aside. Changes wait meanwhile. Blocking.
    ///
    /// # Errors
    /// [`ManifestError::NotRenewed`] when the index is not whole either.
    pub(crate) fn check(&self) -> Result<Option<Renewed>, ManifestError> {
        futures::executor::block_on(async {
            let (reply, answer) = oneshot::channel();
            self.request(Request::Check(reply)).await?;
            answer.await.map_err(|_| ManifestError::Closed)?
        })
    }

    async fn request(&self, request: Request) -> Result<(), ManifestError> {
        let requests = self.inner.requests.as_ref().ok_or(ManifestError::Closed)?;
        requests
            .send(request)
            .await
            .map_err(|_| ManifestError::Closed)
    }

    /// A number for a new job, higher than all before. It may stay unused.
    pub fn new_job_id(&self) -> JobId {
        self.inner.next_job.fetch_add(1, Ordering::Relaxed)
    }

    /// How many records there are. Cheap.
    pub fn counts(&self) -> Result<Counts, ManifestError> {
        Ok(self.inner.index.record(key::COUNTS)?.unwrap_or_default())
    }

    /// One product.
    pub fn product(&self, id: &ProductId) -> Result<Option<Product>, ManifestError> {
        self.inner.index.record(&key::product(id))
    }

    /// [`Manifest::product`] of one that must be there.
    ///
    /// # Errors
    /// [`Conflict::NoProduct`].
    pub fn known_product(&self, id: &ProductId) -> Result<Product, ManifestError> {
        self.product(id)?.ok_or_else(|| {
            ManifestError::Conflict(Conflict::NoProduct {
                product: id.clone(),
            })
        })
    }

    /// All products, by id.
    pub fn products(
        &self,
    ) -> impl Iterator<Item = Result<(ProductId, Product), ManifestError>> + use<> {
        self.records(key::PRODUCT, |id| index::decode_id(&id, Product::KIND))
    }

    /// One release.
    pub fn release(
        &self,
        product: &ProductId,
        version: &Version,
    ) -> Result<Option<Release>, ManifestError> {
        self.inner.index.record(&key::release(product, version))
    }

    /// [`Manifest::release`] of one that must be there.
    ///
    /// # Errors
    /// [`Conflict::NoProduct`] and [`Conflict::NoRelease`].
    pub fn known_release(
        &self,
        product: &ProductId,
        version: &Version,
    ) -> Result<Release, ManifestError> {
        if let Some(release) = self.release(product, version)? {
            return Ok(release);
        }
        self.known_product(product)?;
        Err(ManifestError::Conflict(Conflict::NoRelease {
            product: product.clone(),
            version: version.clone(),
        }))
    }

    /// The releases of a product, oldest first.
    pub fn releases(
        &self,
        product: &ProductId,
    ) -> impl DoubleEndedIterator<Item = Result<(Version, Release), ManifestError>> + use<> {
        let index = self.inner.index.clone();
        let product = product.clone();
        self.inner
            .index
            .scan(&key::releases_in_order(&product))
            .map(move |item| {
                let (_, version) = index::split_order(&item?.0)?;
                let release = index.record(&key::release(&product, &version))?;
                let release = release.ok_or(ManifestError::Record {
                    kind: Release::KIND,
                })?;
                Ok((version, release))
            })
    }

    /// The release of a product that has this number.
    pub fn release_by_number(
        &self,
        product: &ProductId,
        number: u64,
    ) -> Result<Option<(Version, Release)>, ManifestError> {
        let Some(version) = self.inner.index.version_of(product, number)? else {
            return Ok(None);
        };
        let release = self.release(product, &version)?;
        Ok(release.map(|release| (version, release)))
    }

    /// The number that the next release of a product gets, from 1. Commit it under
    /// [`change::Expect::NextRelease`].
    pub fn next_release_number(&self, product: &ProductId) -> Result<u64, ManifestError> {
        let last = self.inner.index.last_release_number(product)?;
        Ok(last.saturating_add(1))
    }

    /// One pin.
    pub fn pin(&self, cid: &Cid) -> Result<Option<Pin>, ManifestError> {
        self.inner.index.record(&key::pin(cid))
    }

    /// All pins.
    pub fn pins(&self) -> impl Iterator<Item = Result<(Cid, Pin), ManifestError>> + use<> {
        self.records(key::PIN, |cid| index::decode_cid(&cid))
    }

    /// Whether a job is not done.
    pub fn has_job(&self, id: JobId) -> Result<bool, ManifestError> {
        self.inner.index.has(&key::job(id))
    }

    /// Jobs that are not done, oldest first.
    pub fn jobs(&self) -> impl Iterator<Item = Result<(JobId, Job), ManifestError>> + use<> {
        self.records(key::JOB, |id| index::decode_number(&id))
    }

    /// The newest head of the own shop.
    pub fn head(&self) -> Result<Option<Head>, ManifestError> {
        self.inner.index.record(key::HEAD)
    }

    /// What the own shop says of itself.
    pub fn shop(&self) -> Result<Shop, ManifestError> {
        Ok(self.inner.index.record(key::SHOP)?.unwrap_or_default())
    }

    /// The newest IPNS record known for a name (binary multihash of the key).
    pub fn name(&self, name: &[u8]) -> Result<Option<NameRecord>, ManifestError> {
        self.inner.index.record(&key::name(name))
    }

    /// All names with a stored record.
    pub fn names(
        &self,
    ) -> impl Iterator<Item = Result<(Vec<u8>, NameRecord), ManifestError>> + use<> {
        self.records(key::NAME, Ok)
    }

    /// A small value of a worker ([`change::Op::PutState`]).
    pub fn state(&self, key: &str) -> Result<Option<Vec<u8>>, ManifestError> {
        self.inner.index.get(&key::state(key))
    }

    /// A mirrored shop.
    pub fn mirror(&self, shop: &Name) -> Result<Option<Mirror>, ManifestError> {
        self.inner.index.record(&key::mirror(&shop.to_bytes()))
    }

    /// All mirrored shops.
    pub fn mirrors(&self) -> impl Iterator<Item = Result<(Name, Mirror), ManifestError>> + use<> {
        self.records(key::MIRROR, |name| {
            let kind = Mirror::KIND;
            Name::from_bytes(&name).map_err(|_| ManifestError::Record { kind })
        })
    }

    /// Every product's revision, which changes with the product or any of its releases, and what
    /// the newest head holds of it. By id.
    pub fn shop_entries(
        &self,
    ) -> impl Iterator<Item = Result<(ProductId, u64, Option<ShopEntry>), ManifestError>> + use<>
    {
        let index = self.inner.index.clone();
        self.inner.index.scan(&[key::REVISION]).map(move |item| {
            let (id, revision) = item?;
            let id = index::decode_id(&id, Product::KIND)?;
            let entry = index.record(&key::shop_entry(&id))?;
            Ok((id, index::decode_number(&revision)?, entry))
        })
    }

    fn records<K, R: Record, F: Fn(Vec<u8>) -> Result<K, ManifestError>>(
        &self,
        prefix: u8,
        decode_key: F,
    ) -> impl Iterator<Item = Result<(K, R), ManifestError>> + use<K, R, F> {
        self.inner.index.scan(&[prefix]).map(move |item| {
            let (key, value) = item?;
            Ok((decode_key(key)?, R::decode(&value)?))
        })
    }
}

fn io_error(action: &'static str, path: &Path, error: std::io::Error) -> ManifestError {
    ManifestError::Io {
        action,
        path: path.to_owned(),
        source: Arc::new(error),
    }
}
