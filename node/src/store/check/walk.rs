//! A walk over the bytes of a pack, from its first to its last.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cid::Cid;
use rustix::fs::OFlags;

use super::super::buffer::{BUFFER_LEN, Buffer};
use super::super::in_place::{Record, Unread};
use super::super::layout::{ALIGN, CAR_HEADER, Footer, PackId, is_padding, parse_section};
use super::super::place::Place;
use super::super::{direct, read};
use super::Places;
use crate::block::{Block, IDENTITY};

/// Longest length and CID before the bytes of a block.
const MOST_HEADER: usize = 128;

/// Blocks that do not match.
#[derive(Debug, Default)]
pub(super) struct BadBlocks {
    /// In the order of the file.
    pub(super) places: Vec<Place>,
    /// Of these, by their offset, those that are in other files, which changed.
    pub(super) changed: BTreeMap<u64, PathBuf>,
}

impl BadBlocks {
    pub(super) fn put_changed(&mut self, place: Place, path: PathBuf) {
        self.places.push(place);
        self.changed.insert(place.offset, path);
    }
}

/// A walk over the bytes of a pack, from block to block.
pub(super) struct Walk {
    id: PackId,
    /// Everything before was walked over.
    pub(super) at: u64,
    reader: Reader,
    /// Blocks since the last footer, to compare with the next.
    commit: Vec<(u64, Cid)>,
    pub(super) bad_framing: bool,
    pub(super) bad: BadBlocks,
}

impl Walk {
    /// A walk over the pack at `path` from byte `at` on, which ends a section.
    pub(super) fn from(id: PackId, path: &Path, at: u64) -> io::Result<Self> {
        Ok(Self {
            id,
            at,
            reader: Reader::open(path)?,
            commit: Vec::new(),
            bad_framing: false,
            bad: BadBlocks::default(),
        })
    }

    /// Walks over the sections before a block, then over the block.
    pub(super) fn block(
        &mut self,
        place: Place,
        places: &Places,
        files: &read::Reader,
    ) -> io::Result<()> {
        let header = self.sections_before(place)?;
        let len = place.stored() as usize;
        let data = self.reader.bytes(place.offset, len)?;
        let crc_matches = data.len() == len && crc32fast::hash(data) == place.crc;
        if !crc_matches {
            self.bad.places.push(place);
        } else if let Some(cid) = header {
            let data = Bytes::copy_from_slice(data);
            if Block::new(cid, data.clone()).is_ok() {
                let listed = if place.is_in_place() {
                    self.in_place(place, &data, files)?
                } else {
                    Some(cid)
                };
                self.commit.extend(listed.map(|cid| (place.offset, cid)));
            } else if places.has_at(cid.hash(), place)? {
                // Its bytes were wrong before their CRC was made.
                self.bad.places.push(place);
            } else {
                self.bad_framing = true;
            }
        } else {
            self.bad_framing = true;
        }
        self.at = place.end();
        Ok(())
    }

    /// Reads a block that is in another file: its CID, where the record of it can be read.
    fn in_place(
        &mut self,
        place: Place,
        record: &[u8],
        files: &read::Reader,
    ) -> io::Result<Option<Cid>> {
        let Some(record) = Record::decode(record) else {
            self.bad.places.push(place);
            return Ok(None);
        };
        match record.read(&record.cid, files) {
            Ok(_) => {}
            Err(Unread::Changed(_)) => {
                self.bad.put_changed(place, record.path().to_owned());
            }
            Err(Unread::Failed(error)) => return Err(error),
        }
        Ok(Some(record.cid))
    }

    /// Walks to the bytes of a block; the CID before them, where that can be read.
    fn sections_before(&mut self, place: Place) -> io::Result<Option<Cid>> {
        if self.at == 0 {
            self.first_page()?;
        }
        while self.at < place.offset {
            let head = self.reader.bytes(self.at, MOST_HEADER)?;
            let Some((cid, data)) = parse_section(head) else {
                return Ok(None);
            };
            let (start, end) = (self.at + data.start as u64, self.at + data.end as u64);
            if start == place.offset {
                return Ok((data.len() == place.stored() as usize).then_some(cid));
            }
            if end > place.offset || !self.section(cid, start, end)? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Walks over what comes after the last block.
    pub(super) fn sections_to(&mut self, end: u64) -> io::Result<()> {
        if self.at == 0 {
            self.first_page()?;
        }
        while self.at < end {
            let head = self.reader.bytes(self.at, MOST_HEADER)?;
            let parsed = parse_section(head).map(|(cid, data)| {
                let (start, end) = (self.at + data.start as u64, self.at + data.end as u64);
                (cid, start, end)
            });
            let walked = match parsed {
                Some((cid, start, section_end)) if section_end <= end => {
                    self.section(cid, start, section_end)?
                }
                _ => false,
            };
            if !walked {
                self.bad_framing = true;
                return Ok(());
            }
        }
        Ok(())
    }

    fn first_page(&mut self) -> io::Result<()> {
        let header = self.reader.bytes(0, CAR_HEADER.len())?;
        self.bad_framing |= header != CAR_HEADER;
        self.at = CAR_HEADER.len() as u64;
        Ok(())
    }

    /// Walks over a section that is no block of the index: a footer, padding, or an older copy of a block.
    /// `false` when it is none of them.
    fn section(&mut self, cid: Cid, start: u64, end: u64) -> io::Result<bool> {
        let len = usize::try_from(end - start).unwrap_or(usize::MAX);
        let data = self.reader.bytes(start, len)?;
        if let Some(footer) = Footer::of_section(self.id, self.at, data) {
            let data = Bytes::copy_from_slice(data);
            self.bad_framing |= Block::new(cid, data).is_err();
            let listed = |(offset, cid): &(u64, Cid)| {
                let found = footer
                    .entries
                    .binary_search_by_key(offset, |e| e.place.offset);
                found.is_ok_and(|at| footer.entries[at].cid == *cid)
            };
            // The first footer after a restart lists blocks that were walked over before it.
            self.bad_framing |= !self.commit.iter().all(listed);
            self.commit.clear();
        } else if cid.hash().code() == IDENTITY {
            if !is_padding(&cid, data) {
                return Ok(false);
            }
        } else if Block::new(cid, Bytes::copy_from_slice(data)).is_err() {
            // An older copy that is damaged, or a footer.
            return Ok(false);
        }
        self.at = end;
        Ok(true)
    }
}

/// Reads a pack in large steps, past the page cache where the file system can.
struct Reader {
    file: File,
    path: PathBuf,
    buffer: Buffer,
    start: u64,
}

impl Reader {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
        let direct = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = match direct {
            Err(error) if direct::refuses_direct(&error) => File::open(path)?,
            opened => opened?,
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            buffer: Buffer::new(),
            start: 0,
        })
    }

    /// Up to `len` bytes at `offset`, at most a buffer without a page; fewer where the file ends.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let end = self.start + self.buffer.len() as u64;
        let wanted = offset + len as u64;
        if offset < self.start || wanted > end {
            self.start = offset - offset % ALIGN;
            self.fill()?;
        }
        let skip = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let read = self.buffer.filled();
        let skip = skip.min(read.len());
        Ok(&read[skip..(skip + len).min(read.len())])
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.clear();
        match self.read() {
            Err(error) if direct::refuses_direct(&error) => {
                self.file = File::open(&self.path)?;
                self.buffer.clear();
                self.read()
            }
            read => read,
        }
    }

    fn read(&mut self) -> io::Result<()> {
        while self.buffer.len() < BUFFER_LEN {
            let at = self.start + self.buffer.len() as u64;
            match self.file.read_at(self.buffer.rest(), at) {
                Ok(0) => break,
                Ok(read) => {
                    self.buffer.filled_by(read);
                    // Only the end of the file is no multiple; there is nothing behind it.
                    if !(read as u64).is_multiple_of(ALIGN) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
