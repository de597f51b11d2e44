//! What there is to import: the folder tree, walked before any content is read.

use std::fs::{self, FileType, Metadata as Stat};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{ImportError, ImportOptions};
use crate::dag::unixfs::Metadata;

/// The tree to import. Folders come after the folder that holds them.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) base: PathBuf,
    pub(super) root: Item,
    pub(super) folders: Vec<Folder>,
    /// Paths of regular files inside `base`, segments joined by `/`; empty for `base` itself.
    pub(super) files: Vec<String>,
}

/// A folder and what is in it, sorted by name.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: String,
    pub(super) metadata: Metadata,
    pub(super) items: Vec<(String, Item)>,
}

/// Something with a name.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// Index into [`Plan::files`].
    File(usize),
    /// Index into [`Plan::folders`].
    Folder(usize),
    Symlink {
        target: Bytes,
        metadata: Metadata,
    },
}

impl Plan {
    /// Walks what `base` is or leads to. Symlinks inside are never followed, so the walk ends.
    pub(super) fn of(base: &Path, options: &ImportOptions) -> Result<Self, ImportError> {
        let base = followed(base).map_err(|source| read_error(base, source))?;
        let mut plan = Self {
            base: base.clone(),
            root: Item::File(0),
            folders: Vec::new(),
            files: Vec::new(),
        };
        let stat = fs::symlink_metadata(&base).map_err(|source| read_error(&base, source))?;
        plan.root = plan.item(String::new(), stat.file_type(), options)?;
        let mut next = 0;
        while next < plan.folders.len() {
            plan.read_folder(next, options)?;
            next += 1;
        }
        Ok(plan)
    }

    /// Where `path` is on disk.
    pub(super) fn locate(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            self.base.clone()
        } else {
            self.base.join(path)
        }
    }

    fn read_folder(&mut self, index: usize, options: &ImportOptions) -> Result<(), ImportError> {
        let folder_path = self.folders[index].path.clone();
        let disk = self.locate(&folder_path);
        let unreadable = |source| read_error(&disk, source);
        let mut found = Vec::new();
        for entry in fs::read_dir(&disk).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let kind = entry.file_type().map_err(unreadable)?;
            found.push((entry.file_name(), kind));
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut items = Vec::with_capacity(found.len());
        for (name, kind) in found {
            let hidden = name.as_encoded_bytes().first() == Some(&b'.');
            if hidden && !options.hidden {
                continue;
            }
            let on_disk = disk.join(&name);
            let Ok(name) = name.into_string() else {
                return Err(ImportError::Name { path: on_disk });
            };
            let path = match folder_path.as_str() {
                "" => name.clone(),
                folder => format!("{folder}/{name}"),
            };
            if options.ignore.is_match(&path) {
                continue;
            }
            items.push((name, self.item(path, kind, options)?));
        }
        self.folders[index].items = items;
        Ok(())
    }

    fn item(
        &mut self,
        path: String,
        kind: FileType,
        options: &ImportOptions,
    ) -> Result<Item, ImportError> {
        if kind.is_file() {
            self.files.push(path);
            return Ok(Item::File(self.files.len() - 1));
        }
        let disk = self.locate(&path);
        let unreadable = |source| read_error(&disk, source);
        let stat = || fs::symlink_metadata(&disk).map_err(unreadable);
        if kind.is_dir() {
            let metadata = if options.preserve_mode || options.preserve_mtime {
                let stat = stat()?;
                Metadata {
                    mode: options.preserve_mode.then_some(stat.mode() & 0o7777),
                    ..kept(&stat, options)
                }
            } else {
                Metadata::default()
            };
            self.folders.push(Folder {
                path,
                metadata,
                items: Vec::new(),
            });
            return Ok(Item::Folder(self.folders.len() - 1));
        }
        if kind.is_symlink() {
            let target = fs::read_link(&disk).map_err(unreadable)?;
            // Kubo gives symlinks an mtime, but no mode.
            let metadata = if options.preserve_mtime {
                Metadata {
                    mode: None,
                    ..kept(&stat()?, options)
                }
            } else {
                Metadata::default()
            };
            return Ok(Item::Symlink {
                target: target.into_os_string().into_vec().into(),
                metadata,
            });
        }
        Err(ImportError::Special {
            path: disk,
            kind: special(kind),
        })
    }
}

/// The metadata of a file that the options ask for. Kubo leaves out a mode of 0 on files.
pub(super) fn kept(stat: &Stat, options: &ImportOptions) -> Metadata {
    let mode = stat.mode() & 0o7777;
    let nanos = u32::try_from(stat.mtime_nsec()).unwrap_or_default();
    Metadata {
        mode: (options.preserve_mode && mode != 0).then_some(mode),
        mtime: options.preserve_mtime.then_some((stat.mtime(), nanos)),
    }
}

/// What a file is that is neither file, folder nor symlink.
pub(super) fn special(kind: FileType) -> &'static str {
    if kind.is_socket() {
        "socket"
    } else if kind.is_fifo() {
        "named pipe"
    } else {
        "device"
    }
}

/// The path itself, or what the symlink there leads to in the end.
fn followed(path: &Path) -> io::Result<PathBuf> {
    if fs::symlink_metadata(path)?.is_symlink() {
        fs::canonicalize(path)
    } else {
        Ok(path.to_owned())
    }
}

pub(super) fn read_error(path: &Path, source: std::io::Error) -> ImportError {
    ImportError::Read {
        path: path.to_owned(),
        source,
    }
}
