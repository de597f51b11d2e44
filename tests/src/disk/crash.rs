//! Simulated power cuts: what was written since the last sync of its file or directory may be on the
//! disk or not, each 4 KiB sector, length and name for itself.
//!
//! [`Crash`] keeps, beside the real files, what is durable of them. Before each operation it makes
//! directories as a cut at that moment could leave them, and has each checked. A cut leaves any subset
//! of what is not synced: all subsets of up to `EXHAUSTIVE` parts are tried, of more a sample.
//!
//! Not simulated: sectors that are half written, disks that lie about syncs, and, as the index of the
//! manifest is not written through the seam, subsets of its bytes: it is there as it is, or not at all.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::point::{Namer, SyncKind};
use super::volatile::{Part, Volatile};
use super::{Hook, Op, Verdict};
use crate::random::Random;

/// All subsets of so many parts are tried.
const EXHAUSTIVE: usize = 12;
/// Subsets that are tried of more parts, or between two syncs.
const SAMPLE: usize = 6;

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
    volatile: Volatile,
    random: Random,
    tried: u64,
    losses: Vec<String>,
    syncs: BTreeMap<SyncKind, u64>,
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
            volatile: Volatile::new(root),
            random: Random(seed),
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
        let parts = state.volatile.parts();
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
                _ => parts
                    .iter()
                    .copied()
                    .filter(|_| state.random.coin())
                    .collect(),
            };
            let with_untracked = state.random.coin();
            let left = leave(&state.volatile, &subset, with_untracked);
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
}

/// Makes the directory that a cut leaves when only `kept` of what is not durable is on the disk.
/// What is not written through the seam is left there as a whole, or not at all.
fn leave(volatile: &Volatile, kept: &[Part], with_untracked: bool) -> io::Result<TempDir> {
    let dir = tempfile::Builder::new().tempdir_in(memory())?;
    volatile.left(kept).write(dir.path())?;
    if with_untracked {
        volatile.copy_untracked(dir.path())?;
    }
    Ok(dir)
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
            state.volatile.apply(op)?;
        }
        Ok(Verdict::simulated(op))
    }

    fn opened(&self, path: &Path, file: &File, made: bool) {
        self.state.lock().volatile.opened(path, file, made);
    }
}
