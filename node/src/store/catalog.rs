//! All packs of a store, and which of them holds a block.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;
use parking_lot::{Mutex, RwLock};

use super::damage::Damage;
use super::index::{PackIndex, Place};
use super::layout::PackId;
use super::open::OpenPack;
use super::{PackKind, StoreError};
use crate::block::Multihash;

/// Files kept open for reading: fewer than the usual limit of 1,024 per process.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// Where a block is.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) pack: PackId,
    pub(super) place: Place,
    /// Its bytes, while they have not reached the file.
    pub(super) data: Option<Bytes>,
    /// Its bytes in the file are known not to match.
    pub(super) damaged: bool,
}

#[derive(Debug)]
pub(super) struct Catalog {
    dir: PathBuf,
    pub(super) damage: Damage,
    packs: RwLock<Packs>,
    files: Mutex<LruCache<PathBuf, Arc<File>>>,
}

#[derive(Debug, Default)]
struct Packs {
    open: BTreeMap<PackId, Arc<OpenPack>>,
    sealed: BTreeMap<PackId, Arc<PackIndex>>,
}

impl Catalog {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            damage: Damage::new(dir),
            packs: RwLock::default(),
            files: Mutex::new(LruCache::new(OPEN_FILES)),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn add_open(&self, pack: Arc<OpenPack>) {
        self.packs.write().open.insert(pack.id, pack);
    }

    /// The pack has an index file: look-ups use it from now on.
    pub(super) fn seal(&self, index: PackIndex) {
        // A handle of an index that was replaced must not be used with the new one.
        self.files.lock().pop(&index.id.index_path(&self.dir));
        let mut packs = self.packs.write();
        packs.open.remove(&index.id);
        packs.sealed.insert(index.id, Arc::new(index));
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
            for pack in packs.open.range(of_kind.clone()).rev().map(|(_, p)| p) {
                if let Some((place, data)) = pack.find(key) {
                    let located = self.located(pack.id, place, data);
                    if !located.damaged {
                        return Ok(Some(located));
                    }
                    damaged = damaged.or(Some(located));
                }
            }
            packs
                .sealed
                .range(of_kind)
                .rev()
                .map(|(_, index)| index)
                .filter(|index| index.may_hold(key))
                .cloned()
                .collect()
        };
        for index in candidates {
            let path = index.id.index_path(&self.dir);
            let found = self
                .file(&path)
                .and_then(|file| index.find(&file, key))
                .map_err(|source| match source.kind() {
                    io::ErrorKind::InvalidData => StoreError::CorruptIndex { path: path.clone() },
                    _ => StoreError::io("reading", &path, source),
                })?;
            if let Some(place) = found {
                let located = self.located(index.id, place, None);
                if !located.damaged {
                    return Ok(Some(located));
                }
                damaged = damaged.or(Some(located));
            }
        }
        Ok(damaged)
    }

    fn located(&self, pack: PackId, place: Place, data: Option<Bytes>) -> Located {
        Located {
            pack,
            place,
            data,
            damaged: self.damage.contains(pack, place.offset),
        }
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
