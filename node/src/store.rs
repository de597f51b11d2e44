//! Blocks on disk: append-only pack files.
//!
//! [`Store::put`] appends to the newest pack of a kind through a writer thread; [`Store::commit`]
//! closes the commit with a footer and syncs. A crash loses nothing that a `commit` covered: the next
//! open cuts the pack after the last whole footer and the whole blocks behind it. Full packs are sealed and get an index file. A
//! block that is found damaged counts as absent, so that it can be put again. `node/DESIGN.md` has
//! the byte layout.

mod append;
mod buffer;
mod catalog;
mod check;
mod collect;
mod commit;
mod damage;
mod direct;
mod error;
mod evict;
mod filter;
mod find;
mod in_place;
mod in_use;
mod index;
mod keep;
mod layout;
mod open;
mod open_dir;
mod place;
mod put;
mod read;
mod recover;
mod reflink;
mod sealed;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::append::{Appender, Shared};
use self::catalog::Catalog;
pub use self::check::{CheckCursor, CheckedPack, Depth, Indexes, Renewable};
pub use self::collect::{Collected, Collection, Mark, Session};
use self::commit::Commits;
pub use self::error::StoreError;
pub use self::in_place::{Origin, SourceFile};
pub use self::keep::Keep;
use self::put::OnPut;
use self::read::Reader;
pub use self::reflink::{Extent, Snapshot};
pub use self::sealed::SealedPack;
use crate::disk::{Disk, FileSystem};

/// Which packs a block belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackKind {
    /// Held on purpose: published, pinned or imported.
    Kept,
    /// Fetched for a request; may be evicted.
    Cache,
}

impl PackKind {
    const ALL: [Self; 2] = [Self::Kept, Self::Cache];

    fn slot(self) -> usize {
        usize::from(self.code())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Cache => "cache",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Kept => 0,
            Self::Cache => 1,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// Which blocks somebody may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All that are here.
    All,
    /// Those held on purpose: in kept packs, or there but for damage.
    OnPurpose,
}

/// Settings of a [`Store`].
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// A pack is sealed when it reaches this many bytes. Default 512 MiB.
    pub pack_size: u64,
    /// New writes are refused when the disk has less free space, in bytes. Default 1 GiB; tests
    /// lower it.
    pub reserve: u64,
    /// Most bytes that the packs may take; 0, the default, is without limit.
    pub max_size: u64,
    /// Most bytes that cache packs may take; 0 is without limit of their own. Default 8 GiB.
    pub cache_size: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            pack_size: 512 << 20,
            reserve: 1 << 30,
            max_size: 0,
            cache_size: 8 << 30,
        }
    }
}

/// Handle to the block store of one data directory. Cheap to clone; all methods take `&self`.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What opening found and repaired.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Bytes of unacknowledged tail that were cut off.
    pub truncated_bytes: u64,
    /// Whole blocks behind the last footer of a pack, which were kept: the footer that lists them
    /// was never written, or is damaged.
    pub unlisted_blocks: usize,
    /// Blocks of the last commits whose bytes do not match: damaged since, or never acknowledged. And those
    /// that a pack has become too short to hold.
    pub damaged_blocks: usize,
    /// Index files that were rebuilt from their pack.
    pub rebuilt_indexes: usize,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Pack files.
    pub packs: u64,
    /// Blocks in kept packs.
    pub kept_blocks: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Blocks in cache packs.
    pub cache_blocks: u64,
    /// Their bytes.
    pub cache_bytes: u64,
    /// Bytes of the pack files on disk.
    pub disk_bytes: u64,
    /// Those of kept packs.
    pub kept_disk_bytes: u64,
    /// Those of cache packs.
    pub cache_disk_bytes: u64,
    /// Bytes that may still be written to the disk, the reserve included.
    pub free_bytes: u64,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    appenders: [Mutex<Appender>; 2],
    commits: Commits,
    on_put: OnceLock<OnPut>,
    /// Held by the one eviction.
    evicting: Mutex<()>,
    /// `None` once nothing more is written.
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Inner {
    /// Writes what is on its way, and nothing ever after.
    fn finish(&self) {
        let Some(writer) = self.writer.lock().take() else {
            return;
        };
        // Nobody appends meanwhile.
        let mut appenders = self.appenders.each_ref().map(Mutex::lock);
        // The next open need not check what was committed.
        for appender in &mut appenders {
            appender.checkpoint(&self.shared);
        }
        self.shared.queue.close();
        // Its panics end up in the queue.
        drop(writer.join());
        if self.shared.queue.is_full() {
            self.give_room_back();
        }
        self.shared.queue.fail(StoreError::HandedOver);
    }

    /// Cuts off what was written and never acknowledged: the disk is full, and no garbage collection
    /// could take it before the next open.
    fn give_room_back(&self) {
        for pack in self.shared.catalog.open_packs() {
            let file = pack.file();
            let cut = file.metadata().and_then(|found| {
                let is_longer = found.len() > pack.synced();
                is_longer
                    .then(|| self.shared.catalog.disk().set_len(&file, pack.synced()))
                    .transpose()
            });
            if let Err(error) = cut {
                tracing::warn!(pack = %pack.path.display(), %error, "cannot cut an unfinished commit off");
            }
        }
    }
}

fn packs_dir(dir: &Path) -> PathBuf {
    dir.join("packs")
}

impl Store {
    /// Opens or makes the store in the folder `packs` of `dir`, recovering an unfinished tail.
    /// Blocking. The caller holds the lock of the data directory.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<(Self, Recovery), StoreError> {
        Self::open_on(Arc::new(FileSystem), dir, options)
    }

    /// [`Store::open`] on another file system.
    #[doc(hidden)]
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: StoreOptions,
    ) -> Result<(Self, Recovery), StoreError> {
        let packs = packs_dir(dir);
        let above = dir.parent().unwrap_or(dir);
        let made = disk
            .make_dir(&packs)
            .and_then(|()| disk.sync_dir(dir))
            .and_then(|()| disk.sync_dir(above));
        made.map_err(|source| StoreError::io("creating", &packs, source))?;

        let catalog = Catalog::new(&packs, disk);
        let (appenders, recovery) = open_dir::open_dir(&packs, &catalog)?;
        catalog.advance(PackKind::Kept);
        let shared = Arc::new(Shared {
            options,
            catalog,
            queue: writer::Queue::default(),
            pressure: Notify::new(),
            refused: AtomicBool::new(false),
            reader: Reader::new(),
        });
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("duka-packs".to_owned())
            .spawn(move || {
                let Shared { queue, catalog, .. } = &*for_writer;
                let run = AssertUnwindSafe(|| writer::run(queue, catalog));
                if std::panic::catch_unwind(run).is_err() {
                    // Nobody may wait for a thread that is gone.
                    let gone = io::Error::other("the writer thread panicked");
                    queue.fail(StoreError::io("writing", catalog.dir(), gone));
                }
            })
            .map_err(|source| StoreError::io("starting the writer of", &packs, source))?;
        let inner = Inner {
            shared,
            appenders: appenders.map(Mutex::new),
            commits: Commits::default(),
            on_put: OnceLock::new(),
            evicting: Mutex::default(),
            writer: Mutex::new(Some(writer)),
        };
        let store = Self {
            inner: Arc::new(inner),
        };
        Ok((store, recovery))
    }

    /// Whether the store in `dir` has files of packs.
    pub(crate) fn has_files(dir: &Path) -> Result<bool, StoreError> {
        let packs = packs_dir(dir);
        match std::fs::read_dir(&packs) {
            Ok(mut entries) => Ok(entries.next().is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::io("listing", &packs, source)),
        }
    }

    /// Grows whenever a pack is removed: what was read before may be gone.
    pub(crate) fn removals(&self) -> u64 {
        self.inner.shared.catalog.removals()
    }

    #[cfg(test)]
    pub(crate) fn note_removal(&self) {
        self.inner.shared.catalog.note_removal();
    }

    /// Makes everything that was put before this call durable. Concurrent calls share one sync.
    /// Blocking.
    pub fn commit(&self) -> Result<(), StoreError> {
        let Inner {
            shared,
            appenders,
            commits,
            ..
        } = &*self.inner;
        commits.wait(commits.want(), || commit::run_round(shared, appenders))
    }

    /// Makes everything that was put durable, and writes nothing ever after: from then on another process
    /// may open the directory, and this one reads what it had. Blocking.
    ///
    /// # Errors
    /// When not everything is durable. Nothing is written any more all the same.
    pub fn hand_over(&self) -> Result<(), StoreError> {
        let committed = self.commit();
        self.inner.finish();
        committed
    }

    /// Counts from the indexes, and the room on the disk.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let mut stats = StoreStats {
            free_bytes: self.free_bytes()?,
            ..StoreStats::default()
        };
        let catalog = &self.inner.shared.catalog;
        let open = catalog.open_packs().into_iter().map(|pack| {
            let (blocks, bytes) = pack.totals();
            (pack.id.kind, blocks, bytes, pack.len())
        });
        let sealed = catalog.sealed_packs().into_iter();
        let sealed = sealed.map(|i| (i.id.kind, i.count, i.bytes, i.pack_len));
        for (kind, blocks, bytes, len) in open.chain(sealed) {
            stats.packs += 1;
            stats.disk_bytes += len;
            match kind {
                PackKind::Kept => {
                    stats.kept_blocks += blocks;
                    stats.kept_bytes += bytes;
                    stats.kept_disk_bytes += len;
                }
                PackKind::Cache => {
                    stats.cache_blocks += blocks;
                    stats.cache_bytes += bytes;
                    stats.cache_disk_bytes += len;
                }
            }
        }
        Ok(stats)
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        let catalog = &self.inner.shared.catalog;
        let dir = catalog.dir();
        let free = catalog.disk().free(dir);
        free.map_err(|source| StoreError::io("asking for the free space of", dir, source))
    }

    /// Copies in packs of `kind` that are known to be damaged.
    pub fn known_damage(&self, kind: PackKind) -> usize {
        self.inner.shared.catalog.damage.count(kind)
    }
}
