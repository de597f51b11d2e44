//! The three keys of a data directory: shop key, publishing key and peer key. The shop key may be
//! somewhere else; then its name is here.
//!
//! Each is a file of mode 0600 with the libp2p protobuf encoding of an Ed25519 private key, the
//! format that `ipfs key import --format=libp2p-protobuf-cleartext` reads.

mod changes;
mod name;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libp2p::identity::{KeyType, Keypair};
use rustix::fs::{CWD, RenameFlags};
use zeroize::Zeroizing;

use crate::disk;

pub(crate) use changes::{
    is_shop_damaged, make_next, publishing_of, put, read_files, read_one, remove_rest,
    remove_shop_key, settle_next, shop_of, write_files,
};
pub use name::{Name, name_of};

const SHOP: &str = "shop.key";
/// The name of a shop whose key is not here, as text.
const SHOP_NAME: &str = "shop.name";
const PUBLISHING: &str = "publishing.key";
const PEER: &str = "peer.key";
/// More than any Ed25519 key file has, in bytes.
const MAX_KEY_LEN: u64 = 4096;

/// The content of key files, by their names.
pub(crate) type KeyFiles = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// The keys of one data directory.
#[derive(Clone)]
pub struct Keys {
    /// Names the shop; signs the long-lived record that points to the publishing key.
    pub shop: ShopKey,
    /// Signs heads.
    pub publishing: PublishingKey,
    /// This node among its peers.
    pub peer: Keypair,
}

impl Keys {
    /// The names of those that are known.
    pub(crate) fn names(&self) -> Vec<Name> {
        let publishing = self.publishing.name();
        let others = [self.shop.name(), name_of(&self.peer)];
        publishing.into_iter().chain(others).collect()
    }
}

/// The publishing key.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a node has one")]
pub enum PublishingKey {
    /// It is here.
    Here(Keypair),
    /// It is not, and the shop key is, which can replace it.
    Lost(LostKey),
}

/// A publishing key that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the publishing key {} is {}: nothing can be signed for the shop", path.display(), match is_damaged {
    true => "damaged",
    false => "missing",
})]
pub struct LostKey {
    /// The file.
    path: PathBuf,
    /// There is a file, and it is no key.
    is_damaged: bool,
}

impl PublishingKey {
    /// The key, to sign with.
    ///
    /// # Errors
    /// [`LostKey`] when it must be replaced first.
    pub fn key(&self) -> Result<&Keypair, LostKey> {
        match self {
            Self::Here(key) => Ok(key),
            Self::Lost(lost) => Err(lost.clone()),
        }
    }

    /// Its name, where it is here.
    pub fn name(&self) -> Option<Name> {
        self.key().ok().map(name_of)
    }
}

impl std::fmt::Debug for PublishingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(key) => f
                .debug_tuple("Here")
                .field(&name_of(key).to_string())
                .finish(),
            Self::Lost(lost) => lost.fmt(f),
        }
    }
}

/// The shop key.
#[derive(Clone)]
pub enum ShopKey {
    /// It is here.
    Here(Keypair),
    /// It was taken off this machine; only its name is here.
    Offline(Name),
}

impl std::fmt::Debug for ShopKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name().to_string();
        match self {
            Self::Here(_) => f.debug_tuple("Here").field(&name).finish(),
            Self::Offline(_) => f.debug_tuple("Offline").field(&name).finish(),
        }
    }
}

impl ShopKey {
    /// The shop's name.
    pub fn name(&self) -> Name {
        match self {
            Self::Here(key) => name_of(key),
            Self::Offline(name) => name.clone(),
        }
    }

    /// The key, where it is here.
    pub fn key(&self) -> Option<&Keypair> {
        match self {
            Self::Here(key) => Some(key),
            Self::Offline(_) => None,
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("shop", &self.shop.name().to_string())
            .finish_non_exhaustive()
    }
}

/// Where the keys of a data directory come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// All were there.
    Found,
    /// All are new.
    Made,
    /// The shop key was put back into a new data directory; the missing ones are new.
    Restored,
}

/// Why keys could not be loaded or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The data directory has a shop, but not the file with its identity.
    #[error("{} is missing, and the shop's identity is in it", path.display())]
    ShopMissing {
        /// The shop key's file.
        path: PathBuf,
    },
    /// The data directory has a shop, but not one of its other keys.
    #[error("{} is missing, a key of the shop", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The publishing key must be replaced.
    #[error(transparent)]
    Lost(#[from] LostKey),
    /// Reading or writing failed.
    #[error("{action} the key file {} failed", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Not a private key.
    #[error("{} is not a private key", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
    },
    /// Another key is there already.
    #[error("{} is another key than the one to be put there", path.display())]
    Other {
        /// The file.
        path: PathBuf,
    },
    /// The key of another shop.
    #[error("it is a key of the shop {found}, and the shop here is {shop}")]
    OtherShop {
        /// Whose key it is.
        found: Name,
        /// The shop that is here.
        shop: Name,
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

/// Loads the keys of a shop that has a manifest: all must be there, but for the publishing key, which the
/// shop key can replace. Another key in place of a lost one would be another identity.
///
/// # Errors
/// [`KeyError::ShopMissing`] and [`KeyError::Missing`]; [`KeyError::Readable`] when anybody but the
/// owner may read or write a key file.
pub fn load_all(dir: &Path) -> Result<Keys, KeyError> {
    let shop = load_shop(dir)?;
    let publishing = load_publishing(dir, &shop)?;
    Ok(Keys {
        shop,
        publishing,
        peer: load_one(&dir.join(PEER))?,
    })
}

fn load_publishing(dir: &Path, shop: &ShopKey) -> Result<PublishingKey, KeyError> {
    let path = dir.join(PUBLISHING);
    let is_damaged = match (load_one(&path), shop) {
        (Err(KeyError::Missing { .. }), ShopKey::Here(_)) => false,
        (Err(KeyError::Invalid { .. }), ShopKey::Here(_)) => true,
        (loaded, _) => return loaded.map(PublishingKey::Here),
    };
    Ok(PublishingKey::Lost(LostKey { path, is_damaged }))
}

fn load_one(path: &Path) -> Result<Keypair, KeyError> {
    match path.try_exists() {
        Ok(false) => Err(KeyError::Missing {
            path: path.to_owned(),
        }),
        _ => load(path),
    }
}

fn load_shop(dir: &Path) -> Result<ShopKey, KeyError> {
    let path = dir.join(SHOP);
    if path.exists() {
        return Ok(ShopKey::Here(load(&path)?));
    }
    match dir.join(SHOP_NAME) {
        name if name.exists() => Ok(ShopKey::Offline(load_name(&name)?)),
        _ => Err(KeyError::ShopMissing { path }),
    }
}

fn load_name(path: &Path) -> Result<Name, KeyError> {
    parse_name(&read(path)?, path)
}

fn parse_name(text: &[u8], path: &Path) -> Result<Name, KeyError> {
    let name = std::str::from_utf8(text).ok();
    name.and_then(|name| name.trim().parse().ok())
        .ok_or_else(|| KeyError::Invalid {
            path: path.to_owned(),
        })
}

/// Loads the keys in `dir` for a data directory without a manifest, making those that are missing.
///
/// The shop key is made last: a crash before it leaves a directory that counts as new.
///
/// # Errors
/// [`KeyError::Readable`] when anybody but the owner may read or write a key file.
pub fn load_or_make(dir: &Path) -> Result<(Keys, Origin), KeyError> {
    let origin = match (exist(dir), are_complete(dir)) {
        (_, true) => Origin::Found,
        (true, false) => Origin::Restored,
        (false, false) => Origin::Made,
    };
    make_dir(dir)?;
    let load_or_make_one = |name: &str| {
        let path = dir.join(name);
        if path.exists() {
            load(&path)
        } else {
            make(&path)
        }
    };
    let peer = load_or_make_one(PEER)?;
    let publishing = PublishingKey::Here(load_or_make_one(PUBLISHING)?);
    let shop = match exist(dir) {
        true => load_shop(dir)?,
        false => ShopKey::Here(make(&dir.join(SHOP))?),
    };
    let keys = Keys {
        shop,
        publishing,
        peer,
    };
    Ok((keys, origin))
}

/// Whether `dir` holds all keys of a shop.
pub fn are_complete(dir: &Path) -> bool {
    exist(dir)
        && [PUBLISHING, PEER]
            .iter()
            .all(|name| dir.join(name).exists())
}

/// Whether `dir` holds a shop key, or the name of one that is somewhere else.
pub fn exist(dir: &Path) -> bool {
    shop_key_file(dir).exists() || dir.join(SHOP_NAME).exists()
}

/// The shop key's file in `dir`: the one to back up.
pub fn shop_key_file(dir: &Path) -> PathBuf {
    dir.join(SHOP)
}

fn make_dir(dir: &Path) -> Result<(), KeyError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)))
        .map_err(|e| io_error("making the folder of", dir, e))?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// One of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The shop key.
    Shop,
    /// The publishing key.
    Publishing,
    /// The peer key.
    Peer,
}

impl Kind {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::Publishing => "publishing",
            Self::Peer => "peer",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Shop => SHOP,
            Self::Publishing => PUBLISHING,
            Self::Peer => PEER,
        }
    }
}

/// The file of a key in `dir`.
pub fn file(dir: &Path, kind: Kind) -> PathBuf {
    dir.join(kind.file())
}

fn load(path: &Path) -> Result<Keypair, KeyError> {
    parse(&read(path)?, path)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |e| io_error("reading", path, e);
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Readable {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(128));
    file.take(MAX_KEY_LEN)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

fn parse(bytes: &[u8], path: &Path) -> Result<Keypair, KeyError> {
    Keypair::from_protobuf_encoding(bytes)
        .ok()
        .filter(|key| key.key_type() == KeyType::Ed25519)
        .ok_or_else(|| KeyError::Invalid {
            path: path.to_owned(),
        })
}

/// Makes a key and its file.
fn make(path: &Path) -> Result<Keypair, KeyError> {
    let key = Keypair::generate_ed25519();
    let bytes = key
        .to_protobuf_encoding()
        .map(Zeroizing::new)
        .expect("Ed25519 keys have an encoding");
    write(path, &bytes)?;
    Ok(key)
}

/// Writes a key file. It has its name only when it is whole, and never replaces one.
fn write(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let failed = |e| io_error("writing", path, e);
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    let unfinished = PathBuf::from(unfinished);
    disk::gone(fs::remove_file(&unfinished)).map_err(failed)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(failed)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    rustix::fs::renameat_with(CWD, &unfinished, CWD, path, RenameFlags::NOREPLACE)
        .map_err(|e| failed(e.into()))?;
    path.parent().map_or(Ok(()), sync_dir)
}

fn sync_dir(dir: &Path) -> Result<(), KeyError> {
    // The parent of a relative path with one segment is "".
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|e| io_error("syncing the folder of", dir, e))
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> KeyError {
    KeyError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
