//! Points at which the writer kills itself.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use duka_tests::disk::point::{Namer, SyncKind};
use duka_tests::disk::{Hook, Op, Verdict};
use rustix::process::{Signal, getpid, kill_process};

/// A moment between two operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// Before a sync.
    Sync(SyncKind),
    /// Before an index or checkpoint gets its name.
    Rename,
    /// Before a file is removed.
    Remove,
}

impl Point {
    /// Whether it comes while a data directory is opened, and then never again.
    pub(crate) fn is_at_open(self) -> bool {
        matches!(
            self,
            Self::Sync(SyncKind::Directory | SyncKind::Reopen | SyncKind::JournalReopen)
        )
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync(kind) => kind.fmt(f),
            Self::Rename => f.write_str("rename"),
            Self::Remove => f.write_str("remove"),
        }
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "rename" => Ok(Self::Rename),
            "remove" => Ok(Self::Remove),
            kind => kind
                .parse()
                .map(Self::Sync)
                .map_err(|error| format!("{error}, rename, remove")),
        }
    }
}

/// The file system of the writer.
#[derive(Debug)]
pub(crate) struct Switches {
    pub(crate) namer: Namer,
    /// Left out.
    pub(crate) without_sync: Option<SyncKind>,
    /// Where the process ends, after it has passed there so often.
    pub(crate) kill_at: Option<(Point, u64)>,
    pub(crate) passed: AtomicU64,
    /// Packs are written through the page cache.
    pub(crate) buffered: bool,
}

impl Hook for Switches {
    fn before(&self, op: Op<'_>) -> io::Result<Verdict> {
        let kind = self.namer.see(op);
        if let Some((point, passes)) = self.kill_at
            && is_at(point, op, kind)
            && self.passed.fetch_add(1, Ordering::Relaxed) == passes
        {
            kill_process(getpid(), Signal::KILL)?;
        }
        if let Op::Write(file, _, _) = op
            && self.buffered
            && is_direct(file)
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(match kind {
            Some(_) if kind == self.without_sync => Verdict::LeaveOut,
            _ => Verdict::Do,
        })
    }
}

fn is_at(point: Point, op: Op<'_>, kind: Option<SyncKind>) -> bool {
    match point {
        Point::Sync(wanted) => kind == Some(wanted),
        Point::Rename => matches!(op, Op::Rename(..)),
        Point::Remove => matches!(op, Op::Remove(_)),
    }
}

fn is_direct(file: &std::fs::File) -> bool {
    rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::DIRECT))
}
