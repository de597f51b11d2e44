//! The three keys of a data directory: shop key, publishing key and peer key.
//!
//! Each is a file of mode 0600 with the libp2p protobuf encoding of an Ed25519 private key, the
//! format that `ipfs key import --format=libp2p-protobuf-cleartext` reads.

use std::path::{Path, PathBuf};

use cid::Cid;
use libp2p::identity::Keypair;

/// The keys of one data directory.
#[derive(Clone)]
pub struct Keys {
    /// Names the shop; signs the long-lived record that points to the publishing key.
    pub shop: Keypair,
    /// Signs heads.
    pub publishing: Keypair,
    /// This node among its peers.
    pub peer: Keypair,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("shop", &name_of(&self.shop).to_string())
            .finish_non_exhaustive()
    }
}

/// Why keys could not be loaded or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Reading or writing failed.
    #[error("{action} the key file {} failed", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Not a private key.
    #[error("{} is not a private key", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
    },
    /// Others can read it.
    #[error("{} can be read by other users (mode {mode:o})", path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// Loads the keys in `dir`, making those that are missing when the directory holds none.
pub fn load_or_make(_dir: &Path) -> Result<Keys, KeyError> {
    todo!()
}

/// The IPNS name of a key: a CIDv1 of codec libp2p-key, shown in base36 (`k51…`).
pub fn name_of(_key: &Keypair) -> Name {
    todo!()
}

/// An IPNS name: the multihash of a public key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Cid);

impl Name {
    /// The name as a CIDv1 of codec libp2p-key.
    pub fn cid(&self) -> &Cid {
        &self.0
    }

    /// The binary multihash: the DHT key without its `/ipns/` prefix.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.hash().to_bytes()
    }
}

impl std::str::FromStr for Name {
    type Err = cid::Error;

    /// Accepts any CID of a libp2p key in any base, and the older base58 peer ids.
    fn from_str(_s: &str) -> Result<Self, cid::Error> {
        todo!()
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

/// Whether `dir` holds the keys of a shop.
pub fn exist(_dir: &Path) -> bool {
    todo!()
}

/// The shop key's file in `dir`: the one to back up.
pub fn shop_key_file(dir: &Path) -> PathBuf {
    dir.join("shop.key")
}
