//! LAYOUT: which files a data directory has, and in which form → steps from an older layout to the newest.
//!
//! The file `layout` holds the number, as text. A directory that has content and no such file has layout
//! 1. Packs, journals and checkpoints have format versions of their own, and are never rewritten by a step.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::manifest::{self, Manifest};
use crate::node::{blocks_dir, manifest_dir};

/// The file that holds the number.
const FILE: &str = "layout";
/// The layout that is made and used here.
const NEWEST: u32 = 2;
/// The first brings layout 1 to layout 2, the second that to 3. A step is done again when a crash came
/// before its number was written.
const STEPS: [Step; 1] = [forget_manifest_index];

type Step = fn(&Path) -> Result<(), LayoutError>;

/// Why a data directory cannot be used as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// Written by a newer duka.
    #[error(
        "the data directory {} was written by a newer duka (layout {found}; this one knows {NEWEST})",
        data_dir.display()
    )]
    TooNew {
        /// The data directory.
        data_dir: PathBuf,
        /// Its layout.
        found: u32,
    },
    /// There is no number in the file.
    #[error("{} does not hold the number of a layout", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The index of the manifest is to be made anew, and does not follow from what is left.
    #[error(transparent)]
    Manifest(#[from] manifest::RebuildError),
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
}

/// Refuses a data directory of a newer duka.
pub(crate) fn check(data_dir: &Path) -> Result<(), LayoutError> {
    read(data_dir).map(drop)
}

/// Brings a data directory, whose lock the caller holds, to the newest layout. Blocking.
pub(crate) fn bring_up_to_date(disk: &dyn Disk, data_dir: &Path) -> Result<(), LayoutError> {
    let has_content = manifest_dir(data_dir).exists() || blocks_dir(data_dir).exists();
    let layout = match read(data_dir)? {
        Some(layout) => layout,
        None if has_content => 1,
        None => return write(disk, data_dir, NEWEST),
    };
    for (from, step) in (1..).zip(STEPS).filter(|(from, _)| *from >= layout) {
        tracing::info!(data_dir = %data_dir.display(), from, "brings the data directory to the next layout");
        step(data_dir)?;
        write(disk, data_dir, from + 1)?;
    }
    Ok(())
}

/// The index of layout 1 does not tell whether it is whole. It is made anew from journal and checkpoint.
fn forget_manifest_index(data_dir: &Path) -> Result<(), LayoutError> {
    Ok(Manifest::forget_index(&manifest_dir(data_dir))?)
}

fn read(data_dir: &Path) -> Result<Option<u32>, LayoutError> {
    let path = data_dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(LayoutError::Damaged { path });
        }
        Err(source) => return Err(failed("reading", &path)(source)),
    };
    match text.trim_end().parse() {
        Ok(found) if found > NEWEST => Err(LayoutError::TooNew {
            data_dir: data_dir.to_owned(),
            found,
        }),
        Ok(found) if found > 0 => Ok(Some(found)),
        _ => Err(LayoutError::Damaged { path }),
    }
}

fn write(disk: &dyn Disk, data_dir: &Path, layout: u32) -> Result<(), LayoutError> {
    let path = data_dir.join(FILE);
    let temporary = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = disk.open(&temporary, &options).and_then(|file| {
        disk.write_at(&file, format!("{layout}\n").as_bytes(), 0)?;
        disk.sync(&file)?;
        disk.rename(&temporary, &path)?;
        disk.sync_dir(data_dir)
    });
    written.map_err(failed("writing", &path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LayoutError {
    let path = path.to_owned();
    move |source| LayoutError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FileSystem;

    fn layout_of(data_dir: &Path) -> String {
        fs::read_to_string(data_dir.join(FILE)).unwrap()
    }

    #[test]
    fn every_layout_but_the_newest_has_a_step() {
        assert_eq!(STEPS.len(), NEWEST as usize - 1);
    }

    #[test]
    fn a_new_directory_has_the_newest_layout() {
        let dir = tempfile::tempdir().unwrap();
        bring_up_to_date(&FileSystem, dir.path()).unwrap();
        assert_eq!(layout_of(dir.path()), "2\n");
        bring_up_to_date(&FileSystem, dir.path()).unwrap();
        assert_eq!(layout_of(dir.path()), "2\n");
    }

    #[test]
    fn one_of_a_newer_duka_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        for (text, is_newer) in [
            ("3\n", true),
            ("4294967295", true),
            ("0", false),
            ("two", false),
            ("", false),
        ] {
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = bring_up_to_date(&FileSystem, dir.path()).unwrap_err();
            match error {
                LayoutError::TooNew { .. } => assert!(is_newer, "{text:?}"),
                LayoutError::Damaged { .. } => assert!(!is_newer, "{text:?}"),
                error => panic!("{error}"),
            }
            assert_eq!(layout_of(dir.path()), text);
        }
    }

    #[test]
    fn an_index_that_is_the_last_trace_of_a_manifest_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let index = manifest_dir(dir.path()).join("index");
        fs::create_dir_all(&index).unwrap();
        bring_up_to_date(&FileSystem, dir.path()).unwrap_err();
        assert!(index.exists());
        assert!(!dir.path().join(FILE).exists());
    }
}
