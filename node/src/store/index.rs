//! The index file of a sealed pack: multihash → place, sorted, in pages, with a filter in front.
//!
//! In memory: where each page starts. A look-up reads one page, whatever the size of the pack, and only
//! in packs that their [filter](super::filter) names. Everything here can be rebuilt from the pack.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::Path;

use fixedbitset::FixedBitSet;
use rustix::fs::Advice;

use super::PackKind;
use super::filter::PackFilter;
use super::layout::{Entry, Fields, PackId, read_full};
use super::place::Place;
use crate::block::Multihash;
use crate::disk::Disk;

/// The index format known here.
const FORMAT: u32 = 3;
const MAGIC: [u8; 8] = *b"dukaidx\n";
const HEADER_LEN: usize = 128;
/// Most bytes of entries in a page.
const PAGE_LEN: usize = 4096;
/// First key of a page, CRC32 of its entries.
const FENCE_LEN: usize = 12;
/// Place of a block, length of its multihash.
const FIXED_ENTRY_LEN: usize = Place::LEN + 1;
/// Longest multihash: code and length of up to 9 bytes each, 64 bytes of digest.
const MAX_KEY_LEN: usize = 82;

/// The part of an index file that is held in memory, but for the filter.
#[derive(Debug)]
pub(super) struct PackIndex {
    pub(super) id: PackId,
    /// Length of the pack file in bytes.
    pub(super) pack_len: u64,
    /// Blocks.
    pub(super) count: u64,
    /// Bytes that the blocks take in it.
    pub(super) bytes: u64,
    shape: Shape,
    pages: Box<[Fence]>,
}

/// What is known of a page without reading it.
#[derive(Clone, Copy, Debug)]
struct Fence {
    /// The [`prefix`] of its first key.
    first: u64,
    /// CRC32 of its entries.
    crc: u32,
}

/// Why an index file cannot be used.
#[derive(Debug)]
pub(super) enum LoadError {
    /// Not whole, or of another version: rebuild it.
    Damaged,
    /// It could not be read.
    Io(io::Error),
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Where things lie in an index file: follows from the number of entries and the longest multihash.
#[derive(Clone, Copy, Debug)]
struct Shape {
    count: usize,
    stride: usize,
    per_page: usize,
    filter_at: usize,
    entries_at: usize,
}

impl Shape {
    /// `None` when no pack has so many entries.
    fn new(count: u64, key_len: usize) -> Option<Self> {
        let stride = FIXED_ENTRY_LEN + key_len;
        let per_page = PAGE_LEN / stride;
        let filter_len = usize::try_from(PackFilter::len(u32::try_from(count).ok()?)).ok()?;
        let count = usize::try_from(count).ok()?;
        let filter_at = HEADER_LEN + count.div_ceil(per_page) * FENCE_LEN;
        Some(Self {
            count,
            stride,
            per_page,
            filter_at,
            entries_at: filter_at + filter_len,
        })
    }

    fn file_len(&self) -> u64 {
        (self.entries_at + self.count * self.stride) as u64
    }

    /// Numbers of the entries of a page.
    fn entries_of(&self, page: usize) -> Range<usize> {
        let first = page * self.per_page;
        first..self.count.min(first + self.per_page)
    }
}

impl PackIndex {
    /// Reads the parts of the file at `path` that are held in memory.
    pub(super) fn load(path: &Path, id: PackId) -> Result<(Self, PackFilter), LoadError> {
        let file = File::open(path)?;
        // The entries would be read ahead, and most are never asked for.
        rustix::fs::fadvise(&file, 0, None, Advice::Random).map_err(io::Error::from)?;
        let file_len = file.metadata()?.len();
        // One read brings all that is wanted of most indexes.
        let mut held = vec![0; usize::try_from(file_len).map_or(PAGE_LEN, |len| len.min(PAGE_LEN))];
        if !read_full(&file, &mut held, 0)? {
            return Err(LoadError::Damaged);
        }
        let header = held.first_chunk().ok_or(LoadError::Damaged)?;
        let (mut index, crc) = parse_header(header, id).ok_or(LoadError::Damaged)?;
        let shape = index.shape;
        // Nothing is allocated for entries that are not there.
        if file_len != shape.file_len() {
            return Err(LoadError::Damaged);
        }
        let first = held.len();
        held.resize(shape.entries_at, 0);
        if let Some(rest) = held.get_mut(first..)
            && !read_full(&file, rest, first as u64)?
        {
            return Err(LoadError::Damaged);
        }
        let (header, rest) = held.split_at(HEADER_LEN);
        if crc_of(&header[..HEADER_LEN - 4], rest) != crc {
            return Err(LoadError::Damaged);
        }
        let (fences, filter) = rest.split_at(shape.filter_at - HEADER_LEN);
        let fences = fences.chunks_exact(FENCE_LEN).map(parse_fence);
        index.pages = fences.collect::<Option<_>>().ok_or(LoadError::Damaged)?;
        Ok((index, PackFilter::from_bytes(filter)))
    }

    /// Looks `key` up in the index file: which entry it is, from 0, and where the block lies. `Err` of
    /// kind `InvalidData` when the file is damaged.
    pub(super) fn find(&self, file: &File, key: &Multihash) -> io::Result<Option<(u32, Place)>> {
        let wanted = key.to_bytes();
        for page in self.pages_of(prefix(key)) {
            let read = self.read_page(file, page)?;
            for (number, entry) in self.entries(page, &read) {
                if let Some((found, place)) = entry
                    && found == wanted
                {
                    return Ok(Some((number, place)));
                }
            }
        }
        Ok(None)
    }

    /// The pages that may hold keys with this prefix: one, but for the prefix with which a page starts,
    /// which the page before may end with.
    fn pages_of(&self, prefix: u64) -> impl Iterator<Item = usize> {
        let first = self.pages.partition_point(|page| page.first < prefix);
        let end = self.pages.partition_point(|page| page.first <= prefix);
        (first.saturating_sub(1)..end).rev()
    }

    /// Bytes that the blocks of these entries take in the pack.
    pub(super) fn bytes_of(&self, file: &File, entries: &FixedBitSet) -> io::Result<u64> {
        let mut bytes = 0;
        self.for_each(file, &mut |entry, _, place| {
            if entries.contains(entry as usize) {
                bytes += u64::from(place.stored());
            }
        })?;
        Ok(bytes)
    }

    /// Calls `visit` with every entry, in order: which one it is, its key and its place.
    pub(super) fn for_each(
        &self,
        file: &File,
        visit: &mut dyn FnMut(u32, Multihash, Place),
    ) -> io::Result<()> {
        for page in 0..self.pages.len() {
            let read = self.read_page(file, page)?;
            for (number, entry) in self.entries(page, &read) {
                if let Some((key, place)) = entry
                    && let Ok(key) = Multihash::from_bytes(key)
                {
                    visit(number, key, place);
                }
            }
        }
        Ok(())
    }

    /// Reads every page; `false` when one is damaged.
    pub(super) fn is_whole(&self, file: &File) -> io::Result<bool> {
        for page in 0..self.pages.len() {
            match self.read_page(file, page) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
                other => drop(other?),
            }
        }
        Ok(true)
    }

    fn read_page(&self, file: &File, page: usize) -> io::Result<Vec<u8>> {
        let Shape {
            stride, entries_at, ..
        } = self.shape;
        let entries = self.shape.entries_of(page);
        let mut bytes = vec![0; entries.len() * stride];
        let at = (entries_at + entries.start * stride) as u64;
        if !read_full(file, &mut bytes, at)? || crc32fast::hash(&bytes) != self.pages[page].crc {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the index is damaged",
            ));
        }
        Ok(bytes)
    }

    /// The entries of a page that was read, with their numbers.
    fn entries<'a>(
        &self,
        page: usize,
        read: &'a [u8],
    ) -> impl Iterator<Item = (u32, Option<(&'a [u8], Place)>)> {
        let first = u32::try_from(page * self.shape.per_page).expect("less than `count`");
        (first..).zip(read.chunks_exact(self.shape.stride).map(parse_entry))
    }
}

/// Writes the index of a sealed pack: whole, or not at all. Loads what it wrote.
pub(super) fn write(
    disk: &dyn Disk,
    dir: &Path,
    id: PackId,
    pack_len: u64,
    entries: &[(Multihash, Place)],
) -> io::Result<(PackIndex, PackFilter)> {
    let bytes = encode(id, pack_len, entries);
    let path = id.index_path(dir);
    let temporary = path.with_extension("idx.tmp");
    let mut options = OpenOptions::new();
    let file = disk.open(&temporary, options.write(true).create(true).truncate(true))?;
    disk.write_at(&file, &bytes, 0)?;
    disk.sync(&file)?;
    disk.rename(&temporary, &path)?;
    disk.sync_dir(dir)?;
    match PackIndex::load(&path, id) {
        Ok(loaded) => Ok(loaded),
        Err(LoadError::Io(error)) => Err(error),
        Err(_) => Err(io::Error::other("the index does not read back")),
    }
}

/// The places of a list of footer entries in file order. Of two blocks with one multihash the last:
/// it was put because the one before was damaged.
pub(super) fn places(entries: &[Entry]) -> Vec<(Multihash, Place)> {
    let mut newest = HashMap::with_capacity(entries.len());
    for entry in entries {
        newest.insert(*entry.cid.hash(), entry.place);
    }
    newest.into_iter().collect()
}

fn encode(id: PackId, pack_len: u64, entries: &[(Multihash, Place)]) -> Vec<u8> {
    let mut sorted: Vec<_> = entries
        .iter()
        .map(|(key, place)| (prefix(key), key.to_bytes(), *place))
        .collect();
    sorted.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let keys = sorted.iter().map(|(_, key, _)| key.len());
    let key_len = keys.max().unwrap_or(0);
    let data_len: u64 = sorted.iter().map(|(_, _, p)| u64::from(p.stored())).sum();
    let shape = Shape::new(sorted.len() as u64, key_len).expect("a pack has less than 2^32 blocks");

    let mut fences = Vec::with_capacity(shape.entries_at - HEADER_LEN);
    let mut body = Vec::with_capacity(shape.count * shape.stride);
    for page in sorted.chunks(shape.per_page) {
        let start = body.len();
        for (_, key, place) in page {
            place.encode_to(&mut body);
            body.push(u8::try_from(key.len()).expect("a multihash has at most 82 bytes"));
            body.extend_from_slice(key);
            body.resize(body.len() + key_len - key.len(), 0);
        }
        fences.extend_from_slice(&page[0].0.to_le_bytes());
        fences.extend_from_slice(&crc32fast::hash(&body[start..]).to_le_bytes());
    }
    let filter = PackFilter::new(sorted.iter().map(|(prefix, _, _)| *prefix));
    let mut rest = fences;
    rest.extend(filter.to_bytes());

    let mut out = Vec::with_capacity(HEADER_LEN + rest.len() + body.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&[id.kind.code(), 0, 0, 0]);
    out.extend_from_slice(&id.number.to_le_bytes());
    out.extend_from_slice(&pack_len.to_le_bytes());
    out.extend_from_slice(&(sorted.len() as u64).to_le_bytes());
    out.extend_from_slice(&data_len.to_le_bytes());
    let key_len = u32::try_from(key_len).expect("a multihash has at most 82 bytes");
    out.extend_from_slice(&key_len.to_le_bytes());
    out.resize(HEADER_LEN - 4, 0);
    let crc = crc_of(&out, &rest);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&rest);
    out.extend_from_slice(&body);
    out
}

/// Of the header before its CRC32 and all that comes before the entries.
fn crc_of(header: &[u8], rest: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(rest);
    crc.finalize()
}

/// What a header says, and the CRC32; `None` where it is not one of `id` in this format.
fn parse_header(header: &[u8; HEADER_LEN], id: PackId) -> Option<(PackIndex, u32)> {
    let (covered, crc) = header.split_at(HEADER_LEN - 4);
    let mut fields = Fields(covered);
    if fields.take(8)? != MAGIC || fields.u32()? != FORMAT {
        return None;
    }
    let kind = PackKind::from_code(*fields.take(4)?.first()?)?;
    let number = fields.u64()?;
    let pack_len = fields.u64()?;
    let count = fields.u64()?;
    let bytes = fields.u64()?;
    let key_len = usize::try_from(fields.u32()?).ok()?;
    if (PackId { kind, number }) != id || key_len > MAX_KEY_LEN {
        return None;
    }
    let index = PackIndex {
        id,
        pack_len,
        count,
        bytes,
        shape: Shape::new(count, key_len)?,
        pages: Box::default(),
    };
    Some((index, Fields(crc).u32()?))
}

fn parse_fence(fence: &[u8]) -> Option<Fence> {
    let mut fields = Fields(fence);
    Some(Fence {
        first: fields.u64()?,
        crc: fields.u32()?,
    })
}

/// What entries are sorted by, and filters are asked with: the first eight bytes of the digest.
pub(super) fn prefix(key: &Multihash) -> u64 {
    let digest = key.digest();
    let mut first = [0; 8];
    let len = digest.len().min(8);
    first[..len].copy_from_slice(&digest[..len]);
    u64::from_be_bytes(first)
}

fn parse_entry(entry: &[u8]) -> Option<(&[u8], Place)> {
    let mut fields = Fields(entry);
    let place = Place::decode(&mut fields)?;
    let key_len = usize::from(*fields.take(1)?.first()?);
    Some((fields.take(key_len)?, place))
}

#[cfg(test)]
mod tests {
    use super::super::filter::Filters;
    use super::*;
    use crate::block::{RAW, cid_of};
    use crate::disk::FileSystem;

    const PACK: PackId = PackId {
        kind: PackKind::Kept,
        number: 3,
    };

    fn entries(count: u32) -> Vec<(Multihash, Place)> {
        (0..count)
            .map(|i| {
                let key = *cid_of(RAW, &i.to_le_bytes()).hash();
                let place = Place {
                    offset: u64::from(i) * 100,
                    len: i,
                    crc: !i,
                    record: 0,
                };
                (key, place)
            })
            .collect()
    }

    #[test]
    fn every_entry_is_found_and_nothing_else() {
        for count in [0, 1, 2, 3, 5_000] {
            let dir = tempfile::tempdir().unwrap();
            let entries = entries(count);
            let (index, filter) = write(&FileSystem, dir.path(), PACK, 1 << 20, &entries).unwrap();
            let mut filters = Filters::default();
            filters.add(PACK, &filter);
            let file = File::open(PACK.index_path(dir.path())).unwrap();
            let mut numbers = std::collections::HashSet::new();
            for (key, place) in &entries {
                assert_eq!(filters.candidates(prefix(key)), [PACK]);
                let (number, found) = index.find(&file, key).unwrap().unwrap();
                assert_eq!(found, *place);
                assert!(numbers.insert(number) && number < count);
            }
            let absent = *cid_of(RAW, b"absent").hash();
            assert_eq!(index.find(&file, &absent).unwrap(), None);
            assert!(index.is_whole(&file).unwrap());
        }
    }

    #[test]
    fn a_look_up_reads_one_page_whatever_the_size_of_the_pack() {
        for count in [1, 80, 81, 5_000, 100_000] {
            let dir = tempfile::tempdir().unwrap();
            let entries = entries(count);
            let (index, _) = write(&FileSystem, dir.path(), PACK, 1 << 20, &entries).unwrap();
            let file = File::open(PACK.index_path(dir.path())).unwrap();
            for page in 0..index.pages.len() {
                assert!(index.read_page(&file, page).unwrap().len() <= 4096);
            }
            let mut pages = entries
                .iter()
                .map(|(key, _)| index.pages_of(prefix(key)).count());
            assert!(pages.all(|count| count == 1 || count == 2));
            let pages = entries
                .iter()
                .map(|(key, _)| index.pages_of(prefix(key)).count());
            // The first entry of a page may share its prefix with the last one of the page before.
            assert!(pages.sum::<usize>() < entries.len() + index.pages.len());
        }
    }

    #[test]
    fn entries_with_one_prefix_on_many_pages_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let entries: Vec<_> = (0..300u16)
            .map(|i| {
                let digest = [&[7; 30][..], &i.to_be_bytes()].concat();
                let place = Place {
                    offset: u64::from(i),
                    len: 1,
                    crc: 0,
                    record: 0,
                };
                (Multihash::wrap(0x12, &digest).unwrap(), place)
            })
            .collect();
        let (index, _) = write(&FileSystem, dir.path(), PACK, 1 << 20, &entries).unwrap();
        let file = File::open(PACK.index_path(dir.path())).unwrap();
        for (key, place) in &entries {
            assert_eq!(index.find(&file, key).unwrap().unwrap().1, *place);
        }
    }

    #[test]
    fn an_index_of_another_format_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let written = encode(PACK, 1 << 20, &entries(3));
        let path = PACK.index_path(dir.path());
        for format in [FORMAT - 1, FORMAT + 1] {
            let mut other = written.clone();
            other[8..12].copy_from_slice(&format.to_le_bytes());
            let rest = other.len() - 3 * 51;
            let crc = crc_of(&other[..HEADER_LEN - 4], &other[HEADER_LEN..rest]);
            other[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
            std::fs::write(&path, &other).unwrap();
            assert!(matches!(
                PackIndex::load(&path, PACK),
                Err(LoadError::Damaged)
            ));
        }
    }

    #[test]
    fn a_flipped_byte_anywhere_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        write(&FileSystem, dir.path(), PACK, 1 << 20, &entries(300)).unwrap();
        let path = PACK.index_path(dir.path());
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let noticed = match PackIndex::load(&path, PACK) {
                Err(_) => true,
                Ok((index, _)) => !index.is_whole(&File::open(&path).unwrap()).unwrap(),
            };
            assert!(noticed, "byte {at}");
        }
    }

    #[test]
    fn a_truncated_index_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        write(&FileSystem, dir.path(), PACK, 1 << 20, &entries(30)).unwrap();
        let path = PACK.index_path(dir.path());
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..1000]).unwrap();
        assert!(matches!(
            PackIndex::load(&path, PACK),
            Err(LoadError::Damaged)
        ));
    }
}
