//! A file system that lets one operation fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Hook, Op, Verdict};

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`, and nothing is done.
    Broken,
    /// `ENOSPC`, and nothing is done.
    Full,
    /// A write does its first half, then `EIO`.
    Half,
    /// A write does its first half, then `ENOSPC`.
    HalfFull,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Broken, Self::Full, Self::Half, Self::HalfFull];

    /// Whether the disk is full then.
    pub fn is_full(self) -> bool {
        matches!(self, Self::Full | Self::HalfFull)
    }

    fn error(self) -> io::Error {
        let errno = if self.is_full() {
            rustix::io::Errno::NOSPC
        } else {
            rustix::io::Errno::IO
        };
        errno.into()
    }
}

/// Lets the operation with a number, from 0, fail, once.
#[derive(Debug)]
pub struct Faulty {
    fault: Fault,
    fails: u64,
    done: AtomicU64,
}

impl Faulty {
    /// Lets operation number `fails` fail; `u64::MAX` only counts.
    pub fn new(fault: Fault, fails: u64) -> Self {
        Self {
            fault,
            fails,
            done: AtomicU64::new(0),
        }
    }

    /// Operations so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Hook for Faulty {
    fn before(&self, op: Op<'_>) -> io::Result<Verdict> {
        if self.done.fetch_add(1, Ordering::Relaxed) == self.fails {
            if let Op::Write(file, bytes, offset) = op
                && matches!(self.fault, Fault::Half | Fault::HalfFull)
            {
                write_half(file, bytes, offset)?;
            }
            return Err(self.fault.error());
        }
        // Nothing is lost but by the fault.
        Ok(match op {
            Op::Sync(_) | Op::SyncDir(_) => Verdict::LeaveOut,
            _ => Verdict::Do,
        })
    }
}

fn write_half(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    // Direct I/O takes whole pages.
    let half = match bytes.len() / 2 {
        half if bytes.len().is_multiple_of(4096) => half / 4096 * 4096,
        half => half,
    };
    file.write_all_at(&bytes[..half], offset)
}
