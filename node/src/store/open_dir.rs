//! Opening a store directory: sealed packs by their indexes, the others by their footers.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use parking_lot::Mutex;

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

/// Threads that look at the files of packs: a cold disk answers many small reads in the time of one.
const LOADERS: usize = 16;
/// Packs that a thread takes at a time: handing each over would cost more than looking at it.
const BATCH: usize = 16;

/// Which files a pack has.
#[derive(Debug, Default)]
struct PackFiles {
    has_pack: bool,
    has_index: bool,
    has_damage: bool,
}

/// The file of a pack.
#[derive(Clone, Copy, Debug)]
struct PackFile {
    len: u64,
    /// It has another name, too: that of a backup, which takes sealed packs only. It is not written to.
    is_linked: bool,
}

/// What a loader found: the file of the pack, and its index if that is good.
type Loaded = (PackId, Option<PackFile>, Option<(PackIndex, PackFilter)>);

/// Opens all packs in `dir`, which exists, into `catalog`.
pub(super) fn open_dir(
    dir: &Path,
    catalog: &Catalog,
) -> Result<([Appender; 2], Recovery), StoreError> {
    let disk = catalog.disk();
    let listed = list(disk, dir)?;
    let mut recovery = Recovery::default();
    let mut appenders = PackKind::ALL.map(|kind| {
        let newest = listed.keys().filter(|id| id.kind == kind).max();
        Appender::new(kind, newest.map_or(1, |id| id.number + 1))
    });
    let packs = load_indexes(dir, &listed, catalog, &mut recovery)?;
    // A pack gets its first bytes after the one before it was synced and sealed.
    let is_complete = |id: PackId| {
        let mut newer = packs.range(id..).skip(1);
        newer.any(|(other, pack)| other.kind == id.kind && pack.len > 0)
    };
    for (&id, files) in &listed {
        let Some(pack) = packs.get(&id) else {
            if files.has_index {
                tracing::error!(index = %id.index_path(dir).display(), "the pack of an index is gone");
            }
            continue;
        };
        if catalog.has_pack(id) {
            continue;
        }
        let complete = files.has_index || pack.is_linked || is_complete(id);
        let trust = if complete { Trust::All } else { Trust::Synced };
        let Some(found) = recover(&id.pack_path(dir), id, trust)? else {
            set_aside(disk, dir, id, pack.len == 0 && !files.has_index)?;
            continue;
        };
        let appender = &mut appenders[id.kind.slot()];
        let newest = appender.is_newest(id);
        let known_sealed = complete || found.sealed;
        open_pack(
            dir,
            id,
            pack.len,
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

/// Takes over the packs whose index is good, without reading them. The files of all packs.
fn load_indexes(
    dir: &Path,
    listed: &BTreeMap<PackId, PackFiles>,
    catalog: &Catalog,
    recovery: &mut Recovery,
) -> Result<BTreeMap<PackId, PackFile>, StoreError> {
    let mut packs = BTreeMap::new();
    load_all(dir, listed, |(id, pack, index)| {
        let Some(pack) = pack else { return };
        packs.insert(id, pack);
        let Some((index, filter)) = index else { return };
        let cut_off = match cut_off(dir, &index, pack.len) {
            Ok(cut_off) => cut_off,
            Err(error) => {
                tracing::warn!(pack = %id, %error, "an index cannot be read and is made anew");
                return;
            }
        };
        if listed[&id].has_damage {
            load_damage(catalog, id, index.pack_len);
        }
        recovery.damaged_blocks += catalog.damage.note_cut_off(id, &cut_off);
        catalog.seal((index, filter));
    })?;
    Ok(packs)
}

/// Offsets of the blocks behind the end of a pack that is shorter than its index says. The index stays: it
/// is the last to know them.
fn cut_off(dir: &Path, index: &PackIndex, pack_len: u64) -> std::io::Result<Vec<u64>> {
    let mut offsets = Vec::new();
    if pack_len < index.pack_len {
        let file = File::open(index.id.index_path(dir))?;
        index.for_each(&file, &mut |_, _, place| {
            if place.end() > pack_len {
                offsets.push(place.offset);
            }
        })?;
    }
    Ok(offsets)
}

/// Looks at all packs on some threads, and hands what they find to `take`.
fn load_all(
    dir: &Path,
    listed: &BTreeMap<PackId, PackFiles>,
    mut take: impl FnMut(Loaded),
) -> Result<(), StoreError> {
    let listed: Vec<_> = listed.iter().collect();
    let batches = Mutex::new(listed.chunks(BATCH));
    let (sender, receiver) = mpsc::sync_channel(LOADERS);
    thread::scope(|scope| {
        for _ in 0..LOADERS.min(listed.len().div_ceil(BATCH)) {
            let (sender, batches) = (sender.clone(), &batches);
            let work = move || {
                let next = || batches.lock().next();
                while let Some(batch) = next() {
                    let batch = batch.iter().map(|(id, files)| load(dir, **id, files));
                    let loaded: Result<Vec<_>, _> = batch.collect();
                    if sender.send(loaded).is_err() {
                        return;
                    }
                }
            };
            thread::Builder::new()
                .name("duka-indexes".to_owned())
                .spawn_scoped(scope, work)
                .map_err(|source| StoreError::io("starting a reader of", dir, source))?;
        }
        drop(sender);
        for loaded in receiver {
            loaded?.into_iter().for_each(&mut take);
        }
        Ok(())
    })
}

fn load(dir: &Path, id: PackId, files: &PackFiles) -> Result<Loaded, StoreError> {
    let failed = |path: &Path, source| StoreError::io("reading", path, source);
    let pack = match files.has_pack.then(|| id.pack_path(dir)) {
        Some(path) => {
            let found = path.metadata().map_err(|source| failed(&path, source))?;
            Some(PackFile {
                len: found.len(),
                is_linked: found.nlink() > 1,
            })
        }
        None => None,
    };
    let path = id.index_path(dir);
    let index = match files.has_index.then(|| PackIndex::load(&path, id)) {
        Some(Ok(index)) => Some(index),
        Some(Err(LoadError::Io(source))) => return Err(failed(&path, source)),
        Some(Err(LoadError::Damaged)) | None => None,
    };
    Ok((id, pack, index))
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

/// Nothing could be read from the pack. One that nothing was written to goes, any other is kept under
/// another name.
fn set_aside(disk: &dyn Disk, dir: &Path, id: PackId, is_new: bool) -> Result<(), StoreError> {
    let path = id.pack_path(dir);
    // Its number may be given to another pack.
    drop(disk.remove(&id.damage_path(dir)));
    let done = if is_new {
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
            "car" => files.entry(id).or_default().has_pack = true,
            "idx" => files.entry(id).or_default().has_index = true,
            "bad" => files.entry(id).or_default().has_damage = true,
            "idx.tmp" => disk.remove(&entry.path()).map_err(failed)?,
            _ => {}
        }
    }
    Ok(files)
}
