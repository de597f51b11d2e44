//! Importing the files again, with the settings that are usual.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cid::{Cid, Version};

use super::{Difference, Kind, OnProgress, Verdict, VerifyError, Way, failed};
use crate::blocking::blocking;
use crate::dag::import::{self, Chunker, ImportOptions, Profile, Sink, import_path};

/// Imports `path` with one setting after another until that gives `cid`.
pub(super) async fn import_again(
    path: &Path,
    cid: Cid,
    progress: OnProgress,
) -> Result<Verdict, VerifyError> {
    let stop = StopOnDrop(Arc::default());
    let stopped = Arc::clone(&stop.0);
    let bytes = AtomicU64::new(0);
    let on_progress: import::OnProgress = Arc::new(move |more| {
        progress(bytes.fetch_add(more, Ordering::Relaxed) + more);
        !stopped.load(Ordering::Relaxed)
    });
    let path = path.to_owned();
    blocking(move || try_all(&path, &cid, &on_progress)).await
}

fn try_all(path: &Path, cid: &Cid, progress: &import::OnProgress) -> Result<Verdict, VerifyError> {
    let hidden = hidden_below(path)?;
    let mut first = None;
    for options in usual(cid, !hidden.is_empty()) {
        let imported = import_path(&Sink::Discard, path, &options, progress)?;
        let left_out = if options.hidden { &[][..] } else { &hidden };
        let verdict = Verdict {
            way: Way::Import {
                found: imported.root,
            },
            bytes: imported.bytes,
            differences: left_out.to_vec(),
        };
        if imported.root == *cid {
            return Ok(verdict);
        }
        first.get_or_insert(verdict);
    }
    let mut first = first.expect("there is at least one setting");
    first.differences.clear();
    Ok(first)
}

/// The profile is known from the CID: version 0 → `unixfs-v0-2015`, version 1 → `unixfs-v1-2025`.
fn usual(cid: &Cid, has_hidden: bool) -> Vec<ImportOptions> {
    let plain = ImportOptions {
        profile: match cid.version() {
            Version::V0 => Profile::UnixfsV0_2015,
            Version::V1 => Profile::UnixfsV1_2025,
        },
        ..ImportOptions::default()
    };
    let hidden = [true, false].into_iter().filter(|all| *all || has_hidden);
    let metadata = [(false, false), (true, true), (true, false), (false, true)];
    let settings = hidden.flat_map(|hidden| {
        metadata.map(|(preserve_mode, preserve_mtime)| ImportOptions {
            hidden,
            preserve_mode,
            preserve_mtime,
            ..plain.clone()
        })
    });
    let chunkers = [None, Some(Chunker::Buzhash)];
    let with = |options: &ImportOptions, chunker| ImportOptions {
        chunker,
        ..options.clone()
    };
    let settings: Vec<_> = settings.collect();
    let all = chunkers
        .iter()
        .flat_map(|chunker| settings.iter().map(move |options| with(options, *chunker)));
    all.collect()
}

/// The topmost entries whose names begin with a dot.
fn hidden_below(top: &Path) -> Result<Vec<Difference>, VerifyError> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(dir) = todo.pop() {
        let at = top.join(&dir);
        if !at.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            continue;
        }
        for entry in std::fs::read_dir(&at).map_err(|source| failed(&at, source))? {
            let entry = entry.map_err(|source| failed(&at, source))?;
            let name = entry.file_name();
            let path = dir.join(&name);
            if name.as_encoded_bytes().starts_with(b".") {
                found.push(Difference {
                    path: path.to_string_lossy().into_owned(),
                    kind: Kind::Added,
                });
            } else {
                todo.push(path);
            }
        }
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Ends an import that nobody waits for any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
