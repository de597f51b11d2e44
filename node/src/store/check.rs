//! Checking packs: their index files, their footers, and, when it goes deep, every byte.
//!
//! A deep check reads a pack from its first byte to its last, past the page cache, for it is the disk
//! that is to be checked. A block whose bytes do not match counts as absent from then on. What lies
//! between the blocks (lengths, CIDs, footers) is needed by other tools and to make an index anew: where
//! that is damaged, [`Store::renew_pack`] copies the blocks to a new pack.

mod walk;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cid::Cid;
use fixedbitset::FixedBitSet;
use serde::{Deserialize, Serialize};

use self::walk::{BadBlocks, Walk};
use super::catalog::Located;
use super::in_place::SourceFile;
use super::index::{self, PackIndex};
use super::layout::{Entry, PackId};
use super::open::OpenPack;
use super::place::Place;
use super::read::Access;
use super::recover::{self, Trust, recover};
use super::{PackKind, Store, StoreError, collect};
use crate::block::{Multihash, RAW};
use crate::pace::Pace;

/// How far a check of all packs is: kept packs come first, each in the order of its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckCursor {
    kind: u8,
    number: u64,
    offset: u64,
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Index files and footers.
    Quick,
    /// Every byte.
    Deep,
}

/// Which index files are made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexes {
    /// Those that are damaged.
    Damaged,
    /// All.
    All,
}

/// What a check of one pack found.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckedPack {
    /// The file.
    pub path: PathBuf,
    /// What it holds.
    pub kind: PackKind,
    /// Blocks that were read.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks whose bytes do not match, except those that were known and have another copy.
    pub damaged: Vec<Cid>,
    /// Files that blocks were added from in place, and that changed since.
    pub changed: BTreeSet<PathBuf>,
    /// What lies between the blocks is damaged.
    pub bad_framing: bool,
    /// The pace said to stop; the cursor says where.
    pub stopped: bool,
    id: PackId,
}

/// A pack to be written anew.
#[derive(Clone, Copy, Debug)]
pub struct Renewable(PackId);

impl CheckedPack {
    /// What [`Store::renew_pack`] takes.
    pub fn renewable(&self) -> Renewable {
        Renewable(self.id)
    }
}

/// The blocks of a pack, by their index or, without one, as they were put.
enum Places {
    Sealed(Arc<PackIndex>, Arc<File>),
    Open(Arc<OpenPack>),
}

impl Store {
    /// Checks the first pack at or after the cursor, and moves that behind it; `None` when there is
    /// none. `progress` is called with the bytes that were read. Blocking.
    ///
    /// # Errors
    /// [`StoreError::CorruptIndex`]: [`Store::rebuild_indexes`] helps.
    pub fn check_next(
        &self,
        cursor: &mut CheckCursor,
        depth: Depth,
        pace: &mut Pace,
        progress: &dyn Fn(u64),
    ) -> Result<Option<CheckedPack>, StoreError> {
        let catalog = &self.inner.shared.catalog;
        while let Some(id) = self.packs().into_iter().find(|id| cursor.reaches(*id)) {
            if cursor.position() != id {
                *cursor = CheckCursor::at(id, 0);
            }
            match self.check_pack(id, cursor, depth, pace, progress) {
                Ok(checked) if checked.stopped => return Ok(Some(checked)),
                Ok(checked) => {
                    *cursor = CheckCursor::after(id);
                    return Ok(Some(checked));
                }
                // Retired since: its blocks are in a newer pack.
                Err(_) if !catalog.has_pack(id) => *cursor = CheckCursor::after(id),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Bytes of the packs that a check at the cursor has before it.
    pub fn unchecked_bytes(&self, cursor: &CheckCursor) -> u64 {
        let catalog = &self.inner.shared.catalog;
        let open = catalog.open_packs().into_iter().map(|p| (p.id, p.len()));
        let sealed = catalog.sealed_packs().into_iter();
        let left = open.chain(sealed.map(|index| (index.id, index.pack_len)));
        let left = left.filter(|(id, _)| cursor.reaches(*id));
        let all: u64 = left.map(|(_, len)| len).sum();
        all.saturating_sub(cursor.offset)
    }

    /// Copies the blocks of a sealed kept pack whose framing is damaged to the newest pack, and removes
    /// it. `false` when it stays, because it has a damaged block without another copy or is in use, or
    /// was not sealed yet. Blocking; not beside a collection.
    pub fn renew_pack(&self, pack: Renewable, pace: &mut Pace) -> Result<bool, StoreError> {
        let catalog = &self.inner.shared.catalog;
        let Renewable(id) = pack;
        let Some(index) = catalog.sealed(id) else {
            return Ok(false);
        };
        let mut copied = FixedBitSet::new();
        let mut whole = true;
        for (number, cid, located) in self.entries(&index)? {
            if !pace.take(u64::from(located.place.stored())) {
                return Ok(false);
            }
            match self.append_copy(&cid, located) {
                Ok(()) => {}
                Err(StoreError::Corrupt { .. }) => whole &= self.holds(PackKind::Kept, &cid)?,
                Err(error) => return Err(error),
            }
            copied.grow_and_insert(number as usize);
        }
        self.commit()?;
        if !whole || catalog.retire(&index, &copied).is_err() {
            return Ok(false);
        }
        collect::remove_files(self, index.id)?;
        Ok(true)
    }

    /// Makes index files anew from their packs: those that are damaged, or all. Returns how many.
    /// Blocking; not beside a collection.
    ///
    /// A whole index stays where it knows more than what is left of the footers of its pack. `progress`
    /// is called with the bytes of each pack that it comes to.
    pub fn rebuild_indexes(
        &self,
        which: Indexes,
        progress: &dyn Fn(u64),
    ) -> Result<u64, StoreError> {
        let catalog = &self.inner.shared.catalog;
        let mut rebuilt = 0;
        for sealed in catalog.sealed_packs() {
            progress(sealed.pack_len);
            let id = sealed.id;
            let whole = self.check_index(id).is_ok();
            if whole && which == Indexes::Damaged {
                continue;
            }
            let Some(found) = recover(&id.pack_path(catalog.dir()), id, Trust::All)? else {
                continue;
            };
            let places = index::places(&found.entries);
            if whole && (places.len() as u64) < sealed.count {
                continue;
            }
            let index = index::write(catalog.disk(), catalog.dir(), id, found.end, &places)
                .map_err(|source| {
                    StoreError::io("writing", &id.index_path(catalog.dir()), source)
                })?;
            catalog.reseal(index);
            rebuilt += 1;
        }
        Ok(rebuilt)
    }

    /// Kept blocks whose bytes are not here, but in the files that they were added from in place.
    /// Blocking; not beside a collection.
    pub fn in_place_blocks(&self) -> Result<u64, StoreError> {
        let mut packs = self.packs();
        packs.retain(|id| id.kind == PackKind::Kept);
        let mut blocks = 0;
        for id in packs {
            let Some((places, _)) = self.places(id)? else {
                continue;
            };
            let listed = places.in_order().map_err(|source| {
                let path = id.index_path(self.inner.shared.catalog.dir());
                StoreError::io("reading", &path, source)
            })?;
            blocks += listed.iter().filter(|place| place.is_in_place()).count() as u64;
        }
        Ok(blocks)
    }

    fn packs(&self) -> Vec<PackId> {
        let catalog = &self.inner.shared.catalog;
        let open = catalog.open_packs().into_iter().map(|pack| pack.id);
        let sealed = catalog.sealed_packs().into_iter().map(|index| index.id);
        let mut ids: Vec<_> = open.chain(sealed).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn check_pack(
        &self,
        id: PackId,
        cursor: &mut CheckCursor,
        depth: Depth,
        pace: &mut Pace,
        progress: &dyn Fn(u64),
    ) -> Result<CheckedPack, StoreError> {
        let catalog = &self.inner.shared.catalog;
        let path = id.pack_path(catalog.dir());
        let mut checked = CheckedPack {
            path: path.clone(),
            kind: id.kind,
            blocks: 0,
            bytes: 0,
            damaged: Vec::new(),
            changed: BTreeSet::new(),
            bad_framing: false,
            stopped: false,
            id,
        };
        if catalog.sealed(id).is_some() {
            self.check_index(id)?;
        }
        let Some((places, end)) = self.places(id)?.filter(|(_, end)| *end > 0) else {
            return Ok(checked);
        };
        let failed = |source| StoreError::io("reading", &path, source);
        checked.bad_framing = !recover::footers_are_whole(&path, id, end).map_err(failed)?;
        if depth == Depth::Quick {
            (checked.blocks, checked.bytes) = places.totals();
            let bad = self.changed_since(id, &places, end)?;
            self.name_damaged(&places, bad, &mut checked)?;
            return Ok(checked);
        }
        let mut walk = Walk::from(id, &path, cursor.offset).map_err(failed)?;
        for place in places.in_order().map_err(failed)? {
            if place.end() <= cursor.offset || place.end() > end {
                continue;
            }
            if !pace.take(u64::from(place.len)) {
                checked.stopped = true;
                break;
            }
            walk.block(place, &places, &self.inner.shared.reader)
                .map_err(failed)?;
            checked.blocks += 1;
            checked.bytes += u64::from(place.len);
            progress(u64::from(place.len));
            cursor.offset = walk.at;
        }
        if !checked.stopped {
            walk.sections_to(end).map_err(failed)?;
        }
        checked.bad_framing |= walk.bad_framing;
        self.name_damaged(&places, walk.bad, &mut checked)?;
        Ok(checked)
    }

    pub(super) fn check_index(&self, id: PackId) -> Result<(), StoreError> {
        let path = id.index_path(self.inner.shared.catalog.dir());
        let whole = PackIndex::load(&path, id).is_ok_and(|(index, _)| {
            File::open(&path).is_ok_and(|f| index.is_whole(&f).unwrap_or(false))
        });
        if whole {
            Ok(())
        } else {
            Err(StoreError::CorruptIndex { path })
        }
    }

    /// The blocks of a pack, and where what is durable of it ends.
    fn places(&self, id: PackId) -> Result<Option<(Places, u64)>, StoreError> {
        let catalog = &self.inner.shared.catalog;
        if let Some(index) = catalog.sealed(id) {
            let path = id.index_path(catalog.dir());
            let file = catalog
                .file(&path)
                .map_err(|source| StoreError::io("reading", &path, source))?;
            let end = index.pack_len;
            return Ok(Some((Places::Sealed(index, file), end)));
        }
        let open = catalog.open_packs().into_iter().find(|pack| pack.id == id);
        Ok(open.map(|pack| {
            let end = pack.synced();
            (Places::Open(pack), end)
        }))
    }

    /// The blocks in other files that are not there any more. A file is read only where it does not seem to
    /// be what it was.
    fn changed_since(
        &self,
        id: PackId,
        places: &Places,
        end: u64,
    ) -> Result<BadBlocks, StoreError> {
        let failed = |source| {
            let path = id.index_path(self.inner.shared.catalog.dir());
            StoreError::io("reading", &path, source)
        };
        let mut in_place = places.in_order().map_err(failed)?;
        in_place.retain(|place| place.is_in_place() && place.end() <= end);
        let mut seen: Option<Arc<SourceFile>> = None;
        let mut bad = BadBlocks::default();
        let mut in_place = places.keys_of(&in_place).map_err(failed)?;
        in_place.sort_unstable_by_key(|(_, place)| place.offset);
        for (key, place) in in_place {
            let cid = Cid::new_v1(RAW, key);
            let record = match self.record(&cid, &located(id, place)) {
                // The deep check is for this.
                Err(StoreError::Corrupt { .. }) => continue,
                record => record?,
            };
            let file = &record.origin.file;
            if seen.as_ref() == Some(file) || file.seems_unchanged() {
                seen = Some(Arc::clone(file));
                continue;
            }
            match self.load(&cid, located(id, place), Access::Scan) {
                Ok(_) => {}
                Err(StoreError::Changed { path, .. }) => bad.put_changed(place, path),
                Err(error) => return Err(error),
            }
        }
        Ok(bad)
    }

    /// Notes damaged blocks, and names them with the files that changed.
    fn name_damaged(
        &self,
        places: &Places,
        mut bad: BadBlocks,
        checked: &mut CheckedPack,
    ) -> Result<(), StoreError> {
        if bad.places.is_empty() {
            return Ok(());
        }
        let id = checked.id;
        let damage = &self.inner.shared.catalog.damage;
        let cids = self.cids(id)?;
        for (key, place) in places
            .keys_of(&bad.places)
            .map_err(|source| StoreError::io("reading", &id.index_path(damage.dir()), source))?
        {
            let known = damage.contains(id, place.offset);
            let changed = bad.changed.remove(&place.offset);
            if changed.is_some() {
                damage.note_gone(id, place.offset);
            } else {
                damage.note(id, place.offset);
            }
            let cid = cid_at(&cids, place.offset, key);
            let is_here = self.has(&cid)?;
            if !known || !is_here {
                checked.damaged.push(cid);
            }
            checked.changed.extend(changed.filter(|_| !is_here));
        }
        Ok(())
    }

    /// The entries of a sealed pack.
    pub(super) fn entries(
        &self,
        index: &PackIndex,
    ) -> Result<Vec<(u32, Cid, Located)>, StoreError> {
        let catalog = &self.inner.shared.catalog;
        let cids = self.cids(index.id)?;
        let path = index.id.index_path(catalog.dir());
        let mut entries = Vec::new();
        let listed = catalog.file(&path).and_then(|file| {
            index.for_each(&file, &mut |number, key, place| {
                let cid = cid_at(&cids, place.offset, key);
                entries.push((number, cid, located(index.id, place)));
            })
        });
        listed.map_err(|source| StoreError::io("reading", &path, source))?;
        Ok(entries)
    }

    /// What the footers of a pack list, by offset.
    fn cids(&self, id: PackId) -> Result<Vec<Entry>, StoreError> {
        let path = id.pack_path(self.inner.shared.catalog.dir());
        let found = recover(&path, id, Trust::All)?;
        let mut entries = found.map_or_else(Vec::new, |found| found.entries);
        entries.sort_unstable_by_key(|entry| entry.place.offset);
        Ok(entries)
    }
}

/// The CID of the block at `offset`; where its footer is damaged, that of a raw block: it is looked up by
/// its multihash in any case.
fn cid_at(entries: &[Entry], offset: u64, key: Multihash) -> Cid {
    let found = entries.binary_search_by_key(&offset, |entry| entry.place.offset);
    let listed = found.ok().map(|at| entries[at].cid);
    listed
        .filter(|cid| *cid.hash() == key)
        .unwrap_or_else(|| Cid::new_v1(RAW, key))
}

fn located(pack: PackId, place: Place) -> Located {
    Located {
        pack,
        place,
        entry: None,
        data: None,
        damaged: false,
    }
}

impl CheckCursor {
    fn at(id: PackId, offset: u64) -> Self {
        Self {
            kind: id.kind.code(),
            number: id.number,
            offset,
        }
    }

    fn after(id: PackId) -> Self {
        Self {
            number: id.number + 1,
            ..Self::at(id, 0)
        }
    }

    fn position(&self) -> PackId {
        PackId {
            kind: PackKind::from_code(self.kind).unwrap_or(PackKind::Cache),
            number: self.number,
        }
    }

    /// Whether the pack is still to be checked.
    fn reaches(&self, id: PackId) -> bool {
        self.position() <= id
    }
}

impl Places {
    fn totals(&self) -> (u64, u64) {
        match self {
            Self::Sealed(index, _) => (index.count, index.bytes),
            Self::Open(pack) => pack.totals(),
        }
    }

    /// In the order of the file.
    fn in_order(&self) -> io::Result<Vec<Place>> {
        let mut places = Vec::new();
        match self {
            Self::Sealed(index, file) => {
                index.for_each(file, &mut |_, _, place| places.push(place))?;
            }
            Self::Open(pack) => places.extend(pack.places().into_iter().map(|(_, place)| place)),
        }
        places.sort_unstable_by_key(|place| place.offset);
        Ok(places)
    }

    /// The blocks at some places.
    fn keys_of(&self, some: &[Place]) -> io::Result<Vec<(Multihash, Place)>> {
        let mut found = Vec::new();
        let wanted = |place: &Place| {
            let at = some.binary_search_by_key(&place.offset, |bad| bad.offset);
            at.is_ok()
        };
        match self {
            Self::Sealed(index, file) => index.for_each(file, &mut |_, key, place| {
                if wanted(&place) {
                    found.push((key, place));
                }
            })?,
            Self::Open(pack) => {
                let places = pack.places().into_iter();
                found.extend(places.filter(|(_, place)| wanted(place)));
            }
        }
        Ok(found)
    }

    fn has_at(&self, key: &Multihash, place: Place) -> io::Result<bool> {
        let found = match self {
            Self::Sealed(index, file) => index.find(file, key)?.map(|(_, found)| found),
            Self::Open(pack) => pack.find(key).map(|(found, _)| found),
        };
        Ok(found == Some(place))
    }
}
