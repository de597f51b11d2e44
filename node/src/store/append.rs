//! Appending to the newest pack of a kind: sections go through an aligned buffer to the writer
//! thread, footers close commits, full packs are sealed.

use std::sync::Arc;

use tokio::sync::Notify;

use super::buffer::Buffer;
use super::catalog::Catalog;
use super::direct::open_direct;
use super::index::Place;
use super::layout::{ALIGN, Entry, Footer, MAX_ENTRIES, PackId, first_page, section_header};
use super::open::OpenPack;
use super::read::Reader;
use super::writer::{Job, Queue};
use super::{PackKind, StoreError, StoreOptions};
use crate::block::{Block, Multihash};
use crate::disk;

/// A commit of more bytes gets a footer in between, so that recovery never looks far for one.
const MAX_COMMIT_BYTES: u64 = 64 << 20;

/// What appenders, the writer thread and readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: StoreOptions,
    pub(super) catalog: Catalog,
    pub(super) queue: Queue,
    /// Somebody found that room gets scarce.
    pub(super) pressure: Notify,
    pub(super) reader: Reader,
}

/// The writing end of one kind of packs.
#[derive(Debug)]
pub(super) struct Appender {
    kind: PackKind,
    next_number: u64,
    tail: Option<Tail>,
}

/// The pack that is being written to.
#[derive(Debug)]
struct Tail {
    pack: Arc<OpenPack>,
    /// What has not been handed to the writer: starts at `base` of the file.
    buffer: Option<Buffer>,
    base: u64,
    /// End of the last footer, where the current commit starts.
    start: u64,
    commit: u64,
    entries: Vec<Entry>,
    /// A footer says that all blocks of closed commits were synced.
    noted: bool,
}

impl Appender {
    pub(super) fn new(kind: PackKind, next_number: u64) -> Self {
        Self {
            kind,
            next_number,
            tail: None,
        }
    }

    /// Whether `id` is the newest pack there is.
    pub(super) fn is_newest(&self, id: PackId) -> bool {
        id.number + 1 == self.next_number
    }

    /// Goes on with a pack of an earlier run, all of which was synced; `noted` when it says so.
    pub(super) fn resume(&mut self, pack: Arc<OpenPack>, next_commit: u64, noted: bool) {
        let end = pack.len();
        self.tail = Some(Tail {
            pack,
            buffer: None,
            base: end,
            start: end,
            commit: next_commit,
            entries: Vec::new(),
            noted,
        });
    }

    /// Whether the newest pack has the block, not known to be damaged.
    pub(super) fn contains(&self, shared: &Shared, key: &Multihash) -> bool {
        let damage = &shared.catalog.damage;
        self.tail.as_ref().is_some_and(|tail| {
            let found = tail.pack.find(key);
            found.is_some_and(|(place, _)| !damage.contains(tail.pack.id, place.offset))
        })
    }

    /// Appends a block, which can be read at once.
    pub(super) fn append(&mut self, shared: &Shared, block: &Block) -> Result<(), StoreError> {
        let tail = match &mut self.tail {
            Some(tail) => tail,
            none => none.insert(Tail::begin(shared, self.kind, &mut self.next_number)?),
        };
        tail.append(shared, block);
        if tail.position() >= shared.options.pack_size_of(self.kind) {
            tail.seal(shared);
            self.tail = None;
        }
        Ok(())
    }

    /// Ends the newest pack before it is full, if it has a block.
    pub(super) fn seal(&mut self, shared: &Shared) {
        if let Some(mut tail) = self.tail.take_if(|tail| tail.pack.totals().0 > 0) {
            tail.seal(shared);
        }
    }

    /// Closes the current commit and hands it to the writer. Returns the pack and the end of its
    /// last commit, when it has one that may not be durable.
    pub(super) fn finish_commit(&mut self, shared: &Shared) -> Option<(Arc<OpenPack>, u64)> {
        let tail = self.tail.as_mut()?;
        if !tail.entries.is_empty() {
            tail.footer(shared, false);
            tail.flush(shared);
        }
        (tail.start > tail.pack.synced()).then(|| (Arc::clone(&tail.pack), tail.start))
    }

    /// Notes in the pack, without a sync, that all its commits are durable, when they are and it
    /// does not say so yet: the next open need not check them.
    pub(super) fn checkpoint(&mut self, shared: &Shared) {
        if let Some(tail) = &mut self.tail
            && tail.entries.is_empty()
            && !tail.noted
            && tail.pack.synced() >= tail.start
        {
            tail.footer(shared, false);
            tail.flush(shared);
        }
    }
}

impl Tail {
    fn begin(shared: &Shared, kind: PackKind, next_number: &mut u64) -> Result<Self, StoreError> {
        let id = PackId {
            kind,
            number: *next_number,
        };
        let dir = shared.catalog.dir();
        let path = id.pack_path(dir);
        let disk = shared.catalog.disk();
        let file = open_direct(disk, &path, true).map_err(|source| {
            if disk::is_full(&source) {
                StoreError::Full {
                    path: dir.to_owned(),
                }
            } else {
                StoreError::io("creating", &path, source)
            }
        })?;
        *next_number += 1;
        disk.sync_dir(dir)
            .map_err(|source| shared.queue.fail(StoreError::io("syncing", dir, source)))?;

        let salt = rand::random();
        let pack = Arc::new(OpenPack::new(id, path, salt, file, 0, &[]));
        shared.catalog.add_open(Arc::clone(&pack));
        let mut tail = Self {
            pack,
            buffer: None,
            base: 0,
            start: ALIGN,
            commit: 1,
            entries: Vec::new(),
            noted: true,
        };
        tail.write(shared, &first_page(id, salt));
        Ok(tail)
    }

    fn position(&self) -> u64 {
        self.base + self.buffer.as_ref().map_or(0, |b| b.len() as u64)
    }

    fn append(&mut self, shared: &Shared, block: &Block) {
        let data = block.data();
        let header = section_header(block.cid(), data.len());
        let place = Place {
            offset: self.position() + header.len() as u64,
            len: u32::try_from(data.len()).expect("`put` refuses blocks over 2 MiB"),
            crc: crc32fast::hash(data),
        };
        self.pack.insert(*block.cid().hash(), place, data.clone());
        self.entries.push(Entry {
            cid: *block.cid(),
            offset: place.offset,
            len: place.len,
            crc: place.crc,
        });
        self.write(shared, &header);
        self.write(shared, data);
        if self.entries.len() == MAX_ENTRIES || self.position() - self.start >= MAX_COMMIT_BYTES {
            self.footer(shared, false);
        }
    }

    fn footer(&mut self, shared: &Shared, sealed: bool) {
        let durable_to = self.pack.synced();
        let only_notes = self.entries.is_empty();
        self.noted = only_notes && (self.noted || durable_to >= self.start);
        let footer = Footer {
            pack: self.pack.id,
            salt: self.pack.salt,
            commit: self.commit,
            start: self.start,
            section: self.position(),
            durable_to,
            sealed,
            entries: std::mem::take(&mut self.entries),
        };
        self.write(shared, &footer.encode());
        self.start = self.position();
        self.commit += 1;
    }

    fn seal(&mut self, shared: &Shared) {
        self.footer(shared, true);
        self.flush(shared);
        shared.queue.push(Job::Seal {
            pack: Arc::clone(&self.pack),
        });
    }

    fn write(&mut self, shared: &Shared, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let buffer = self.buffer.get_or_insert_with(|| shared.queue.buffer());
            let taken = buffer.fill(bytes);
            bytes = &bytes[taken..];
            if buffer.is_full() {
                self.flush(shared);
            }
        }
    }

    /// Hands the buffer over. It is full, or a footer just ended it on a multiple of [`ALIGN`].
    fn flush(&mut self, shared: &Shared) {
        let Some(buffer) = self.buffer.take() else {
            return;
        };
        let offset = self.base;
        self.base += buffer.len() as u64;
        self.pack.set_len(self.base);
        shared.queue.push(Job::Write {
            pack: Arc::clone(&self.pack),
            buffer,
            offset,
        });
    }
}
