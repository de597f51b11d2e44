//! Names for what store and manifest are about to write: which sync to leave out, where to kill.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use parking_lot::Mutex;

use super::Op;

/// A kind of sync, by what it makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SyncKind {
    /// The bytes of a pack at a commit.
    Commit,
    /// The bytes of a pack that is full.
    Seal,
    /// The bytes of a pack that an earlier run wrote.
    Reopen,
    /// The name of a new pack.
    PackName,
    /// The bytes of an index.
    Index,
    /// The name of an index.
    IndexName,
    /// That packs were removed.
    Removal,
    /// The names of the directories of packs and manifest.
    Directory,
    /// An entry of the journal.
    Journal,
    /// A new journal.
    NewJournal,
    /// The names of a new journal and the checkpoint before it.
    JournalName,
    /// The entries of a journal that an earlier run wrote.
    JournalReopen,
    /// The bytes of a checkpoint.
    Checkpoint,
    /// The bytes of a file of a backup.
    BackupFile,
    /// The names of files of a backup.
    BackupFileName,
    /// The bytes of the list of a backup.
    BackupList,
    /// The name of the list of a backup.
    BackupListName,
}

impl SyncKind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Commit,
        Self::Seal,
        Self::Reopen,
        Self::PackName,
        Self::Index,
        Self::IndexName,
        Self::Removal,
        Self::Directory,
        Self::Journal,
        Self::NewJournal,
        Self::JournalName,
        Self::JournalReopen,
        Self::Checkpoint,
        Self::BackupFile,
        Self::BackupFileName,
        Self::BackupList,
        Self::BackupListName,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Seal => "seal",
            Self::Reopen => "reopen",
            Self::PackName => "pack-name",
            Self::Index => "index",
            Self::IndexName => "index-name",
            Self::Removal => "removal",
            Self::Directory => "directory",
            Self::Journal => "journal",
            Self::NewJournal => "new-journal",
            Self::JournalName => "journal-name",
            Self::JournalReopen => "journal-reopen",
            Self::Checkpoint => "checkpoint",
            Self::BackupFile => "backup-file",
            Self::BackupFileName => "backup-file-name",
            Self::BackupList => "backup-list",
            Self::BackupListName => "backup-list-name",
        }
    }
}

impl fmt::Display for SyncKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SyncKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("not one of {names}")
        })
    }
}

/// Sees all operations and names the syncs.
#[derive(Debug, Default)]
pub struct Namer {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Last change of each file since it was opened, by inode.
    files: HashMap<u64, FileChange>,
    /// Last change of the names in each directory.
    names: HashMap<PathBuf, SyncKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileChange {
    Made,
    Written,
    Cut,
}

impl Namer {
    /// The kind of a sync; `None` for everything else.
    pub fn see(&self, op: Op<'_>) -> Option<SyncKind> {
        let mut seen = self.seen.lock();
        match op {
            Op::Write(file, _, offset) => {
                let change = match offset {
                    0 => FileChange::Made,
                    _ => FileChange::Written,
                };
                seen.files.insert(inode(file), change);
            }
            Op::SetLen(file, _) => {
                seen.files.insert(inode(file), FileChange::Cut);
            }
            Op::Open(path) if !path.exists() => {
                let kind = match extension(path) {
                    "car" => Some(SyncKind::PackName),
                    "log" => Some(SyncKind::JournalName),
                    _ => None,
                };
                kind.map(|kind| seen.names.insert(parent(path), kind));
            }
            Op::Rename(_, to) => {
                let kind = match extension(to) {
                    "json" => SyncKind::BackupListName,
                    _ if is_in_backup(to) => SyncKind::BackupFileName,
                    "idx" => SyncKind::IndexName,
                    _ => SyncKind::JournalName,
                };
                seen.names.insert(parent(to), kind);
            }
            Op::Remove(path) if extension(path) == "car" && !is_in_backup(path) => {
                seen.names.insert(parent(path), SyncKind::Removal);
            }
            Op::Sync(file) => {
                let path = path_of(file);
                let change = seen.files.get(&inode(file)).copied();
                return file_kind(&path, change);
            }
            Op::SyncDir(dir) => {
                let kind = seen.names.get(dir).copied();
                return Some(kind.unwrap_or(SyncKind::Directory));
            }
            Op::Open(path) => {
                // Whoever opens it does not rely on who wrote it.
                if let Ok(metadata) = path.metadata() {
                    seen.files.remove(&metadata.ino());
                }
            }
            Op::MakeDir(_) | Op::Remove(_) | Op::Link(..) => {}
        }
        None
    }
}

fn file_kind(path: &Path, change: Option<FileChange>) -> Option<SyncKind> {
    let name = path.file_name()?.to_str()?;
    Some(match change {
        _ if name.ends_with(".json.tmp") => SyncKind::BackupList,
        _ if is_in_backup(path) => SyncKind::BackupFile,
        _ if name.ends_with(".idx.tmp") => SyncKind::Index,
        _ if name.starts_with("checkpoint-") => SyncKind::Checkpoint,
        Some(FileChange::Made) if name.starts_with("journal-") => SyncKind::NewJournal,
        Some(FileChange::Written) if name.starts_with("journal-") => SyncKind::Journal,
        None | Some(FileChange::Cut) if name.starts_with("journal-") => SyncKind::JournalReopen,
        Some(FileChange::Made | FileChange::Written) if name.ends_with(".car") => {
            match std::thread::current().name() {
                Some("duka-packs") => SyncKind::Seal,
                _ => SyncKind::Commit,
            }
        }
        None | Some(FileChange::Cut) if name.ends_with(".car") => SyncKind::Reopen,
        _ => return None,
    })
}

/// What a handle was opened as, and is called now.
pub fn path_of(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::read_link(link).unwrap_or_default()
}

/// The inode of an open file.
pub fn inode(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.ino())
}

/// Whether the path is that of a file in a folder `backup`.
fn is_in_backup(path: &Path) -> bool {
    path.ancestors().any(|above| above.ends_with("backup"))
}

fn extension(path: &Path) -> &str {
    path.extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default()
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}
