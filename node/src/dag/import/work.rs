//! The workers: each reads, hashes and stores whole small files, and chunks of large ones together
//! with the others.
//!
//! A worker reads into its own buffer and hands blocks to the store in batches of its own, so data
//! never moves between threads; only CIDs do.

use std::collections::VecDeque;
use std::fs::Metadata as Stat;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::batch::Batch;
use super::buffers::Buffers;
use super::layout::{Layout, Part};
use super::opened::Opened;
use super::plan::{Plan, kept, read_error};
use super::reflink::Snapshots;
use super::{ImportError, ImportOptions, OnProgress, Profile, Sink};
use crate::block::{Block, RAW};
use crate::dag::unixfs::{self, Metadata};

/// Files that a worker takes at once: enough that the queue's lock does not matter.
const FILES_AT_ONCE: usize = 16;
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
    snapshots: Snapshots<'a>,
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
    file: Opened,
    chunks: u64,
    layout: Mutex<Layout>,
}

enum Task {
    Files(std::ops::Range<usize>),
    Chunk(Arc<Large>, u64),
}

impl<'a> Work<'a> {
    pub(super) fn new(
        sink: &'a Sink,
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
            snapshots: Snapshots::new(sink, options),
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
        let file = Opened::new(path, self.options, &self.snapshots)?;
        let len = file.stat.len();
        let chunk_len = self.options.profile.chunk_len() as u64;
        if len > chunk_len {
            let large = Arc::new(Large {
                index,
                file,
                chunks: len.div_ceil(chunk_len),
                layout: Mutex::new(Layout::new(self.options.profile)),
            });
            self.queue.lock().large.push_back((large, 0));
            self.changed.notify_all();
            return Ok(None);
        }
        let data = self.read(&file, 0, len)?;
        file.finish()?;
        let block = leaf_block(data, kept(&file.stat, self.options), self.options);
        let root = Part::leaf(&block, len);
        batch.add_from(block, file.keep(0))?;
        Ok(Some(Done {
            index,
            root,
            executable: is_executable(&file.stat),
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
        let len = chunk_len.min(large.file.stat.len() - offset);
        let data = self.read(&large.file, offset, len)?;
        let block = leaf_block(data, Metadata::default(), self.options);
        let part = Part::leaf(&block, len);
        batch.add_from(block, large.file.keep(offset))?;

        let mut nodes = Vec::new();
        let mut layout = large.layout.lock();
        layout.insert(number, part, &mut nodes);
        let root = if layout.chunks() == large.chunks {
            large.file.finish()?;
            let whole = std::mem::replace(&mut *layout, Layout::new(self.options.profile));
            whole.finish(kept(&large.file.stat, self.options), &mut nodes)
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
            executable: is_executable(&large.file.stat),
        }))
    }

    /// Reads exactly `len` bytes (at most one chunk) at `offset`.
    fn read(&self, file: &Opened, offset: u64, len: u64) -> Result<Bytes, ImportError> {
        let wanted = usize::try_from(len).expect("a chunk fits into memory");
        let (read, data) = if len >= BUFFER_FROM {
            let mut buffer = self.buffers.take();
            let read = file.read(&mut buffer.space()[..wanted], offset);
            (read, buffer.freeze(wanted))
        } else {
            let mut bytes = vec![0; wanted];
            let read = file.read(&mut bytes, offset);
            (read, bytes.into())
        };
        if read.map_err(|err| read_error(&file.path, err))? < wanted {
            return Err(ImportError::Changed {
                path: file.path.clone(),
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
