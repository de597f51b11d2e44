//! A stored file as a blocking reader.

use std::convert::Infallible;
use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use cid::Cid;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::select;
use tokio::sync::oneshot;

use super::DagError;
use super::read::read_range;
use crate::source::local::LocalSource;
use crate::store::Store;

/// A stored file for blocking readers, block by block without a copy.
pub(crate) struct StoredFile {
    runtime: Handle,
    /// Closed when the runtime ends, which runs no reads any more.
    runtime_is_there: oneshot::Receiver<Infallible>,
    blocks: BoxStream<'static, Result<Bytes, DagError>>,
    /// What is left of the block last read.
    rest: Bytes,
}

impl StoredFile {
    pub(crate) fn open(runtime: &Handle, store: &Store, cid: Cid) -> Self {
        let source = LocalSource::new(store.clone());
        let (mut until_read, runtime_is_there) = oneshot::channel();
        runtime.spawn(async move { until_read.closed().await });
        Self {
            runtime: runtime.clone(),
            runtime_is_there,
            blocks: read_range(&source, cid, 0..u64::MAX).fuse().boxed(),
            rest: Bytes::new(),
        }
    }
}

impl BufRead for StoredFile {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.rest.is_empty() {
            let next = async {
                select! {
                    biased;
                    block = self.blocks.next() => Ok(block),
                    _ = &mut self.runtime_is_there => Err(io::Error::other("the node stops")),
                }
            };
            match self.runtime.block_on(next)? {
                Some(block) => self.rest = block.map_err(io::Error::other)?,
                None => break,
            }
        }
        Ok(&self.rest)
    }

    fn consume(&mut self, len: usize) {
        self.rest.advance(len);
    }
}

impl Read for StoredFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(buffer)?;
        self.consume(len);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use tempfile::TempDir;
    use tokio::runtime::Runtime;

    use super::*;
    use crate::block::{Block, RAW};
    use crate::store::{PackKind, StoreOptions};

    /// A file of one block, and the runtime that reads it.
    fn opened() -> (TempDir, Runtime, StoredFile) {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&dir.path().join("blocks"), StoreOptions::default()).unwrap();
        let block = Block::of(RAW, Bytes::from_static(b"one line\n"));
        store
            .put(PackKind::Kept, std::slice::from_ref(&block))
            .unwrap();
        let runtime = Runtime::new().unwrap();
        let file = StoredFile::open(runtime.handle(), &store, *block.cid());
        (dir, runtime, file)
    }

    #[test]
    fn the_file_is_read() {
        let (_dir, _runtime, file) = opened();
        let lines: Vec<_> = file.lines().map(Result::unwrap).collect();
        assert_eq!(lines, ["one line"]);
    }

    /// A runtime waits for its blocking threads when it is dropped, so these must not wait for it.
    #[test]
    fn reader_does_not_outlive_the_runtime() {
        let (_dir, runtime, file) = opened();
        runtime.shutdown_background();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(file.lines().next().unwrap().is_err()));
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true));
    }
}
