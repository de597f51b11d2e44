//! Checkpoints: an export of every live record in the journal's own framing, as operations. The
//! last entry is empty and says that the file is whole.

use std::io::{BufWriter, Write};
use std::path::Path;

use super::change::Op;
use super::frame::{self, FileKind, FrameReader, Next};
use super::index::{self, Index, key};
use super::record::{Head, Record, Shop};
use super::{ManifestError, files, io_error, journal};
use crate::disk::{Disk, Sequential};

/// Operations per entry: bounds memory, and stays far under the longest payload.
const OPS_PER_ENTRY: usize = 1024;

/// Writes a checkpoint of everything up to `last`, reads it back, and only then gives it its name. The
/// name is durable with that of the next journal.
pub(super) fn write(
    disk: &dyn Disk,
    dir: &Path,
    index: &Index,
    last: u64,
) -> Result<(), ManifestError> {
    let path = files::checkpoint_path(dir, last);
    let temporary = files::temporary_path(&path);
    write_whole(disk, &temporary, index, last)?;
    disk.rename(&temporary, &path)
        .map_err(|e| io_error("renaming", &temporary, e))
}

/// Writes a checkpoint of everything up to `last` and reads it back; where that fails, removes it.
pub(super) fn write_whole(
    disk: &dyn Disk,
    path: &Path,
    index: &Index,
    last: u64,
) -> Result<(), ManifestError> {
    write_file(disk, path, index, last)
        .and_then(|()| read(path, |_| Ok(())).map(drop))
        .inspect_err(|_| files::remove(disk, path))
}

/// Calls `apply` with the operations of each entry; returns the last sequence number contained.
///
/// # Errors
/// [`ManifestError::Corrupt`] when any byte is damaged or the end is missing.
pub(super) fn read(
    path: &Path,
    mut apply: impl FnMut(Vec<Op>) -> Result<(), ManifestError>,
) -> Result<u64, ManifestError> {
    let corrupt = |offset| ManifestError::Corrupt {
        path: path.to_owned(),
        offset,
    };
    let mut reader = FrameReader::open(path, FileKind::Checkpoint)?.ok_or_else(|| corrupt(0))?;
    loop {
        let offset = reader.offset;
        let Next::Entry { payload, .. } = reader.next_entry()? else {
            return Err(corrupt(offset));
        };
        let ops = journal::decode(&payload, path, offset)?;
        if ops.is_empty() {
            break;
        }
        apply(ops)?;
    }
    match reader.next_entry()? {
        Next::End => Ok(reader.header_sequence),
        _ => Err(corrupt(reader.offset)),
    }
}

fn write_file(disk: &dyn Disk, path: &Path, index: &Index, last: u64) -> Result<(), ManifestError> {
    let failed = |e| files::write_error("writing", path, e);
    let file = files::create(disk, path)?;
    let mut file = BufWriter::new(Sequential { disk, file, at: 0 });
    file.write_all(&frame::encode_header(FileKind::Checkpoint, last))
        .map_err(failed)?;
    let mut sequence = 0;
    let mut write_entry = |ops: Vec<Op>| {
        sequence += 1;
        file.write_all(&journal::encode(sequence, ops)?)
            .map_err(failed)
    };
    let mut waiting = Vec::new();
    for op in live_records(index) {
        waiting.push(op?);
        if waiting.len() == OPS_PER_ENTRY {
            write_entry(std::mem::take(&mut waiting))?;
        }
    }
    if !waiting.is_empty() {
        write_entry(waiting)?;
    }
    write_entry(Vec::new())?;
    let written = file.into_inner().map_err(|e| failed(e.into_error()))?;
    disk.sync(&written.file)
        .map_err(|e| files::write_error("syncing", path, e))
}

/// Every record that is not derived from others. Cached shop entries are left out: their revisions
/// do not survive a rebuild.
fn live_records(index: &Index) -> impl Iterator<Item = Result<Op, ManifestError>> {
    let scan = |prefix: u8| index.scan(&[prefix]);
    let products = scan(key::PRODUCT).map(|item| {
        let (id, value) = item?;
        Ok(Op::PutProduct(
            index::decode_id(&id, "product")?,
            Record::decode(&value)?,
        ))
    });
    let releases = scan(key::RELEASE).map(|item| {
        let (rest, value) = item?;
        let (product, version) = index::split_release(&rest)?;
        Ok(Op::PutRelease(product, version, Record::decode(&value)?))
    });
    let pins = scan(key::PIN).map(|item| {
        let (cid, value) = item?;
        Ok(Op::PutPin(
            index::decode_cid(&cid)?,
            Record::decode(&value)?,
        ))
    });
    let jobs = scan(key::JOB).map(|item| {
        let (id, value) = item?;
        Ok(Op::PutJob(
            index::decode_number(&id)?,
            Record::decode(&value)?,
        ))
    });
    let names = scan(key::NAME).map(|item| {
        let (name, value) = item?;
        Ok(Op::PutName(name, Record::decode(&value)?))
    });
    let mirrors = scan(key::MIRROR).map(|item| {
        let (name, value) = item?;
        Ok(Op::PutMirror(name, Record::decode(&value)?))
    });
    let states = scan(key::STATE).map(|item| {
        let (name, value) = item?;
        let kind = "state";
        let name = String::from_utf8(name).map_err(|_| ManifestError::Record { kind })?;
        Ok(Op::PutState(name, value.to_vec()))
    });
    let head = index
        .record::<Head>(key::HEAD)
        .map(|head| head.map(Op::PutHead))
        .transpose();
    let shop = index
        .record::<Shop>(key::SHOP)
        .map(|shop| shop.map(Op::PutShop))
        .transpose();
    head.into_iter()
        .chain(shop)
        .chain(products)
        .chain(releases)
        .chain(pins)
        .chain(jobs)
        .chain(names)
        .chain(mirrors)
        .chain(states)
}
