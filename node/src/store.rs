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
mod in_place;
mod in_use;
mod index;
mod keep;
mod layout;
mod open;
mod open_dir;
mod place;
mod read;
mod recover;
mod reflink;
mod sealed;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use bytes::Bytes;
use cid::Cid;
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::append::{Appender, Content, New, Shared};
use self::catalog::{Catalog, Located};
pub use self::check::{CheckCursor, CheckedPack, Depth, Indexes, Renewable};
pub use self::collect::{Collected, Collection, Mark, Session};
use self::commit::Commits;
pub use self::error::StoreError;
pub use self::in_place::{Origin, SourceFile};
use self::in_place::{Record, Unread};
pub use self::keep::Keep;
use self::place::Place;
use self::read::{Access, Reader};
pub use self::reflink::{Extent, Snapshot};
pub use self::sealed::SealedPack;
use crate::block::{Block, IDENTITY, MAX_BLOCK_LEN};
use crate::blocking::blocking;
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

/// What came of appending.
#[derive(Debug)]
struct Appended {
    /// The first so many blocks are here now.
    blocks: usize,
    /// Bytes of those that were new.
    bytes: u64,
    result: Result<(), StoreError>,
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

type Listener = dyn Fn(&[&Block]) + Send + Sync;

/// Who is told of new blocks.
struct OnPut(Box<Listener>);

impl fmt::Debug for OnPut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnPut").finish_non_exhaustive()
    }
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

    /// Whether the block is here and not known to be damaged: index only, no data is read. Identity
    /// CIDs always are.
    pub fn has(&self, cid: &Cid) -> Result<bool, StoreError> {
        Ok(cid.hash().code() == IDENTITY || self.locate_whole(cid)?.is_some())
    }

    /// Length of the block in bytes, from the index; `None` where [`Store::has`] is `false`.
    pub fn block_len(&self, cid: &Cid) -> Result<Option<u32>, StoreError> {
        if cid.hash().code() == IDENTITY {
            return Ok(u32::try_from(cid.hash().digest().len()).ok());
        }
        Ok(self.locate_whole(cid)?.map(|located| located.place.len))
    }

    /// [`Store::block_len`] of a block in `reach`.
    pub fn block_len_in(&self, reach: Reach, cid: &Cid) -> Result<Option<u32>, StoreError> {
        let located = match cid.hash().code() {
            IDENTITY => return self.block_len(cid),
            _ => self.locate_whole(cid)?,
        };
        match located {
            Some(located) if self.is_in(reach, cid, &located)? => Ok(Some(located.place.len)),
            _ => Ok(None),
        }
    }

    /// Reads a block and checks its CRC, or its hash where it was added in place. Blocking.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Changed`] when no copy of it is whole. From then on it
    /// counts as absent.
    pub fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.get_in(Reach::All, cid)
    }

    /// [`Store::get`] of a block in `reach`. Blocking.
    pub fn get_in(&self, reach: Reach, cid: &Cid) -> Result<Option<Block>, StoreError> {
        if let Ok(Some(inlined)) = Block::inlined(cid) {
            return Ok(Some(inlined));
        }
        let mut corrupt = None;
        while let Some(located) = self.locate(cid)? {
            if located.damaged
                && let Some(error) = corrupt.take()
            {
                return Err(error);
            }
            if !self.is_in(reach, cid, &located)? {
                return Ok(None);
            }
            let pack = located.pack;
            if pack.kind == PackKind::Cache && !self.inner.shared.catalog.note_use(&located) {
                continue;
            }
            match self.load(cid, located, Access::Wanted) {
                // It is known as damaged now: another copy may be whole.
                Err(error) if error.is_damage() => corrupt = Some(error),
                // Its pack was retired since: there may be a copy.
                Err(_) if !self.inner.shared.catalog.has_pack(pack) => {}
                loaded => return loaded.map(Some),
            }
        }
        Ok(None)
    }

    /// [`Store::get`], with a damaged block taken for an absent one. Blocking.
    pub fn get_whole(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        match self.get(cid) {
            Err(error) if error.is_damage() => Ok(None),
            got => got,
        }
    }

    /// [`Store::get`] off the async runtime.
    pub async fn read(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        let store = self.clone();
        let cid = *cid;
        blocking(move || store.get(&cid)).await
    }

    /// Appends blocks that are not here yet; they can be read at once but are not durable until
    /// [`Store::commit`]. Returns the bytes that were new. Blocking, with back-pressure.
    ///
    /// A block that only a cache pack holds is new to the kept ones.
    ///
    /// # Errors
    /// After [`StoreError::Full`] the blocks before the one that found no room stay; the store
    /// takes more as soon as there is room.
    pub fn put(&self, kind: PackKind, blocks: &[Block]) -> Result<u64, StoreError> {
        self.put_all(kind, blocks.iter().map(|block| (block, &Keep::Copied)))
    }

    /// [`Store::put`], with how the bytes of each block are kept. Of those that stay in place only a record
    /// is written that says where they are, and each read hashes what it finds.
    ///
    /// A block that is here already stays as it is, unless it is in another file that changed, or is not to be
    /// in another file any more.
    pub fn put_from(&self, kind: PackKind, blocks: &[(Block, Keep)]) -> Result<u64, StoreError> {
        self.put_all(kind, blocks.iter().map(|(block, keep)| (block, keep)))
    }

    fn put_all<'a>(
        &self,
        kind: PackKind,
        blocks: impl Iterator<Item = (&'a Block, &'a Keep)>,
    ) -> Result<u64, StoreError> {
        let mut missing = Vec::new();
        let mut new_blocks = Vec::new();
        for (block, keep) in blocks {
            if block.data().len() > MAX_BLOCK_LEN {
                return Err(StoreError::TooLarge {
                    cid: *block.cid(),
                    len: block.data().len(),
                });
            }
            let new = New::of(block, keep);
            if !self.holds_content(kind, &new)? {
                missing.push(new);
                new_blocks.push(block);
            }
        }
        if missing.is_empty() {
            return Ok(0);
        }

        let mut stored = 0;
        let mut new = 0;
        let result = loop {
            let appended = self.append_within_limits(kind, &missing[stored..]);
            stored += appended.blocks;
            new += appended.bytes;
            match appended.result {
                Err(error @ (StoreError::Full { .. } | StoreError::Quota { .. })) => {
                    match self.make_room() {
                        Ok(true) => {}
                        Ok(false) => break Err(error),
                        Err(error) => break Err(error),
                    }
                }
                result => break result,
            }
        };
        if let Some(OnPut(listener)) = self.inner.on_put.get()
            && stored > 0
        {
            listener(&new_blocks[..stored]);
        }
        result.map(|()| new)
    }

    /// Appends blocks if there is room for all of them.
    fn append_within_limits(&self, kind: PackKind, blocks: &[New<'_>]) -> Appended {
        let mut appender = self.inner.appenders[kind.slot()].lock();
        let bytes = blocks.iter().map(New::stored);
        let bytes = bytes.sum::<u64>() + evict::overhead(blocks.len());
        if let Err(error) = self.check_room(bytes) {
            return Appended {
                blocks: 0,
                bytes: 0,
                result: Err(error),
            };
        }
        self.append_to(&mut appender, blocks)
    }

    /// Appends blocks whatever the limits are: what they replace goes at once.
    fn append(&self, kind: PackKind, blocks: &[New<'_>]) -> Appended {
        self.append_to(&mut self.inner.appenders[kind.slot()].lock(), blocks)
    }

    /// Appends blocks up to the first that fails.
    fn append_to(&self, appender: &mut Appender, blocks: &[New<'_>]) -> Appended {
        let shared = &self.inner.shared;
        let mut bytes = 0;
        for (at, block) in blocks.iter().enumerate() {
            // Another caller, or the same batch, may have put it since.
            if appender.contains(shared, block) {
                continue;
            }
            let appended = shared.queue.admit();
            if let Err(error) = appended.and_then(|()| appender.append(shared, block)) {
                return Appended {
                    blocks: at,
                    bytes,
                    result: Err(error),
                };
            }
            bytes += block.len();
        }
        Appended {
            blocks: blocks.len(),
            bytes,
            result: Ok(()),
        }
    }

    /// Has `listener` called with the blocks of each [`Store::put`] that were not here, once they can
    /// be read, on the thread that put them. Only the first listener of a store is called.
    pub fn on_put(&self, listener: impl Fn(&[&Block]) + Send + Sync + 'static) {
        self.inner.on_put.get_or_init(|| OnPut(Box::new(listener)));
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

    /// Whether a `put` into packs of `kind` may leave the block out: a kept block counts as cached,
    /// a cached one does not count as kept. Reads no blocks: of one in a file in place only whether
    /// the file seems to be what it was. A kept block that was found is in use from now on: see
    /// [`Session`].
    pub fn holds(&self, kind: PackKind, cid: &Cid) -> Result<bool, StoreError> {
        if cid.hash().code() == IDENTITY {
            return Ok(true);
        }
        let catalog = &self.inner.shared.catalog;
        loop {
            let located = match kind {
                PackKind::Cache => self.locate_whole(cid)?,
                PackKind::Kept => {
                    let located = catalog.locate(kind, cid.hash())?;
                    located.filter(|located| !located.damaged)
                }
            };
            match located {
                None => return Ok(false),
                Some(located)
                    if located.place.is_in_place() && !self.seems_there(cid, &located) =>
                {
                    return Ok(false);
                }
                Some(located) if catalog.note_use(&located) => return Ok(true),
                // Its pack was retired since: there may be a copy.
                Some(_) => {}
            }
        }
    }

    /// Whether the file that has the block seems to be what it was when it was added in place.
    fn seems_there(&self, cid: &Cid, located: &Located) -> bool {
        let record = self.record(cid, located);
        record.is_ok_and(|record| record.origin.file.seems_unchanged())
    }

    /// Whether a `put` may leave the block out, given what would be put.
    fn holds_content(&self, kind: PackKind, new: &New<'_>) -> Result<bool, StoreError> {
        if kind == PackKind::Kept && new.cid.hash().code() != IDENTITY {
            let located = self.inner.shared.catalog.locate(kind, new.cid.hash())?;
            let located = located.filter(|located| !located.damaged);
            if let Some(located) = located.filter(|located| located.place.is_in_place()) {
                // Bytes that are here are better than those in a file that may change.
                let Content::InPlace { .. } = new.content else {
                    return Ok(false);
                };
                if !self.seems_there(new.cid, &located) {
                    let damage = &self.inner.shared.catalog.damage;
                    damage.note_gone(located.pack, located.place.offset);
                }
            }
        }
        self.holds(kind, new.cid)
    }

    /// The copy to read: one that is known to be damaged only when there is no other.
    fn locate(&self, cid: &Cid) -> Result<Option<Located>, StoreError> {
        let mut damaged = None;
        for kind in PackKind::ALL {
            match self.inner.shared.catalog.locate(kind, cid.hash())? {
                Some(located) if located.damaged => damaged = damaged.or(Some(located)),
                Some(located) => return Ok(Some(located)),
                None => {}
            }
        }
        Ok(damaged)
    }

    /// Whether the copy is of a block in `reach`: a cached one stands for a kept one that is damaged.
    fn is_in(&self, reach: Reach, cid: &Cid, located: &Located) -> Result<bool, StoreError> {
        if reach == Reach::All || located.pack.kind == PackKind::Kept {
            return Ok(true);
        }
        let kept = self
            .inner
            .shared
            .catalog
            .locate(PackKind::Kept, cid.hash())?;
        Ok(kept.is_some())
    }

    fn locate_whole(&self, cid: &Cid) -> Result<Option<Located>, StoreError> {
        Ok(self.locate(cid)?.filter(|located| !located.damaged))
    }

    fn load(&self, cid: &Cid, located: Located, access: Access) -> Result<Block, StoreError> {
        let place = located.place;
        let data = self.stored(cid, &located, access)?;
        if place.is_in_place() {
            return self.load_in_place(cid, &located, &data);
        }
        // It was found that its bytes are not those of its CID; a CRC made of them matches all the same.
        if located.damaged && Block::new(*cid, data.clone()).is_err() {
            return Err(self.corrupt(cid, &located));
        }
        Ok(Block::trusted(*cid, data))
    }

    /// Reads a block where it was added from.
    fn load_in_place(
        &self,
        cid: &Cid,
        located: &Located,
        record: &[u8],
    ) -> Result<Block, StoreError> {
        let Shared {
            catalog, reader, ..
        } = &*self.inner.shared;
        let record = Record::decode(record).ok_or_else(|| self.corrupt(cid, located))?;
        let (pack, offset) = (located.pack, located.place.offset);
        match record.read(cid, reader) {
            Ok(block) => {
                catalog.damage.note_found(pack, offset);
                Ok(block)
            }
            Err(Unread::Changed(source)) => {
                catalog.damage.note_gone(pack, offset);
                Err(StoreError::Changed {
                    cid: *cid,
                    path: record.path().to_owned(),
                    source: source.map(Arc::new),
                })
            }
            Err(Unread::Failed(source)) => Err(StoreError::io("reading", record.path(), source)),
        }
    }

    /// What says where a block that was added in place is.
    fn record(&self, cid: &Cid, located: &Located) -> Result<Record, StoreError> {
        let record = self.stored(cid, located, Access::Scan)?;
        Record::decode(&record).ok_or_else(|| self.corrupt(cid, located))
    }

    fn corrupt(&self, cid: &Cid, located: &Located) -> StoreError {
        StoreError::Corrupt {
            cid: *cid,
            pack: located.pack.pack_path(self.inner.shared.catalog.dir()),
            offset: located.place.offset,
        }
    }

    /// What lies in the pack, under its CRC.
    fn stored(&self, cid: &Cid, located: &Located, access: Access) -> Result<Bytes, StoreError> {
        let place = located.place;
        match &located.data {
            Some(data) => Ok(data.clone()),
            None => {
                let Shared {
                    catalog, reader, ..
                } = &*self.inner.shared;
                let path = located.pack.pack_path(catalog.dir());
                let data = read_bytes(reader, catalog, &path, place, access)
                    .map_err(|source| StoreError::io("reading", &path, source))?;
                if data.len() != place.stored() as usize || crc32fast::hash(&data) != place.crc {
                    catalog.damage.note(located.pack, place.offset);
                    return Err(self.corrupt(cid, located));
                }
                Ok(data)
            }
        }
    }
}

fn read_bytes(
    reader: &Reader,
    catalog: &Catalog,
    path: &Path,
    place: Place,
    access: Access,
) -> io::Result<Bytes> {
    if access.is_direct(place.stored())
        && let Some(file) = catalog.direct_file(path)?
    {
        match reader.direct(&file, place.offset, place.stored()) {
            Err(error) if direct::refuses_direct(&error) => {}
            read => return read,
        }
    }
    reader.cached(&*catalog.file(path)?, place.offset, place.stored())
}
