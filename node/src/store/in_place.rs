//! Blocks whose bytes stay in the file that they were added from.
//!
//! In the pack a record stands for them: a small raw block of its own CID, so the pack is a CAR like
//! any other. Anybody may have changed the file since, so each read hashes what it finds. What the file was
//! when it was added only saves reading it.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cid::Cid;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::layout::Fields;
use super::place::{MAX_RECORD, RECORD_UNIT};
use super::read::Reader;
use crate::block::{Block, MAX_BLOCK_LEN};

const MAGIC: [u8; 8] = *b"dukafile";
/// What comes before the CID and the path.
const FIXED_LEN: usize = 83;

/// A file as it was when it was added in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    mtime: i64,
    mtime_nanos: u32,
}

impl SourceFile {
    /// The file at `path`, which is made absolute, with what it is now.
    pub fn new(path: &Path, stat: &Metadata) -> io::Result<Self> {
        Ok(Self {
            path: std::path::absolute(path)?,
            device: stat.dev(),
            inode: stat.ino(),
            size: stat.len(),
            mtime: stat.mtime(),
            mtime_nanos: u32::try_from(stat.mtime_nsec()).unwrap_or(0),
        })
    }

    /// Whether it seems to be what it was. Reads nothing of it.
    pub(super) fn seems_unchanged(&self) -> bool {
        let now = fs::metadata(&self.path).and_then(|stat| Self::new(&self.path, &stat));
        now.is_ok_and(|now| now == *self)
    }
}

/// Where the bytes of a block are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// In which file.
    pub file: Arc<SourceFile>,
    /// From which byte on.
    pub offset: u64,
}

/// What stands in a pack for a block that is in another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) cid: Cid,
    pub(super) len: u32,
    pub(super) origin: Origin,
}

/// Why a block in another file cannot be had.
#[derive(Debug)]
pub(super) enum Unread {
    /// The file is another one, or gone.
    Changed(Option<io::Error>),
    /// This process has no means left to look.
    Failed(io::Error),
}

impl Origin {
    /// Length of the record for a block; `None` where the path is too long for one.
    pub(super) fn record_len(&self, cid: &Cid) -> Option<usize> {
        let path = self.file.path.as_os_str().len();
        let len = (FIXED_LEN + cid.encoded_len() + path).next_multiple_of(RECORD_UNIT);
        (len <= MAX_RECORD).then_some(len)
    }
}

impl Record {
    /// The bytes of the record in the section at `section` of a pack; at most [`MAX_RECORD`].
    pub(super) fn encode(&self, salt: [u8; 16], section: u64) -> Vec<u8> {
        let SourceFile {
            path,
            device,
            inode,
            size,
            mtime,
            mtime_nanos,
        } = &*self.origin.file;
        let cid = self.cid.to_bytes();
        let path = path.as_os_str().as_bytes();
        let mut bytes = Vec::with_capacity(FIXED_LEN + cid.len() + path.len() + RECORD_UNIT);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&salt);
        bytes.extend_from_slice(&section.to_le_bytes());
        bytes.extend_from_slice(&self.origin.offset.to_le_bytes());
        for number in [device, inode, size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&mtime.to_le_bytes());
        bytes.extend_from_slice(&mtime_nanos.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        bytes.push(u8::try_from(cid.len()).expect("a CID has less than 100 bytes"));
        let path_len = u16::try_from(path.len()).expect("less than MAX_RECORD");
        bytes.extend_from_slice(&path_len.to_le_bytes());
        bytes.extend_from_slice(&cid);
        bytes.extend_from_slice(path);
        bytes.resize(bytes.len().next_multiple_of(RECORD_UNIT), 0);
        bytes
    }

    /// `None` when the bytes are no record.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Self::parse(bytes).map(|(record, _, _)| record)
    }

    /// The record that the block of the section at `section` is; `salt` is that of the pack, where it
    /// is known, so that no block from outside can pose as one.
    pub(super) fn of_section(salt: Option<[u8; 16]>, section: u64, bytes: &[u8]) -> Option<Self> {
        let (record, found_salt, found_section) = Self::parse(bytes)?;
        let is_of_pack = salt.is_none_or(|salt| salt == found_salt);
        (is_of_pack && section == found_section).then_some(record)
    }

    fn parse(bytes: &[u8]) -> Option<(Self, [u8; 16], u64)> {
        if bytes.len() > MAX_RECORD || !bytes.len().is_multiple_of(RECORD_UNIT) {
            return None;
        }
        let mut fields = Fields(bytes);
        if fields.take(8)? != MAGIC {
            return None;
        }
        let salt = fields.take(16)?.try_into().ok()?;
        let section = fields.u64()?;
        let offset = fields.u64()?;
        let (device, inode, size) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let mtime = fields.u64()?.cast_signed();
        let mtime_nanos = fields.u32()?;
        let len = fields.u32()?;
        let cid_len = usize::from(*fields.take(1)?.first()?);
        let path_len = u16::from_le_bytes(fields.take(2)?.try_into().ok()?);
        if len as usize > MAX_BLOCK_LEN {
            return None;
        }
        let cid = Cid::try_from(fields.take(cid_len)?).ok()?;
        let path = fields.take(usize::from(path_len))?;
        let file = SourceFile {
            path: PathBuf::from(OsStr::from_bytes(path)),
            device,
            inode,
            size,
            mtime,
            mtime_nanos,
        };
        let record = Self {
            cid,
            len,
            origin: Origin {
                file: Arc::new(file),
                offset,
            },
        };
        Some((record, salt, section))
    }

    pub(super) fn path(&self) -> &Path {
        &self.origin.file.path
    }

    /// Reads the block where it was, and hashes what is found.
    pub(super) fn read(&self, cid: &Cid, reader: &Reader) -> Result<Block, Unread> {
        let file = open(self.path())?;
        let data = reader.cached(&file, self.origin.offset, self.len)?;
        Block::new(*cid, data).map_err(|_| Unread::Changed(None))
    }
}

/// What is there now may be a pipe without a writer.
fn open(path: &Path) -> Result<File, Unread> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(Unread::Changed(None))
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Self::Failed(error),
            _ => Self::Changed(Some(error)),
        }
    }
}
