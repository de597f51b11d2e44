//! The writer thread: takes full buffers from a bounded queue, so that hashing and writing overlap.
//!
//! A full disk is waited out: the buffer stays at the head of the queue and in memory, and is tried
//! again when somebody puts or commits. Any other failure of a write or sync is final.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::StoreError;
use super::buffer::Buffer;
use super::catalog::Catalog;
use super::direct::refuses_direct;
use super::index;
use super::open::OpenPack;
use super::reflink::Extent;
use crate::disk::{self, Disk, FileRange};

/// Buffers that wait for the disk before `put` waits too: enough for a disk that now and then pauses.
const MAX_QUEUED: usize = 8;
/// Buffers kept for reuse while nothing waits for the disk.
const MAX_SPARE: usize = 3;

/// What the writer thread does, in order.
#[derive(Debug)]
pub(super) enum Job {
    /// Write the buffer at `offset` of the pack.
    Write {
        pack: Arc<OpenPack>,
        buffer: Buffer,
        offset: u64,
    },
    /// Have `len` bytes at `offset` of the pack be those of another file.
    Share {
        pack: Arc<OpenPack>,
        extent: Extent,
        len: u64,
        offset: u64,
    },
    /// The pack is complete: sync it and write its index.
    Seal { pack: Arc<OpenPack> },
}

/// Jobs on their way to the disk, shared by the writer thread and its callers.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is a job, or it is time to try again or to stop.
    work: Condvar,
    /// A job was done, or none will be.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Jobs ever queued, and ever done.
    queued: u64,
    done: u64,
    /// The first job found no room on the disk.
    full: Option<StoreError>,
    /// A write or sync failed: nothing is written any more.
    failed: Option<StoreError>,
    closed: bool,
    spare: Vec<Buffer>,
}

impl Queue {
    /// Waits until there is room for another buffer.
    ///
    /// # Errors
    /// The failure that stopped all writing, or [`StoreError::Full`].
    pub(super) fn admit(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.full.is_some() {
            self.retry(&mut state);
        }
        loop {
            if let Some(error) = state.failed.as_ref().or(state.full.as_ref()) {
                return Err(error.clone());
            }
            if state.jobs.len() < MAX_QUEUED {
                return Ok(());
            }
            self.progress.wait(&mut state);
        }
    }

    /// Queues a job without waiting: callers were admitted before.
    pub(super) fn push(&self, job: Job) {
        let mut state = self.state.lock();
        state.queued += 1;
        state.jobs.push_back(job);
        self.work.notify_one();
    }

    /// Waits until all that was queued so far is written.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let target = state.queued;
        if state.full.is_some() {
            self.retry(&mut state);
        }
        loop {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if state.done >= target {
                state.spare.truncate(MAX_SPARE);
                return Ok(());
            }
            if let Some(error) = &state.full {
                return Err(error.clone());
            }
            self.progress.wait(&mut state);
        }
    }

    /// Stops all writing for good.
    pub(super) fn fail(&self, error: StoreError) -> StoreError {
        let mut state = self.state.lock();
        let first = state.failed.get_or_insert(error).clone();
        self.progress.notify_all();
        self.work.notify_one();
        first
    }

    /// Lets the writer thread end once the queue is empty, or the disk is full.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_one();
    }

    /// Whether the disk has no room for what is queued.
    pub(super) fn is_full(&self) -> bool {
        self.state.lock().full.is_some()
    }

    /// An empty buffer.
    pub(super) fn buffer(&self) -> Buffer {
        let spare = self.state.lock().spare.pop();
        spare.unwrap_or_else(Buffer::new)
    }

    fn retry(&self, state: &mut State) {
        state.full = None;
        self.work.notify_one();
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if state.full.is_none()
                && let Some(job) = state.jobs.pop_front()
            {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            self.work.wait(&mut state);
        }
    }

    fn finish(&self, job: Job) {
        let mut state = self.state.lock();
        state.done += 1;
        if let Job::Write { mut buffer, .. } = job
            && state.spare.len() < MAX_QUEUED
        {
            buffer.clear();
            state.spare.push(buffer);
        }
        self.progress.notify_all();
    }

    fn put_back(&self, job: Job, full: StoreError) {
        let mut state = self.state.lock();
        state.jobs.push_front(job);
        state.full = Some(full);
        self.progress.notify_all();
    }
}

/// The body of the writer thread.
pub(super) fn run(queue: &Queue, catalog: &Catalog) {
    while let Some(job) = queue.next() {
        match perform(&job, catalog) {
            Ok(()) => queue.finish(job),
            Err(full @ StoreError::Full { .. }) => queue.put_back(job, full),
            Err(error) => {
                tracing::error!(%error, "the block store stops writing");
                queue.fail(error);
            }
        }
    }
}

fn perform(job: &Job, catalog: &Catalog) -> Result<(), StoreError> {
    let disk = catalog.disk();
    match job {
        Job::Write {
            pack,
            buffer,
            offset,
        } => {
            write(pack, buffer.filled(), *offset, disk)
                .map_err(|source| failure("writing", &pack.path, source))?;
            pack.written(offset + buffer.len() as u64);
        }
        Job::Share {
            pack,
            extent,
            len,
            offset,
        } => {
            share(pack, extent, *len, *offset, disk)
                .map_err(|source| failure("writing", &pack.path, source))?;
            pack.written(offset + len);
        }
        Job::Seal { pack } => {
            disk.sync(&pack.file())
                .map_err(|source| StoreError::io("syncing", &pack.path, source))?;
            let index = index::write(disk, catalog.dir(), pack.id, pack.len(), &pack.places())
                .map_err(|source| failure("writing the index of", &pack.path, source))?;
            catalog.seal(index);
        }
    }
    Ok(())
}

fn write(pack: &OpenPack, bytes: &[u8], offset: u64, disk: &dyn Disk) -> io::Result<()> {
    match disk.write_at(&pack.file(), bytes, offset) {
        Err(error) if refuses_direct(&error) => {
            let file = pack.reopen_buffered(disk)?;
            disk.write_at(&file, bytes, offset)
        }
        written => written,
    }
}

fn share(
    pack: &OpenPack,
    extent: &Extent,
    len: u64,
    offset: u64,
    disk: &dyn Disk,
) -> io::Result<()> {
    let file = extent.snapshot.file();
    let range = FileRange {
        file: &file,
        offset: extent.offset,
        len,
    };
    match disk.copy_range(range, &pack.file(), offset) {
        Err(error) if refuses_direct(&error) => {
            let file = pack.reopen_buffered(disk)?;
            disk.copy_range(range, &file, offset)
        }
        copied => copied,
    }
}

/// A full disk passes, everything else is final.
fn failure(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    if disk::is_full(&source) {
        StoreError::Full {
            path: path.to_owned(),
        }
    } else {
        StoreError::io(action, path, source)
    }
}
