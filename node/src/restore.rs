//! RESTORE: read the list of a backup → open the keys → copy and verify all files beside their places
//! → put them in place.
//!
//! While the folder `restoring` is in the data directory nothing opens it, and the next restore begins
//! anew: what a crash leaves is an empty data directory or a whole one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::backup::{
    self, FileError, List, ListError, Listed, Meter, Opener, Progress, SecretError,
};
use crate::disk::{self, Disk, FileSystem};
use crate::keys::{self, KeyError};
use crate::node::{DirectoryLock, LockError, keys_dir};

/// What is restored and not yet in its place.
const STAGING: &str = "restoring";
/// Says that the shop comes from a backup, and that others may know a newer head of it.
const MARK: &str = "restored-shop";
/// The lock of the data directory.
const LOCK: &str = "lock";
/// Longest file of keys, in bytes.
const MAX_KEYS: u64 = 1 << 20;
/// Everything that a restore puts into a data directory.
const PARTS: [&str; 5] = ["blocks", "manifest", "keys", "config.toml", MARK];

/// Where from, and what with.
#[derive(Debug)]
pub struct RestoreOptions {
    /// The folder of the backup.
    pub dir: PathBuf,
    /// What opens the keys; `None` leaves them out.
    pub opener: Option<Opener>,
    /// Verify the backup, write nothing.
    pub dry_run: bool,
}

/// What was restored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restored {
    /// The shop's name.
    pub shop: String,
    /// When the backup was made, RFC 3339.
    pub created: String,
    /// Files verified.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether the keys are there.
    pub keys: bool,
    /// The settings file of the backup.
    pub settings: Option<PathBuf>,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The list cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// There is something in the data directory.
    #[error("the data directory {} is not empty", data_dir.display())]
    NotEmpty {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// A file of the list is not there.
    #[error("{} of the backup is missing", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file is not what the list says.
    #[error("{} of the backup is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Keys are wanted, and the backup has none.
    #[error("the backup in {} was made without the keys", dir.display())]
    NoKeys {
        /// The folder of the backup.
        dir: PathBuf,
    },
    /// The keys cannot be decrypted.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The keys cannot be written.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The data directory is in use.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Restores a backup into an empty or missing data directory. Blocking.
///
/// # Errors
/// Nothing is restored then.
pub fn run(
    data_dir: &Path,
    options: &RestoreOptions,
    stop: &CancellationToken,
    progress: &Progress<'_>,
) -> Result<Restored, RestoreError> {
    run_on(&FileSystem, data_dir, options, stop, progress)
}

/// [`run`] on another file system.
#[doc(hidden)]
pub fn run_on(
    disk: &dyn Disk,
    data_dir: &Path,
    options: &RestoreOptions,
    stop: &CancellationToken,
    progress: &Progress<'_>,
) -> Result<Restored, RestoreError> {
    let list = List::read(&options.dir)?;
    check_lengths(&list, &options.dir)?;
    let keys = match (&options.opener, &list.keys) {
        (None, _) => None,
        (Some(opener), Some(keys)) => {
            Some(backup::open_keys(&read_keys(keys, &options.dir)?, opener)?)
        }
        (Some(_), None) => {
            let dir = options.dir.clone();
            return Err(RestoreError::NoKeys { dir });
        }
    };
    let mut meter = Meter {
        stop,
        done: 0,
        total: list.bytes(),
        progress,
    };
    let mut restored = Restored {
        shop: list.shop.clone(),
        created: list.created.clone(),
        files: list.all().count() as u64,
        bytes: list.bytes(),
        keys: keys.is_some(),
        settings: None,
    };
    if options.dry_run {
        for listed in list.all() {
            let path = options.dir.join(&listed.file);
            let sum = backup::hash(&path, &mut meter)?;
            verified(listed, &sum, path)?;
        }
        return Ok(restored);
    }
    check_empty(data_dir)?;
    let _lock = DirectoryLock::take_on(disk, data_dir)?;
    check_empty(data_dir)?;
    remove_parts(data_dir).map_err(|source| FileError::io("emptying", data_dir, source))?;
    let staging = data_dir.join(STAGING);
    let filled = fill(disk, &staging, &list, &options.dir, &mut meter).and_then(|()| {
        if let Some(keys) = &keys {
            keys::write_files(&keys_dir(&staging), keys)?;
        }
        Ok(put_in_place(disk, data_dir, &list.shop)?)
    });
    if let Err(error) = filled {
        // Where that fails, too, the next restore does it.
        drop(remove_parts(data_dir));
        return Err(error);
    }
    let settings = data_dir.join("config.toml");
    restored.settings = settings.exists().then_some(settings);
    Ok(restored)
}

/// Whether a restore into the data directory did not come to its end.
pub(crate) fn is_unfinished(data_dir: &Path) -> bool {
    data_dir.join(STAGING).exists()
}

/// The file that says that the shop comes from a backup.
pub(crate) fn mark_file(data_dir: &Path) -> PathBuf {
    data_dir.join(MARK)
}

/// Missing and shortened files are found before anything is copied.
fn check_lengths(list: &List, dir: &Path) -> Result<(), RestoreError> {
    for listed in list.all() {
        let path = dir.join(&listed.file);
        match path.metadata() {
            Ok(metadata) if metadata.len() == listed.bytes => {}
            Ok(_) => return Err(RestoreError::Damaged { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RestoreError::Missing { path });
            }
            Err(source) => return Err(FileError::io("reading", &path, source).into()),
        }
    }
    Ok(())
}

fn read_keys(listed: &Listed, dir: &Path) -> Result<Vec<u8>, RestoreError> {
    let path = dir.join(&listed.file);
    if listed.bytes > MAX_KEYS {
        return Err(RestoreError::Damaged { path });
    }
    let bytes = fs::read(&path).map_err(|source| FileError::io("reading", &path, source))?;
    verified(listed, &backup::Sum::of(&bytes), path)?;
    Ok(bytes)
}

fn verified(listed: &Listed, sum: &backup::Sum, path: PathBuf) -> Result<(), RestoreError> {
    if listed.sha256 == sum.sha256 && listed.bytes == sum.bytes {
        Ok(())
    } else {
        Err(RestoreError::Damaged { path })
    }
}

/// Missing, or with nothing but a lock and what an unfinished restore left.
fn check_empty(data_dir: &Path) -> Result<(), RestoreError> {
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(FileError::io("reading", data_dir, source).into()),
    };
    let unfinished = is_unfinished(data_dir);
    for entry in entries {
        let name = entry
            .map_err(|source| FileError::io("reading", data_dir, source))?
            .file_name();
        let may_stay = name == LOCK
            || unfinished && (name == STAGING || PARTS.iter().any(|part| name == *part));
        if !may_stay {
            return Err(RestoreError::NotEmpty {
                data_dir: data_dir.to_owned(),
            });
        }
    }
    Ok(())
}

/// Removes what an unfinished restore left, and last what says that there is one.
fn remove_parts(data_dir: &Path) -> io::Result<()> {
    if !is_unfinished(data_dir) {
        return Ok(());
    }
    for part in PARTS.into_iter().chain([STAGING]) {
        let path = data_dir.join(part);
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        disk::gone(removed)?;
    }
    Ok(())
}

/// Copies all files, each verified, durably, to where they will be moved from.
fn fill(
    disk: &dyn Disk,
    staging: &Path,
    list: &List,
    dir: &Path,
    meter: &mut Meter<'_>,
) -> Result<(), RestoreError> {
    let made = disk.make_dir(staging);
    made.map_err(|source| FileError::io("making", staging, source))?;
    let mut folders = vec![staging.to_owned()];
    for placed in &list.files {
        let (from, to) = (dir.join(&placed.source.file), staging.join(&placed.to));
        let mut folder = to.parent();
        while let Some(path) = folder.filter(|path| !folders.iter().any(|known| known == path)) {
            disk.make_dir(path)
                .map_err(|source| FileError::io("making", path, source))?;
            folders.push(path.to_owned());
            folder = path.parent();
        }
        let sum = backup::copy(disk, &from, &to, meter)?;
        verified(&placed.source, &sum, from)?;
    }
    for folder in folders {
        sync_dir(disk, &folder)?;
    }
    Ok(())
}

/// Everything is verified and durable: moves it to its places. What is in `restoring` goes last.
fn put_in_place(disk: &dyn Disk, data_dir: &Path, shop: &str) -> Result<(), FileError> {
    let staging = data_dir.join(STAGING);
    let mark = staging.join(MARK);
    backup::write(disk, &mark, shop.as_bytes())?;
    sync_dir(disk, &staging)?;
    sync_dir(disk, data_dir)?;
    for part in PARTS {
        let from = staging.join(part);
        if from.exists() {
            disk.rename(&from, &data_dir.join(part))
                .map_err(|source| FileError::io("moving", &from, source))?;
        }
    }
    sync_dir(disk, data_dir)?;
    fs::remove_dir(&staging).map_err(|source| FileError::io("removing", &staging, source))?;
    sync_dir(disk, data_dir)
}

fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), FileError> {
    disk.sync_dir(dir)
        .map_err(|source| FileError::io("syncing", dir, source))
}
