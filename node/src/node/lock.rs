//! The lock of a data directory: one process at a time, and it says who.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::disk::{self, Disk, FileSystem};

/// Longest process id that is read back, in bytes.
const MAX_ID_LEN: u64 = 16;

/// The lock of a data directory, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by {holder}", data_dir.display())]
    Held {
        /// The data directory.
        data_dir: PathBuf,
        /// Process id and command of the holder.
        holder: String,
    },
    /// The directory or the lock file cannot be made.
    #[error("cannot use {}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl DirectoryLock {
    /// Makes the directory (mode 0700) if it is missing, durably, and takes its lock without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that has it.
    pub fn take(data_dir: &Path) -> Result<Self, LockError> {
        Self::take_on(&FileSystem, data_dir)
    }

    /// [`DirectoryLock::take`] on another file system.
    #[doc(hidden)]
    pub fn take_on(disk: &dyn Disk, data_dir: &Path) -> Result<Self, LockError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Io { path, source }
        };
        let path = data_dir.join("lock");
        // The first one to lock it sees to its name.
        if !path.exists() {
            disk::make_dir(disk, data_dir).map_err(failed(data_dir))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = read_holder(&mut file);
                let holder = holder.unwrap_or_else(|_| "another process".to_owned());
                return Err(LockError::Held {
                    data_dir: data_dir.to_owned(),
                    holder,
                });
            }
            Err(errno) => return Err(failed(&path)(errno.into())),
        }
        write_holder(&mut file).map_err(failed(&path))?;
        Ok(Self { _file: file })
    }
}

/// The process id that the holder wrote, and, where the system tells, what it runs. Arguments beyond
/// the command are left out: they may hold what others should not read.
fn read_holder(file: &mut File) -> io::Result<String> {
    let mut id = String::new();
    file.take(MAX_ID_LEN).read_to_string(&mut id)?;
    let id: u32 = id.trim().parse().map_err(io::Error::other)?;
    let command = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .take(2)
        .map(String::from_utf8_lossy)
        .collect();
    Ok(match words.as_slice() {
        [] => format!("process {id}"),
        [program, command] if !command.starts_with('-') => {
            format!("process {id} ({} {command})", base_name(program))
        }
        [program, ..] => format!("process {id} ({})", base_name(program)),
    })
}

fn base_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let lock = DirectoryLock::take(&data_dir).unwrap();
        let Err(LockError::Held { holder, .. }) = DirectoryLock::take(&data_dir) else {
            panic!("the lock was given twice");
        };
        assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        drop(lock);
        DirectoryLock::take(&data_dir).unwrap();
    }
}
