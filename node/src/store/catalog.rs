//! All packs of a store, and which of them holds a block.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fixedbitset::FixedBitSet;
use lru::LruCache;
use parking_lot::{Mutex, MutexGuard, RwLock};

use super::damage::Damage;
use super::direct;
use super::evict::Used;
use super::filter::{Filters, PackFilter};
use super::in_use::InUse;
use super::index::{PackIndex, prefix};
use super::layout::PackId;
use super::open::OpenPack;
use super::place::Place;
use super::{PackKind, StoreError};
use crate::block::Multihash;
use crate::disk::Disk;

/// Files kept open for reading: with those for direct I/O fewer than the usual limit of 1,024 per
/// process.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
const OPEN_DIRECT_FILES: NonZeroUsize = NonZeroUsize::new(128).expect("not zero");

/// Where a block is.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) pack: PackId,
    pub(super) place: Place,
    /// Its entry in the index of a sealed pack.
    pub(super) entry: Option<u32>,
    /// Its bytes, while they have not reached the file.
    pub(super) data: Option<Bytes>,
    /// Its bytes in the file are known not to match.
    pub(super) damaged: bool,
}

#[derive(Debug)]
pub(super) struct Catalog {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    pub(super) damage: Damage,
    in_use: [Mutex<InUse>; 2],
    packs: RwLock<Packs>,
    /// Packs that were taken out.
    removals: AtomicU64,
    files: Mutex<LruCache<PathBuf, Arc<File>>>,
    /// The same for direct I/O; `None` where the file system has none.
    direct_files: Mutex<LruCache<PathBuf, Option<Arc<File>>>>,
}

#[derive(Debug, Default)]
struct Packs {
    open: BTreeMap<PackId, Arc<OpenPack>>,
    sealed: BTreeMap<PackId, Arc<PackIndex>>,
    filters: [Filters; 2],
    sealed_bytes: Used,
}

impl Packs {
    fn put_sealed(&mut self, index: PackIndex, filter: &PackFilter) {
        self.take_sealed(index.id);
        *self.sealed_bytes.of(index.id.kind) += index.pack_len;
        self.filters[index.id.kind.slot()].add(index.id, filter);
        self.sealed.insert(index.id, Arc::new(index));
    }

    fn take_sealed(&mut self, id: PackId) {
        if let Some(index) = self.sealed.remove(&id) {
            *self.sealed_bytes.of(id.kind) -= index.pack_len;
            self.filters[id.kind.slot()].remove(id);
        }
    }
}

impl Catalog {
    pub(super) fn new(dir: &Path, disk: Arc<dyn Disk>) -> Self {
        Self {
            dir: dir.to_owned(),
            damage: Damage::new(dir, Arc::clone(&disk)),
            disk,
            in_use: Default::default(),
            packs: RwLock::default(),
            removals: AtomicU64::new(0),
            files: Mutex::new(LruCache::new(OPEN_FILES)),
            direct_files: Mutex::new(LruCache::new(OPEN_DIRECT_FILES)),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    pub(super) fn add_open(&self, pack: Arc<OpenPack>) {
        self.packs.write().open.insert(pack.id, pack);
    }

    /// The pack has an index file: look-ups use it from now on.
    pub(super) fn seal(&self, (index, filter): (PackIndex, PackFilter)) {
        // A handle of an index that was replaced must not be used with the new one.
        self.files.lock().pop(&index.id.index_path(&self.dir));
        let mut packs = self.packs.write();
        packs.open.remove(&index.id);
        packs.put_sealed(index, &filter);
    }

    /// The index of a sealed pack was made anew. Its entries may have other numbers now: all count as in
    /// use until the notes of today are forgotten.
    pub(super) fn reseal(&self, (index, filter): (PackIndex, PackFilter)) {
        let (id, count) = (index.id, index.count);
        let mut in_use = self.in_use(id.kind);
        in_use.forget(id);
        self.seal((index, filter));
        in_use.note_all(id, count);
    }

    /// What collections of `kind` must leave alone.
    pub(super) fn in_use(&self, kind: PackKind) -> MutexGuard<'_, InUse> {
        self.in_use[kind.slot()].lock()
    }

    /// Begins a generation of `kind`: see [`InUse::advance`].
    pub(super) fn advance(&self, kind: PackKind) -> u64 {
        let mut in_use = self.in_use(kind);
        let packs = self.packs.read();
        let first_open = packs.open.keys().find(|id| id.kind == kind);
        let newest = packs.sealed.keys().rev().find(|id| id.kind == kind);
        let after_newest = newest.map_or(0, |id| id.number + 1);
        in_use.advance(first_open.map_or(after_newest, |id| id.number))
    }

    /// Notes that a located block is in use; `false` when its pack has been retired.
    pub(super) fn note_use(&self, located: &Located) -> bool {
        let Some(entry) = located.entry else {
            // A pack without index is younger than any collection, or found as first open by one.
            return true;
        };
        let mut in_use = self.in_use(located.pack.kind);
        let Some(count) = self.sealed(located.pack).map(|index| index.count) else {
            return false;
        };
        in_use.note(located.pack, entry, count);
        true
    }

    /// Takes a pack out, when all of its entries that are in use were `copied`; the others else.
    pub(super) fn retire(
        &self,
        index: &PackIndex,
        copied: &FixedBitSet,
    ) -> Result<(), FixedBitSet> {
        let mut in_use = self.in_use(index.id.kind);
        let mut missed = in_use.of(index.id, index.count);
        missed.difference_with(copied);
        if !missed.is_clear() {
            return Err(missed);
        }
        self.forget(index.id, &mut in_use);
        Ok(())
    }

    /// Takes a pack out, whatever is in it.
    pub(super) fn drop_pack(&self, id: PackId) {
        self.forget(id, &mut self.in_use(id.kind));
    }

    fn forget(&self, id: PackId, in_use: &mut InUse) {
        in_use.forget(id);
        self.packs.write().take_sealed(id);
        self.note_removal();
        let mut files = self.files.lock();
        files.pop(&id.index_path(&self.dir));
        files.pop(&id.pack_path(&self.dir));
        self.direct_files.lock().pop(&id.pack_path(&self.dir));
    }

    pub(super) fn removals(&self) -> u64 {
        self.removals.load(Ordering::Acquire)
    }

    pub(super) fn note_removal(&self) {
        self.removals.fetch_add(1, Ordering::Release);
    }

    /// Bytes of the sealed packs.
    pub(super) fn sealed_bytes(&self) -> Used {
        self.packs.read().sealed_bytes
    }

    pub(super) fn has_pack(&self, id: PackId) -> bool {
        let packs = self.packs.read();
        packs.open.contains_key(&id) || packs.sealed.contains_key(&id)
    }

    pub(super) fn sealed(&self, id: PackId) -> Option<Arc<PackIndex>> {
        self.packs.read().sealed.get(&id).cloned()
    }

    pub(super) fn open_packs(&self) -> Vec<Arc<OpenPack>> {
        self.packs.read().open.values().cloned().collect()
    }

    pub(super) fn sealed_packs(&self) -> Vec<Arc<PackIndex>> {
        self.packs.read().sealed.values().cloned().collect()
    }

    /// Looks `key` up in the packs of `kind`, newest first; a copy that is known to be damaged is
    /// the answer only when there is no other.
    pub(super) fn locate(
        &self,
        kind: PackKind,
        key: &Multihash,
    ) -> Result<Option<Located>, StoreError> {
        let of_kind = PackId { kind, number: 0 }..=PackId {
            kind,
            number: u64::MAX,
        };
        let mut damaged = None;
        // The candidates are collected first, so that no file is read under the lock.
        let candidates: Vec<_> = {
            let packs = self.packs.read();
            for pack in packs.open.range(of_kind).rev().map(|(_, p)| p) {
                if let Some((place, data)) = pack.find(key) {
                    let located = self.located(pack.id, place, None, data);
                    if !located.damaged {
                        return Ok(Some(located));
                    }
                    damaged = damaged.or(Some(located));
                }
            }
            let named = packs.filters[kind.slot()].candidates(prefix(key));
            let indexes = named.iter().filter_map(|id| packs.sealed.get(id));
            indexes.cloned().collect()
        };
        for index in candidates {
            let path = index.id.index_path(&self.dir);
            let found = match self.file(&path).and_then(|file| index.find(&file, key)) {
                Ok(found) => found,
                // Retired since: what was in use is in a newer pack.
                Err(_) if self.sealed(index.id).is_none() => {
                    return self.locate(kind, key);
                }
                Err(source) if source.kind() == io::ErrorKind::InvalidData => {
                    return Err(StoreError::CorruptIndex { path });
                }
                Err(source) => return Err(StoreError::io("reading", &path, source)),
            };
            if let Some((entry, place)) = found {
                let located = self.located(index.id, place, Some(entry), None);
                if !located.damaged {
                    return Ok(Some(located));
                }
                damaged = damaged.or(Some(located));
            }
        }
        Ok(damaged)
    }

    fn located(
        &self,
        pack: PackId,
        place: Place,
        entry: Option<u32>,
        data: Option<Bytes>,
    ) -> Located {
        Located {
            pack,
            place,
            entry,
            data,
            damaged: self.damage.contains(pack, place.offset),
        }
    }

    /// A handle for reading past the page cache, where the file system can.
    pub(super) fn direct_file(&self, path: &Path) -> io::Result<Option<Arc<File>>> {
        if let Some(file) = self.direct_files.lock().get(path) {
            return Ok(file.clone());
        }
        let file = direct::open_to_read(path)?.map(Arc::new);
        self.direct_files.lock().put(path.to_owned(), file.clone());
        Ok(file)
    }

    /// A handle for reading, kept open for the next reader.
    pub(super) fn file(&self, path: &Path) -> io::Result<Arc<File>> {
        if let Some(file) = self.files.lock().get(path) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(path)?);
        self.files.lock().put(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}
