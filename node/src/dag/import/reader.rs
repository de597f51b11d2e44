//! One file of unknown length from a reader: workers take turns reading, and hash at the same time.

use std::io::{self, Read};
use std::path::PathBuf;

use bytes::Bytes;
use parking_lot::Mutex;

use super::batch::Batch;
use super::buffers::Buffers;
use super::layout::{Layout, Part};
use super::work::leaf_block;
use super::{ImportError, ImportOptions, OnProgress};
use crate::dag::unixfs::Metadata;

/// What the workers share.
pub(super) struct Pieces<'a> {
    options: &'a ImportOptions,
    progress: &'a OnProgress,
    buffers: Buffers,
    input: Mutex<Input<'a>>,
    layout: Mutex<Layout>,
}

struct Input<'a> {
    reader: &'a mut (dyn Read + Send),
    /// What was read beyond the last chunk.
    ahead: Vec<u8>,
    next: u64,
    ended: bool,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(
        reader: &'a mut (dyn Read + Send),
        options: &'a ImportOptions,
        progress: &'a OnProgress,
        buffers: Buffers,
    ) -> Self {
        Self {
            options,
            progress,
            buffers,
            input: Mutex::new(Input {
                reader,
                ahead: Vec::new(),
                next: 0,
                ended: false,
            }),
            layout: Mutex::new(Layout::new(options.profile)),
        }
    }

    /// Works until the reader ends. An error stops all workers.
    pub(super) fn run(&self, batch: &mut Batch<'_>) -> Result<(), ImportError> {
        let result = self.work(batch);
        if result.is_err() {
            self.input.lock().ended = true;
        }
        result
    }

    fn work(&self, batch: &mut Batch<'_>) -> Result<(), ImportError> {
        let mut nodes = Vec::new();
        while let Some((index, data)) = self.next_chunk()? {
            let len = data.len() as u64;
            let block = leaf_block(data, Metadata::default(), self.options);
            let part = Part::leaf(&block, len);
            batch.add(block)?;
            self.layout.lock().insert(index, part, &mut nodes);
            for node in nodes.drain(..) {
                batch.add(node)?;
            }
        }
        batch.flush()
    }

    /// Closes the file after all workers are through.
    pub(super) fn finish(self, batch: &mut Batch<'_>) -> Result<Part, ImportError> {
        let mut nodes = Vec::new();
        let layout = self.layout.into_inner();
        let root = match layout.finish(Metadata::default(), &mut nodes) {
            Some(root) => root,
            None => {
                let empty = leaf_block(Bytes::new(), Metadata::default(), self.options);
                let root = Part::leaf(&empty, 0);
                nodes.push(empty);
                root
            }
        };
        for node in nodes {
            batch.add(node)?;
        }
        Ok(root)
    }

    fn next_chunk(&self) -> Result<Option<(u64, Bytes)>, ImportError> {
        let mut input = self.input.lock();
        if input.ended {
            return Ok(None);
        }
        let mut buffer = self.buffers.take();
        let space = buffer.space();
        let (ahead, free) = space.split_at_mut(input.ahead.len());
        ahead.copy_from_slice(&input.ahead);
        let read = read_full(input.reader, free).map_err(|source| ImportError::Read {
            path: PathBuf::from("-"),
            source,
        })?;
        let filled = ahead.len() + read;
        let is_last_window = filled < space.len();
        let window = &space[..filled];
        let len = self.options.chunker().cut(window);
        input.ahead.clear();
        input.ahead.extend_from_slice(&window[len..]);
        input.ended = is_last_window && input.ahead.is_empty();
        if len == 0 {
            return Ok(None);
        }
        let index = input.next;
        input.next += 1;
        drop(input);
        if (self.progress)(len as u64) {
            Ok(Some((index, buffer.freeze(len))))
        } else {
            Err(ImportError::Stopped)
        }
    }
}

fn read_full(reader: &mut dyn Read, mut space: &mut [u8]) -> io::Result<usize> {
    let wanted = space.len();
    while !space.is_empty() {
        match reader.read(space) {
            Ok(0) => break,
            Ok(n) => space = &mut space[n..],
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(wanted - space.len())
}
