//! `backup.json`: what a backup consists of. It is written last, so a backup is what the list of its
//! folder names, and whatever else lies there is none.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::disk::{Disk, Sequential};

/// The list's file.
pub(super) const FILE: &str = "backup.json";
/// Format of the lists written here, and the newest that is read.
const FORMAT: u64 = 1;
/// Longest list that is read, in bytes: that of 100,000 packs.
const MAX_LEN: u64 = 64 << 20;

/// What a backup consists of. A new field is a new format: what is not known here is not under the
/// checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Version of the duka that made it.
    pub duka: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The shop's name.
    pub shop: String,
    /// The encrypted keys; `None` when they were left out.
    pub keys: Option<Listed>,
    /// Everything else.
    pub files: Vec<Placed>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its path in the backup.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}

/// A file of a backup, and its path in a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// Its path in the data directory.
    pub to: String,
    /// The file.
    pub source: Listed,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The folder has none.
    #[error("there is no backup in {}", dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// It is not what was written.
    #[error("the list {} of the backup is damaged", path.display())]
    Damaged {
        /// The list.
        path: PathBuf,
    },
    /// Written by a newer duka.
    #[error("the backup {} was made by a newer duka (format {found}; this one knows {known})", path.display())]
    TooNew {
        /// The list.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest known here.
        known: u64,
    },
    /// Reading failed.
    #[error("reading {} failed", path.display())]
    Io {
        /// The list.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// What every format has.
#[derive(Deserialize)]
struct Versioned {
    format: u64,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: u64,
    /// Of the list, as this struct is written.
    sha256: String,
    list: List,
}

impl List {
    /// Reads the list of the backup in `dir`.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn read(dir: &Path) -> Result<Self, ListError> {
        let path = dir.join(FILE);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(MAX_LEN).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            Err(error) if is_not_there(&error) => {
                let dir = dir.to_owned();
                return Err(ListError::Missing { dir });
            }
            Err(source) => return Err(ListError::Io { path, source }),
        }
        let found = serde_json::from_slice(&bytes).map(|Versioned { format }| format);
        match found {
            Ok(found) if found > FORMAT => {
                let known = FORMAT;
                return Err(ListError::TooNew { path, found, known });
            }
            _ => {}
        }
        let document = serde_json::from_slice(&bytes).ok();
        document
            .filter(|Document { sha256, list, .. }| *sha256 == list.checksum())
            .map(|document| document.list)
            .filter(Self::has_plain_paths)
            .ok_or(ListError::Damaged { path })
    }

    /// Makes this the list of the backup in `dir`, durably. What it names is durable.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let document = Document {
            format: FORMAT,
            sha256: self.checksum(),
            list: self.clone(),
        };
        let mut bytes = serde_json::to_vec_pretty(&document)?;
        bytes.push(b'\n');
        let path = dir.join(FILE);
        let unfinished = path.with_extension("json.tmp");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let file = disk.open(&unfinished, &options)?;
        let mut writer = Sequential { disk, file, at: 0 };
        writer.write_all(&bytes)?;
        disk.sync(&writer.file)?;
        disk.rename(&unfinished, &path)?;
        disk.sync_dir(dir)
    }

    /// All files.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Listed> {
        self.keys
            .iter()
            .chain(self.files.iter().map(|placed| &placed.source))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.all().map(|listed| listed.bytes).sum()
    }

    fn checksum(&self) -> String {
        let bytes = serde_json::to_vec(self).expect("a list has string keys");
        hex::encode(Sha256::digest(bytes))
    }

    fn has_plain_paths(&self) -> bool {
        let to = self.files.iter().map(|placed| &placed.to);
        self.all()
            .map(|listed| &listed.file)
            .chain(to)
            .all(|path| is_plain(Path::new(path)))
    }
}

/// Whether a path stays below the folder that it is joined to.
fn is_plain(path: &Path) -> bool {
    let mut components = path.components().peekable();
    components.peek().is_some() && components.all(|c| matches!(c, Component::Normal(_)))
}

fn is_not_there(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FileSystem;

    fn list() -> List {
        let listed = |file: &str| Listed {
            file: file.to_owned(),
            bytes: 12,
            sha256: "00".repeat(32),
        };
        List {
            duka: "1.0.0".to_owned(),
            created: "2026-11-21T00:00:00Z".to_owned(),
            shop: "k51".to_owned(),
            keys: Some(listed("keys/one.age")),
            files: vec![Placed {
                to: "blocks/packs/kept-00000001.car".to_owned(),
                source: listed("packs/one.car"),
            }],
        }
    }

    #[test]
    fn a_list_reads_back_and_every_flipped_bit_of_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            List::read(dir.path()),
            Err(ListError::Missing { .. })
        ));
        list().write(&FileSystem, dir.path()).unwrap();
        assert_eq!(List::read(dir.path()).unwrap(), list());
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            std::fs::write(&path, &flipped).unwrap();
            match List::read(dir.path()) {
                // Between words any white space does.
                Ok(read) => {
                    assert_eq!(read, list());
                    assert!(whole[at].is_ascii_whitespace(), "byte {at}");
                }
                Err(ListError::Damaged { .. } | ListError::TooNew { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        for bad in ["../x", "/etc/x", "a/../../x", "", "./x"] {
            let dir = tempfile::tempdir().unwrap();
            let mut list = list();
            bad.clone_into(&mut list.files[0].to);
            list.write(&FileSystem, dir.path()).unwrap();
            let read = List::read(dir.path());
            assert!(matches!(read, Err(ListError::Damaged { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), r#"{"format": 2, "parts": []}"#).unwrap();
        let error = List::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("newer duka (format 2"), "{error}");
    }
}
