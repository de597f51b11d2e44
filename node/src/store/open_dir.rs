//! Opening a store directory: sealed packs by their indexes, the others by their footers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use super::append::Appender;
use super::catalog::Catalog;
use super::direct::open_direct;
use super::filter::PackFilter;
use super::index::{self, LoadError, PackIndex};
use super::layout::PackId;
use super::open::OpenPack;
use super::recover::{Found, Trust, recover};
use super::{PackKind, Recovery, StoreError};
use crate::disk::Disk;

/// Index files that are read at a time: a cold disk reads many in the time of one.
const LOADERS: usize = 8;

/// The files of one pack.
#[derive(Debug, Default)]
struct PackFiles {
    pack_len: Option<u64>,
    /// It has another name, too: that of a backup, which takes sealed packs only. It is not written to.
    is_linked: bool,
    has_index: bool,
    has_damage: bool,
}

/// Opens all packs in `dir`, which exists, into `catalog`.
pub(super) fn open_dir(
    dir: &Path,
    catalog: &Catalog,
) -> Result<([Appender; 2], Recovery), StoreError> {
    let disk = catalog.disk();
    let files = list(disk, dir)?;
    let mut recovery = Recovery::default();
    let mut appenders = PackKind::ALL.map(|kind| {
        let newest = files.keys().filter(|id| id.kind == kind).max();
        Appender::new(kind, newest.map_or(1, |id| id.number + 1))
    });
    // A pack gets its first bytes after the one before it was synced and sealed.
    let is_complete = |id: PackId| {
        let mut newer = files.range(id..).skip(1);
        newer.any(|(other, files)| other.kind == id.kind && files.pack_len > Some(0))
    };
    let indexed = load_indexes(dir, &files, catalog)?;
    for (&id, files) in &files {
        let Some(pack_len) = files.pack_len else {
            if files.has_index {
                tracing::error!(index = %id.index_path(dir).display(), "the pack of an index is gone");
            }
            continue;
        };
        if indexed.contains(&id) {
            continue;
        }
        let complete = files.has_index || files.is_linked || is_complete(id);
        let trust = if complete { Trust::All } else { Trust::Synced };
        let Some(found) = recover(&id.pack_path(dir), id, trust)? else {
            set_aside(disk, dir, id, pack_len)?;
            continue;
        };
        let appender = &mut appenders[id.kind.slot()];
        let newest = appender.is_newest(id);
        let known_sealed = complete || found.sealed;
        open_pack(
            dir,
            id,
            pack_len,
            found,
            &mut recovery,
            catalog,
            |pack, found| {
                if newest && !known_sealed {
                    appender.resume(pack, found.next_commit, found.noted);
                    true
                } else {
                    false
                }
            },
        )?;
        recovery.rebuilt_indexes += usize::from(known_sealed);
    }
    Ok((appenders, recovery))
}

/// Takes over the packs whose index is good; none of them is read.
fn load_indexes(
    dir: &Path,
    files: &BTreeMap<PackId, PackFiles>,
    catalog: &Catalog,
) -> Result<BTreeSet<PackId>, StoreError> {
    let listed = files.iter().filter(|(_, files)| files.has_index);
    let ids: Vec<PackId> = listed.map(|(id, _)| *id).collect();
    let mut indexed = BTreeSet::new();
    load_all(dir, &ids, |id, loaded| {
        let files = &files[&id];
        match loaded {
            Ok((index, filter)) if Some(index.pack_len) <= files.pack_len => {
                if files.has_damage {
                    load_damage(catalog, id, index.pack_len);
                }
                catalog.seal((index, filter));
                indexed.insert(id);
                Ok(())
            }
            Ok(_) | Err(LoadError::Damaged) => Ok(()),
            Err(LoadError::Io(source)) => {
                Err(StoreError::io("reading", &id.index_path(dir), source))
            }
        }
    })?;
    Ok(indexed)
}

/// Loads indexes on some threads, and hands each to `take` until that fails.
fn load_all(
    dir: &Path,
    ids: &[PackId],
    mut take: impl FnMut(PackId, Result<(PackIndex, PackFilter), LoadError>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::sync_channel(LOADERS);
    thread::scope(|scope| {
        for _ in 0..LOADERS.min(ids.len()) {
            let (sender, next) = (sender.clone(), &next);
            let load = move || {
                while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let loaded = PackIndex::load(&id.index_path(dir), *id);
                    if sender.send((*id, loaded)).is_err() {
                        return;
                    }
                }
            };
            thread::Builder::new()
                .name("duka-indexes".to_owned())
                .spawn_scoped(scope, load)
                .map_err(|source| StoreError::io("starting a reader of", dir, source))?;
        }
        drop(sender);
        receiver
            .into_iter()
            .try_for_each(|(id, loaded)| take(id, loaded))
    })
}

fn open_pack(
    dir: &Path,
    id: PackId,
    pack_len: u64,
    found: Found,
    recovery: &mut Recovery,
    catalog: &Catalog,
    resume: impl FnOnce(Arc<OpenPack>, &Found) -> bool,
) -> Result<(), StoreError> {
    let disk = catalog.disk();
    let path = id.pack_path(dir);
    if found.torn > 0 {
        tracing::warn!(pack = %path.display(), bytes = found.torn, "cut an unfinished commit off");
        recovery.truncated_bytes += found.torn;
    }
    if found.unlisted > 0 {
        let blocks = found.unlisted;
        tracing::warn!(pack = %path.display(), blocks, "kept whole blocks behind the last footer");
        recovery.unlisted_blocks += blocks;
    }
    // Synced even when nothing was cut: what the last run wrote may still be on its way.
    let file = disk
        .open(&path, OpenOptions::new().write(true))
        .map_err(|source| StoreError::io("opening", &path, source))?;
    if found.end < pack_len {
        disk.set_len(&file, found.end)
            .map_err(|source| StoreError::io("truncating", &path, source))?;
    }
    disk.sync(&file)
        .map_err(|source| StoreError::io("syncing", &path, source))?;

    load_damage(catalog, id, found.end);
    for offset in &found.damaged {
        catalog.damage.note(id, *offset);
    }
    recovery.damaged_blocks += found.damaged.len();

    let file = open_direct(disk, &path, false)
        .map_err(|source| StoreError::io("opening", &path, source))?;
    let pack = OpenPack::new(id, path, found.salt, file, found.end, &found.entries);
    let pack = Arc::new(pack);
    catalog.add_open(Arc::clone(&pack));
    if resume(pack, &found) {
        return Ok(());
    }
    // Without room for the index the pack is served from memory, and indexed at the next open.
    match index::write(disk, dir, id, found.end, &index::places(&found.entries)) {
        Ok(index) => catalog.seal(index),
        Err(error) => {
            tracing::warn!(index = %id.index_path(dir).display(), %error, "cannot write an index");
        }
    }
    Ok(())
}

/// Without the notes of earlier runs the damage is found again.
fn load_damage(catalog: &Catalog, id: PackId, end: u64) {
    if let Err(error) = catalog.damage.load(id, end) {
        let path = id.damage_path(catalog.dir());
        tracing::warn!(path = %path.display(), %error, "cannot read which blocks are damaged");
    }
}

/// Nothing could be read from the pack. An empty file goes, anything else is kept under another name.
fn set_aside(disk: &dyn Disk, dir: &Path, id: PackId, pack_len: u64) -> Result<(), StoreError> {
    let path = id.pack_path(dir);
    // Its number may be given to another pack.
    drop(disk.remove(&id.damage_path(dir)));
    let done = if pack_len == 0 {
        disk.remove(&path)
    } else {
        let aside = path.with_extension("car.damaged");
        tracing::error!(pack = %aside.display(), "a pack has no readable block and was set aside");
        disk.rename(&path, &aside)
    };
    done.map_err(|source| StoreError::io("setting aside", &path, source))
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<BTreeMap<PackId, PackFiles>, StoreError> {
    let failed = |source| StoreError::io("listing", dir, source);
    let mut files: BTreeMap<PackId, PackFiles> = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some((id, extension)) = name.to_str().and_then(PackId::from_file_name) else {
            continue;
        };
        match extension {
            "car" => {
                let metadata = entry.metadata().map_err(failed)?;
                let files = files.entry(id).or_default();
                files.pack_len = Some(metadata.len());
                files.is_linked = metadata.nlink() > 1;
            }
            "idx" => files.entry(id).or_default().has_index = true,
            "bad" => files.entry(id).or_default().has_damage = true,
            "idx.tmp" => disk.remove(&entry.path()).map_err(failed)?,
            _ => {}
        }
    }
    Ok(files)
}
