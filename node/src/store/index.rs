//! The index file of a sealed pack: multihash → place, sorted, with a filter in front.
//!
//! In memory: the filter and a fan-out table over the first byte of the digest. A look-up that
//! passes the filter reads one bucket. Everything here can be rebuilt from the pack.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use fixedbitset::FixedBitSet;
use xorf::{BinaryFuse16, Descriptor, Filter};

use super::PackKind;
use super::layout::{Entry, Fields, PackId, read_full};
use crate::block::Multihash;
use crate::disk::Disk;

/// The index format known here.
const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"dukaidx\n";
const HEADER_LEN: usize = 128;
const BUCKETS: usize = 256;
const TABLE_LEN: usize = BUCKETS * 8;
/// Offset, length and CRC32 of a block, length of its multihash.
const FIXED_ENTRY_LEN: usize = 17;
/// Longest multihash: code and length of up to 9 bytes each, 64 bytes of digest.
const MAX_KEY_LEN: usize = 82;
/// More fingerprints than any pack can need: refuses absurd allocations.
const MAX_FINGERPRINTS: usize = 64 << 20;

/// Where a block of a sealed pack lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
}

/// The part of an index file that is held in memory.
#[derive(Debug)]
pub(super) struct PackIndex {
    pub(super) id: PackId,
    /// Length of the pack file in bytes.
    pub(super) pack_len: u64,
    /// Blocks.
    pub(super) count: u64,
    /// Bytes of all blocks.
    pub(super) bytes: u64,
    stride: usize,
    entries_at: u64,
    /// Per bucket: entries up to and including it, CRC32 of its entries.
    table: Box<[(u32, u32)]>,
    filter: Option<BinaryFuse16>,
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

impl PackIndex {
    /// Reads the part of the file at `path` that is held in memory.
    pub(super) fn load(path: &Path, id: PackId) -> Result<Self, LoadError> {
        let file = File::open(path)?;
        let mut head = vec![0; HEADER_LEN + TABLE_LEN];
        if !read_full(&file, &mut head, 0)? {
            return Err(LoadError::Damaged);
        }
        let header = parse_header(&head, id)?;
        let mut fingerprints = vec![0; header.fingerprints * 2];
        if !read_full(&file, &mut fingerprints, head.len() as u64)? {
            return Err(LoadError::Damaged);
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head[..HEADER_LEN - 4]);
        crc.update(&head[HEADER_LEN..]);
        crc.update(&fingerprints);
        if crc.finalize() != header.crc {
            return Err(LoadError::Damaged);
        }
        header
            .into_index(id, &head[HEADER_LEN..], &fingerprints)
            .ok_or(LoadError::Damaged)
    }

    /// Whether the pack may hold `key`: no file is read. Wrong in 1 of 65,536 cases.
    pub(super) fn may_hold(&self, key: &Multihash) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.contains(&filter_key(key)))
    }

    /// Looks `key` up in the index file: which entry it is, from 0, and where the block lies. `Err` of
    /// kind `InvalidData` when the file is damaged.
    pub(super) fn find(&self, file: &File, key: &Multihash) -> io::Result<Option<(u32, Place)>> {
        let bucket = bucket_of(key);
        let entries = self.read_bucket(file, bucket)?;
        let wanted = key.to_bytes();
        Ok((self.first(bucket)..)
            .zip(entries.chunks_exact(self.stride))
            .find_map(|(number, entry)| {
                let (found, place) = parse_entry(entry)?;
                (found == wanted).then_some((number, place))
            }))
    }

    /// Bytes of the blocks of these entries.
    pub(super) fn bytes_of(&self, file: &File, entries: &FixedBitSet) -> io::Result<u64> {
        let mut bytes = 0;
        self.for_each(file, &mut |entry, _, place| {
            if entries.contains(entry as usize) {
                bytes += u64::from(place.len);
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
        for bucket in 0..BUCKETS {
            let read = self.read_bucket(file, bucket)?;
            let entries = read.chunks_exact(self.stride).map(parse_entry);
            for (number, entry) in (self.first(bucket)..).zip(entries) {
                if let Some((key, place)) = entry
                    && let Ok(key) = Multihash::from_bytes(key)
                {
                    visit(number, key, place);
                }
            }
        }
        Ok(())
    }

    /// Reads every bucket; `false` when one is damaged.
    pub(super) fn is_whole(&self, file: &File) -> io::Result<bool> {
        for bucket in 0..BUCKETS {
            match self.read_bucket(file, bucket) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
                other => drop(other?),
            }
        }
        Ok(true)
    }

    /// Number of the first entry of a bucket.
    fn first(&self, bucket: usize) -> u32 {
        match bucket.checked_sub(1) {
            Some(before) => self.table[before].0,
            None => 0,
        }
    }

    fn read_bucket(&self, file: &File, bucket: usize) -> io::Result<Vec<u8>> {
        let first = self.first(bucket);
        let (end, crc) = self.table[bucket];
        let count = usize::try_from(end - first).expect("the table grows: checked on load");
        let mut bytes = vec![0; count * self.stride];
        let at = self.entries_at + u64::from(first) * self.stride as u64;
        if !read_full(file, &mut bytes, at)? || crc32fast::hash(&bytes) != crc {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the index is damaged",
            ));
        }
        Ok(bytes)
    }
}

/// Writes the index of a sealed pack: whole, or not at all. Loads what it wrote.
pub(super) fn write(
    disk: &dyn Disk,
    dir: &Path,
    id: PackId,
    pack_len: u64,
    entries: &[(Multihash, Place)],
) -> io::Result<PackIndex> {
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
        Ok(index) => Ok(index),
        Err(LoadError::Io(error)) => Err(error),
        Err(_) => Err(io::Error::other("the index does not read back")),
    }
}

/// The places of a list of footer entries in file order. Of two blocks with one multihash the last:
/// it was put because the one before was damaged.
pub(super) fn places(entries: &[Entry]) -> Vec<(Multihash, Place)> {
    let mut newest = HashMap::with_capacity(entries.len());
    for entry in entries {
        let place = Place {
            offset: entry.offset,
            len: entry.len,
            crc: entry.crc,
        };
        newest.insert(*entry.cid.hash(), place);
    }
    newest.into_iter().collect()
}

fn encode(id: PackId, pack_len: u64, entries: &[(Multihash, Place)]) -> Vec<u8> {
    let mut sorted: Vec<_> = entries
        .iter()
        .map(|(key, place)| (bucket_of(key), key.to_bytes(), *place))
        .collect();
    sorted.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let key_len = sorted
        .iter()
        .map(|(_, key, _)| key.len())
        .max()
        .unwrap_or(0);
    let data_len: u64 = entries.iter().map(|(_, p)| u64::from(p.len)).sum();

    let mut table = Vec::with_capacity(TABLE_LEN);
    let mut body = Vec::with_capacity(sorted.len() * (FIXED_ENTRY_LEN + key_len));
    let mut rest = sorted.as_slice();
    let mut count = 0u32;
    for bucket in 0..BUCKETS {
        let start = body.len();
        let here = rest.partition_point(|(b, _, _)| *b <= bucket);
        let (these, after) = rest.split_at(here);
        for (_, key, place) in these {
            body.extend_from_slice(&place.offset.to_le_bytes());
            body.extend_from_slice(&place.len.to_le_bytes());
            body.extend_from_slice(&place.crc.to_le_bytes());
            body.push(u8::try_from(key.len()).expect("a multihash has at most 82 bytes"));
            body.extend_from_slice(key);
            body.resize(body.len() + key_len - key.len(), 0);
        }
        count += u32::try_from(these.len()).expect("a pack holds less than 2^32 blocks");
        table.extend_from_slice(&count.to_le_bytes());
        table.extend_from_slice(&crc32fast::hash(&body[start..]).to_le_bytes());
        rest = after;
    }

    let filter = build_filter(entries);
    let mut fingerprints = Vec::new();
    let mut descriptor = Descriptor {
        seed: 0,
        segment_length: 0,
        segment_length_mask: 0,
        segment_count_length: 0,
    };
    if let Some(filter) = filter {
        descriptor = filter.descriptor;
        fingerprints.extend(filter.fingerprints.iter().flat_map(|f| f.to_le_bytes()));
    }

    let mut out = Vec::with_capacity(HEADER_LEN + table.len() + fingerprints.len() + body.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&[id.kind.code(), 0, 0, 0]);
    out.extend_from_slice(&id.number.to_le_bytes());
    out.extend_from_slice(&pack_len.to_le_bytes());
    out.extend_from_slice(&(sorted.len() as u64).to_le_bytes());
    out.extend_from_slice(&data_len.to_le_bytes());
    let short = |n: usize| u32::try_from(n).expect("less than 2^32");
    out.extend_from_slice(&short(key_len).to_le_bytes());
    out.extend_from_slice(&short(fingerprints.len() / 2).to_le_bytes());
    out.extend_from_slice(&descriptor.seed.to_le_bytes());
    out.extend_from_slice(&descriptor.segment_length.to_le_bytes());
    out.extend_from_slice(&descriptor.segment_length_mask.to_le_bytes());
    out.extend_from_slice(&descriptor.segment_count_length.to_le_bytes());
    out.resize(HEADER_LEN - 4, 0);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out);
    crc.update(&table);
    crc.update(&fingerprints);
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    out.extend_from_slice(&table);
    out.extend_from_slice(&fingerprints);
    out.extend_from_slice(&body);
    out
}

struct HeaderFields {
    pack_len: u64,
    count: u64,
    bytes: u64,
    key_len: usize,
    fingerprints: usize,
    descriptor: Descriptor,
    crc: u32,
}

fn parse_header(head: &[u8], id: PackId) -> Result<HeaderFields, LoadError> {
    fn fields(fields: &mut Fields<'_>) -> Option<(PackId, HeaderFields)> {
        let kind = PackKind::from_code(*fields.take(4)?.first()?)?;
        let number = fields.u64()?;
        let header = HeaderFields {
            pack_len: fields.u64()?,
            count: fields.u64()?,
            bytes: fields.u64()?,
            key_len: usize::try_from(fields.u32()?).ok()?,
            fingerprints: usize::try_from(fields.u32()?).ok()?,
            descriptor: Descriptor {
                seed: fields.u64()?,
                segment_length: fields.u32()?,
                segment_length_mask: fields.u32()?,
                segment_count_length: fields.u32()?,
            },
            crc: 0,
        };
        Some((PackId { kind, number }, header))
    }

    let mut rest = Fields(head);
    if rest.take(8) != Some(&MAGIC) || rest.u32() != Some(FORMAT) {
        return Err(LoadError::Damaged);
    }
    let (found, mut header) = fields(&mut rest).ok_or(LoadError::Damaged)?;
    header.crc = head
        .get(HEADER_LEN - 4..HEADER_LEN)
        .and_then(|bytes| Fields(bytes).u32())
        .ok_or(LoadError::Damaged)?;
    let sane = found == id
        && header.key_len <= MAX_KEY_LEN
        && header.fingerprints <= MAX_FINGERPRINTS
        && filter_is_sound(&header.descriptor, header.fingerprints);
    if sane {
        Ok(header)
    } else {
        Err(LoadError::Damaged)
    }
}

impl HeaderFields {
    fn into_index(self, id: PackId, table: &[u8], fingerprints: &[u8]) -> Option<PackIndex> {
        let mut fields = Fields(table);
        let table = (0..BUCKETS)
            .map(|_| Some((fields.u32()?, fields.u32()?)))
            .collect::<Option<Box<[_]>>>()?;
        let grows = table.is_sorted_by_key(|(end, _)| *end);
        if !grows || table.last().map(|(end, _)| u64::from(*end)) != Some(self.count) {
            return None;
        }
        let filter = (self.fingerprints > 0).then(|| BinaryFuse16 {
            descriptor: self.descriptor,
            fingerprints: fingerprints
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect(),
        });
        Some(PackIndex {
            id,
            pack_len: self.pack_len,
            count: self.count,
            bytes: self.bytes,
            stride: FIXED_ENTRY_LEN + self.key_len,
            entries_at: (HEADER_LEN + TABLE_LEN + fingerprints.len()) as u64,
            table,
            filter,
        })
    }
}

/// Whether look-ups with this descriptor stay inside the fingerprints.
fn filter_is_sound(descriptor: &Descriptor, fingerprints: usize) -> bool {
    if fingerprints == 0 {
        return true;
    }
    let segment = u64::from(descriptor.segment_length);
    descriptor.segment_length.is_power_of_two()
        && descriptor.segment_length_mask == descriptor.segment_length - 1
        && descriptor
            .segment_count_length
            .is_multiple_of(descriptor.segment_length)
        && u64::from(descriptor.segment_count_length) + 2 * segment <= fingerprints as u64
}

/// `None` when there is nothing to filter or no filter could be built: every look-up then reads.
fn build_filter(entries: &[(Multihash, Place)]) -> Option<BinaryFuse16> {
    let mut keys: Vec<u64> = entries.iter().map(|(key, _)| filter_key(key)).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return None;
    }
    BinaryFuse16::try_from(&keys).ok()
}

/// The first eight bytes of the digest.
fn filter_key(key: &Multihash) -> u64 {
    let digest = key.digest();
    let mut first = [0; 8];
    let len = digest.len().min(8);
    first[..len].copy_from_slice(&digest[..len]);
    u64::from_be_bytes(first)
}

fn bucket_of(key: &Multihash) -> usize {
    key.digest().first().copied().map_or(0, usize::from)
}

fn parse_entry(entry: &[u8]) -> Option<(&[u8], Place)> {
    let mut fields = Fields(entry);
    let place = Place {
        offset: fields.u64()?,
        len: fields.u32()?,
        crc: fields.u32()?,
    };
    let key_len = usize::from(*fields.take(1)?.first()?);
    Some((fields.take(key_len)?, place))
}

#[cfg(test)]
mod tests {
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
            let index = write(&FileSystem, dir.path(), PACK, 1 << 20, &entries).unwrap();
            let file = File::open(PACK.index_path(dir.path())).unwrap();
            let mut numbers = std::collections::HashSet::new();
            for (key, place) in &entries {
                assert!(index.may_hold(key));
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
                Ok(index) => !index.is_whole(&File::open(&path).unwrap()).unwrap(),
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
