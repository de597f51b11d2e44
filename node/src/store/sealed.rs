//! The packs that never change again: what a backup takes.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::layout::{Header, PackId, read_first_page};
use super::recover::{Trust, recover};
use super::writer::Job;
use super::{PackKind, Store, StoreError};

/// A sealed kept pack. Nothing is written to its file any more.
#[derive(Clone, Debug)]
pub struct SealedPack {
    /// Its name without extension, such as `kept-00000001`.
    pub name: String,
    /// The file.
    pub pack: PathBuf,
    /// Its index file, if that is whole.
    pub index: Option<PathBuf>,
    /// Tells it from another pack that has or had the same name.
    pub salt: [u8; 16],
}

impl Store {
    /// Seals what is kept and names all of it. Blocking; collections may take packs away after that.
    ///
    /// # Errors
    /// [`StoreError::Full`] when an index cannot be written for lack of room.
    pub fn seal_all(&self) -> Result<Vec<SealedPack>, StoreError> {
        let shared = &self.inner.shared;
        let mut open = shared.catalog.open_packs();
        open.retain(|pack| pack.id.kind == PackKind::Kept && pack.totals().0 > 0);
        self.seal()?;
        // What had no room for its index when the store was opened.
        for pack in open {
            if shared.catalog.sealed(pack.id).is_none() {
                shared.queue.push(Job::Seal {
                    pack: Arc::clone(&pack),
                });
            }
        }
        shared.queue.flush()?;
        let sealed = shared.catalog.sealed_packs().into_iter();
        let kept = sealed.filter(|index| index.id.kind == PackKind::Kept);
        kept.map(|index| self.sealed_pack(index.id)).collect()
    }

    fn sealed_pack(&self, id: PackId) -> Result<SealedPack, StoreError> {
        let dir = self.inner.shared.catalog.dir();
        let (pack, index) = (id.pack_path(dir), id.index_path(dir));
        let first = File::open(&pack)
            .and_then(|file| read_first_page(&file, id))
            .map_err(|source| StoreError::io("reading", &pack, source))?;
        let salt = match first {
            Header::Known(first) => first.salt,
            Header::TooNew(found) => return Err(StoreError::too_new(&pack, found)),
            // The footers have it, too; where all are damaged any will do.
            Header::Damaged => recover(&pack, id, Trust::All)?.map_or([0; 16], |found| found.salt),
        };
        Ok(SealedPack {
            name: id.to_string(),
            index: self.check_index(id).is_ok().then_some(index),
            pack,
            salt,
        })
    }
}
