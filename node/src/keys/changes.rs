//! Key files come, go and are replaced: each step is durable, and a crash between two leaves what the next start
//! can go on with.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use libp2p::identity::Keypair;
use zeroize::Zeroizing;

use super::{
    KeyError, KeyFiles, Kind, MAX_KEY_LEN, Name, PEER, PUBLISHING, SHOP, SHOP_NAME, ShopKey, exist,
    io_error, load, load_all, load_name, load_shop, make, make_dir, name_of, parse, parse_name,
    read, sync_dir, write,
};
use crate::disk;

/// A shop key that is being removed.
const REMOVED: &str = "shop.key.removed";
/// The publishing key that comes next.
const NEXT: &str = "publishing.key.next";

/// Reads the bytes of all key files of a shop, by the name of the file.
pub(crate) fn read_files(dir: &Path) -> Result<KeyFiles, KeyError> {
    let keys = load_all(dir)?;
    keys.publishing.key()?;
    let shop = match keys.shop {
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
        if name != SHOP_NAME && path.exists() && !is_damaged(&path) && read(&path)? != *bytes {
            return Err(KeyError::Other { path });
        }
    }
    if let Some(found) = shop_of(files, dir)?
        && let Some(shop) = shop_here(dir, files)?
        && found != shop
    {
        return Err(KeyError::OtherShop { found, shop });
    }
    make_dir(dir)?;
    for (name, bytes) in files {
        let path = dir.join(name);
        if name != SHOP_NAME && is_damaged(&path) {
            fs::remove_file(&path).map_err(|e| io_error("removing", &path, e))?;
        }
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

/// Whose shop the keys are of.
///
/// # Errors
/// [`KeyError::Invalid`]
pub(crate) fn shop_of(files: &KeyFiles, dir: &Path) -> Result<Option<Name>, KeyError> {
    Ok(match (files.get(SHOP), files.get(SHOP_NAME)) {
        (Some(key), _) => Some(name_of(&parse(key, &dir.join(SHOP))?)),
        (None, Some(name)) => Some(parse_name(name, &dir.join(SHOP_NAME))?),
        (None, None) => None,
    })
}

/// The name of the publishing key among them.
///
/// # Errors
/// [`KeyError::Invalid`]
pub(crate) fn publishing_of(files: &KeyFiles, dir: &Path) -> Result<Option<Name>, KeyError> {
    let key = files.get(PUBLISHING);
    key.map(|key| Ok(name_of(&parse(key, &dir.join(PUBLISHING))?)))
        .transpose()
}

/// The shop that is here, unless its key is damaged and nothing in `dir` says whose it was.
fn shop_here(dir: &Path, files: &KeyFiles) -> Result<Option<Name>, KeyError> {
    if !exist(dir) {
        return Ok(None);
    }
    match load_shop(dir) {
        Ok(shop) => Ok(Some(shop.name())),
        Err(KeyError::Invalid { .. }) if files.contains_key(SHOP) => {
            let path = dir.join(SHOP_NAME);
            path.exists().then(|| load_name(&path)).transpose()
        }
        Err(error) => Err(error),
    }
}

/// Whether the shop key is damaged.
pub(crate) fn is_shop_damaged(dir: &Path) -> bool {
    is_damaged(&dir.join(SHOP))
}

/// Whether there is a file that is no key.
fn is_damaged(path: &Path) -> bool {
    matches!(load(path), Err(KeyError::Invalid { .. }))
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
