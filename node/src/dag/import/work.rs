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

use super::batch::{Batch, MAX_BLOCKS};
use super::buffers::Buffers;
use super::chunker::Cut;
use super::layout::{Layout, Part};
use super::opened::Opened;
use super::plan::{Plan, kept, read_error};
use super::reflink::Snapshots;
use super::{Chunker, ImportError, ImportOptions, OnProgress, Sink};
use crate::block::{Block, RAW};
use crate::dag::unixfs::{self, Metadata};

/// Files that a worker takes at once: enough that the queue's lock does not matter.
const FILES_AT_ONCE: usize = 16;
/// From this length in bytes a chunk is read into a shared buffer.
const BUFFER_FROM: u64 = 128 << 10;
/// Bytes that are read at once where a chunk may end any moment: what is read beyond its end is read again.
const CUT_STEP: usize = 64 << 10;

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
    /// Workers that may still find large files, or have one that they give back.
    opening: usize,
    large: VecDeque<(Arc<Large>, Next)>,
    stopped: bool,
}

/// A file that may have more than one chunk.
struct Large {
    index: usize,
    file: Opened,
    /// What was built of it so far.
    building: Mutex<Building>,
}

struct Building {
    layout: Layout,
    /// Number of chunks, once the last one was cut.
    chunks: Option<u64>,
}

/// Where the next chunk of a large file begins, and its number. At even distances it is known where it
/// ends; with buzhash the chunk must be read first, by one worker at a time.
#[derive(Clone, Copy, Default)]
struct Next {
    offset: u64,
    number: u64,
}

enum Task {
    Files(std::ops::Range<usize>),
    Chunk(Arc<Large>, Next),
    /// To be read to its end; until then nobody else has the file.
    Cut(Arc<Large>, Next),
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
                Task::Chunk(large, at) => {
                    let len = self.chunk_len().min(large.file.stat.len() - at.offset);
                    let data = self.read(&large.file, at.offset, len)?;
                    done.extend(self.chunk(&large, at, data, batch)?);
                }
                Task::Cut(large, at) => {
                    let data = self.read_to_cut(&large.file, at.offset)?;
                    self.give_back(&large, at, data.len() as u64);
                    done.extend(self.chunk(&large, at, data, batch)?);
                }
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
            if let Some((large, at)) = queue.large.pop_front() {
                if self.options.chunker() == Chunker::Buzhash {
                    queue.opening += 1;
                    return Some(Task::Cut(large, at));
                }
                if let Some(next) = large.after(at, self.chunk_len()) {
                    queue.large.push_front((Arc::clone(&large), next));
                }
                return Some(Task::Chunk(large, at));
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
        if len > self.options.chunker().min_len() as u64 {
            let large = Arc::new(Large {
                index,
                file,
                building: Mutex::new(Building {
                    layout: Layout::new(self.options.profile),
                    chunks: None,
                }),
            });
            self.queue.lock().large.push_back((large, Next::default()));
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

    /// Imports one chunk of a large file; the last one to come finishes it.
    fn chunk(
        &self,
        large: &Large,
        at: Next,
        data: Bytes,
        batch: &mut Batch<'_>,
    ) -> Result<Option<Done>, ImportError> {
        let len = data.len() as u64;
        let block = leaf_block(data, Metadata::default(), self.options);
        let part = Part::leaf(&block, len);
        batch.add_from(block, large.file.keep(at.offset))?;

        let mut nodes = Vec::new();
        let mut building = large.building.lock();
        if large.after(at, len).is_none() {
            building.chunks = Some(at.number + 1);
        }
        building.layout.insert(at.number, part, &mut nodes);
        let root = if Some(building.layout.chunks()) == building.chunks {
            large.file.finish()?;
            let layout = &mut building.layout;
            let whole = std::mem::replace(layout, Layout::new(self.options.profile));
            whole.finish(kept(&large.file.stat, self.options), &mut nodes)
        } else {
            None
        };
        drop(building);
        for node in nodes {
            batch.add(node)?;
        }
        Ok(root.map(|root| Done {
            index: large.index,
            root,
            executable: is_executable(&large.file.stat),
        }))
    }

    /// Bytes of a chunk at even distances.
    fn chunk_len(&self) -> u64 {
        self.options.chunker().max_len() as u64
    }

    /// Others may have the file again, from after a chunk of `len` bytes on.
    fn give_back(&self, large: &Arc<Large>, at: Next, len: u64) {
        let mut queue = self.queue.lock();
        queue.opening -= 1;
        if let Some(next) = large.after(at, len) {
            queue.large.push_front((Arc::clone(large), next));
        }
        self.changed.notify_all();
    }

    /// Reads the chunk at `offset`, up to where its content ends it.
    fn read_to_cut(&self, file: &Opened, offset: u64) -> Result<Bytes, ImportError> {
        let chunker = self.options.chunker();
        let left = usize::try_from(file.stat.len() - offset).unwrap_or(usize::MAX);
        let longest = left.min(chunker.max_len());
        let mut buffer = self.buffers.take();
        let (mut cut, mut filled) = (Cut::default(), 0);
        let end = loop {
            let more = (chunker.min_len().max(filled) + CUT_STEP).min(longest) - filled;
            let space = &mut buffer.space()[filled..][..more];
            let read = file.read(space, offset + filled as u64);
            if read.map_err(|err| read_error(&file.path, err))? < more {
                return Err(ImportError::Changed {
                    path: file.path.clone(),
                });
            }
            filled += more;
            if let Some(end) = cut.find(&buffer.space()[..filled]) {
                break end;
            }
            if filled == longest {
                break longest;
            }
        };
        if (self.progress)(end as u64) {
            Ok(buffer.freeze(end))
        } else {
            Err(ImportError::Stopped)
        }
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

impl Large {
    /// What comes after a chunk of `len` bytes; `None` at the end of the file.
    fn after(&self, at: Next, len: u64) -> Option<Next> {
        let offset = at.offset + len;
        (offset < self.file.stat.len()).then_some(Next {
            offset,
            number: at.number + 1,
        })
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
    /// How files are cut.
    pub(crate) fn chunker(&self) -> Chunker {
        self.chunker.unwrap_or_else(|| self.profile.chunker())
    }

    /// As Kubo: nodes that are to keep a mode or mtime cannot be raw blocks.
    pub(super) fn raw_leaves(&self) -> bool {
        self.profile.raw_leaves() && !self.preserve_mode && !self.preserve_mtime
    }
}

/// The buffers for an import in `workers` threads, each with a batch of `batch_bytes`.
pub(super) fn buffers(chunker: Chunker, workers: usize, batch_bytes: usize) -> Buffers {
    let per_worker = (batch_bytes / chunker.min_len()).min(MAX_BLOCKS) + 2;
    Buffers::new(chunker.max_len(), workers * per_worker)
}
