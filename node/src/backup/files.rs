//! Hashing and copying files of a backup.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::disk::{Disk, Sequential};

/// Bytes read and written at once.
const CHUNK: usize = 1 << 20;

/// Why a file was not hashed or copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Reading or writing failed.
    #[error("{action} {} failed", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The node stops, or nobody waits any more.
    #[error("it was stopped")]
    Stopped,
}

impl FileError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Is told how many bytes are done, and how many there are in all.
pub type Progress<'a> = dyn Fn(u64, u64) + 'a;

/// How far it is, and whether to go on.
pub(crate) struct Meter<'a> {
    pub(crate) stop: &'a CancellationToken,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) progress: &'a Progress<'a>,
}

impl Meter<'_> {
    fn add(&mut self, bytes: usize) -> Result<(), FileError> {
        if self.stop.is_cancelled() {
            return Err(FileError::Stopped);
        }
        self.done += bytes as u64;
        (self.progress)(self.done.min(self.total), self.total);
        Ok(())
    }
}

/// Length and SHA-256 of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) bytes: u64,
    /// In hex.
    pub(crate) sha256: String,
}

impl Sum {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(bytes)),
        }
    }

    /// Tells one file from another in a name.
    pub(crate) fn short(&self) -> &str {
        self.sha256.get(..16).unwrap_or_default()
    }
}

/// Reads a file to its end.
pub(crate) fn hash(path: &Path, meter: &mut Meter<'_>) -> Result<Sum, FileError> {
    read(path, meter, |_| Ok(()))
}

/// Copies a file to a new one, durably but for its name.
pub(crate) fn copy(
    disk: &dyn Disk,
    from: &Path,
    to: &Path,
    meter: &mut Meter<'_>,
) -> Result<Sum, FileError> {
    let failed = |source| FileError::io("writing", to, source);
    let file = create(disk, to).map_err(failed)?;
    let mut writer = Sequential { disk, file, at: 0 };
    let sum = read(from, meter, |bytes| writer.write_all(bytes).map_err(failed))?;
    disk.sync(&writer.file).map_err(failed)?;
    Ok(sum)
}

/// Writes a file, durably but for its name.
pub(crate) fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let written = create(disk, path).and_then(|file| {
        disk.write_at(&file, bytes, 0)?;
        disk.sync(&file)
    });
    written.map_err(|source| FileError::io("writing", path, source))
}

fn create(disk: &dyn Disk, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    disk.open(path, &options)
}

fn read(
    path: &Path,
    meter: &mut Meter<'_>,
    mut each: impl FnMut(&[u8]) -> Result<(), FileError>,
) -> Result<Sum, FileError> {
    let failed = |source| FileError::io("reading", path, source);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        hasher.update(&buffer[..read]);
        each(&buffer[..read])?;
        bytes += read as u64;
        meter.add(read)?;
    }
    Ok(Sum {
        bytes,
        sha256: hex::encode(hasher.finalize()),
    })
}
