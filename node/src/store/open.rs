//! A pack that is being written to: its blocks are looked up in a hash map, and those that have not
//! reached the disk are served from memory.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use super::direct::open_buffered;
use super::layout::{Entry, PackId};
use super::place::Place;
use crate::block::Multihash;
use crate::disk::Disk;

/// A pack without index file.
#[derive(Debug)]
pub(super) struct OpenPack {
    pub(super) id: PackId,
    pub(super) path: PathBuf,
    pub(super) salt: [u8; 16],
    file: RwLock<Arc<File>>,
    blocks: RwLock<Blocks>,
    /// End of what was handed to the writer.
    len: AtomicU64,
    synced: AtomicU64,
}

#[derive(Debug, Default)]
struct Blocks {
    places: HashMap<Multihash, Place>,
    /// Blocks whose bytes cannot be read back from the file yet.
    pending: HashMap<Multihash, Bytes>,
    /// The same in file order, with their ends.
    order: VecDeque<(u64, Multihash)>,
    bytes: u64,
}

impl OpenPack {
    /// A pack with nothing to serve from memory. `len` bytes of it are on disk and synced.
    pub(super) fn new(
        id: PackId,
        path: PathBuf,
        salt: [u8; 16],
        file: File,
        len: u64,
        entries: &[Entry],
    ) -> Self {
        let mut blocks = Blocks::default();
        for (key, place) in super::index::places(entries) {
            blocks.bytes += u64::from(place.stored());
            blocks.places.insert(key, place);
        }
        Self {
            id,
            path,
            salt,
            file: RwLock::new(Arc::new(file)),
            blocks: RwLock::new(blocks),
            len: AtomicU64::new(len),
            synced: AtomicU64::new(len),
        }
    }

    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file.read())
    }

    /// Gives up direct I/O for this pack.
    pub(super) fn reopen_buffered(&self, disk: &dyn Disk) -> io::Result<Arc<File>> {
        let file = Arc::new(open_buffered(disk, &self.path)?);
        *self.file.write() = Arc::clone(&file);
        Ok(file)
    }

    /// Makes a block visible; what is stored of it is served from memory until [`OpenPack::written`].
    pub(super) fn insert(&self, key: Multihash, place: Place, data: Bytes) {
        let mut blocks = self.blocks.write();
        blocks.bytes += u64::from(place.stored());
        if let Some(replaced) = blocks.places.insert(key, place) {
            blocks.bytes -= u64::from(replaced.stored());
        }
        blocks.pending.insert(key, data);
        blocks.order.push_back((place.end(), key));
    }

    /// Everything before `end` can be read back from the file.
    pub(super) fn written(&self, end: u64) {
        let mut blocks = self.blocks.write();
        while let Some((_, key)) = blocks
            .order
            .pop_front_if(|(block_end, _)| *block_end <= end)
        {
            // A newer copy may have come after it.
            if blocks
                .places
                .get(&key)
                .is_none_or(|place| place.end() <= end)
            {
                blocks.pending.remove(&key);
            }
        }
    }

    /// Where the block lies, and its bytes while they are in memory.
    pub(super) fn find(&self, key: &Multihash) -> Option<(Place, Option<Bytes>)> {
        let blocks = self.blocks.read();
        let place = blocks.places.get(key)?;
        Some((*place, blocks.pending.get(key).cloned()))
    }

    /// All blocks.
    pub(super) fn places(&self) -> Vec<(Multihash, Place)> {
        let blocks = self.blocks.read();
        blocks.places.iter().map(|(k, p)| (*k, *p)).collect()
    }

    /// Number of blocks and the bytes that they take.
    pub(super) fn totals(&self) -> (u64, u64) {
        let blocks = self.blocks.read();
        (blocks.places.len() as u64, blocks.bytes)
    }

    /// Length of the file once all that is queued is written.
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Release);
    }

    /// Everything before this offset is durable.
    pub(super) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    pub(super) fn set_synced(&self, end: u64) {
        self.synced.fetch_max(end, Ordering::AcqRel);
    }
}
