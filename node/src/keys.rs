//! The three keys of a data directory: shop key, publishing key and peer key. The shop key may be
//! somewhere else; then its name is here.
//!
//! Each is a file of mode 0600 with the libp2p protobuf encoding of an Ed25519 private key, the
//! format that `ipfs key import --format=libp2p-protobuf-cleartext` reads.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cid::Cid;
use libp2p::PeerId;
use libp2p::identity::{KeyType, Keypair};
use multibase::Base;
use rustix::fs::{CWD, RenameFlags};
use zeroize::Zeroizing;

use crate::block::{LIBP2P_KEY, Multihash};
use crate::disk;

const SHOP: &str = "shop.key";
/// The name of a shop whose key is not here, as text.
const SHOP_NAME: &str = "shop.name";
/// A shop key that is being removed.
const REMOVED: &str = "shop.key.removed";
/// The publishing key that comes next.
const NEXT: &str = "publishing.key.next";
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
    pub publishing: Keypair,
    /// This node among its peers.
    pub peer: Keypair,
}

impl Keys {
    /// The names of all three.
    pub(crate) fn names(&self) -> [Name; 3] {
        let own = [&self.publishing, &self.peer].map(name_of);
        let [publishing, peer] = own;
        [self.shop.name(), publishing, peer]
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

/// Loads the keys of a shop that has a manifest: all must be there. Another key in place of a lost
/// one would be another identity.
///
/// # Errors
/// [`KeyError::ShopMissing`] and [`KeyError::Missing`]; [`KeyError::Readable`] when anybody but the
/// owner may read or write a key file.
pub fn load_all(dir: &Path) -> Result<Keys, KeyError> {
    let load_one = |name: &str| {
        let path = dir.join(name);
        match path.try_exists() {
            Ok(false) => Err(KeyError::Missing { path }),
            _ => load(&path),
        }
    };
    Ok(Keys {
        shop: load_shop(dir)?,
        publishing: load_one(PUBLISHING)?,
        peer: load_one(PEER)?,
    })
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
    let publishing = load_or_make_one(PUBLISHING)?;
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

/// The IPNS name of a key: a CIDv1 of codec libp2p-key, shown in base36 (`k51…`).
pub fn name_of(key: &Keypair) -> Name {
    Name::of_peer(&key.public().to_peer_id())
}

/// An IPNS name: the multihash of a public key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Cid);

impl Name {
    /// The name of a peer's key.
    pub fn of_peer(peer: &PeerId) -> Self {
        let hash = Multihash::from_bytes(&peer.to_bytes())
            .expect("a peer id is a multihash of at most 42 bytes");
        Self(Cid::new_v1(LIBP2P_KEY, hash))
    }

    /// The name with this binary multihash, as [`Name::to_bytes`] gives it.
    ///
    /// # Errors
    /// When it is no multihash of a public key.
    pub fn from_bytes(multihash: &[u8]) -> Result<Self, cid::Error> {
        let peer = PeerId::from_bytes(multihash).map_err(|_| cid::Error::ParsingError)?;
        Ok(Self::of_peer(&peer))
    }

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
    fn from_str(s: &str) -> Result<Self, cid::Error> {
        if s.starts_with("Qm") || s.starts_with('1') {
            let multihash = Base::Base58Btc
                .decode(s)
                .map_err(|_| cid::Error::ParsingError)?;
            return Self::from_bytes(&multihash);
        }
        let cid: Cid = s.parse()?;
        if cid.codec() != LIBP2P_KEY {
            return Err(cid::Error::UnknownCodec);
        }
        Self::from_bytes(&cid.hash().to_bytes())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.0.to_string_of_base(Base::Base36Lower);
        f.write_str(&name.map_err(|_| std::fmt::Error)?)
    }
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

/// Reads the bytes of all key files of a shop, by the name of the file.
pub(crate) fn read_files(dir: &Path) -> Result<KeyFiles, KeyError> {
    let shop = match load_all(dir)?.shop {
        ShopKey::Here(_) => SHOP,
        ShopKey::Offline(_) => SHOP_NAME,
    };
    let read_one = |name: &str| Ok((name.to_owned(), read(&dir.join(name))?));
    [shop, PUBLISHING, PEER].into_iter().map(read_one).collect()
}

/// Makes the key files of a shop in `dir`, which has none, durably.
///
/// # Errors
/// [`KeyError::Missing`] and [`KeyError::Invalid`] when `files` is no set of keys.
pub(crate) fn write_files(dir: &Path, files: &KeyFiles) -> Result<(), KeyError> {
    make_dir(dir)?;
    let shop = match files.contains_key(SHOP_NAME) {
        true => SHOP_NAME,
        false => SHOP,
    };
    for name in [PEER, PUBLISHING, shop] {
        let path = dir.join(name);
        let Some(bytes) = files.get(name) else {
            return Err(KeyError::Missing { path });
        };
        check(bytes, &path)?;
        write(&path, bytes)?;
    }
    Ok(())
}

/// Refuses what is neither a key nor, in its file, a name.
fn check(bytes: &[u8], path: &Path) -> Result<(), KeyError> {
    if path.ends_with(SHOP_NAME) {
        parse_name(bytes, path).map(drop)
    } else {
        parse(bytes, path).map(drop)
    }
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

/// Reads one key file, with the name of the shop that the key belongs to.
pub(crate) fn read_one(dir: &Path, kind: Kind) -> Result<KeyFiles, KeyError> {
    let path = dir.join(kind.file());
    if !path.exists() {
        return Err(KeyError::Missing { path });
    }
    let mut files = KeyFiles::from([(kind.file().to_owned(), read(&path)?)]);
    let name = load_shop(dir)?.name().to_string();
    files.insert(SHOP_NAME.to_owned(), Zeroizing::new(name.into_bytes()));
    Ok(files)
}

/// Puts key files where none are. Those that are there stay, and must be the same.
///
/// # Errors
/// [`KeyError::OtherShop`] and [`KeyError::Other`]; nothing was written then.
pub(crate) fn put(dir: &Path, files: &KeyFiles) -> Result<(), KeyError> {
    for (name, bytes) in files {
        let path = dir.join(name);
        if ![SHOP, SHOP_NAME, PUBLISHING, PEER].contains(&name.as_str()) {
            return Err(KeyError::Invalid { path });
        }
        check(bytes, &path)?;
        if name != SHOP_NAME && path.exists() && read(&path)? != *bytes {
            return Err(KeyError::Other { path });
        }
    }
    let found = match (files.get(SHOP), files.get(SHOP_NAME)) {
        (Some(key), _) => Some(name_of(&parse(key, &dir.join(SHOP))?)),
        (None, Some(name)) => Some(parse_name(name, &dir.join(SHOP_NAME))?),
        (None, None) => None,
    };
    if let Some(found) = found
        && exist(dir)
    {
        let shop = load_shop(dir)?.name();
        if found != shop {
            return Err(KeyError::OtherShop { found, shop });
        }
    }
    make_dir(dir)?;
    for (name, bytes) in files {
        let path = dir.join(name);
        if name != SHOP_NAME && !path.exists() {
            write(&path, bytes)?;
        }
    }
    // Only a key that was taken away on purpose leaves its name: one that is lost is missed.
    let path = dir.join(SHOP_NAME);
    match files.get(SHOP_NAME) {
        _ if dir.join(SHOP).exists() => {
            disk::gone(fs::remove_file(&path)).map_err(|e| io_error("removing", &path, e))?;
            sync_dir(dir)
        }
        Some(name) if !path.exists() => write(&path, name),
        _ => Ok(()),
    }
}

/// Takes the shop key away; its name stays. A crash leaves the key, or its name alone.
pub(crate) fn remove_shop_key(dir: &Path) -> Result<(), KeyError> {
    let (path, removed) = (dir.join(SHOP), dir.join(REMOVED));
    let name = name_of(&load(&path)?).to_string();
    if !dir.join(SHOP_NAME).exists() {
        write(&dir.join(SHOP_NAME), name.as_bytes())?;
    }
    fs::rename(&path, &removed).map_err(|e| io_error("removing", &path, e))?;
    sync_dir(dir)?;
    remove_rest(dir)
}

/// Removes what a crash left of a shop key that was taken away. Its bytes are overwritten first, as far as the
/// file system lets them be.
pub(crate) fn remove_rest(dir: &Path) -> Result<(), KeyError> {
    let removed = dir.join(REMOVED);
    let failed = |e| io_error("removing", &removed, e);
    let mut file = match OpenOptions::new().write(true).open(&removed) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let len = file.metadata().map_err(failed)?.len().min(MAX_KEY_LEN);
    io::copy(&mut io::repeat(0).take(len), &mut file).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::remove_file(&removed).map_err(failed)?;
    sync_dir(dir)
}

/// Makes the publishing key that comes next, beside the present one.
pub(crate) fn make_next(dir: &Path) -> Result<Keypair, KeyError> {
    let path = dir.join(NEXT);
    disk::gone(fs::remove_file(&path)).map_err(|e| io_error("removing", &path, e))?;
    make(&path)
}

/// Puts the next publishing key into the place of the present one, if the shop's record leads to it, as
/// [`crate::keyring`] has it; else it goes.
pub(crate) fn settle_next(dir: &Path, publishing: Option<&Name>) -> Result<(), KeyError> {
    let (path, next) = (dir.join(PUBLISHING), dir.join(NEXT));
    if !next.exists() {
        return Ok(());
    }
    let is_published = match load(&next) {
        Ok(key) => Some(&name_of(&key)) == publishing,
        // A name was never signed for what is not whole.
        Err(KeyError::Invalid { .. }) => false,
        Err(error) => return Err(error),
    };
    let settled = match is_published {
        true => fs::rename(&next, &path),
        false => fs::remove_file(&next),
    };
    settled.map_err(|e| io_error("writing", &path, e))?;
    sync_dir(dir)
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
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_loaded_after() {
        let dir = tempfile::tempdir().unwrap();
        let keys_dir = dir.path().join("keys");
        assert!(!exist(&keys_dir));
        let (made, origin) = load_or_make(&keys_dir).unwrap();
        assert_eq!(origin, Origin::Made);
        let (loaded, origin) = load_or_make(&keys_dir).unwrap();
        assert_eq!(origin, Origin::Found);
        assert_eq!(made.shop.name(), loaded.shop.name());
        assert_ne!(made.shop.name(), name_of(&made.publishing));
        assert_eq!(made.peer.public(), loaded.peer.public());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&keys_dir), 0o700);
        assert_eq!(mode(&shop_key_file(&keys_dir)), 0o600);
    }

    #[test]
    fn key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_make(dir.path()).unwrap();
        let file = shop_key_file(dir.path());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load_or_make(dir.path()).unwrap_err();
        assert!(
            matches!(error, KeyError::Readable { mode: 0o640, .. }),
            "{error}"
        );
    }

    #[test]
    fn missing_key_of_a_shop_with_a_manifest_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        load_or_make(dir.path()).unwrap();
        let lost = |name: &str| {
            let file = dir.path().join(name);
            let kept = fs::read(&file).unwrap();
            fs::remove_file(&file).unwrap();
            let error = load_all(dir.path()).unwrap_err();
            assert!(!file.exists());
            assert!(error.to_string().contains(name), "{error}");
            fs::write(&file, kept).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            error
        };
        assert!(matches!(lost(SHOP), KeyError::ShopMissing { .. }));
        assert!(matches!(lost(PUBLISHING), KeyError::Missing { .. }));
        assert!(matches!(lost(PEER), KeyError::Missing { .. }));
        load_all(dir.path()).unwrap();
    }

    #[test]
    fn shop_key_alone_gets_the_other_keys_and_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (old, _) = load_or_make(dir.path()).unwrap();
        fs::remove_file(dir.path().join(PUBLISHING)).unwrap();
        fs::remove_file(dir.path().join(PEER)).unwrap();
        let (restored, origin) = load_or_make(dir.path()).unwrap();
        assert_eq!(origin, Origin::Restored);
        assert_eq!(restored.shop.name(), old.shop.name());
        assert_ne!(name_of(&restored.publishing), name_of(&old.publishing));
        load_all(dir.path()).unwrap();
    }

    #[test]
    fn damaged_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_make(dir.path()).unwrap();
        fs::write(shop_key_file(dir.path()), b"not a key").unwrap();
        assert!(matches!(
            load_or_make(dir.path()),
            Err(KeyError::Invalid { .. })
        ));
    }

    #[test]
    fn names_parse_in_every_form_kubo_prints() {
        // The same key by `ipfs key list --ipns-base=base36|b58mh|base32` (Kubo 0.43).
        let canonical = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam";
        let name: Name = canonical.parse().unwrap();
        assert_eq!(name.to_string(), canonical);
        let peer_id = "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d";
        assert_eq!(peer_id.parse::<Name>().unwrap(), name);
        let base32 = name.cid().to_string();
        assert!(base32.starts_with("bafz"));
        assert_eq!(base32.parse::<Name>().unwrap(), name);
        let rsa: Name = "QmVujd5Vb7moysJj8itnGufN7MEtPRCNHkKpNuA4onsRa3"
            .parse()
            .unwrap();
        let expected = "k2k4r8m7xvggw5pxxk3abrkwyer625hg01hfyggrai7lk1m63fuihi7w";
        assert_eq!(rsa.to_string(), expected);
    }

    #[test]
    fn cid_of_a_file_is_no_name() {
        let file = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
        assert!(file.parse::<Name>().is_err());
        assert!("".parse::<Name>().is_err());
        assert!("12".parse::<Name>().is_err());
    }
}
