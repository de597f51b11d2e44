//! Appending to the newest pack of a kind: sections go through an aligned buffer to the writer
//! thread, footers close commits, full packs are sealed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use cid::Cid;
use tokio::sync::Notify;

use super::buffer::Buffer;
use super::catalog::Catalog;
use super::direct::open_direct;
use super::in_place::{Origin, Record};
use super::keep::Keep;
use super::layout::{
    ALIGN, Entry, FORMAT, Footer, MAX_ENTRIES, PackId, first_page, padding, section_header,
};
use super::open::OpenPack;
use super::place::Place;
use super::read::Reader;
use super::reflink::Extent;
use super::writer::{Job, Queue};
use super::{PackKind, StoreError, StoreOptions};
use crate::block::{Block, RAW, cid_of};
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
    /// A put was refused for lack of room since anybody asked.
    pub(super) refused: AtomicBool,
    pub(super) reader: Reader,
}

impl Shared {
    /// Notes that a put was refused, for whoever makes room.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
        self.pressure.notify_one();
    }
}

/// A block to be appended.
#[derive(Clone, Copy, Debug)]
pub(super) struct New<'a> {
    pub(super) cid: &'a Cid,
    pub(super) content: Content<'a>,
}

/// What is written of a block.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    Bytes(&'a Bytes),
    /// Its bytes, which the pack shares with another file. They must be whole pages.
    Shared {
        data: &'a Bytes,
        extent: &'a Extent,
    },
    /// Its bytes stay where they are. A record of them must not be too long.
    InPlace {
        origin: &'a Origin,
        len: u32,
    },
}

impl<'a> New<'a> {
    /// A block that is kept as it is asked for, where it can be, and else copied.
    pub(super) fn of(block: &'a Block, keep: &'a Keep) -> Self {
        let (cid, data) = (block.cid(), block.data());
        let content = match keep {
            Keep::InPlace(origin) if origin.record_len(cid).is_some() => {
                let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
                Content::InPlace { origin, len }
            }
            Keep::Shared(extent) if extent.is_shareable(data.len() as u64) => {
                Content::Shared { data, extent }
            }
            _ => Content::Bytes(data),
        };
        Self { cid, content }
    }

    /// Length of the block.
    pub(super) fn len(&self) -> u64 {
        match self.content {
            Content::Bytes(data) | Content::Shared { data, .. } => data.len() as u64,
            Content::InPlace { len, .. } => len.into(),
        }
    }

    /// Bytes that it takes in a pack, and what leads to the page that it starts at.
    pub(super) fn stored(&self) -> u64 {
        match self.content {
            Content::Bytes(data) => data.len() as u64,
            Content::Shared { data, .. } => data.len() as u64 + ALIGN,
            Content::InPlace { origin, .. } => origin.record_len(self.cid).unwrap_or(0) as u64,
        }
    }
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

    /// Whether the newest pack has the block, not known to be damaged. That its bytes are in another
    /// file is not enough when they are to be here.
    pub(super) fn contains(&self, shared: &Shared, new: &New<'_>) -> bool {
        let damage = &shared.catalog.damage;
        let suffices = |place: &Place| {
            !place.is_in_place()
                || self.kind == PackKind::Cache
                || matches!(new.content, Content::InPlace { .. })
        };
        self.tail.as_ref().is_some_and(|tail| {
            let found = tail.pack.find(new.cid.hash());
            found.is_some_and(|(place, _)| {
                suffices(&place) && !damage.contains(tail.pack.id, place.offset)
            })
        })
    }

    /// Appends a block, which can be read at once.
    pub(super) fn append(&mut self, shared: &Shared, new: &New<'_>) -> Result<(), StoreError> {
        let tail = match &mut self.tail {
            Some(tail) => tail,
            none => none.insert(Tail::begin(shared, self.kind, &mut self.next_number)?),
        };
        tail.append(shared, new);
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

    fn append(&mut self, shared: &Shared, new: &New<'_>) {
        let section = self.position();
        let cid = *new.cid;
        let (written_cid, data, record) = match new.content {
            Content::Bytes(data) | Content::Shared { data, .. } => (cid, data.clone(), 0),
            Content::InPlace { origin, len } => {
                let origin = origin.clone();
                let record = Record { cid, len, origin }.encode(self.pack.salt, section);
                let len = u16::try_from(record.len()).expect("at most MAX_RECORD");
                (cid_of(RAW, &record), Bytes::from(record), len)
            }
        };
        let mut header = section_header(&written_cid, data.len());
        if let Content::Shared { .. } = new.content {
            let padding = padding(section, header.len());
            header.splice(..0, padding);
        }
        let place = Place {
            offset: section + header.len() as u64,
            len: u32::try_from(new.len()).expect("`put` refuses blocks over 2 MiB"),
            crc: crc32fast::hash(&data),
            record,
        };
        self.pack.insert(*cid.hash(), place, data.clone());
        self.entries.push(Entry { cid, place });
        self.write(shared, &header);
        match new.content {
            Content::Shared { extent, .. } => self.share(shared, extent, data.len() as u64),
            _ => self.write(shared, &data),
        }
        if self.entries.len() == MAX_ENTRIES || self.position() - self.start >= MAX_COMMIT_BYTES {
            self.footer(shared, false);
        }
    }

    fn footer(&mut self, shared: &Shared, sealed: bool) {
        let durable_to = self.pack.synced();
        let only_notes = self.entries.is_empty();
        self.noted = only_notes && (self.noted || durable_to >= self.start);
        let footer = Footer {
            format: FORMAT,
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

    /// Puts bytes of another file, whole pages, at a page.
    fn share(&mut self, shared: &Shared, extent: &Extent, len: u64) {
        self.flush(shared);
        let offset = self.base;
        self.base += len;
        self.pack.set_len(self.base);
        shared.queue.push(Job::Share {
            pack: Arc::clone(&self.pack),
            extent: extent.clone(),
            len,
            offset,
        });
    }

    /// Hands the buffer over. It is full, or what was just written ended on a multiple of [`ALIGN`].
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
