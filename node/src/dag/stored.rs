//! A stored file as a blocking reader.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use cid::Cid;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::Handle;

use super::DagError;
use super::read::read_range;
use crate::source::local::LocalSource;
use crate::store::Store;

/// A stored file for blocking readers, block by block without a copy.
pub(crate) struct StoredFile {
    runtime: Handle,
    blocks: BoxStream<'static, Result<Bytes, DagError>>,
    /// What is left of the block last read.
    rest: Bytes,
}

impl StoredFile {
    pub(crate) fn open(runtime: &Handle, store: &Store, cid: Cid) -> Self {
        let source = LocalSource::new(store.clone());
        Self {
            runtime: runtime.clone(),
            blocks: read_range(&source, cid, 0..u64::MAX).fuse().boxed(),
            rest: Bytes::new(),
        }
    }
}

impl BufRead for StoredFile {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.blocks.next()) {
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
