//! What is durable of a directory that is written through the seam, and what of it a power cut may
//! lose: each 4 KiB sector, length and name since the last sync of its file or directory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Op;
use super::point::inode;

/// What is written and lost as a whole.
const SECTOR: usize = 4096;

/// A directory, beside the real files.
#[derive(Debug)]
pub struct Volatile {
    root: PathBuf,
    /// By inode; a new file may get the inode of a removed one.
    ids: HashMap<u64, usize>,
    files: Vec<Tracked>,
    /// Every path that was ever named through the seam.
    known: BTreeSet<PathBuf>,
    /// Current names of files.
    names: BTreeMap<PathBuf, usize>,
    durable: Names,
    pending: Vec<Change>,
}

/// Files by name; directories are `None`.
type Names = BTreeMap<PathBuf, Option<usize>>;

#[derive(Clone, Debug, Default)]
struct Tracked {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that were written since the last sync.
    dirty: BTreeSet<usize>,
}

/// A change of names that is not durable.
#[derive(Clone, Debug)]
enum Change {
    Name(PathBuf, Option<usize>),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

impl Change {
    /// The directories that make it durable.
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Name(path, _) | Self::Rename(path, _, _) | Self::Remove(path)) = self;
        path.parent() == Some(dir)
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Name(path, what) => drop(names.insert(path.clone(), *what)),
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), Some(*file));
            }
            Self::Remove(path) => drop(names.remove(path)),
        }
    }
}

/// Something that a cut may lose for itself.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// A sector of a file.
    Sector(usize, usize),
    /// The length of a file.
    Len(usize),
    /// A change of names.
    Name(usize),
}

/// What a cut left of what was written through the seam: bytes by path below the root, directories are
/// `None`.
#[derive(Debug, Default)]
pub struct Left(BTreeMap<PathBuf, Option<Vec<u8>>>);

impl Left {
    /// Makes it in a directory.
    ///
    /// # Errors
    /// If something cannot be written.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        for (name, what) in &self.0 {
            let path = dir.join(name);
            // What is in a directory whose name was lost is lost with it.
            if !path.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match what {
                None => std::fs::create_dir(path)?,
                Some(bytes) => std::fs::write(path, bytes)?,
            }
        }
        Ok(())
    }
}

impl Volatile {
    /// `root` exists and is durable, and nothing was written there yet.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            ids: HashMap::new(),
            files: Vec::new(),
            known: BTreeSet::new(),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
        }
    }

    /// `root` is what a cut left, which is durable.
    ///
    /// # Errors
    /// If a file cannot be looked at.
    pub fn after(root: &Path, left: &Left) -> io::Result<Self> {
        let mut volatile = Self::new(root);
        for (name, what) in &left.0 {
            let path = root.join(name);
            if !path.exists() {
                continue;
            }
            let file = match what {
                None => None,
                Some(bytes) => {
                    let id = volatile.files.len();
                    volatile.files.push(Tracked {
                        bytes: bytes.clone(),
                        durable: bytes.clone(),
                        dirty: BTreeSet::new(),
                    });
                    volatile.ids.insert(path.metadata()?.ino(), id);
                    volatile.names.insert(path.clone(), id);
                    Some(id)
                }
            };
            volatile.known.insert(path.clone());
            volatile.durable.insert(path, file);
        }
        Ok(volatile)
    }

    /// What a cut leaves when only `kept` of what is not durable is on the disk.
    pub fn left(&self, kept: &[Part]) -> Left {
        let mut names = self.durable.clone();
        for (at, change) in self.pending.iter().enumerate() {
            if kept
                .iter()
                .any(|part| matches!(part, Part::Name(name) if *name == at))
            {
                change.apply(&mut names);
            }
        }
        let names = names.into_iter().map(|(name, what)| {
            let relative = name.strip_prefix(&self.root).unwrap_or(&name).to_owned();
            (relative, what.map(|file| self.files[file].left(file, kept)))
        });
        Left(names.collect())
    }

    /// Copies what the seam knows nothing of, into directories that are there.
    ///
    /// # Errors
    /// If something cannot be copied.
    pub fn copy_untracked(&self, to: &Path) -> io::Result<()> {
        copy_untracked(&self.root, to, &|path| self.known.contains(path))
    }

    /// A file was opened; `made` when it was not there before.
    pub fn opened(&mut self, path: &Path, file: &File, made: bool) {
        if made {
            let id = self.files.len();
            self.files.push(Tracked::default());
            self.ids.insert(inode(file), id);
            self.known.insert(path.to_owned());
            self.names.insert(path.to_owned(), id);
            self.pending.push(Change::Name(path.to_owned(), Some(id)));
        } else if let Some(id) = self.names.get(path) {
            // It may have been emptied.
            let len = file.metadata().map_or(0, |metadata| metadata.len());
            let tracked = &mut self.files[*id];
            if len == 0 && !tracked.bytes.is_empty() {
                tracked.set_len(0);
            }
        }
    }

    /// What is not durable: only what a name, durable or not, leads to.
    pub fn parts(&self) -> Vec<Part> {
        let named = |change: &Change| match change {
            Change::Name(_, file) => *file,
            Change::Rename(_, _, file) => Some(*file),
            Change::Remove(_) => None,
        };
        let pending = self.pending.iter().filter_map(named);
        let reachable: BTreeSet<usize> = self
            .durable
            .values()
            .flatten()
            .copied()
            .chain(pending)
            .collect();
        let mut parts: Vec<Part> = (0..self.pending.len()).map(Part::Name).collect();
        for file in reachable {
            let tracked = &self.files[file];
            parts.extend(
                tracked
                    .dirty
                    .iter()
                    .map(|sector| Part::Sector(file, *sector)),
            );
            if tracked.bytes.len() != tracked.durable.len() {
                parts.push(Part::Len(file));
            }
        }
        parts
    }

    fn tracked(&mut self, file: &File) -> io::Result<&mut Tracked> {
        let id = self.ids.get(&inode(file)).copied();
        let id = id.ok_or_else(|| io::Error::other("a file that was not opened here"))?;
        Ok(&mut self.files[id])
    }

    /// Takes an operation that is about to be done.
    ///
    /// # Errors
    /// When it is on a file that was not opened through the seam, or gives a file a second name.
    pub fn apply(&mut self, op: Op<'_>) -> io::Result<()> {
        match op {
            Op::Open(_) => {}
            Op::Write(file, bytes, offset) => self.tracked(file)?.write(bytes, offset),
            Op::SetLen(file, len) => {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                self.tracked(file)?.set_len(len);
            }
            Op::Sync(file) => self.tracked(file)?.sync(),
            Op::SyncDir(dir) => {
                for change in &self.pending {
                    if change.is_in(dir) {
                        change.apply(&mut self.durable);
                    }
                }
                self.pending.retain(|change| !change.is_in(dir));
            }
            Op::MakeDir(dir) => {
                let missing = dir.ancestors().take_while(|dir| !dir.exists());
                let missing: Vec<_> = missing.map(Path::to_owned).collect();
                for dir in missing.into_iter().rev() {
                    self.known.insert(dir.clone());
                    self.pending.push(Change::Name(dir, None));
                }
            }
            Op::Rename(from, to) => {
                self.known.insert(to.to_owned());
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.to_owned(), file);
                    self.pending
                        .push(Change::Rename(from.to_owned(), to.to_owned(), file));
                }
            }
            // One file under two names is not simulated: it is copied then.
            Op::Link(..) => return Err(rustix::io::Errno::XDEV.into()),
            Op::Remove(path) => {
                if self.names.remove(path).is_some() {
                    self.pending.push(Change::Remove(path.to_owned()));
                }
            }
        }
        Ok(())
    }
}

impl Tracked {
    fn left(&self, own: usize, kept: &[Part]) -> Vec<u8> {
        let mut left = self.durable.clone();
        left.resize(self.durable.len().max(self.bytes.len()), 0);
        for part in kept {
            if let Part::Sector(file, sector) = part
                && *file == own
            {
                let start = (sector * SECTOR).min(self.bytes.len());
                let end = (start + SECTOR).min(self.bytes.len());
                left[start..end].copy_from_slice(&self.bytes[start..end]);
            }
        }
        let grown = kept
            .iter()
            .any(|part| matches!(part, Part::Len(file) if *file == own));
        left.truncate(if grown {
            self.bytes.len()
        } else {
            self.durable.len()
        });
        left
    }

    fn write(&mut self, bytes: &[u8], offset: u64) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = offset + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    fn set_len(&mut self, len: usize) {
        self.bytes.resize(len, 0);
        self.dirty = self
            .dirty
            .iter()
            .copied()
            .filter(|sector| sector * SECTOR < len)
            .collect();
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.bytes);
        self.dirty.clear();
    }
}

/// Copies the directories that the seam knows nothing of, into directories that are there.
fn copy_untracked(from: &Path, to: &Path, known: &dyn Fn(&Path) -> bool) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if known(&path) {
            if path.is_dir() && target.is_dir() {
                copy_untracked(&path, &target, known)?;
            }
        } else if path.is_dir() {
            std::fs::create_dir(&target)?;
            copy_untracked(&path, &target, known)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
