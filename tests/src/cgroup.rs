//! A limit on the memory of processes, page cache included. Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// Where the kernel keeps memory limits: version 1 and version 2.
const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// A group of processes whose memory is limited. It is removed when it is dropped; its processes must have
/// ended before.
#[derive(Debug)]
pub struct MemoryLimit {
    folder: PathBuf,
    names: &'static Names,
}

#[derive(Debug)]
struct Names {
    limit: &'static str,
    swap_limit: &'static str,
    peak: &'static str,
    killed: &'static str,
    anonymous: &'static str,
}

const V1_NAMES: Names = Names {
    limit: "memory.limit_in_bytes",
    swap_limit: "memory.memsw.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    killed: "memory.oom_control",
    anonymous: "total_rss",
};

const V2_NAMES: Names = Names {
    limit: "memory.max",
    swap_limit: "memory.swap.max",
    peak: "memory.peak",
    killed: "memory.events",
    anonymous: "anon",
};

impl MemoryLimit {
    /// Makes a group that may take so many bytes.
    ///
    /// # Errors
    /// If the kernel has no such limits, or refuses.
    pub fn new(bytes: u64) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("duka-{}-{number}", std::process::id());
        let (parent, names) = match Path::new(V1).exists() {
            true => (V1, &V1_NAMES),
            false => (V2, &V2_NAMES),
        };
        let folder = Path::new(parent).join(name);
        fs::create_dir(&folder).context("a memory cgroup")?;
        let group = Self { folder, names };
        fs::write(group.file(names.limit), bytes.to_string())?;
        let swap = group.file(names.swap_limit);
        if swap.exists() {
            let most = if parent == V1 { bytes } else { 0 };
            fs::write(swap, most.to_string())?;
        }
        Ok(group)
    }

    /// A line of shell after which the shell, and what it becomes, is in the group.
    pub fn enter(&self) -> String {
        format!("echo $$ > '{}'", self.file("cgroup.procs").display())
    }

    /// The most memory that the group had, page cache included.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn peak(&self) -> Result<u64> {
        Ok(fs::read_to_string(self.file(self.names.peak))?
            .trim()
            .parse()?)
    }

    /// What the group has now without page cache.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn anonymous(&self) -> Result<u64> {
        self.value("memory.stat", self.names.anonymous)
    }

    /// How many processes were killed for want of memory.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn killed(&self) -> Result<u64> {
        self.value(self.names.killed, "oom_kill")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn value(&self, file: &str, name: &str) -> Result<u64> {
        let text = fs::read_to_string(self.file(file))?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(key, _)| *key == name);
        let (_, value) = found.with_context(|| format!("no {name} in {file}"))?;
        Ok(value.trim().parse()?)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Fails while a process is in it: then it stays, and limits nobody else.
        fs::remove_dir(&self.folder).ok();
    }
}
