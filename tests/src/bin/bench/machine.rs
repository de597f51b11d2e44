//! What the machine itself can do: the bounds of what is measured.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use duka_tests::random::Random;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use crate::setup::timed;

/// Bytes that are hashed at once: a chunk of the default profile.
const CHUNK_LEN: u64 = 1 << 20;
/// Bytes that are written at once.
const WRITE_LEN: usize = 4 << 20;
/// What direct I/O wants addresses, offsets and lengths to be multiples of.
pub(crate) const ALIGN: usize = 4096;

pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Reads a file and hashes it with SHA-256, chunk by chunk, on all cores.
pub(crate) fn hash(path: &Path) -> Result<Duration> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let next = AtomicU64::new(0);
    let work = || -> Result<()> {
        let mut chunk = vec![0; usize::try_from(CHUNK_LEN)?];
        loop {
            let offset = next.fetch_add(CHUNK_LEN, Ordering::Relaxed);
            if offset >= size {
                return Ok(());
            }
            let chunk = &mut chunk[..usize::try_from(CHUNK_LEN.min(size - offset))?];
            file.read_exact_at(chunk, offset)?;
            std::hint::black_box(Sha256::digest(chunk));
        }
    };
    let ((), took) = timed(|| on_threads(cores(), work))?;
    Ok(took)
}

/// Writes a new file of `size` bytes past the page cache, and syncs it.
pub(crate) fn write(folder: &Path, size: u64) -> Result<Duration> {
    let path = folder.join("written");
    let direct = i32::try_from(OFlags::DIRECT.bits())?;
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .custom_flags(direct)
        .open(&path)
        .context("a file for direct I/O")?;
    let mut memory = vec![0; WRITE_LEN + ALIGN];
    let start = memory.as_ptr().align_offset(ALIGN);
    let buffer = &mut memory[start..start + WRITE_LEN];
    Random(size).fill(buffer);
    let ((), took) = timed(|| {
        for offset in (0..size).step_by(WRITE_LEN) {
            file.write_all_at(buffer, offset)?;
        }
        file.sync_data()?;
        Ok(())
    })?;
    fs::remove_file(path)?;
    Ok(took)
}

/// Runs the same work on some threads; the first error is the result.
pub(crate) fn on_threads(threads: usize, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        let joined = running
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        joined.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Lets the kernel forget all files; only root may.
pub(crate) fn drop_caches() -> bool {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
