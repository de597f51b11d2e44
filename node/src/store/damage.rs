//! Which stored blocks are known not to match their checksum.
//!
//! They count as absent, so that a `put` stores them anew. Noted in a file beside the pack, because
//! neither an index nor a footer that says "synced" is checked again at the next open. The file is
//! a hint: without it the damage is found again by the next read.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use super::PackKind;
use super::layout::{Fields, PackId};
use crate::disk::Disk;

/// Newest format of a record known here.
const FORMAT: u32 = 1;
const RECORD_LEN: usize = 16;

#[derive(Debug)]
pub(super) struct Damage {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    /// Pack, and offset of the block's bytes in it.
    places: RwLock<BTreeSet<(PackId, u64)>>,
    /// Blocks in other files that were not there when they were last read. Not noted beside the pack:
    /// a file may come back, as that of a disk that was away.
    gone: RwLock<BTreeSet<(PackId, u64)>>,
}

impl Damage {
    pub(super) fn new(dir: &Path, disk: Arc<dyn Disk>) -> Self {
        Self {
            dir: dir.to_owned(),
            disk,
            places: RwLock::default(),
            gone: RwLock::default(),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether any block of the packs of `kind` is damaged.
    pub(super) fn any(&self, kind: PackKind) -> bool {
        let is_of_kind = |(pack, _): &(PackId, u64)| pack.kind == kind;
        self.places.read().iter().any(is_of_kind) || self.gone.read().iter().any(is_of_kind)
    }

    /// Damaged copies in packs of `kind`; what is in other files does not count.
    pub(super) fn count(&self, kind: PackKind) -> usize {
        let places = self.places.read();
        places.iter().filter(|(pack, _)| pack.kind == kind).count()
    }

    pub(super) fn contains(&self, pack: PackId, offset: u64) -> bool {
        let place = (pack, offset);
        self.places.read().contains(&place) || self.gone.read().contains(&place)
    }

    /// Notes that a block in another file is not there.
    pub(super) fn note_gone(&self, pack: PackId, offset: u64) {
        self.gone.write().insert((pack, offset));
    }

    /// Notes that it is.
    pub(super) fn note_found(&self, pack: PackId, offset: u64) {
        self.gone.write().remove(&(pack, offset));
    }

    /// Notes that the block at `offset` of `pack` does not match its checksum.
    pub(super) fn note(&self, pack: PackId, offset: u64) {
        let mut places = self.places.write();
        if !places.insert((pack, offset)) {
            return;
        }
        let path = pack.damage_path(&self.dir);
        tracing::error!(pack = %pack.pack_path(&self.dir).display(), offset, "a block is damaged");
        self.append(&path, &[offset]);
    }

    /// Notes blocks that `pack` is too short to hold. Returns how many were not noted before.
    pub(super) fn note_cut_off(&self, pack: PackId, offsets: &[u64]) -> usize {
        let mut places = self.places.write();
        let new = offsets.iter().copied();
        let new: Vec<u64> = new.filter(|at| places.insert((pack, *at))).collect();
        if !new.is_empty() {
            let path = pack.pack_path(&self.dir);
            let blocks = new.len();
            tracing::error!(pack = %path.display(), blocks, "a pack is shorter than its index says, and has lost blocks");
            self.append(&pack.damage_path(&self.dir), &new);
        }
        new.len()
    }

    /// Without the note the damage is found again.
    fn append(&self, path: &Path, offsets: &[u64]) {
        let records: Vec<u8> = offsets.iter().flat_map(|offset| record(*offset)).collect();
        let mut options = OpenOptions::new();
        let file = self.disk.open(path, options.append(true).create(true));
        let appended = file.and_then(|file| {
            let end = file.metadata()?.len();
            self.disk.write_at(&file, &records, end)
        });
        if let Err(error) = appended {
            tracing::warn!(path = %path.display(), %error, "cannot note damaged blocks");
        }
    }

    /// Takes over what earlier runs noted of a pack that ends at `end`. What lay behind was cut off
    /// and is forgotten: other blocks may come there.
    pub(super) fn load(&self, pack: PackId, end: u64) -> io::Result<()> {
        let path = pack.damage_path(&self.dir);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let offsets: Vec<u64> = bytes
            .chunks_exact(RECORD_LEN)
            .filter_map(parse)
            .filter(|offset| *offset < end)
            .collect();
        if offsets.len() * RECORD_LEN != bytes.len() {
            let kept: Vec<u8> = offsets.iter().flat_map(|offset| record(*offset)).collect();
            let mut options = OpenOptions::new();
            let file = self.disk.open(&path, options.write(true).truncate(true))?;
            self.disk.write_at(&file, &kept, 0)?;
        }
        let places = offsets.into_iter().map(|offset| (pack, offset));
        self.places.write().extend(places);
        Ok(())
    }
}

fn record(offset: u64) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    record[..8].copy_from_slice(&offset.to_le_bytes());
    record[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    let crc = crc32fast::hash(&record[..12]);
    record[12..].copy_from_slice(&crc.to_le_bytes());
    record
}

fn parse(record: &[u8]) -> Option<u64> {
    let crc = crc32fast::hash(record.get(..12)?);
    let mut fields = Fields(record);
    let offset = fields.u64()?;
    (fields.u32()? == FORMAT && fields.u32()? == crc).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FileSystem;

    const PACK: PackId = PackId {
        kind: PackKind::Kept,
        number: 4,
    };

    #[test]
    fn notes_are_there_after_reopen_except_behind_a_cut_and_torn_ones() {
        let dir = tempfile::tempdir().unwrap();
        let damage = Damage::new(dir.path(), Arc::new(FileSystem));
        for offset in [5_000, 9_000, 5_000] {
            damage.note(PACK, offset);
        }
        let path = PACK.damage_path(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 32);
        bytes.extend([7; 5]);
        std::fs::write(&path, bytes).unwrap();

        for _ in 0..2 {
            let damage = Damage::new(dir.path(), Arc::new(FileSystem));
            damage.load(PACK, 9_000).unwrap();
            assert!(damage.contains(PACK, 5_000));
            assert!(!damage.contains(PACK, 9_000));
            assert_eq!(std::fs::read(&path).unwrap().len(), 16);
        }
    }
}
