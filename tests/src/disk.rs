//! The file system as store and manifest write to it, with a [`Hook`] that sees every operation
//! before it is done and may let it fail, leave it out, or end the process.

pub mod crash;
pub mod cut;
pub mod faulty;
pub mod point;
pub mod volatile;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use duka_node::disk::{Disk, FileRange, FileSystem};

/// An operation that is about to be done.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// A file is opened or made.
    Open(&'a Path),
    /// Bytes are written at an offset.
    Write(&'a File, &'a [u8], u64),
    /// A file gets another length.
    SetLen(&'a File, u64),
    /// A file is synced.
    Sync(&'a File),
    /// A directory is synced.
    SyncDir(&'a Path),
    /// A directory is made.
    MakeDir(&'a Path),
    /// A file or directory gets another name.
    Rename(&'a Path, &'a Path),
    /// A file gets another name besides.
    Link(&'a Path, &'a Path),
    /// A file is removed.
    Remove(&'a Path),
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Do,
    /// It is left out, and its caller is told that it was done. Opening cannot be left out.
    LeaveOut,
}

impl Verdict {
    /// On a simulated disk, which is all that needs syncs.
    fn simulated(op: Op<'_>) -> Self {
        match op {
            Op::Sync(_) | Op::SyncDir(_) => Self::LeaveOut,
            _ => Self::Do,
        }
    }
}

/// Is asked before each operation.
pub trait Hook: std::fmt::Debug + Send + Sync {
    /// Decides about an operation.
    ///
    /// # Errors
    /// What its caller is told instead of it being done.
    fn before(&self, op: Op<'_>) -> io::Result<Verdict>;

    /// A file was opened; `made` when it was not there before.
    fn opened(&self, _path: &Path, _file: &File, _made: bool) {}
}

/// A file system with a hook.
#[derive(Debug)]
pub struct Hooked<H>(pub H);

impl<H: Hook + 'static> Hooked<H> {
    /// As store and manifest take it.
    pub fn shared(hook: H) -> Arc<Self> {
        Arc::new(Self(hook))
    }

    fn unless_left_out(&self, op: Op<'_>, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.0.before(op)? {
            Verdict::Do => work(),
            Verdict::LeaveOut => Ok(()),
        }
    }
}

impl<H: Hook + 'static> Disk for Hooked<H> {
    fn open(&self, path: &Path, options: &OpenOptions) -> io::Result<File> {
        let verdict = self.0.before(Op::Open(path))?;
        assert_eq!(verdict, Verdict::Do, "opening cannot be left out");
        let was_there = path.exists();
        let file = FileSystem.open(path, options)?;
        self.0.opened(path, &file, !was_there);
        Ok(file)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.unless_left_out(Op::Write(file, bytes, offset), || {
            FileSystem.write_at(file, bytes, offset)
        })
    }

    /// Where the file system has no reflinks a copy stands for the snapshot.
    fn snapshot(&self, source: &File, dir: &Path) -> io::Result<File> {
        FileSystem.snapshot(source, dir).or_else(|_| {
            let copy = tempfile::tempfile_in(dir)?;
            let range = FileRange {
                file: source,
                offset: 0,
                len: source.metadata()?.len(),
            };
            FileSystem.copy_range(range, &copy, 0)?;
            Ok(copy)
        })
    }

    fn copy_range(&self, range: FileRange<'_>, to: &File, offset: u64) -> io::Result<()> {
        let len = usize::try_from(range.len).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        range.file.read_exact_at(&mut bytes, range.offset)?;
        self.unless_left_out(Op::Write(to, &bytes, offset), || {
            FileSystem.copy_range(range, to, offset)
        })
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.unless_left_out(Op::SetLen(file, len), || FileSystem.set_len(file, len))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.unless_left_out(Op::Sync(file), || FileSystem.sync(file))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.unless_left_out(Op::SyncDir(dir), || FileSystem.sync_dir(dir))
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.unless_left_out(Op::MakeDir(dir), || FileSystem.make_dir(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.unless_left_out(Op::Rename(from, to), || FileSystem.rename(from, to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.unless_left_out(Op::Link(from, to), || FileSystem.link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.unless_left_out(Op::Remove(path), || FileSystem.remove(path))
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        FileSystem.free(dir)
    }
}

/// Leaves all syncs out: for opening what a simulated crash left, which no real crash threatens.
#[derive(Debug)]
pub struct NoSync;

impl Hook for NoSync {
    fn before(&self, op: Op<'_>) -> io::Result<Verdict> {
        Ok(match op {
            Op::Sync(_) | Op::SyncDir(_) => Verdict::LeaveOut,
            _ => Verdict::Do,
        })
    }
}
