//! Chunks of files that are on this disk already, by hash: an older version, or what another program
//! began to download. What a new version has in common with them is not fetched, wherever it is now.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use parking_lot::Mutex;

use super::leaf::matching;
use crate::block::{DAG_PB, MAX_BLOCK_LEN, Multihash, RAW, cid_of};
use crate::dag::import::Chunker;
use crate::dag::unixfs::{Metadata, encode_leaf};

/// Chunks that are remembered: about 100 MB.
const MAX_CHUNKS: usize = 1 << 20;

/// Longest file that is one leaf, of most imports.
const WHOLE_LEN: u32 = 1 << 20;
/// Ways of cutting that are tried: each reads all old files.
const MAX_CUTS: usize = 4;

/// Files that may have chunks of the new ones.
#[derive(Debug)]
pub(super) struct Old {
    /// Files and folders.
    places: Vec<PathBuf>,
    /// One index for each way that files are cut.
    indexes: Mutex<Vec<(Cut, Index)>>,
}

/// How files are cut into leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    chunker: Chunker,
    /// Codec of the leaves.
    codec: u64,
}

type Index = HashMap<Multihash, Place>;

/// Where a chunk is.
#[derive(Clone, Debug)]
struct Place {
    path: Arc<Path>,
    offset: u64,
    len: u64,
}

impl Cut {
    /// How the file was cut that is this one leaf, if it is one.
    pub(super) fn of_whole(cid: &Cid) -> Option<Self> {
        (cid.codec() == RAW).then_some(Self {
            chunker: Chunker::Size(WHOLE_LEN),
            codec: RAW,
        })
    }

    /// How the file was cut of which these are leaves, as far as they tell.
    pub(super) fn of(children: &[(Cid, u64)]) -> Option<Self> {
        let [(cid, len), others @ .., (_, last)] = children else {
            return None;
        };
        let is_even = others.iter().all(|(_, other)| other == len) && last <= len;
        // Of two leaves nobody can tell for sure.
        let is_usual = !others.is_empty() || len.is_power_of_two();
        let buzhash = Chunker::Buzhash;
        let by_content = buzhash.min_len() as u64..=buzhash.max_len() as u64;
        let mut all_but_last = others.iter().map(|(_, len)| len).chain([len]);
        let chunker = if is_even && is_usual {
            let len = u32::try_from(*len).ok().filter(|len| *len > 0)?;
            Chunker::Size(len)
        } else if all_but_last.all(|len| by_content.contains(len)) {
            buzhash
        } else {
            return None;
        };
        (chunker.max_len() <= MAX_BLOCK_LEN).then_some(Self {
            chunker,
            codec: cid.codec(),
        })
    }
}

impl Old {
    pub(super) fn new(places: Vec<PathBuf>) -> Self {
        Self {
            places,
            indexes: Mutex::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The bytes of a leaf, if they are in one of the files. The first time that a cut is asked for
    /// all files are read; what cannot be read is fetched instead. Blocking.
    pub(super) fn find(&self, cid: &Cid, cut: Cut) -> Option<Bytes> {
        let place = {
            let mut indexes = self.indexes.lock();
            let known = indexes.iter().position(|(known, _)| *known == cut);
            let at = match known {
                Some(at) => at,
                None if indexes.len() >= MAX_CUTS => return None,
                None => {
                    indexes.push((cut, index(&self.places, cut)));
                    indexes.len() - 1
                }
            };
            indexes[at].1.get(cid.hash())?.clone()
        };
        matching(&place.path, cid, Some((place.offset, place.len)))
    }
}

/// All chunks below `places`.
fn index(places: &[PathBuf], cut: Cut) -> Index {
    let mut index = Index::new();
    let mut waiting = places.to_vec();
    while let Some(path) = waiting.pop() {
        let added = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs::read_dir(&path).map(|entries| {
                waiting.extend(entries.flatten().map(|entry| entry.path()));
            }),
            Ok(found) if found.is_file() => add(&mut index, &path, cut),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = added {
            tracing::debug!(path = %path.display(), %error, "an old file cannot be read");
        }
        if index.len() >= MAX_CHUNKS {
            break;
        }
    }
    index
}

/// The chunks of one file.
fn add(index: &mut Index, path: &Path, cut: Cut) -> io::Result<()> {
    let mut file = File::open(path)?;
    let path: Arc<Path> = path.into();
    let (mut offset, mut window) = (0, Vec::new());
    loop {
        let missing = cut.chunker.max_len() - window.len();
        file.by_ref()
            .take(missing as u64)
            .read_to_end(&mut window)?;
        if window.is_empty() || index.len() >= MAX_CHUNKS {
            return Ok(());
        }
        let rest = window.split_off(cut.chunker.cut(&window));
        let chunk = Bytes::from(std::mem::replace(&mut window, rest));
        let len = chunk.len() as u64;
        let leaf = match cut.codec {
            RAW => cid_of(RAW, &chunk),
            _ => cid_of(DAG_PB, &encode_leaf(chunk, Metadata::default())),
        };
        let path = Arc::clone(&path);
        index.insert(*leaf.hash(), Place { path, offset, len });
        offset += len;
    }
}
