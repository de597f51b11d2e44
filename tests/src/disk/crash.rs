//! Simulated power cuts: what was written since the last sync of its file or directory may be on the
//! disk or not, each 4 KiB sector, length and name for itself.
//!
//! [`Crash`] keeps, beside the real files, what is durable of them. Before each operation it makes
//! directories as a cut at that moment could leave them, and has each checked. A cut leaves any subset
//! of what is not synced: all subsets of up to `EXHAUSTIVE` parts are tried, of more a sample.
//!
//! Not simulated: sectors that are half written, disks that lie about syncs, and, as the index of the
//! manifest is not written through the seam, subsets of its bytes: it is there as it is, or not at all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::point::{Namer, SyncKind, inode};
use super::{Hook, Op, Verdict};

/// All subsets of so many parts are tried.
const EXHAUSTIVE: usize = 12;
/// Subsets that are tried of more parts, or between two syncs.
const SAMPLE: usize = 6;
/// What is written and lost as a whole.
const SECTOR: usize = 4096;

/// Looks at what a cut left; says what is wrong with it.
pub type Check = dyn Fn(&Path) -> Result<(), String> + Send + Sync;

/// A directory, what of it is durable, and what is wrong with the cuts so far.
pub struct Crash {
    root: PathBuf,
    left_out: Option<SyncKind>,
    namer: Namer,
    fails: Mutex<Option<SyncKind>>,
    state: Mutex<State>,
    check: Box<Check>,
}

impl fmt::Debug for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crash")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    /// By inode; a new file may get the inode of a removed one.
    ids: HashMap<u64, usize>,
    files: Vec<Tracked>,
    /// Every path that was ever named through the seam.
    known: BTreeSet<PathBuf>,
    /// Current names of files.
    names: BTreeMap<PathBuf, usize>,
    durable: Names,
    pending: Vec<Change>,
    random: u64,
    tried: u64,
    losses: Vec<String>,
    syncs: BTreeMap<SyncKind, u64>,
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
enum Part {
    Sector(usize, usize),
    Len(usize),
    Name(usize),
}

/// What [`Crash`] saw.
#[derive(Debug)]
pub struct Seen {
    /// Directories that were checked.
    pub tried: u64,
    /// What was wrong with them.
    pub losses: Vec<String>,
    /// How often each kind of sync came.
    pub syncs: BTreeMap<SyncKind, u64>,
}

impl Crash {
    /// Watches `root`, which exists and is durable. `left_out` syncs do nothing. The `seed` decides the
    /// samples.
    pub fn new(root: &Path, left_out: Option<SyncKind>, seed: u64, check: Box<Check>) -> Self {
        let state = State {
            ids: HashMap::new(),
            files: Vec::new(),
            known: BTreeSet::new(),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            random: seed | 1,
            tried: 0,
            losses: Vec::new(),
            syncs: BTreeMap::new(),
        };
        Self {
            root: root.to_owned(),
            left_out,
            namer: Namer::default(),
            fails: Mutex::default(),
            state: Mutex::new(state),
            check,
        }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        let state = self.state.lock();
        Seen {
            tried: state.tried,
            losses: state.losses.clone(),
            syncs: state.syncs.clone(),
        }
    }

    /// Lets the next sync of this kind fail, with what it was to make durable written, as when the
    /// process is killed in between.
    pub fn fail_next(&self, kind: SyncKind) {
        *self.fails.lock() = Some(kind);
    }

    /// Cuts now, between two operations.
    pub fn cut(&self) {
        self.explore(&mut self.state.lock(), "between operations", false);
    }

    /// Tries cuts at this moment. After a first loss nothing more is tried.
    fn explore(&self, state: &mut State, when: &str, exhaustive: bool) {
        let parts = state.parts();
        let all = exhaustive && parts.len() <= EXHAUSTIVE;
        let subsets = match parts.len() {
            len if all => 1 << len,
            0 => 1,
            _ => SAMPLE,
        };
        for number in 0..subsets {
            if !state.losses.is_empty() {
                return;
            }
            let subset: Vec<Part> = match number {
                _ if all => chosen(&parts, number as u64),
                0 => Vec::new(),
                1 => parts.clone(),
                _ => parts.iter().copied().filter(|_| state.coin()).collect(),
            };
            let with_untracked = state.coin();
            let left = self.leave(state, &subset, with_untracked);
            let checked = match &left {
                Ok(dir) => (self.check)(dir.path()),
                Err(error) => Err(format!("the harness failed: {error}")),
            };
            state.tried += 1;
            if let Err(loss) = checked {
                state
                    .losses
                    .push(format!("cut at {when}, kept {subset:?}: {loss}"));
            }
        }
    }

    /// Makes the directory that a cut leaves when only `kept` of what is not durable is on the disk.
    /// What is not written through the seam is left there as a whole, or not at all.
    fn leave(&self, state: &State, kept: &[Part], with_untracked: bool) -> io::Result<TempDir> {
        let mut names = state.durable.clone();
        for (at, change) in state.pending.iter().enumerate() {
            if kept
                .iter()
                .any(|part| matches!(part, Part::Name(name) if *name == at))
            {
                change.apply(&mut names);
            }
        }
        let dir = tempfile::Builder::new().tempdir_in(memory())?;
        for (name, what) in &names {
            let relative = name.strip_prefix(&self.root).unwrap_or(name);
            let path = dir.path().join(relative);
            if !path.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match what {
                None => std::fs::create_dir(path)?,
                Some(file) => std::fs::write(path, state.files[*file].left(*file, kept))?,
            }
        }
        if with_untracked {
            copy_untracked(&self.root, dir.path(), &|path| state.known.contains(path))?;
        }
        Ok(dir)
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

/// Where the directories are made: in memory, where the system has it.
pub fn memory() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() {
        shm
    } else {
        std::env::temp_dir()
    }
}

fn chosen(parts: &[Part], bits: u64) -> Vec<Part> {
    let numbered = parts.iter().enumerate();
    numbered
        .filter(|(at, _)| bits >> at & 1 == 1)
        .map(|(_, part)| *part)
        .collect()
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

impl State {
    /// What is not durable: only what a name, durable or not, leads to.
    fn parts(&self) -> Vec<Part> {
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

    fn coin(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random & 1 == 1
    }

    fn apply(&mut self, op: Op<'_>) -> io::Result<()> {
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
            Op::Remove(path) => {
                if self.names.remove(path).is_some() {
                    self.pending.push(Change::Remove(path.to_owned()));
                }
            }
        }
        Ok(())
    }
}

impl Hook for Crash {
    fn before(&self, op: Op<'_>) -> io::Result<Verdict> {
        let kind = self.namer.see(op);
        let mut state = self.state.lock();
        let when = match kind {
            Some(kind) => format!("the sync of {kind}"),
            None => format!("{op:?}").chars().take(120).collect(),
        };
        self.explore(&mut state, &when, kind.is_some());
        if kind.is_some()
            && self
                .fails
                .lock()
                .take_if(|fails| Some(*fails) == kind)
                .is_some()
        {
            return Err(rustix::io::Errno::IO.into());
        }
        if let Some(kind) = kind {
            *state.syncs.entry(kind).or_default() += 1;
        }
        if kind.is_none() || kind != self.left_out {
            state.apply(op)?;
        }
        // Only the simulated disk needs them.
        Ok(match op {
            Op::Sync(_) | Op::SyncDir(_) => Verdict::LeaveOut,
            _ => Verdict::Do,
        })
    }

    fn opened(&self, path: &Path, file: &File, made: bool) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if made {
            let id = state.files.len();
            state.files.push(Tracked::default());
            state.ids.insert(inode(file), id);
            state.known.insert(path.to_owned());
            state.names.insert(path.to_owned(), id);
            state.pending.push(Change::Name(path.to_owned(), Some(id)));
        } else if let Some(id) = state.names.get(path) {
            // It may have been emptied.
            let len = file.metadata().map_or(0, |metadata| metadata.len());
            let tracked = &mut state.files[*id];
            if len == 0 && !tracked.bytes.is_empty() {
                tracked.set_len(0);
            }
        }
    }
}
