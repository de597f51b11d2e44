//! What a pack file holds, found from its footers: at every open for the packs that are still
//! written to, and for any pack whose index is damaged.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use cid::Cid;

use super::StoreError;
use super::in_place::Record;
use super::layout::{
    ALIGN, CAR_HEADER, Entry, FORMAT, Footer, Header, PAGE_LEN, PackId, back_pointer,
    parse_section, read_first_page, read_full,
};
use super::place::Place;
use crate::block::{Block, IDENTITY};

/// What was found in a pack file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) salt: [u8; 16],
    /// In file order.
    pub(super) entries: Vec<Entry>,
    /// Offsets of those that were checked and do not match.
    pub(super) damaged: Vec<u64>,
    /// The last footer says that all blocks were synced.
    pub(super) noted: bool,
    /// Whole blocks behind the last good footer.
    pub(super) unlisted: usize,
    /// End of the last good footer, or of the last whole block behind it.
    pub(super) end: u64,
    /// Number of the next commit.
    pub(super) next_commit: u64,
    /// No more is written to it: its last footer says so, it has an older format, or it is too damaged to
    /// go on with.
    pub(super) sealed: bool,
    /// Bytes after `end`, which nobody was promised.
    pub(super) torn: u64,
}

/// Which commits of a pack are believed without reading their blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Those that a footer says were synced. The blocks of the others are checked.
    Synced,
    /// All: the pack was synced as a whole before it got its index.
    All,
}

/// Reads the footers of the pack at `path`.
///
/// `None` when there is nothing in it: the crash came before the first page was written.
pub(super) fn recover(path: &Path, id: PackId, trust: Trust) -> Result<Option<Found>, StoreError> {
    let failed = |source| StoreError::io("reading", path, source);
    let file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    match read_first_page(&file, id).map_err(failed)? {
        Header::TooNew(found) => Err(StoreError::too_new(path, found)),
        Header::Known(first) => recover_known(&file, &first, len, trust)
            .map(Some)
            .map_err(failed),
        Header::Damaged => salvage(&file, id, len).map_err(failed),
    }
}

fn recover_known(file: &File, first: &Footer, len: u64, trust: Trust) -> io::Result<Found> {
    let chain = read_chain(file, first, len)?;
    let durable_to = match trust {
        Trust::Synced => chain.last().map_or(0, |(footer, _)| footer.durable_to),
        Trust::All => u64::MAX,
    };
    let of_pack = OfPack {
        id: first.pack,
        salt: Some(first.salt),
    };
    let mut found = Found {
        salt: first.salt,
        entries: Vec::new(),
        damaged: Vec::new(),
        noted: true,
        unlisted: 0,
        end: ALIGN,
        next_commit: 1,
        sealed: first.format < FORMAT,
        torn: 0,
    };
    for (footer, end) in chain {
        if footer.start != found.end {
            // The footers in between are damaged: their blocks are found by their hashes.
            let between = found.end..footer.start;
            scan(file, &of_pack, between, &mut found.entries)?;
        }
        if end > durable_to && !footer.entries.is_empty() {
            // Whether its sync was acknowledged is not known: a block that does not match may have
            // been whole then, so the commit stays and the block is named.
            found.noted = false;
            check(file, &footer.entries, &mut found.damaged)?;
        }
        found.entries.extend(footer.entries);
        found.end = end;
        found.next_commit = footer.commit + 1;
        found.sealed |= footer.sealed;
    }
    let listed = found.entries.len();
    scan(file, &of_pack, found.end..len, &mut found.entries)?;
    if trust == Trust::All {
        found.end = found.end.max(len);
    } else if let Some(last) = found.entries.get(listed..).and_then(<[Entry]>::last) {
        // They may have been acknowledged by a footer that is damaged now. The next commit could not
        // start at a page without writing one of theirs again, so the pack ends here.
        found.unlisted = found.entries.len() - listed;
        found.end = last.place.end();
        found.sealed = true;
    }
    found.torn = len - found.end.min(len);
    Ok(found)
}

/// Whether the footers of a pack are whole from its first page to the last one before `end`. After a
/// crash there may be blocks behind that.
pub(super) fn footers_are_whole(path: &Path, id: PackId, end: u64) -> io::Result<bool> {
    let file = File::open(path)?;
    if file.metadata()?.len() < end {
        return Ok(false);
    }
    let Header::Known(first) = read_first_page(&file, id)? else {
        return Ok(false);
    };
    let mut walked = ALIGN;
    for (footer, footer_end) in read_chain(&file, &first, end)? {
        if footer.start != walked {
            return Ok(false);
        }
        walked = footer_end;
    }
    Ok(true)
}

/// All good footers after the first page with their ends, in file order.
fn read_chain(file: &File, first: &Footer, len: u64) -> io::Result<Vec<(Footer, u64)>> {
    let mut chain = Vec::new();
    let mut end = len - len % ALIGN;
    while end > ALIGN {
        let direct = Footer::read_ending_at(file, end)?;
        let next = match direct.filter(|footer| belongs(footer, first)) {
            Some(footer) => Some((footer, end)),
            None => last_before(file, first, end)?,
        };
        let Some((footer, at)) = next else { break };
        end = footer.start;
        chain.push((footer, at));
    }
    chain.reverse();
    Ok(chain)
}

/// Steps back from `end` to the end of the last good footer before it.
fn last_before(file: &File, first: &Footer, end: u64) -> io::Result<Option<(Footer, u64)>> {
    const STEP: u64 = 64 * ALIGN;
    let mut high = end;
    let mut window = vec![0; usize::try_from(STEP).unwrap_or(0)];
    while high > ALIGN {
        let low = high.saturating_sub(STEP).max(ALIGN);
        let window = &mut window[..usize::try_from(high - low).unwrap_or(0)];
        if !read_full(file, window, low)? {
            return Ok(None);
        }
        for (page, bytes) in window.chunks_exact(PAGE_LEN).enumerate().rev() {
            let at = low + (page as u64 + 1) * ALIGN;
            if at < end
                && back_pointer(&bytes[bytes.len() - 16..]).is_some()
                && let Some(footer) = Footer::read_ending_at(file, at)?
                && belongs(&footer, first)
            {
                return Ok(Some((footer, at)));
            }
        }
        high = low;
    }
    Ok(None)
}

fn belongs(footer: &Footer, first: &Footer) -> bool {
    footer.pack == first.pack && footer.salt == first.salt && footer.start >= ALIGN
}

fn check(file: &File, entries: &[Entry], damaged: &mut Vec<u64>) -> io::Result<()> {
    let mut buffer = Vec::new();
    for Entry { place, .. } in entries {
        buffer.resize(place.stored() as usize, 0);
        if !read_full(file, &mut buffer, place.offset)? || crc32fast::hash(&buffer) != place.crc {
            damaged.push(place.offset);
        }
    }
    Ok(())
}

/// A pack whose first page is damaged: its blocks are found by their hashes, and it is not written
/// to any more.
fn salvage(file: &File, id: PackId, len: u64) -> io::Result<Option<Found>> {
    let mut found = Found {
        salt: [0; 16],
        entries: Vec::new(),
        damaged: Vec::new(),
        noted: true,
        unlisted: 0,
        end: len,
        next_commit: 0,
        sealed: true,
        torn: 0,
    };
    let of_pack = OfPack { id, salt: None };
    let all = CAR_HEADER.len() as u64..len;
    scan(file, &of_pack, all, &mut found.entries)?;
    Ok((!found.entries.is_empty()).then_some(found))
}

/// A section, by what its bytes are.
enum Section {
    /// A block whose hash is right.
    Block(Entry),
    /// A footer, or padding.
    NoBlock,
    Damaged,
}

/// How footers and records are told from blocks.
struct OfPack {
    id: PackId,
    /// Not known where the first page is damaged.
    salt: Option<[u8; 16]>,
}

/// Reads the sections in `range`, keeping the blocks whose hash is right. Where no section
/// can be read it goes on at the next page: a commit may start there.
fn scan(file: &File, pack: &OfPack, range: Range<u64>, entries: &mut Vec<Entry>) -> io::Result<()> {
    let Range {
        start: mut at,
        end: to,
    } = range;
    // Behind a whole section the length of a damaged one is believed; anywhere else it may be noise.
    let mut in_step = true;
    while at < to {
        match read_section(file, pack, at, to)? {
            Some((section, end)) if in_step || !matches!(section, Section::Damaged) => {
                if let Section::Block(entry) = section {
                    entries.push(entry);
                }
                in_step = true;
                at = end;
            }
            _ => {
                in_step = false;
                at = (at + 1).next_multiple_of(ALIGN);
            }
        }
    }
    Ok(())
}

/// The section that starts at `at`, and its end; `None` where there is none that ends by `to`.
fn read_section(
    file: &File,
    pack: &OfPack,
    at: u64,
    to: u64,
) -> io::Result<Option<(Section, u64)>> {
    const MOST_HEADER: u64 = 128;
    let mut head = vec![0; usize::try_from(MOST_HEADER.min(to - at)).unwrap_or(0)];
    if !read_full(file, &mut head, at)? {
        return Ok(None);
    }
    let Some((cid, data)) = parse_section(&head) else {
        return Ok(None);
    };
    let offset = at + data.start as u64;
    let end = at + data.end as u64;
    if end > to {
        return Ok(None);
    }
    let mut bytes = vec![0; data.len()];
    if !read_full(file, &mut bytes, offset)? {
        return Ok(None);
    }
    Ok(Some((of_bytes(pack, at, cid, offset, bytes.into()), end)))
}

/// What the block of the section at `at` is, whose bytes start at `offset`.
fn of_bytes(pack: &OfPack, at: u64, cid: Cid, offset: u64, bytes: Bytes) -> Section {
    if Footer::is_footer(pack.id, at, &bytes) {
        return Section::NoBlock;
    }
    let Ok(block) = Block::new(cid, bytes) else {
        return Section::Damaged;
    };
    if cid.hash().code() == IDENTITY {
        return Section::NoBlock;
    }
    let stored = u32::try_from(block.data().len()).unwrap_or(u32::MAX);
    let record = Record::of_section(pack.salt, at, block.data());
    let (cid, len, record) = match record {
        Some(record) => (record.cid, record.len, u16::try_from(stored).unwrap_or(0)),
        None => (cid, stored, 0),
    };
    Section::Block(Entry {
        cid,
        place: Place {
            offset,
            len,
            crc: crc32fast::hash(block.data()),
            record,
        },
    })
}
