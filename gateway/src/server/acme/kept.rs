//! What is kept of a CA: `acme/<directory>/` in the data directory, for this user only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use duka_node::block::{RAW, cid_of};
use duka_node::blocking::blocking;

/// Files of one CA.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    dir: PathBuf,
}

impl Kept {
    /// Those of the CA whose ACME directory is at that URL.
    pub(super) fn new(data_dir: &Path, directory: &str) -> Self {
        let id = cid_of(RAW, directory.as_bytes()).to_string();
        let id = id.get(id.len().saturating_sub(16)..).unwrap_or(&id);
        Self {
            dir: data_dir.join("acme").join(id),
        }
    }

    /// What a file holds; `None` when there is none.
    pub(super) async fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.dir.join(name);
        blocking(move || match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        })
        .await
    }

    /// Makes or replaces a file, durably.
    pub(super) async fn write(&self, name: &'static str, bytes: Vec<u8>) -> io::Result<()> {
        let dir = self.dir.clone();
        blocking(move || {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            let new = dir.join(".new");
            // One that a crash left may be another's to read.
            forget(&new)?;
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(new, dir.join(name))?;
            File::open(dir)?.sync_all()
        })
        .await
    }

    pub(super) async fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        blocking(move || forget(&path)).await
    }
}

fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
