//! One download at a time writes to a target: `<out>.duka-lock`, locked as long as its holder lives.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::GetError;
use super::part::failed;

/// The lock of a target. Its file goes with it; the file of a killed process is taken over.
#[derive(Debug)]
pub(super) struct TargetLock {
    path: PathBuf,
    _file: File,
}

impl TargetLock {
    /// Takes the lock of `out`, which is `name` in `parent`, without waiting.
    pub(super) fn take(parent: &Path, name: &OsStr, out: &Path) -> Result<Self, GetError> {
        let mut lock_name = name.to_owned();
        lock_name.push(".duka-lock");
        let path = parent.join(lock_name);
        loop {
            let file = open(&path).map_err(|source| failed(&path, source))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(GetError::Locked {
                        path: out.to_owned(),
                    });
                }
                // A file system without locks: better a download than none.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(source)) => return Err(failed(&path, source)),
            }
            let links = file
                .metadata()
                .map_err(|source| failed(&path, source))?
                .nlink();
            // Its last holder removed it after it was opened here.
            if links > 0 {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for TargetLock {
    /// Removed while it is still locked: afterwards it could be another's.
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a lock file stays");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0))
        .open(path)
}
