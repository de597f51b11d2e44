//! Byte layout of a pack: CAR header, block sections, footers. `node/DESIGN.md` has the tables.
//!
//! A footer is a CAR section like any other (a raw block under its SHA-256 CID), so every CAR reader
//! takes it for a block. It ends on a 4 KiB boundary and lists the blocks of one commit.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cid::Cid;

use super::PackKind;
use super::place::Place;
use crate::block::{self, IDENTITY, Multihash, RAW};

/// Packs are written in multiples of this, at multiples of this.
pub(super) const ALIGN: u64 = PAGE_LEN as u64;
/// [`ALIGN`] as the length of a buffer.
pub(super) const PAGE_LEN: usize = 4096;
/// Newest pack format known here.
pub(super) const FORMAT: u32 = 2;
/// `{"roots": [], "version": 1}` in DAG-CBOR, with its length before it.
pub(super) const CAR_HEADER: [u8; 18] = *b"\x11\xa2\x65roots\x80\x67version\x01";
/// A commit of more blocks gets a footer in between: keeps a footer under 1 MiB, which CAR readers
/// accept as a block, and the memory for entries bounded.
pub(super) const MAX_ENTRIES: usize = 8_192;
/// Longest section that a pack may hold: a block of 2 MiB or a footer.
pub(super) const MAX_SECTION: u64 = 4 << 20;

const FOOTER_MAGIC: [u8; 8] = *b"dukafoot";
const END_MAGIC: [u8; 8] = *b"dukaend\n";
const FIXED_LEN: usize = 80;
const TRAILER_LEN: usize = 20;
/// CIDv1, raw, SHA-256.
const FOOTER_CID_LEN: u64 = 36;
/// Where the body of the first footer starts: CAR header, two bytes of length, CID.
const FIRST_BODY: usize = CAR_HEADER.len() + 2 + 36;

/// Which pack: its file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PackId {
    pub(super) kind: PackKind,
    pub(super) number: u64,
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08}", self.kind.name(), self.number)
    }
}

impl PackId {
    pub(super) fn pack_path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{self}.car"))
    }

    pub(super) fn index_path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{self}.idx"))
    }

    pub(super) fn damage_path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{self}.bad"))
    }

    /// The id and extension of a file name, `None` for files that are not the store's.
    pub(super) fn from_file_name(name: &str) -> Option<(Self, &str)> {
        let (stem, extension) = name.split_once('.')?;
        let (kind, number) = stem.split_once('-')?;
        let kind = PackKind::ALL.into_iter().find(|k| k.name() == kind)?;
        let number = number.parse().ok()?;
        Some((Self { kind, number }, extension))
    }
}

/// A block, and where it lies in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) cid: Cid,
    pub(super) place: Place,
}

/// The end of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    /// Format version of the pack.
    pub(super) format: u32,
    pub(super) pack: PackId,
    /// Random bytes of this pack: no block from outside can imitate a footer.
    pub(super) salt: [u8; 16],
    /// Number in the pack; the one after the CAR header is 0.
    pub(super) commit: u64,
    /// End of the footer before this one.
    pub(super) start: u64,
    /// Where this footer's section starts.
    pub(super) section: u64,
    /// Everything before this offset was synced when the footer was written.
    pub(super) durable_to: u64,
    /// The last footer of its pack.
    pub(super) sealed: bool,
    pub(super) entries: Vec<Entry>,
}

impl Footer {
    /// The whole section: length, CID, body. Ends on a multiple of [`ALIGN`].
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(FIXED_LEN + self.entries.len() * 56 + 4096);
        body.extend_from_slice(&FOOTER_MAGIC);
        body.extend_from_slice(&self.format.to_le_bytes());
        body.extend_from_slice(&[self.pack.kind.code(), u8::from(self.sealed), 0, 0]);
        body.extend_from_slice(&self.pack.number.to_le_bytes());
        body.extend_from_slice(&self.salt);
        body.extend_from_slice(&self.commit.to_le_bytes());
        body.extend_from_slice(&self.start.to_le_bytes());
        body.extend_from_slice(&self.section.to_le_bytes());
        body.extend_from_slice(&self.durable_to.to_le_bytes());
        let count = u32::try_from(self.entries.len()).expect("at most MAX_ENTRIES entries");
        body.extend_from_slice(&count.to_le_bytes());
        body.extend_from_slice(&[0; 4]);
        for entry in &self.entries {
            entry.place.encode_to(&mut body);
            let cid = entry.cid.to_bytes();
            body.push(u8::try_from(cid.len()).expect("a CID has less than 100 bytes"));
            body.extend_from_slice(&cid);
        }

        let body_len = padded_body_len(self.section, body.len() + TRAILER_LEN);
        body.resize(body_len - TRAILER_LEN, 0);
        let crc = crc32fast::hash(&body);
        body.extend_from_slice(&crc.to_le_bytes());
        body.extend_from_slice(&self.section.to_le_bytes());
        body.extend_from_slice(&END_MAGIC);

        let mut section = section_header(&block::cid_of(RAW, &body), body.len());
        section.extend_from_slice(&body);
        section
    }

    /// Decodes the body of a footer section. `None` when it is not one, or damaged.
    fn decode(body: &[u8]) -> Option<Self> {
        let covered = body.len().checked_sub(TRAILER_LEN)?;
        let (covered, trailer) = body.split_at(covered);
        let mut trailer = Fields(trailer);
        let crc = trailer.u32()?;
        let back_pointer = trailer.u64()?;
        if crc != crc32fast::hash(covered) || trailer.0 != END_MAGIC {
            return None;
        }
        let mut fields = Fields(covered);
        if fields.take(8)? != FOOTER_MAGIC {
            return None;
        }
        // Of format 1 to 2 only entries with a record are new.
        let format = fields
            .u32()
            .filter(|format| (1..=FORMAT).contains(format))?;
        let kind = PackKind::from_code(*fields.take(1)?.first()?)?;
        let sealed = *fields.take(3)?.first()? != 0;
        let number = fields.u64()?;
        let salt = fields.take(16)?.try_into().ok()?;
        let commit = fields.u64()?;
        let start = fields.u64()?;
        let section = fields.u64()?;
        let durable_to = fields.u64()?;
        let count = usize::try_from(fields.u32()?).ok()?;
        fields.take(4)?;
        if section != back_pointer || count > MAX_ENTRIES || start > section {
            return None;
        }
        let entries = (0..count)
            .map(|_| {
                let place = Place::decode(&mut fields)?;
                let cid_len = usize::from(*fields.take(1)?.first()?);
                let cid = Cid::try_from(fields.take(cid_len)?).ok()?;
                let is_inside = place.offset >= start && place.end() <= section;
                is_inside.then_some(Entry { cid, place })
            })
            .collect::<Option<_>>()?;
        Some(Self {
            format,
            pack: PackId { kind, number },
            salt,
            commit,
            start,
            section,
            durable_to,
            sealed,
            entries,
        })
    }

    /// Reads the footer that ends at `end`, a multiple of [`ALIGN`]. `None` when there is none.
    pub(super) fn read_ending_at(file: &File, end: u64) -> io::Result<Option<Self>> {
        let mut trailer = [0; 16];
        let Some(at) = end.checked_sub(16) else {
            return Ok(None);
        };
        if !read_full(file, &mut trailer, at)? {
            return Ok(None);
        }
        match back_pointer(&trailer) {
            Some(section) => Self::read_at(file, section, end),
            None => Ok(None),
        }
    }

    /// Whether the block of the section at `section` is a footer of `pack`, and so no content.
    pub(super) fn is_footer(pack: PackId, section: u64, data: &[u8]) -> bool {
        Self::of_section(pack, section, data).is_some()
    }

    /// The footer that the block of the section at `section` of `pack` is.
    pub(super) fn of_section(pack: PackId, section: u64, data: &[u8]) -> Option<Self> {
        let footer = data
            .starts_with(&FOOTER_MAGIC)
            .then(|| Self::decode(data))?;
        footer.filter(|footer| footer.pack == pack && footer.section == section)
    }

    fn read_at(file: &File, section: u64, end: u64) -> io::Result<Option<Self>> {
        let len = match end.checked_sub(section) {
            Some(len) if (1..=MAX_SECTION).contains(&len) => len,
            _ => return Ok(None),
        };
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        if !read_full(file, &mut bytes, section)? {
            return Ok(None);
        }
        Ok(parse_section(&bytes)
            .filter(|(_, body)| body.end == bytes.len())
            .and_then(|(_, body)| Self::decode(bytes.get(body)?))
            .filter(|footer| footer.section == section))
    }
}

/// What the first 4 KiB of a pack say.
pub(super) enum Header {
    Known(Footer),
    TooNew(u32),
    Damaged,
}

/// The CAR header and the first footer, which has no entries and gives the pack's salt.
pub(super) fn first_page(pack: PackId, salt: [u8; 16]) -> Vec<u8> {
    let section = u64::try_from(CAR_HEADER.len()).expect("18 fits");
    let footer = Footer {
        format: FORMAT,
        pack,
        salt,
        commit: 0,
        start: 0,
        section,
        durable_to: 0,
        sealed: false,
        entries: Vec::new(),
    };
    let mut page = CAR_HEADER.to_vec();
    page.extend_from_slice(&footer.encode());
    page
}

/// Reads what [`first_page`] wrote.
pub(super) fn read_first_page(file: &File, pack: PackId) -> io::Result<Header> {
    let mut page = [0; PAGE_LEN];
    if !read_full(file, &mut page, 0)? || !page.starts_with(&CAR_HEADER) {
        return Ok(Header::Damaged);
    }
    let (body, trailer) = page[FIRST_BODY..].split_at(PAGE_LEN - FIRST_BODY - TRAILER_LEN);
    let mut fields = Fields(body);
    // Under its CRC32, so that no flipped bit is taken for a newer duka.
    if Fields(trailer).u32() == Some(crc32fast::hash(body))
        && fields.take(8) == Some(&FOOTER_MAGIC)
        && let Some(format) = fields.u32()
        && format > FORMAT
    {
        return Ok(Header::TooNew(format));
    }
    let footer = Footer::read_at(file, CAR_HEADER.len() as u64, ALIGN)?;
    Ok(match footer {
        Some(footer) if footer.pack == pack && footer.commit == 0 => Header::Known(footer),
        _ => Header::Damaged,
    })
}

/// Where the footer starts whose last 16 bytes these are.
pub(super) fn back_pointer(trailer: &[u8]) -> Option<u64> {
    let mut fields = Fields(trailer);
    let section = fields.u64()?;
    (fields.0 == END_MAGIC).then_some(section)
}

/// Length and CID, as they stand before the bytes of a block.
pub(super) fn section_header(cid: &Cid, len: usize) -> Vec<u8> {
    let cid = cid.to_bytes();
    let mut buffer = unsigned_varint::encode::usize_buffer();
    let mut header = unsigned_varint::encode::usize(cid.len() + len, &mut buffer).to_vec();
    header.extend_from_slice(&cid);
    header
}

/// Zeros in the longest section of padding: its length is one byte.
const MAX_PADDING_ZEROS: usize = 61;
/// Bytes of a section of padding besides the zeros, of which it has a multiple of two.
const PADDING_FIXED_LEN: usize = 5;

/// Sections without content to be written at `position`, so that the bytes of a block whose length and CID
/// take `header` bytes start at a page.
pub(super) fn padding(position: u64, header: usize) -> Vec<u8> {
    const LONGEST: usize = PADDING_FIXED_LEN + 2 * MAX_PADDING_ZEROS;
    let least = position + header as u64;
    let mut len = usize::try_from(least.next_multiple_of(ALIGN) - least).unwrap_or(0);
    // All sections have an odd length.
    let count = loop {
        let count = len.div_ceil(LONGEST);
        let count = count + (len - count) % 2;
        if count * PADDING_FIXED_LEN <= len {
            break count;
        }
        len += PAGE_LEN;
    };
    let mut padding = Vec::with_capacity(len);
    for after in (0..count).rev() {
        let section = (len - padding.len() - after * PADDING_FIXED_LEN).min(LONGEST);
        let zeros = (section - PADDING_FIXED_LEN) / 2;
        padding.extend_from_slice(&section_header(&padding_cid(zeros), zeros));
        padding.resize(padding.len() + zeros, 0);
    }
    padding
}

/// Whether a section is one of those that [`padding`] makes.
pub(super) fn is_padding(cid: &Cid, data: &[u8]) -> bool {
    data.len() <= MAX_PADDING_ZEROS
        && data.iter().all(|byte| *byte == 0)
        && *cid == padding_cid(data.len())
}

/// An identity CID, which readers of CARs take and do not store.
fn padding_cid(zeros: usize) -> Cid {
    let zeros = &[0; MAX_PADDING_ZEROS][..zeros];
    let hash = Multihash::wrap(IDENTITY, zeros).expect("61 of 64 bytes");
    Cid::new_v1(RAW, hash)
}

/// The CID of the section that `bytes` start with, and where its data lies in `bytes` (the end may
/// be past them). `None` when it is malformed.
pub(super) fn parse_section(bytes: &[u8]) -> Option<(Cid, std::ops::Range<usize>)> {
    let (len, rest) = unsigned_varint::decode::u64(bytes).ok()?;
    if len > MAX_SECTION {
        return None;
    }
    let body = bytes.len() - rest.len();
    let mut after = rest;
    let cid = Cid::read_bytes(&mut after).ok()?;
    let data = bytes.len() - after.len();
    let end = body.checked_add(usize::try_from(len).ok()?)?;
    (data <= end).then_some((cid, data..end))
}

/// Reads exactly `buffer.len()` bytes; `false` when the file ends before.
pub(super) fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The least length of a footer body, from `least` up, with which its section ends aligned.
fn padded_body_len(section: u64, least: usize) -> usize {
    let least = least as u64 + FOOTER_CID_LEN;
    let mut end = (section + least + 1).next_multiple_of(ALIGN);
    loop {
        for varint_len in 1..=4 {
            if let Some(len) = end.checked_sub(section + varint_len)
                && len >= least
                && varint_size(len) == varint_len
            {
                return usize::try_from(len - FOOTER_CID_LEN).expect("less than MAX_SECTION");
            }
        }
        end += ALIGN;
    }
}

fn varint_size(value: u64) -> u64 {
    let bits = u64::from(u64::BITS - value.max(1).leading_zeros());
    bits.div_ceil(7)
}

/// Little-endian fields, taken from the front; `None` past the end.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const PACK: PackId = PackId {
        kind: PackKind::Cache,
        number: 7,
    };

    #[test]
    fn first_page_is_one_page_and_reads_back() {
        let page = first_page(PACK, [9; 16]);
        assert_eq!(page.len(), 4096);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&page).unwrap();
        let Header::Known(footer) = read_first_page(&file, PACK).unwrap() else {
            panic!("not read back");
        };
        assert_eq!(footer.salt, [9; 16]);
    }

    #[test]
    fn file_names_read_back() {
        let path = PACK.index_path(Path::new("packs"));
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(PackId::from_file_name(name), Some((PACK, "idx")));
        assert_eq!(PackId::from_file_name("lock"), None);
        assert_eq!(PackId::from_file_name("other-1.car"), None);
    }

    proptest::proptest! {
        #[test]
        fn footers_end_aligned_and_read_back(
            section in 0u64..200_000,
            count in 0usize..400,
            sealed: bool,
        ) {
            let footer = Footer {
                format: FORMAT,
                pack: PACK,
                salt: [3; 16],
                commit: 5,
                start: section / 2,
                section,
                durable_to: 4096,
                sealed,
                entries: (0..count)
                    .map(|i| Entry {
                        cid: block::cid_of(RAW, &i.to_le_bytes()),
                        place: Place {
                            offset: section / 2,
                            len: 0,
                            crc: 17,
                            record: 0,
                        },
                    })
                    .collect(),
            };
            let bytes = footer.encode();
            let end = section + bytes.len() as u64;
            proptest::prop_assert_eq!(end % ALIGN, 0);
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&bytes, section).unwrap();
            proptest::prop_assert_eq!(Footer::read_ending_at(&file, end).unwrap(), Some(footer));
        }

        #[test]
        fn padding_leads_to_a_page_and_reads_back(position in 0u64..20_000, header in 36usize..48) {
            let padding = padding(position, header);
            let end = position + (padding.len() + header) as u64;
            proptest::prop_assert_eq!(end % ALIGN, 0);
            proptest::prop_assert!(padding.len() < PAGE_LEN + 2 * PADDING_FIXED_LEN);
            let mut rest = &padding[..];
            while !rest.is_empty() {
                let (cid, data) = parse_section(rest).unwrap();
                proptest::prop_assert!(is_padding(&cid, &rest[data.clone()]));
                let block = block::Block::new(cid, rest[data.clone()].to_vec().into());
                proptest::prop_assert!(block.is_ok());
                rest = &rest[data.end..];
            }
        }

        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _section = parse_section(&bytes);
            let _footer = Footer::decode(&bytes);
        }
    }
}
