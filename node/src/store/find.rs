//! Finding blocks and reading them: which copy of a block counts, and what is said of one that is damaged.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;

use super::append::{Content, New, Shared};
use super::catalog::{Catalog, Located};
use super::in_place::{Record, Unread};
use super::place::Place;
use super::read::{Access, Reader};
use super::{PackKind, Reach, Store, StoreError, direct};
use crate::block::{Block, IDENTITY};
use crate::blocking::blocking;

impl Store {
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

    /// Whether a `put` into packs of `kind` may leave the block out: a kept block counts as cached,
    /// a cached one does not count as kept. Reads no blocks: of one in a file in place only whether
    /// the file seems to be what it was. A kept block that was found is in use from now on: see
    /// [`super::Session`].
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
    pub(super) fn holds_content(&self, kind: PackKind, new: &New<'_>) -> Result<bool, StoreError> {
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
    pub(super) fn locate(&self, cid: &Cid) -> Result<Option<Located>, StoreError> {
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

    pub(super) fn locate_whole(&self, cid: &Cid) -> Result<Option<Located>, StoreError> {
        Ok(self.locate(cid)?.filter(|located| !located.damaged))
    }

    pub(super) fn load(
        &self,
        cid: &Cid,
        located: Located,
        access: Access,
    ) -> Result<Block, StoreError> {
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
    pub(super) fn record(&self, cid: &Cid, located: &Located) -> Result<Record, StoreError> {
        let record = self.stored(cid, located, Access::Scan)?;
        Record::decode(&record).ok_or_else(|| self.corrupt(cid, located))
    }

    pub(super) fn corrupt(&self, cid: &Cid, located: &Located) -> StoreError {
        StoreError::Corrupt {
            cid: *cid,
            pack: located.pack.pack_path(self.inner.shared.catalog.dir()),
            offset: located.place.offset,
        }
    }

    /// What lies in the pack, under its CRC.
    pub(super) fn stored(
        &self,
        cid: &Cid,
        located: &Located,
        access: Access,
    ) -> Result<Bytes, StoreError> {
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
