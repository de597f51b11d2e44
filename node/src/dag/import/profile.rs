//! Import profiles: every setting that decides which CID a file gets.

use cid::Cid;
use cid::multihash::Multihash;

use super::Chunker;
use crate::block::{Block, DAG_PB, SHA2_256};
use sha2::{Digest, Sha256};

/// An import profile: everything that decides which CID a file gets (IPIP-499), but for the chunker where
/// another one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Profile {
    /// CIDv1, raw leaves, 1 MiB chunks, 1,024 links, HAMT above 256 KiB, fanout 256.
    #[default]
    UnixfsV1_2025,
    /// CIDv0, dag-pb leaves, 256 KiB chunks, 174 links, HAMT by link size.
    UnixfsV0_2015,
}

impl Profile {
    /// The profile's name as IPIP-499 and Kubo spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnixfsV1_2025 => "unixfs-v1-2025",
            Self::UnixfsV0_2015 => "unixfs-v0-2015",
        }
    }

    /// How it cuts files, unless something else is asked for.
    pub fn chunker(self) -> Chunker {
        match self {
            Self::UnixfsV1_2025 => Chunker::Size(1 << 20),
            Self::UnixfsV0_2015 => Chunker::Size(256 << 10),
        }
    }

    /// What is recorded of an import: the profile's name, and the chunker where it is not the profile's,
    /// as `unixfs-v1-2025+buzhash`.
    pub fn name_with(self, chunker: Chunker) -> String {
        if chunker == self.chunker() {
            self.name().to_owned()
        } else {
            format!("{}+{chunker}", self.name())
        }
    }

    /// Reads what [`Profile::name_with`] writes; `None` for what this duka does not know.
    pub fn parse_with(text: &str) -> Option<(Self, Chunker)> {
        let (name, chunker) = match text.split_once('+') {
            Some((name, chunker)) => (name, Some(chunker)),
            None => (text, None),
        };
        let profiles = [Self::UnixfsV1_2025, Self::UnixfsV0_2015];
        let profile = profiles
            .into_iter()
            .find(|profile| profile.name() == name)?;
        let chunker = match chunker {
            Some(chunker) => chunker.parse().ok()?,
            None => profile.chunker(),
        };
        Some((profile, chunker))
    }

    /// Links per node of a file.
    pub(crate) fn file_links(self) -> usize {
        match self {
            Self::UnixfsV1_2025 => 1024,
            Self::UnixfsV0_2015 => 174,
        }
    }

    /// Whether chunks are raw blocks rather than UnixFS nodes.
    pub(crate) fn raw_leaves(self) -> bool {
        self == Self::UnixfsV1_2025
    }

    /// The block of an encoded dag-pb node, under the CID version of the profile.
    pub(crate) fn dag_pb(self, bytes: Vec<u8>) -> Block {
        match self {
            Self::UnixfsV1_2025 => Block::of(DAG_PB, bytes.into()),
            Self::UnixfsV0_2015 => {
                let hash = Multihash::wrap(SHA2_256, &Sha256::digest(&bytes))
                    .expect("a SHA-256 digest is 32 of 64 bytes");
                let cid = Cid::new_v0(hash).expect("CIDv0 takes every SHA-256 multihash");
                Block::trusted(cid, bytes.into())
            }
        }
    }
}
