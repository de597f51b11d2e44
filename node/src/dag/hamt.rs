//! Directories, plain or HAMT: building them from entries, and looking names up
//! (specs.ipfs.tech/unixfs, "HAMTDirectory").

use std::io::Cursor;

use cid::Cid;

use super::import::Profile;
use super::unixfs::{self, Link, Metadata, ShardNode};
use crate::block::Block;

/// Links per shard of the directories that are built here, in both profiles.
const FANOUT: usize = 256;
/// A plain directory may be this large, in bytes; one more and it becomes a HAMT.
const PLAIN_LIMIT: usize = 256 << 10;
const HASH_BITS: u32 = u64::BITS;

/// An entry of a directory to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name, UTF-8.
    pub name: String,
    /// Target.
    pub cid: Cid,
    /// Cumulative size of the target DAG in bytes.
    pub tsize: u64,
}

/// A built directory: its blocks, root last, and the cumulative size of its DAG.
#[derive(Clone, Debug)]
pub struct BuiltDirectory {
    /// All nodes of the directory itself.
    pub blocks: Vec<Block>,
    /// The root.
    pub root: Cid,
    /// Cumulative size in bytes, the `Tsize` of a link to it.
    pub tsize: u64,
}

/// Why entries cannot make a directory.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Two entries have the same name.
    #[error("the name {name:?} appears twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// Two names have the same 64-bit hash, so no HAMT can hold both.
    #[error("the names {one:?} and {other:?} cannot be in one large directory: their hashes agree")]
    Collision {
        /// One name.
        one: String,
        /// The other.
        other: String,
    },
}

/// Builds a directory as `ipfs add` with the same profile would: plain while small, else a HAMT.
///
/// # Errors
/// [`DirectoryError`] when no directory can hold these names.
pub fn build_directory(
    entries: Vec<Entry>,
    metadata: Metadata,
    profile: Profile,
) -> Result<BuiltDirectory, DirectoryError> {
    let mut links: Vec<Link> = entries
        .into_iter()
        .map(|entry| Link {
            cid: entry.cid,
            name: entry.name.into_bytes(),
            tsize: entry.tsize,
        })
        .collect();
    links.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(twice) = links.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(DirectoryError::Duplicate {
            name: lossy(&twice[0].name),
        });
    }
    if plain_size(&links, metadata, profile) > PLAIN_LIMIT {
        return build_hamt(links, metadata, profile);
    }
    let block = profile.dag_pb(unixfs::encode_directory(&links, metadata));
    Ok(BuiltDirectory {
        root: *block.cid(),
        tsize: cumulative_size(&block, &links),
        blocks: vec![block],
    })
}

/// What the profile compares with the limit: the exact length of the block, or, in 2015, only the
/// names and binary CIDs.
fn plain_size(links: &[Link], metadata: Metadata, profile: Profile) -> usize {
    match profile {
        Profile::UnixfsV1_2025 => unixfs::directory_len(links, metadata),
        Profile::UnixfsV0_2015 => links
            .iter()
            .map(|link| link.name.len() + link.cid.encoded_len())
            .sum(),
    }
}

fn build_hamt(
    links: Vec<Link>,
    metadata: Metadata,
    profile: Profile,
) -> Result<BuiltDirectory, DirectoryError> {
    let mut hashed: Vec<(u64, Link)> = links
        .into_iter()
        .map(|link| (name_hash(&link.name), link))
        .collect();
    hashed.sort_unstable_by_key(|(hash, _)| *hash);
    if let Some(same) = hashed.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(DirectoryError::Collision {
            one: lossy(&same[0].1.name),
            other: lossy(&same[1].1.name),
        });
    }
    let mut blocks = Vec::new();
    let (root, tsize) = build_shard(&hashed, 0, metadata, profile, &mut blocks);
    Ok(BuiltDirectory {
        blocks,
        root,
        tsize,
    })
}

/// Builds the shard that holds `hashed` (sorted, hashes distinct), which agree in the first
/// `depth` bytes of their hashes. At most 8 deep, because then the hashes would be equal.
fn build_shard(
    hashed: &[(u64, Link)],
    depth: u32,
    metadata: Metadata,
    profile: Profile,
    blocks: &mut Vec<Block>,
) -> (Cid, u64) {
    let mut links = Vec::new();
    let mut bitfield = [0_u8; FANOUT / 8];
    let slot = |hash: u64| hash.to_be_bytes()[depth as usize];
    for group in hashed.chunk_by(|(a, _), (b, _)| slot(*a) == slot(*b)) {
        let index = slot(group[0].0);
        bitfield[FANOUT / 8 - 1 - usize::from(index / 8)] |= 1 << (index % 8);
        let mut name = format!("{index:02X}").into_bytes();
        let (cid, tsize) = match group {
            [(_, link)] => {
                name.extend_from_slice(&link.name);
                (link.cid, link.tsize)
            }
            several => build_shard(several, depth + 1, Metadata::default(), profile, blocks),
        };
        links.push(Link { cid, name, tsize });
    }
    let zeros = bitfield.iter().take_while(|byte| **byte == 0).count();
    let bitfield = bitfield[zeros..].to_vec();
    let block = profile.dag_pb(unixfs::encode_shard(
        &links,
        bitfield,
        FANOUT as u64,
        metadata,
    ));
    let result = (*block.cid(), cumulative_size(&block, &links));
    blocks.push(block);
    result
}

fn cumulative_size(block: &Block, links: &[Link]) -> u64 {
    links.iter().fold(block.data().len() as u64, |sum, link| {
        sum.saturating_add(link.tsize)
    })
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Murmur3 x64-64 of a name: the first half of the 128-bit function, as HAMT directories use it.
fn name_hash(name: &[u8]) -> u64 {
    let hash = murmur3::murmur3_x64_128(&mut Cursor::new(name), 0)
        .expect("reading from memory does not fail");
    u64::try_from(hash & u128::from(u64::MAX)).expect("masked to 64 bits")
}

/// What a shard says about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Here it is.
    Found(Cid),
    /// The name can only be below this shard.
    Descend(Cid),
    /// The directory has no such name.
    Absent,
}

/// A search for one name, from the root shard down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup<'a> {
    name: &'a [u8],
    hash: u64,
    consumed: u32,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(name: &'a str) -> Self {
        Self {
            name: name.as_bytes(),
            hash: name_hash(name.as_bytes()),
            consumed: 0,
        }
    }

    /// Looks into the next shard on the way. `None` when the shards are deeper than the hash is
    /// long, which no honest directory is.
    pub(crate) fn step(&mut self, shard: &ShardNode) -> Option<Step> {
        let bits = shard.fanout.trailing_zeros();
        if bits == 0 || self.consumed + bits > HASH_BITS {
            return None;
        }
        let index = (self.hash << self.consumed) >> (HASH_BITS - bits);
        self.consumed += bits;
        let width = prefix_len(shard.fanout);
        let prefix = format!("{index:0width$X}");
        let link = shard
            .links
            .iter()
            .find_map(|link| Some((link, link.name.strip_prefix(prefix.as_bytes())?)));
        Some(match link {
            Some((link, b"")) => Step::Descend(link.cid),
            Some((link, name)) if name == self.name => Step::Found(link.cid),
            _ => Step::Absent,
        })
    }
}

/// Length in bytes of the hex prefix in front of every name of a shard.
pub(crate) fn prefix_len(fanout: u64) -> usize {
    format!("{:X}", fanout.saturating_sub(1)).len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{RAW, cid_of};

    fn entry(name: &str) -> Entry {
        Entry {
            name: name.to_owned(),
            cid: cid_of(RAW, name.as_bytes()),
            tsize: 1,
        }
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let entries = vec![entry("a"), entry("b"), entry("a")];
        let err = build_directory(entries, Metadata::default(), Profile::default()).unwrap_err();
        assert_eq!(err, DirectoryError::Duplicate { name: "a".into() });
    }

    #[test]
    fn every_name_of_a_built_hamt_is_found_and_no_other() {
        let entries: Vec<_> = (0..6000).map(|i| entry(&format!("name {i}"))).collect();
        let built =
            build_directory(entries.clone(), Metadata::default(), Profile::default()).unwrap();
        let find = |name: &str| {
            let mut lookup = Lookup::new(name);
            let mut at = built.root;
            loop {
                let block = built.blocks.iter().find(|b| *b.cid() == at).unwrap();
                let unixfs::UnixFs::Shard(shard) = unixfs::decode(block).unwrap() else {
                    panic!("not a shard")
                };
                match lookup.step(&shard).unwrap() {
                    Step::Descend(cid) => at = cid,
                    Step::Found(cid) => break Some(cid),
                    Step::Absent => break None,
                }
            }
        };
        for entry in entries.iter().step_by(97) {
            assert_eq!(find(&entry.name), Some(entry.cid));
        }
        assert_eq!(find("name 6000"), None);
    }

    #[test]
    fn lookup_deeper_than_the_hash_stops() {
        let shard = ShardNode {
            links: vec![],
            fanout: 1024,
            bitfield: vec![].into(),
            metadata: Metadata::default(),
        };
        let mut lookup = Lookup::new("x");
        let steps = std::iter::from_fn(|| lookup.step(&shard)).take(100).count();
        assert_eq!(steps, 6);
    }
}
