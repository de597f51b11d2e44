//! CARv1: import and export (ipld.io/specs/transport/car/carv1).
//!
//! Import verifies blocks on all cores. Export is a stream of bytes over a stream of blocks, so the
//! gateway sends the same format without a file in between.

mod parse;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;
use cid::Cid;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use serde::Serialize;

use self::parse::{Section, Sections};
use super::DagError;
use super::import::Sink;
use super::walk::{WalkOptions, walk};
use crate::block::{Block, IDENTITY};
use crate::blocking::blocking;
use crate::source::BlockSource;
use crate::store::{PackKind, Store, StoreError};

/// Bytes of sections that are verified and stored together.
const BATCH_BYTES: usize = 4 << 20;
/// Sections that are verified and stored together.
const BATCH_SECTIONS: usize = 1024;
/// Threads that verify; with a batch each and as many waiting they hold 32 MiB at most.
const MAX_WORKERS: usize = 4;

/// What a CAR held.
#[derive(Clone, Debug, Default)]
pub struct CarSummary {
    /// The roots named in its header.
    pub roots: Vec<Cid>,
    /// Blocks read.
    pub blocks: u64,
    /// Bytes of those blocks.
    pub bytes: u64,
}

/// Why a CAR could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CarError {
    /// Not a CARv1 (or a CARv2 whose payload is not), or its header is damaged.
    #[error("this is not a CAR file: {reason}")]
    NotCar {
        /// Why.
        reason: String,
    },
    /// It ends in the middle of a section.
    #[error("the CAR is cut off after {blocks} blocks")]
    Truncated {
        /// Whole blocks before the cut.
        blocks: u64,
    },
    /// A section is malformed or over a limit, or its bytes do not match its CID.
    #[error("section {index} of the CAR is bad: {reason}")]
    Section {
        /// Number of the section, from 0.
        index: u64,
        /// Why.
        reason: String,
    },
    /// Reading it failed.
    #[error("reading the CAR failed")]
    Io(#[source] io::Error),
    /// Writing it failed; nothing is at the target.
    #[error("writing {} failed", path.display())]
    Write {
        /// The target.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Walking the DAG to export failed.
    #[error(transparent)]
    Dag(#[from] DagError),
}

/// Reads a CARv1 (or the payload of a CARv2), verifies each block and puts it into the store. Blocks
/// before a bad section stay; nothing is pinned. Blocking. Nothing is durable before
/// [`Store::commit`].
///
/// # Errors
/// [`CarError`] of the first section that is bad.
pub fn import(
    store: &Store,
    kind: PackKind,
    reader: &mut (dyn Read + Send),
) -> Result<CarSummary, CarError> {
    import_into(&Sink::Store(store.clone(), kind), reader)
}

/// [`import`] into any sink: [`Sink::Discard`] only verifies.
///
/// # Errors
/// As [`import`].
pub fn import_into(sink: &Sink, reader: &mut (dyn Read + Send)) -> Result<CarSummary, CarError> {
    let mut sections = Sections::open(reader)?;
    let mut summary = CarSummary {
        roots: sections.roots.clone(),
        ..CarSummary::default()
    };
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(MAX_WORKERS));
    let (sender, receiver) = sync_channel(workers);
    let receiver = Mutex::new(receiver);
    let failed = AtomicBool::new(false);
    let worker = || {
        let result = store_batches(sink, &receiver);
        if result.is_err() {
            failed.store(true, Ordering::Relaxed);
            // Takes what is under way, so that the reader never waits for a dead worker.
            while receiver.lock().recv().is_ok() {}
        }
        result
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let read = read_batches(&mut sections, sender, &failed, &mut summary);
        let stored = threads.into_iter().filter_map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .err()
        });
        // What a worker found lies before what the reader found.
        let first = stored.min_by_key(|err| match err {
            CarError::Section { index, .. } => *index,
            _ => 0,
        });
        first.map_or(read, Err)
    })?;
    Ok(summary)
}

/// Reads sections in batches until the end, an error here or one of a worker.
fn read_batches(
    sections: &mut Sections<'_>,
    sender: SyncSender<Vec<Section>>,
    failed: &AtomicBool,
    summary: &mut CarSummary,
) -> Result<(), CarError> {
    let mut result = Ok(());
    let mut more = true;
    while more && !failed.load(Ordering::Relaxed) {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while more && bytes < BATCH_BYTES && batch.len() < BATCH_SECTIONS {
            match sections.next() {
                Ok(Some(section)) => {
                    bytes += section.data.len();
                    batch.push(section);
                }
                Ok(None) => more = false,
                Err(err) => {
                    result = Err(err);
                    more = false;
                }
            }
        }
        summary.blocks += batch.len() as u64;
        summary.bytes += bytes as u64;
        if sender.send(batch).is_err() {
            break;
        }
    }
    result
}

/// Verifies and stores batches until none are left. Blocks before a bad section are stored.
fn store_batches(sink: &Sink, receiver: &Mutex<Receiver<Vec<Section>>>) -> Result<(), CarError> {
    loop {
        let Ok(batch) = receiver.lock().recv() else {
            return Ok(());
        };
        let mut blocks = Vec::with_capacity(batch.len());
        let mut bad = None;
        for Section { index, cid, data } in batch {
            match Block::new(cid, data) {
                Ok(block) if cid.hash().code() == IDENTITY => drop(block),
                Ok(block) => blocks.push(block),
                Err(err) => {
                    bad = Some(CarError::Section {
                        index,
                        reason: err.to_string(),
                    });
                    break;
                }
            }
        }
        if let Sink::Store(store, kind) = sink {
            store.put(*kind, &blocks)?;
        }
        if let Some(err) = bad {
            return Err(err);
        }
    }
}

/// The bytes of a CARv1 with one root: its header, then `blocks` in their order. Identity blocks are
/// left out, because their CIDs hold them.
pub fn encode(
    root: Cid,
    blocks: impl Stream<Item = Result<Block, DagError>> + Send,
) -> impl Stream<Item = Result<Bytes, DagError>> + Send {
    let sections = blocks.map_ok(|block| stream::iter(section(&block).map(Ok)));
    stream::iter([Ok(header(root))]).chain(sections.try_flatten())
}

/// The header of a CARv1 with one root.
fn header(root: Cid) -> Bytes {
    #[derive(Serialize)]
    struct Header {
        roots: [Cid; 1],
        version: u64,
    }
    let header = Header {
        roots: [root],
        version: 1,
    };
    let cbor = serde_ipld_dagcbor::to_vec(&header).expect("a map of a list and a number encodes");
    let mut out = Vec::with_capacity(cbor.len() + 2);
    put_varint(&mut out, cbor.len());
    out.extend_from_slice(&cbor);
    out.into()
}

/// Blocks up to this length, in bytes, are copied behind their section's head.
const COPY_LIMIT: usize = 4 << 10;

/// A section in up to two pieces, so that large blocks are not copied.
fn section(block: &Block) -> impl Iterator<Item = Bytes> + Send + use<> {
    let data = block.data().clone();
    let mut head = Vec::new();
    let mut body = None;
    if block.cid().hash().code() != IDENTITY {
        put_varint(&mut head, block.cid().encoded_len() + data.len());
        block
            .cid()
            .write_bytes(&mut head)
            .expect("writing to a Vec does not fail");
        if data.len() <= COPY_LIMIT {
            head.extend_from_slice(&data);
        } else {
            body = Some(data);
        }
    }
    let head = (!head.is_empty()).then(|| Bytes::from(head));
    head.into_iter().chain(body)
}

fn put_varint(out: &mut Vec<u8>, len: usize) {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    out.extend_from_slice(unsigned_varint::encode::usize(len, &mut buffer));
}

/// Writes the DAG under `root` as CARv1 in depth-first order, each block once, to `path` by an
/// atomic rename.
///
/// # Errors
/// [`CarError::Dag`] when a block cannot be had, [`CarError::Write`].
///
/// # Cancel safety
/// Dropping the future leaves nothing at `path`, and no temporary file.
pub async fn export<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    path: &Path,
) -> Result<CarSummary, CarError> {
    let failed = |source| CarError::Write {
        path: path.to_owned(),
        source,
    };
    let mut file = CarFile::create(path).map_err(failed)?;
    let mut summary = CarSummary {
        roots: vec![root],
        ..CarSummary::default()
    };
    let blocks = walk(source, root, WalkOptions::default()).inspect_ok(|block| {
        if block.cid().hash().code() != IDENTITY {
            summary.blocks += 1;
            summary.bytes += block.data().len() as u64;
        }
    });
    let mut pieces = Box::pin(encode(root, blocks)).ready_chunks(WRITE_PIECES);
    while let Some(ready) = pieces.next().await {
        let ready: Vec<Bytes> = ready.into_iter().collect::<Result<_, _>>()?;
        file = blocking(move || file.write(&ready)).await.map_err(failed)?;
    }
    blocking(move || file.finish()).await.map_err(failed)?;
    drop(pieces);
    Ok(summary)
}

/// Pieces that are written in one go, when they are there.
const WRITE_PIECES: usize = 64;

/// A file beside its target until it is whole.
struct CarFile {
    temporary: tempfile::NamedTempFile,
    target: PathBuf,
}

impl CarFile {
    fn create(target: &Path) -> io::Result<Self> {
        let temporary = tempfile::Builder::new()
            .prefix(".duka-car-")
            .permissions(PermissionsExt::from_mode(0o666))
            .tempfile_in(folder_of(target))?;
        Ok(Self {
            temporary,
            target: target.to_owned(),
        })
    }

    fn write(mut self, pieces: &[Bytes]) -> io::Result<Self> {
        for piece in pieces {
            self.temporary.write_all(piece)?;
        }
        Ok(self)
    }

    /// Makes the file durable, then visible, then its name durable.
    fn finish(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.target)?;
        File::open(folder_of(&self.target))?.sync_all()
    }
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
