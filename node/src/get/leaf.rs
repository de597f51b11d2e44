//! Blocks of a file that are on this disk.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use cid::Cid;

use crate::block::{Block, DAG_PB, MAX_BLOCK_LEN, RAW};
use crate::dag::unixfs::{Metadata, encode_leaf};

/// The bytes of a regular file, or of a range of it, when they are those of the leaf `cid`. What
/// cannot be read is fetched instead.
pub(crate) fn matching(path: &Path, cid: &Cid, range: Option<(u64, u64)>) -> Option<Bytes> {
    let found = fs::symlink_metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)?;
    let (offset, len) = range.unwrap_or((0, found.len()));
    let len = usize::try_from(len)
        .ok()
        .filter(|len| *len <= MAX_BLOCK_LEN)?;
    if offset.checked_add(len as u64)? > found.len() {
        return None;
    }
    let mut bytes = vec![0; len];
    File::open(path)
        .ok()?
        .read_exact_at(&mut bytes, offset)
        .ok()?;
    let data = Bytes::from(bytes);
    let leaf = match cid.codec() {
        RAW => data.clone(),
        DAG_PB => encode_leaf(data.clone(), Metadata::default()).into(),
        _ => return None,
    };
    Block::new(*cid, leaf).ok().map(|_| data)
}
