//! A block: bytes and the CID that they hash to.
//!
//! Every [`Block`] outside the store was verified when it was made; nothing else in the crate hands
//! bytes from a peer, a gateway or a file around under a CID.

use bytes::Bytes;
use cid::Cid;
use multihash_codetable::{Code, MultihashDigest};
use sha2::{Digest, Sha256};

use crate::dag::DagLimits;

/// Multihash of any length up to 64 bytes, the key that blocks are stored under.
pub type Multihash = cid::multihash::Multihash<64>;

/// Multicodec of raw bytes.
pub const RAW: u64 = 0x55;
/// Multicodec of dag-pb, the node format of UnixFS.
pub const DAG_PB: u64 = 0x70;
/// Multicodec of dag-cbor.
pub const DAG_CBOR: u64 = 0x71;
/// Multicodec of dag-json.
pub const DAG_JSON: u64 = 0x0129;
/// Multicodec of plain CBOR.
pub const CBOR: u64 = 0x51;
/// Multicodec of plain JSON.
pub const JSON: u64 = 0x0200;
/// Multicodec of a libp2p public key, used in IPNS names.
pub const LIBP2P_KEY: u64 = 0x72;
/// Multihash code of the identity "hash": the digest is the data.
pub const IDENTITY: u64 = 0x00;
/// Multihash code of SHA-256.
pub const SHA2_256: u64 = 0x12;

/// Largest block that bitswap peers accept, in bytes (2 MiB; bitswap spec, "block sizes").
pub const MAX_BLOCK_LEN: usize = 2 << 20;

/// Why bytes are not the block they claim to be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockError {
    /// The bytes hash to something else.
    #[error("the bytes are not those of {cid}")]
    Mismatch {
        /// The CID that was claimed.
        cid: Cid,
    },
    /// Longer than [`MAX_BLOCK_LEN`], or an identity digest over [`DagLimits::identity`].
    #[error("block {cid} has {len} bytes, more than a block may have")]
    TooLarge {
        /// The block.
        cid: Cid,
        /// Its length in bytes.
        len: usize,
    },
    /// The CID names a hash function that is not supported or not safe.
    #[error("{cid} uses hash function 0x{code:x}, which is not supported")]
    UnsupportedHash {
        /// The CID.
        cid: Cid,
        /// The multihash code.
        code: u64,
    },
}

/// Bytes and the CID that they hash to. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    cid: Cid,
    data: Bytes,
}

impl Block {
    /// Verifies that `data` hashes to `cid`.
    ///
    /// # Errors
    /// [`BlockError`] when it does not, is too large, or the hash function is not supported.
    pub fn new(cid: Cid, data: Bytes) -> Result<Self, BlockError> {
        if data.len() > MAX_BLOCK_LEN {
            return Err(BlockError::TooLarge {
                cid,
                len: data.len(),
            });
        }
        if digest_matches(&cid, &data)? {
            Ok(Self { cid, data })
        } else {
            Err(BlockError::Mismatch { cid })
        }
    }

    /// Hashes `data` with SHA-256 into a CIDv1 block of `codec`.
    pub fn of(codec: u64, data: Bytes) -> Self {
        Self {
            cid: cid_of(codec, &data),
            data,
        }
    }

    /// The data of an identity CID, which carries its own bytes.
    ///
    /// # Errors
    /// [`BlockError::TooLarge`] over [`DagLimits::identity`]. `Ok(None)` when `cid` is no identity CID.
    pub fn inlined(cid: &Cid) -> Result<Option<Self>, BlockError> {
        if cid.hash().code() != IDENTITY {
            return Ok(None);
        }
        let digest = cid.hash().digest();
        if digest.len() > DagLimits::current().identity {
            return Err(BlockError::TooLarge {
                cid: *cid,
                len: digest.len(),
            });
        }
        Ok(Some(Self {
            cid: *cid,
            data: Bytes::copy_from_slice(digest),
        }))
    }

    /// A block whose bytes were verified before: read from the own store under its CRC, or hashed
    /// by the caller just now.
    pub(crate) fn trusted(cid: Cid, data: Bytes) -> Self {
        Self { cid, data }
    }

    /// The content id.
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    /// The bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The bytes, by value.
    pub fn into_data(self) -> Bytes {
        self.data
    }
}

/// The CIDv1 of `data` under `codec` with SHA-256.
pub fn cid_of(codec: u64, data: &[u8]) -> Cid {
    let digest = Sha256::digest(data);
    let hash = Multihash::wrap(SHA2_256, &digest).expect("a SHA-256 digest is 32 of 64 bytes");
    Cid::new_v1(codec, hash)
}

fn digest_matches(cid: &Cid, data: &[u8]) -> Result<bool, BlockError> {
    let hash = cid.hash();
    match hash.code() {
        SHA2_256 => Ok(hash.digest() == Sha256::digest(data).as_slice()),
        IDENTITY if hash.digest().len() > DagLimits::current().identity => {
            Err(BlockError::TooLarge {
                cid: *cid,
                len: data.len(),
            })
        }
        IDENTITY => Ok(hash.digest() == data),
        code => {
            let hasher = Code::try_from(code)
                .map_err(|_| BlockError::UnsupportedHash { cid: *cid, code })?;
            Ok(hasher.digest(data).digest() == hash.digest())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flipped_bit_is_refused() {
        let block = Block::of(RAW, Bytes::from_static(b"hello"));
        let err = Block::new(*block.cid(), Bytes::from_static(b"hellp")).unwrap_err();
        assert_eq!(err, BlockError::Mismatch { cid: *block.cid() });
    }

    #[test]
    fn known_cid_of_hello_world() {
        // `printf 'hello world' | ipfs add --cid-version 1 -Q -n` (Kubo 0.43)
        let cid = cid_of(RAW, b"hello world");
        assert_eq!(
            cid.to_string(),
            "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
        );
    }

    #[test]
    fn empty_identity_cid_is_inlined() {
        let cid: Cid = "bafkqaaa".parse().unwrap();
        assert_eq!(Block::inlined(&cid).unwrap().unwrap().data().len(), 0);
    }
}
