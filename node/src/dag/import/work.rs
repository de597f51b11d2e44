//! The workers: each reads, hashes and stores whole small files, and chunks of large ones together
//! with the others.
//!
//! A worker reads into its own buffer and hands blocks to the store in batches of its own, so data
//! never moves between threads; only CIDs do.

use std::collections::VecDeque;
use std::fs::{File, Metadata as Stat, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use rustix::fs::OFlags;

use super::batch::Batch;
use super::buffers::Buffers;
use super::layout::{Layout, Part};
use super::plan::{Plan, kept, read_error, special};
use super::{ImportError, ImportOptions, OnProgress, Profile};
use crate::block::{Block, RAW};
use crate::dag::unixfs::{self, Metadata};
use crate::store::{Origin, SourceFile};

/// Files that a worker takes at once: enough that the queue's lock does not matter.
const FILES_AT_ONCE: usize = 16;
/// Shorter files are copied even when they are added in place: each read of one that is not costs opening
/// it, and a record of it a good part of its length.
const IN_PLACE_FROM: u64 = 64 << 10;
/// From this length in bytes a chunk is read into a shared buffer.
const BUFFER_FROM: u64 = 128 << 10;

/// A finished file, by its index in [`Plan::files`].
#[derive(Debug)]
pub(super) struct Done {
    pub(super) index: usize,
    pub(super) root: Part,
    pub(super) executable: bool,
}

/// What all workers of one import share.
pub(super) struct Work<'a> {
    plan: &'a Plan,
    options: &'a ImportOptions,
    progress: &'a OnProgress,
    buffers: Buffers,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    next_file: usize,
    /// Workers that may still find large files.
    opening: usize,
    large: VecDeque<(Arc<Large>, u64)>,
    stopped: bool,
}

/// A file of more than one chunk.
struct Large {
    index: usize,
    path: PathBuf,
    file: File,
    stat: Stat,
    /// Where its bytes stay, if they do.
    source: Option<Arc<SourceFile>>,
    chunks: u64,
    layout: Mutex<Layout>,
}

enum Task {
    Files(std::ops::Range<usize>),
    Chunk(Arc<Large>, u64),
}

impl<'a> Work<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        options: &'a ImportOptions,
        progress: &'a OnProgress,
        buffers: Buffers,
    ) -> Self {
        Self {
            plan,
            options,
            progress,
            buffers,
            queue: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Works until nothing is left. An error stops all workers.
    pub(super) fn run(&self, batch: &mut Batch<'_>) -> Result<Vec<Done>, ImportError> {
        let result = self.work(batch);
        if result.is_err() {
            self.queue.lock().stopped = true;
            self.changed.notify_all();
        }
        result
    }

    fn work(&self, batch: &mut Batch<'_>) -> Result<Vec<Done>, ImportError> {
        let mut done = Vec::new();
        while let Some(task) = self.next_task() {
            match task {
                Task::Files(range) => {
                    for index in range {
                        done.extend(self.file(index, batch)?);
                    }
                    self.queue.lock().opening -= 1;
                    self.changed.notify_all();
                }
                Task::Chunk(large, number) => done.extend(self.chunk(&large, number, batch)?),
            }
        }
        batch.flush()?;
        Ok(done)
    }

    fn next_task(&self) -> Option<Task> {
        let mut queue = self.queue.lock();
        loop {
            if queue.stopped {
                return None;
            }
            if let Some((large, next)) = queue.large.front_mut() {
                let (large_file, number) = (Arc::clone(large), *next);
                *next += 1;
                if *next == large_file.chunks {
                    queue.large.pop_front();
                }
                return Some(Task::Chunk(large_file, number));
            }
            let start = queue.next_file;
            let end = self.plan.files.len().min(start + FILES_AT_ONCE);
            if start < end {
                queue.next_file = end;
                queue.opening += 1;
                return Some(Task::Files(start..end));
            }
            if queue.opening == 0 {
                return None;
            }
            self.changed.wait(&mut queue);
        }
    }

    /// Imports a file of at most one chunk; a larger one is put up for all workers.
    fn file(&self, index: usize, batch: &mut Batch<'_>) -> Result<Option<Done>, ImportError> {
        let path = self.plan.locate(&self.plan.files[index]);
        let file = open(&path)?;
        let stat = file.metadata().map_err(|err| read_error(&path, err))?;
        if !stat.is_file() {
            return Err(ImportError::Special {
                kind: special(stat.file_type()),
                path,
            });
        }
        let source = self.source(&path, &stat)?;
        let chunk_len = self.options.profile.chunk_len() as u64;
        if stat.len() > chunk_len {
            let large = Arc::new(Large {
                index,
                path,
                file,
                chunks: stat.len().div_ceil(chunk_len),
                stat,
                source,
                layout: Mutex::new(Layout::new(self.options.profile)),
            });
            self.queue.lock().large.push_back((large, 0));
            self.changed.notify_all();
            return Ok(None);
        }
        let data = self.read(&file, &path, 0, stat.len())?;
        finish(&file, &path, &stat, source.as_deref())?;
        let block = leaf_block(data, kept(&stat, self.options), self.options);
        let root = Part::leaf(&block, stat.len());
        let origin = source.map(|file| Origin { file, offset: 0 });
        batch.add_from(block, origin)?;
        Ok(Some(Done {
            index,
            root,
            executable: is_executable(&stat),
        }))
    }

    fn chunk(
        &self,
        large: &Large,
        number: u64,
        batch: &mut Batch<'_>,
    ) -> Result<Option<Done>, ImportError> {
        let chunk_len = self.options.profile.chunk_len() as u64;
        let offset = number * chunk_len;
        let len = chunk_len.min(large.stat.len() - offset);
        let data = self.read(&large.file, &large.path, offset, len)?;
        let block = leaf_block(data, Metadata::default(), self.options);
        let part = Part::leaf(&block, len);
        let file = large.source.clone();
        batch.add_from(block, file.map(|file| Origin { file, offset }))?;

        let mut nodes = Vec::new();
        let mut layout = large.layout.lock();
        layout.insert(number, part, &mut nodes);
        let root = if layout.chunks() == large.chunks {
            finish(
                &large.file,
                &large.path,
                &large.stat,
                large.source.as_deref(),
            )?;
            let whole = std::mem::replace(&mut *layout, Layout::new(self.options.profile));
            whole.finish(kept(&large.stat, self.options), &mut nodes)
        } else {
            None
        };
        drop(layout);
        for node in nodes {
            batch.add(node)?;
        }
        Ok(root.map(|root| Done {
            index: large.index,
            root,
            executable: is_executable(&large.stat),
        }))
    }

    /// The file, when its bytes are to stay where they are.
    fn source(&self, path: &Path, stat: &Stat) -> Result<Option<Arc<SourceFile>>, ImportError> {
        if !self.options.in_place || stat.len() < IN_PLACE_FROM {
            return Ok(None);
        }
        let source = SourceFile::new(path, stat).map_err(|error| read_error(path, error))?;
        Ok(Some(Arc::new(source)))
    }

    /// Reads exactly `len` bytes (at most one chunk) at `offset`.
    fn read(&self, file: &File, path: &Path, offset: u64, len: u64) -> Result<Bytes, ImportError> {
        let wanted = usize::try_from(len).expect("a chunk fits into memory");
        let (read, data) = if len >= BUFFER_FROM {
            let mut buffer = self.buffers.take();
            let read = read_full_at(file, &mut buffer.space()[..wanted], offset);
            (read, buffer.freeze(wanted))
        } else {
            let mut bytes = vec![0; wanted];
            let read = read_full_at(file, &mut bytes, offset);
            (read, bytes.into())
        };
        if read.map_err(|err| read_error(path, err))? < wanted {
            return Err(ImportError::Changed {
                path: path.to_owned(),
            });
        }
        if (self.progress)(len) {
            Ok(data)
        } else {
            Err(ImportError::Stopped)
        }
    }
}

/// The block of one chunk. Metadata is only kept in UnixFS nodes.
pub(super) fn leaf_block(data: Bytes, metadata: Metadata, options: &ImportOptions) -> Block {
    if options.raw_leaves() {
        Block::of(RAW, data)
    } else {
        options.profile.dag_pb(unixfs::encode_leaf(data, metadata))
    }
}

/// Opens without following a symlink and without waiting for a pipe's writer: the name may have
/// been replaced since the walk.
fn open(path: &Path) -> Result<File, ImportError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|err| read_error(path, err))
}

fn read_full_at(file: &File, mut space: &mut [u8], mut offset: u64) -> io::Result<usize> {
    let wanted = space.len();
    while !space.is_empty() {
        match file.read_at(space, offset) {
            Ok(0) => break,
            Ok(n) => {
                space = &mut space[n..];
                offset += n as u64;
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(wanted - space.len())
}

/// All of a file was read: it must be what it was. What stays where it is must survive a power cut as
/// well as the pack that says so.
fn finish(
    file: &File,
    path: &Path,
    stat: &Stat,
    source: Option<&SourceFile>,
) -> Result<(), ImportError> {
    if source.is_some() {
        file.sync_all().map_err(|error| read_error(path, error))?;
    }
    check_unchanged(file, path, stat)
}

fn check_unchanged(file: &File, path: &Path, before: &Stat) -> Result<(), ImportError> {
    let after = file.metadata().map_err(|err| read_error(path, err))?;
    let seen = |stat: &Stat| (stat.len(), stat.mtime(), stat.mtime_nsec());
    if seen(&after) == seen(before) {
        Ok(())
    } else {
        Err(ImportError::Changed {
            path: path.to_owned(),
        })
    }
}

fn is_executable(stat: &Stat) -> bool {
    stat.mode() & 0o111 != 0
}

impl ImportOptions {
    /// As Kubo: nodes that are to keep a mode or mtime cannot be raw blocks.
    pub(super) fn raw_leaves(&self) -> bool {
        self.profile.raw_leaves() && !self.preserve_mode && !self.preserve_mtime
    }
}

/// The buffers for an import in `workers` threads, each with a batch of `batch_bytes`.
pub(super) fn buffers(profile: Profile, workers: usize, batch_bytes: usize) -> Buffers {
    let len = profile.chunk_len();
    Buffers::new(len, workers * (batch_bytes / len + 2))
}
