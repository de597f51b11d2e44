//! The unfinished target on disk: `<out>.duka-part`, a file or a folder beside the target.
//!
//! Paths are those below the target; the empty one is the target itself. Until
//! [`Part::finish`] there is no symbolic link in it, so no write can leave it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cid::Cid;
use parking_lot::{RwLock, RwLockReadGuard};
use rustix::fs::{Access, CWD, OFlags, RenameFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::leaf::matching;
use super::lock::TargetLock;
use super::old::{Cut, Old};
use super::{Finish, GetError, GetOptions};
use crate::dag::unixfs::Metadata;

/// Bytes that are read at a time for a checksum.
const HASHED_AT_A_TIME: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Part {
    out: PathBuf,
    part: PathBuf,
    parent: PathBuf,
    /// An interrupted run left something.
    resumed: bool,
    /// The target exists and is brought up to date.
    update: bool,
    /// Length of the target, a file that may be the beginning of the right one.
    begun: Option<u64>,
    old: Old,
    /// Read by whoever writes below the part; `None` once that is over.
    lock: RwLock<Option<TargetLock>>,
}

impl Part {
    /// Prepares the place beside `out`.
    pub(super) fn open(out: &Path, options: &GetOptions) -> Result<Self, GetError> {
        let Some(name) = out.file_name() else {
            return Err(GetError::Exists {
                path: out.to_owned(),
            });
        };
        let parent = match out.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let lock = TargetLock::take(&parent, name, out)?;
        let existing = kind_of(out)?;
        let usable = matches!(existing, None | Some(Kind::File | Kind::Dir));
        let is_refused = existing == Some(Kind::Dir) && !options.update;
        if let Some(kind) = existing.filter(|_| !usable && options.update) {
            return Err(GetError::Conflict {
                path: out.to_owned(),
                there: kind.name(),
                wanted: "a file or a folder",
            });
        }
        if is_refused || !usable {
            return Err(GetError::Exists {
                path: out.to_owned(),
            });
        }
        let begun = match existing {
            Some(Kind::File) if !options.update => {
                Some(fs::metadata(out).map_err(|e| failed(out, e))?.len())
            }
            _ => None,
        };
        let mut old = options.from.clone();
        old.extend(existing.map(|_| out.to_owned()));
        let mut part_name = name.to_owned();
        part_name.push(".duka-part");
        let part = parent.join(part_name);
        if matches!(kind_of(&part)?, Some(Kind::File | Kind::Dir)) {
            make_writable(&part)?;
        }
        if options.restart || matches!(kind_of(&part)?, Some(Kind::Symlink | Kind::Other)) {
            remove(&part)?;
        }
        let resumed = kind_of(&part)?;
        if resumed == Some(Kind::Dir) {
            keep_only(&part, &mut |_, kind| matches!(kind, Kind::File | Kind::Dir))?;
        }
        Ok(Self {
            out: out.to_owned(),
            part,
            parent,
            resumed: resumed.is_some(),
            update: existing.is_some() && begun.is_none(),
            begun,
            old: Old::new(old),
            lock: RwLock::new(Some(lock)),
        })
    }

    /// Whether the target exists and is brought up to date.
    pub(super) fn is_update(&self) -> bool {
        self.update
    }

    /// Fails when the target has something at `path` that a folder, or else a file, cannot replace.
    pub(super) fn check_place(&self, path: &Path, is_dir: bool) -> Result<(), GetError> {
        if !self.update {
            return Ok(());
        }
        check_place(is_dir, &below(&self.out, path))
    }

    /// Fails when the target is a file and cannot be the beginning of one of this size.
    pub(super) fn check_begun(&self, size: u64) -> Result<(), GetError> {
        match self.begun {
            Some(len) if len > size => Err(self.exists()),
            _ => Ok(()),
        }
    }

    /// Fails when the target is a file, since it becomes something else.
    pub(super) fn check_not_begun(&self) -> Result<(), GetError> {
        match self.begun {
            Some(_) => Err(self.exists()),
            None => Ok(()),
        }
    }

    /// Fails when the target is a file that does not begin with the same bytes as `data`.
    pub(super) fn check_beginning(&self, data: &[u8]) -> Result<(), GetError> {
        let Some(begun) = self.begun else {
            return Ok(());
        };
        let len = usize::try_from(begun).map_or(data.len(), |begun| begun.min(data.len()));
        let mut there = vec![0; len];
        File::open(&self.out)
            .and_then(|file| file.read_exact_at(&mut there, 0))
            .map_err(|source| failed(&self.out, source))?;
        if there == data[..len] {
            Ok(())
        } else {
            Err(self.exists())
        }
    }

    fn exists(&self) -> GetError {
        GetError::Exists {
            path: self.out.clone(),
        }
    }

    /// Whether the target is the beginning of the part.
    fn is_beginning(&self) -> io::Result<bool> {
        let mut old = io::BufReader::new(File::open(&self.out)?);
        let mut new = io::BufReader::new(File::open(&self.part)?);
        loop {
            let begun = old.fill_buf()?;
            if begun.is_empty() {
                return Ok(true);
            }
            let whole = new.fill_buf()?;
            let len = begun.len().min(whole.len());
            if len == 0 || begun[..len] != whole[..len] {
                return Ok(false);
            }
            old.consume(len);
            new.consume(len);
        }
    }

    /// Removes what this run wrote, when no run before it left anything. Writes that are under way end
    /// first, later ones do nothing.
    pub(super) fn discard(&self) -> Result<(), GetError> {
        let mut lock = self.lock.write();
        let _unlocked_at_the_end = lock.take();
        if self.resumed {
            return Ok(());
        }
        remove(&self.part)
    }

    /// Whether there is anything that could be reused.
    pub(super) fn has_old(&self) -> bool {
        self.resumed || !self.old.is_empty()
    }

    /// Bytes that can be written beside the target, what an interrupted run left included.
    pub(super) fn free_bytes(&self) -> Result<u64, GetError> {
        let stat = rustix::fs::statvfs(&self.parent).map_err(|e| failed(&self.parent, e.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok(free.saturating_add(used(&self.part)))
    }

    /// Looks for the block's bytes in what is on this disk: in `range` (offset and length) of the
    /// file at `path`, or as the whole file, or anywhere in old files. Puts them into their place and returns how many they are.
    pub(super) fn reuse(
        &self,
        cid: &Cid,
        path: &Path,
        range: Option<(u64, u64)>,
        cut: Option<Cut>,
    ) -> Result<Option<u64>, GetError> {
        let in_place = below(&self.part, path);
        if self.resumed && matching(&in_place, cid, range).is_some_and(|data| !data.is_empty()) {
            return Ok(Some(match range {
                Some((_, len)) => len,
                None => fs::metadata(&in_place)
                    .map_err(|e| failed(&in_place, e))?
                    .len(),
            }));
        }
        let in_target = (self.update || self.begun.is_some())
            .then(|| matching(&below(&self.out, path), cid, range))
            .flatten();
        let found = in_target.or_else(|| self.old.find(cid, cut?));
        let Some(data) = found.filter(|data| range.is_none_or(|(_, len)| len == data.len() as u64))
        else {
            return Ok(None);
        };
        let len = data.len() as u64;
        match range {
            Some((offset, _)) => self.write(path, offset, &data)?,
            None => self.begin_file(path, len, &data)?,
        }
        Ok(Some(len))
    }

    /// Held while something is written; `None` once the part is discarded.
    fn writing(&self) -> Option<RwLockReadGuard<'_, Option<TargetLock>>> {
        Some(self.lock.read()).filter(|lock| lock.is_some())
    }

    /// Makes the file at `path`, `size` bytes long, beginning with `data`.
    pub(super) fn begin_file(&self, path: &Path, size: u64, data: &[u8]) -> Result<(), GetError> {
        let Some(_writing) = self.writing() else {
            return Ok(());
        };
        let at = below(&self.part, path);
        if kind_of(&at)?.is_some_and(|kind| kind != Kind::File) {
            remove(&at)?;
        }
        let made = open_for_write(&at, true).and_then(|file| {
            file.set_len(size)?;
            file.write_all_at(data, 0)
        });
        made.map_err(|source| self.write_failed(&at, size, source))
    }

    /// Makes the directory at `path`.
    pub(super) fn begin_dir(&self, path: &Path) -> Result<(), GetError> {
        let Some(_writing) = self.writing() else {
            return Ok(());
        };
        let at = below(&self.part, path);
        match kind_of(&at)? {
            Some(Kind::Dir) => return Ok(()),
            Some(_) => remove(&at)?,
            None => {}
        }
        fs::create_dir(&at).map_err(|source| self.write_failed(&at, 0, source))
    }

    /// Writes a piece of a file that [`Part::begin_file`] made.
    pub(super) fn write(&self, path: &Path, offset: u64, data: &[u8]) -> Result<(), GetError> {
        let Some(_writing) = self.writing() else {
            return Ok(());
        };
        let at = below(&self.part, path);
        let written = open_for_write(&at, false).and_then(|file| file.write_all_at(data, offset));
        written.map_err(|source| self.write_failed(&at, data.len() as u64, source))
    }

    /// SHA-256 of the file at `path`.
    pub(super) fn sha256(&self, path: &Path) -> Result<[u8; 32], GetError> {
        let at = below(&self.part, path);
        let hash = || {
            let mut file = io::BufReader::with_capacity(HASHED_AT_A_TIME, File::open(&at)?);
            let mut hasher = Sha256::new();
            loop {
                let read = file.fill_buf()?;
                if read.is_empty() {
                    return Ok(hasher.finalize().into());
                }
                hasher.update(read);
                let len = read.len();
                file.consume(len);
            }
        };
        hash().map_err(|source| failed(&at, source))
    }

    /// Completes the tree, makes it durable, and puts it in the place of the target.
    pub(super) fn finish(
        &self,
        finish: &Finish,
        entries: &HashSet<PathBuf>,
    ) -> Result<(), GetError> {
        if self.resumed && kind_of(&self.part)? == Some(Kind::Dir) {
            // The run that was interrupted may have been for another tree.
            keep_only(&self.part, &mut |path, _| {
                path.strip_prefix(&self.part)
                    .is_ok_and(|path| entries.contains(path))
            })?;
        }
        for (path, target) in &finish.symlinks {
            let at = below(&self.part, path);
            remove(&at)?;
            std::os::unix::fs::symlink(OsStr::from_bytes(target), &at)
                .map_err(|source| self.write_failed(&at, 0, source))?;
        }
        // Children first: writing into a directory would change its mtime again. The folders of an update
        // are written to until the end.
        let mut folders = Vec::new();
        for (path, metadata) in finish.metadata.iter().rev() {
            let at = below(&self.part, path);
            match self.update && kind_of(&at)? == Some(Kind::Dir) {
                true => folders.push((below(&self.out, path), *metadata)),
                false => apply(&at, *metadata)?,
            }
        }
        for path in &finish.executables {
            let at = below(&self.part, path);
            let mode = mode_of(&at)?;
            // Whoever may read it may run it.
            set_mode(&at, mode | (mode & 0o444) >> 2)?;
        }
        self.sync()?;
        if self.begun.is_some() {
            match self.is_beginning() {
                Ok(true) => fs::rename(&self.part, &self.out).map_err(|e| failed(&self.out, e))?,
                Ok(false) => return Err(self.exists()),
                Err(error) => return Err(failed(&self.out, error)),
            }
        } else if self.update {
            find_conflict(&self.part, &self.out)?;
            let mut opened = Vec::new();
            let merged = open_folders(&self.part, &self.out, &mut opened)
                .and_then(|()| merge(&self.part, &self.out));
            for (folder, mode) in opened.iter().rev() {
                set_mode(folder, *mode)?;
            }
            merged?;
            for (folder, metadata) in folders {
                apply(&folder, metadata)?;
            }
        } else {
            rename_new(&self.part, &self.out, |part, out| {
                rustix::fs::renameat_with(CWD, part, CWD, out, RenameFlags::NOREPLACE)
            })?;
        }
        self.sync()
    }

    /// One sync for all files: one for each would take milliseconds times their number.
    fn sync(&self) -> Result<(), GetError> {
        File::open(&self.parent)
            .and_then(|dir| rustix::fs::syncfs(dir).map_err(io::Error::from))
            .map_err(|source| failed(&self.parent, source))
    }

    fn write_failed(&self, path: &Path, needed: u64, source: io::Error) -> GetError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => GetError::Full {
                path: self.out.clone(),
                needed,
            },
            _ => failed(path, source),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Dir,
    Symlink,
    Other,
}

fn kind_of(path: &Path) -> Result<Option<Kind>, GetError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(Kind::of(found.file_type()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
    }
}

impl Kind {
    fn of(kind: fs::FileType) -> Self {
        if kind.is_file() {
            Self::File
        } else if kind.is_dir() {
            Self::Dir
        } else if kind.is_symlink() {
            Self::Symlink
        } else {
            Self::Other
        }
    }

    /// What it is called in a message.
    fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Dir => "a folder",
            Self::Symlink => "a symbolic link",
            Self::Other => "no file",
        }
    }
}

fn below(base: &Path, path: &Path) -> PathBuf {
    if path == Path::new("") {
        base.to_owned()
    } else {
        base.join(path)
    }
}

pub(super) fn failed(path: &Path, source: io::Error) -> GetError {
    GetError::Write {
        path: path.to_owned(),
        source,
    }
}

fn open_for_write(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(create)
        .truncate(false)
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0))
        .open(path)
}

fn remove(path: &Path) -> Result<(), GetError> {
    let removed = match kind_of(path)? {
        None => return Ok(()),
        Some(Kind::Dir) => fs::remove_dir_all(path),
        Some(_) => fs::remove_file(path),
    };
    removed.map_err(|source| failed(path, source))
}

/// Makes all below `path` writable: a run that was killed may have set modes that do not let it go on.
fn make_writable(path: &Path) -> Result<(), GetError> {
    let mode = mode_of(path)?;
    match kind_of(path)? {
        Some(Kind::Dir) => {
            if mode & 0o700 != 0o700 {
                set_mode(path, mode | 0o700)?;
            }
            for (child, kind) in children(path)? {
                if matches!(kind, Kind::File | Kind::Dir) {
                    make_writable(&child)?;
                }
            }
            Ok(())
        }
        Some(Kind::File) if mode & 0o600 != 0o600 => set_mode(path, mode | 0o600),
        _ => Ok(()),
    }
}

/// Makes the folders of `old` writable into which `new` is merged, before anything is; `opened` has those
/// that were not, and how they were.
fn open_folders(new: &Path, old: &Path, opened: &mut Vec<(PathBuf, u32)>) -> Result<(), GetError> {
    if (kind_of(new)?, kind_of(old)?) != (Some(Kind::Dir), Some(Kind::Dir)) {
        return Ok(());
    }
    if rustix::fs::access(old, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let mode = mode_of(old)?;
        set_mode(old, mode | 0o700)?;
        opened.push((old.to_owned(), mode));
    }
    for (path, _) in children(new)? {
        open_folders(&path, &beside(&path, old), opened)?;
    }
    Ok(())
}

fn mode_of(path: &Path) -> Result<u32, GetError> {
    let found = fs::metadata(path).map_err(|source| failed(path, source))?;
    Ok(found.permissions().mode())
}

/// Walks a folder and removes what `keep` does not want.
fn keep_only(dir: &Path, keep: &mut dyn FnMut(&Path, Kind) -> bool) -> Result<(), GetError> {
    for (path, kind) in children(dir)? {
        if !keep(&path, kind) {
            remove(&path)?;
        } else if kind == Kind::Dir {
            keep_only(&path, keep)?;
        }
    }
    Ok(())
}

fn children(dir: &Path) -> Result<Vec<(PathBuf, Kind)>, GetError> {
    let read = || -> io::Result<Vec<_>> {
        fs::read_dir(dir)?
            .map(|entry| {
                let entry = entry?;
                Ok((entry.path(), Kind::of(entry.file_type()?)))
            })
            .collect()
    };
    read().map_err(|source| failed(dir, source))
}

/// Bytes that a file or folder occupies; what cannot be read counts nothing.
fn used(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => children(path)
            .unwrap_or_default()
            .iter()
            .map(|(child, _)| used(child))
            .fold(0, u64::saturating_add),
        Ok(found) => found.blocks().saturating_mul(512),
        Err(_) => 0,
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), GetError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o777))
        .map_err(|source| failed(path, source))
}

fn apply(path: &Path, metadata: Metadata) -> Result<(), GetError> {
    if let Some((seconds, nanos)) = metadata.mtime {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(whole)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(whole)
        };
        let time = time.and_then(|time| time.checked_add(Duration::from_nanos(u64::from(nanos))));
        // A time that this system cannot hold is left out.
        if let Some(time) = time {
            File::open(path)
                .and_then(|file| file.set_modified(time))
                .map_err(|source| failed(path, source))?;
        }
    }
    // Set-user-id and the like are nothing that a download should bring.
    match metadata.mode {
        Some(mode) => set_mode(path, mode),
        None => Ok(()),
    }
}

/// Moves `new` to `old`, where nothing is. `exclusive` does it in one step, where the file system can.
fn rename_new(
    new: &Path,
    old: &Path,
    exclusive: impl FnOnce(&Path, &Path) -> rustix::io::Result<()>,
) -> Result<(), GetError> {
    let exists = || GetError::Exists {
        path: old.to_owned(),
    };
    match exclusive(new, old) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(exists()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if kind_of(old)?.is_some() {
                return Err(exists());
            }
            fs::rename(new, old).map_err(|source| failed(old, source))
        }
        Err(error) => Err(failed(old, error.into())),
    }
}

/// Whether something of the tree cannot take the place of what is at `old`: a folder is only updated
/// by a folder, for it may hold what is not in the new tree, and a folder replaces nothing.
fn check_place(new_is_dir: bool, old: &Path) -> Result<(), GetError> {
    match kind_of(old)? {
        Some(kind) if (kind == Kind::Dir) != new_is_dir => Err(GetError::Conflict {
            path: old.to_owned(),
            there: kind.name(),
            wanted: if new_is_dir { "a folder" } else { "a file" },
        }),
        _ => Ok(()),
    }
}

fn find_conflict(new: &Path, old: &Path) -> Result<(), GetError> {
    let is_dir = kind_of(new)? == Some(Kind::Dir);
    check_place(is_dir, old)?;
    if is_dir && kind_of(old)?.is_some() {
        for (path, _) in children(new)? {
            find_conflict(&path, &beside(&path, old))?;
        }
    }
    Ok(())
}

/// Moves every file of `new` into its place in `old`, one by one; what else is in `old` stays.
fn merge(new: &Path, old: &Path) -> Result<(), GetError> {
    let both_dirs = (kind_of(new)?, kind_of(old)?) == (Some(Kind::Dir), Some(Kind::Dir));
    if !both_dirs {
        return fs::rename(new, old).map_err(|source| failed(old, source));
    }
    for (path, _) in children(new)? {
        merge(&path, &beside(&path, old))?;
    }
    fs::remove_dir(new).map_err(|source| failed(new, source))
}

/// The path of the same name in another folder.
fn beside(path: &Path, dir: &Path) -> PathBuf {
    dir.join(path.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_without_permissions_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (
            dir.path().join("out.duka-part/folder"),
            dir.path().join("out.duka-part/folder/file"),
        );
        fs::create_dir_all(&folder).unwrap();
        fs::write(&file, "begun").unwrap();
        set_mode(&file, 0o444).unwrap();
        set_mode(&folder, 0o555).unwrap();
        let part = Part::open(&dir.path().join("out"), &GetOptions::default()).unwrap();
        assert!(part.has_old());
        let modes = [&folder, &file].map(|path| mode_of(path).unwrap() & 0o777);
        assert_eq!(modes, [0o755, 0o644]);
    }

    #[test]
    fn folders_get_their_modes_after_an_update_is_merged() {
        let dir = tempfile::tempdir().unwrap();
        let (out, part) = (dir.path().join("out"), dir.path().join("out.duka-part"));
        for folder in [&out, &part] {
            fs::create_dir_all(folder.join("folder")).unwrap();
        }
        fs::write(out.join("folder/old"), "old").unwrap();
        set_mode(&out.join("folder"), 0o500).unwrap();
        let options = GetOptions {
            update: true,
            ..GetOptions::default()
        };
        let part = Part::open(&out, &options).unwrap();
        part.begin_file(Path::new("folder/new"), 3, b"new").unwrap();
        let metadata = Metadata {
            mode: Some(0o555),
            ..Metadata::default()
        };
        let finish = Finish {
            metadata: vec![("folder".into(), metadata)],
            ..Finish::default()
        };
        let entries = ["folder", "folder/new"].map(PathBuf::from);
        part.finish(&finish, &entries.into()).unwrap();
        let read = |name: &str| fs::read_to_string(out.join("folder").join(name)).unwrap();
        assert_eq!(
            (read("old"), read("new")),
            ("old".to_owned(), "new".to_owned())
        );
        assert_eq!(mode_of(&out.join("folder")).unwrap() & 0o777, 0o555);
    }

    #[test]
    fn a_file_system_that_cannot_rename_exclusively_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        for error in [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP] {
            fs::write(&new, "new").unwrap();
            rename_new(&new, &old, |_, _| Err(error)).unwrap();
            assert_eq!(fs::read(&old).unwrap(), b"new");

            fs::write(&new, "newer").unwrap();
            let refused = rename_new(&new, &old, |_, _| Err(error));
            assert!(matches!(refused, Err(GetError::Exists { .. })), "{error}");
            assert_eq!(fs::read(&old).unwrap(), b"new");
            fs::remove_file(&old).unwrap();
        }
        let refused = rename_new(&new, &old, |_, _| Err(Errno::ACCESS));
        assert!(matches!(refused, Err(GetError::Write { .. })));
    }
}
