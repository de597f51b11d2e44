//! The folder of a backup. A file in it never changes once it has its name, which holds what tells it
//! from any other: the backup before stays whole while the next one is made beside it.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::BackupError;
use super::files::{self, FileError, Meter, Sum};
use super::list::{self, List, ListError, Listed};
use crate::disk::{self, Disk};

/// Held while a backup is made; says that the folder is one for backups.
const LOCK: &str = "backup.lock";
/// Where packs and their index files are.
pub(super) const PACKS: &str = "packs";
/// Where the export of the manifest is.
pub(super) const MANIFEST: &str = "manifest";
/// Where the encrypted keys are.
pub(super) const KEYS: &str = "keys";
/// Where the settings are.
pub(super) const SETTINGS: &str = "settings";
const FOLDERS: [&str; 4] = [PACKS, MANIFEST, KEYS, SETTINGS];

/// How a file came into the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It was there.
    There,
    /// As another name of the same file.
    Linked,
    /// As a copy.
    Copied,
}

/// A folder in which a backup is made.
pub(super) struct Folder<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    /// Files of the backup before, by their path.
    known: HashMap<String, Listed>,
    _lock: File,
}

impl<'a> Folder<'a> {
    /// Opens or makes the folder for backups of a shop.
    pub(super) fn open(disk: &'a dyn Disk, dir: &Path, shop: &str) -> Result<Self, BackupError> {
        let failed = |source| FileError::io("making the folder", dir, source);
        let is_other = |path: &&Path| path.exists() && !path.is_dir();
        if let Some(path) = dir.ancestors().find(is_other) {
            return Err(BackupError::NoFolder {
                path: path.to_owned(),
            });
        }
        disk::make_dir(disk, dir).map_err(failed)?;
        let mut entries = fs::read_dir(dir).map_err(failed)?;
        let lock = dir.join(LOCK);
        if !lock.exists() && !dir.join(list::FILE).exists() && entries.next().is_some() {
            return Err(BackupError::NotForBackups {
                dir: dir.to_owned(),
            });
        }
        let lock = take_lock(disk, &lock)?;
        let known = match List::read(dir) {
            Ok(list) if list.shop != shop => {
                return Err(BackupError::OtherShop {
                    dir: dir.to_owned(),
                    shop: list.shop,
                });
            }
            Ok(list) => list
                .all()
                .map(|file| (file.file.clone(), file.clone()))
                .collect(),
            Err(ListError::Missing { .. }) => HashMap::new(),
            Err(error) => return Err(error.into()),
        };
        for folder in FOLDERS {
            disk.make_dir(&dir.join(folder)).map_err(failed)?;
        }
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            known,
            _lock: lock,
        })
    }

    /// The path of a file in this folder.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// A file of the backup before that is there and as long as it was.
    pub(super) fn known(&self, file: &str) -> Option<&Listed> {
        let known = self.known.get(file)?;
        let there = self.path(file).metadata().ok()?;
        (there.len() == known.bytes).then_some(known)
    }

    /// The encrypted keys of the backup before.
    pub(super) fn keys(&self) -> Option<&Listed> {
        let mut files = self.known.keys();
        let keys = files.find(|file| file.starts_with(&format!("{KEYS}/")))?;
        self.known(keys)
    }

    /// Takes in a file that never changes: by another name of it, or a copy where that cannot be.
    pub(super) fn take(
        &self,
        source: &Path,
        file: String,
        meter: &mut Meter<'_>,
    ) -> Result<(Listed, Way), FileError> {
        let target = self.path(&file);
        // A link to a symbolic link would be a backup of nothing but its name.
        let source =
            &fs::canonicalize(source).map_err(|error| FileError::io("reading", source, error))?;
        if target.exists() {
            // Left by a backup that was not finished.
            let sum = files::hash(source, meter)?;
            if is_same_file(source, &target) || files::hash(&target, meter)? == sum {
                return Ok((listed(file, sum), Way::There));
            }
        } else if self.disk.link(source, &target).is_ok() {
            return Ok((listed(file, files::hash(&target, meter)?), Way::Linked));
        }
        let unfinished = unfinished(&target);
        let sum = files::copy(self.disk, source, &unfinished, meter)?;
        self.rename(&unfinished, &target)?;
        Ok((listed(file, sum), Way::Copied))
    }

    /// Takes in a small file that is made for the backup: `name` with its hash and this extension.
    pub(super) fn put(
        &self,
        folder: &str,
        name: &str,
        extension: &str,
        bytes: &[u8],
    ) -> Result<Listed, FileError> {
        let sum = Sum::of(bytes);
        let file = format!("{folder}/{name}-{}.{extension}", sum.short());
        let target = self.path(&file);
        let unfinished = unfinished(&target);
        files::write(self.disk, &unfinished, bytes)?;
        self.rename(&unfinished, &target)?;
        Ok(listed(file, sum))
    }

    /// Gives a finished file, which is durable, its name: `name` with its hash and this extension.
    pub(super) fn adopt(
        &self,
        finished: &Path,
        folder: &str,
        name: &str,
        extension: &str,
        meter: &mut Meter<'_>,
    ) -> Result<Listed, FileError> {
        let sum = files::hash(finished, meter)?;
        let file = format!("{folder}/{name}-{}.{extension}", sum.short());
        self.rename(finished, &self.path(&file))?;
        Ok(listed(file, sum))
    }

    /// Makes what was taken in durable, then makes the list the backup, then removes what it does not
    /// name. Returns how many files that were.
    pub(super) fn finish(self, list: &List) -> Result<u64, FileError> {
        let folders = FOLDERS.map(|folder| self.path(folder));
        for dir in folders.iter().chain([&self.dir]) {
            self.disk
                .sync_dir(dir)
                .map_err(|source| FileError::io("syncing", dir, source))?;
        }
        list.write(self.disk, &self.dir)
            .map_err(|source| FileError::io("writing", &self.path(list::FILE), source))?;
        let named: HashSet<PathBuf> = list.all().map(|file| self.path(&file.file)).collect();
        let mut removed = 0;
        for folder in &folders {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            for path in entries.map(|entry| entry.path()) {
                if named.contains(&path) {
                    continue;
                }
                match self.disk.remove(&path) {
                    Ok(()) => removed += 1,
                    // The backup is whole without; the next one tries again.
                    Err(error) => {
                        let path = path.display();
                        tracing::warn!(%error, "{path} of an older backup cannot be removed");
                    }
                }
            }
        }
        Ok(removed)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.disk
            .rename(from, to)
            .map_err(|source| FileError::io("renaming", from, source))
    }
}

fn take_lock(disk: &dyn Disk, path: &Path) -> Result<File, BackupError> {
    let failed = |source| FileError::io("locking", path, source);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = disk.open(path, &options).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(BackupError::InUse {
            path: path.to_owned(),
        }),
        Err(fs::TryLockError::Error(error)) => Err(failed(error).into()),
    }
}

fn listed(file: String, sum: Sum) -> Listed {
    let Sum { bytes, sha256 } = sum;
    Listed {
        file,
        bytes,
        sha256,
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let inode = |path: &Path| {
        let metadata = path.metadata().ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    inode(one).is_some() && inode(one) == inode(other)
}
