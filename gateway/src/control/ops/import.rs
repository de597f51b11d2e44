//! What `publish` and `add` share: options, progress with a total.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duka_node::dag::import::{ChunkerError, ImportOptions, OnProgress, Profile, Reflink};
use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::control::event::Progress;
use crate::control::failure::{Code, Failure};
use crate::control::request::{self, Import, Source};
use crate::control::sink::EventSink;

/// An import that is done by then needs no progress bar, and no second look at the files.
const SCAN_AFTER: Duration = Duration::from_millis(300);

/// The node's import options.
pub(super) fn options(import: &Import) -> Result<ImportOptions, Failure> {
    let chunker = import.chunker.as_deref().map(str::parse).transpose();
    let chunker = chunker.map_err(|error: ChunkerError| {
        Failure::of(Code::Usage, &error)
            .hint("the chunkers are size-N, with N bytes from 1 to 2096896, and buzhash")
    })?;
    Ok(ImportOptions {
        profile: profile(import)?.unwrap_or_default(),
        chunker,
        ignore: globs(&import.ignore)?,
        hidden: import.hidden,
        preserve_mode: import.preserve_mode,
        preserve_mtime: import.preserve_mtime,
        in_place: import.in_place,
        reflink: match import.reflink {
            request::Reflink::Auto => Reflink::Auto,
            request::Reflink::Always => Reflink::Always,
            request::Reflink::Never => Reflink::Never,
        },
    })
}

/// The profile that was asked for.
pub(super) fn profile(import: &Import) -> Result<Option<Profile>, Failure> {
    let profiles = [Profile::UnixfsV1_2025, Profile::UnixfsV0_2015];
    let Some(wanted) = &import.profile else {
        return Ok(None);
    };
    let found = profiles
        .into_iter()
        .find(|profile| profile.name() == wanted);
    found.map(Some).ok_or_else(|| {
        let message = format!("{wanted:?} is not an import profile");
        Failure::new(Code::Usage, message)
            .hint("the profiles are unixfs-v1-2025 and unixfs-v0-2015")
    })
}

/// A glob without a slash matches names at any depth, as in `.gitignore`.
fn globs(patterns: &[String]) -> Result<GlobSet, Failure> {
    let bad = |pattern: &str, error: &globset::Error| {
        let message = format!("{pattern:?} is not a glob: {}", error.kind());
        Failure::new(Code::Usage, message).hint("write it like *.tmp or build/**")
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| bad(pattern, &error))?);
        if !pattern.contains('/') {
            let anywhere = format!("**/{pattern}");
            set.add(Glob::new(&anywhere).map_err(|error| bad(pattern, &error))?);
        }
    }
    set.build()
        .map_err(|error| bad(&patterns.join(" "), &error))
}

/// Progress of an import: bytes so far and, after a moment, bytes in all.
#[derive(Clone, Debug)]
pub(super) struct ImportProgress {
    sink: EventSink,
    bytes: Arc<AtomicU64>,
    /// 0 while it is not known.
    total: Arc<AtomicU64>,
}

impl ImportProgress {
    pub(super) fn new(sink: &EventSink) -> Self {
        Self {
            sink: sink.clone(),
            bytes: Arc::default(),
            total: Arc::default(),
        }
    }

    /// What the import calls; stops it when nobody wants the result any more.
    pub(super) fn callback(&self) -> OnProgress {
        let this = self.clone();
        Arc::new(move |more| {
            let bytes = this.bytes.fetch_add(more, Ordering::Relaxed) + more;
            let total = Some(this.total.load(Ordering::Relaxed)).filter(|total| *total >= bytes);
            this.sink.progress(Progress::new(bytes, total));
            !this.sink.is_cancelled()
        })
    }

    /// Runs an import. When it takes long, the sizes of its files are added up meanwhile.
    pub(super) async fn run<T>(
        &self,
        source: &Source,
        options: &ImportOptions,
        import: impl Future<Output = T>,
    ) -> T {
        let scan = async {
            if let Source::Path(path) = source {
                tokio::time::sleep(SCAN_AFTER).await;
                let (path, options, total) = (path.clone(), options.clone(), self.total.clone());
                let scan = tokio::task::spawn_blocking(move || size_of(&path, &options));
                total.store(scan.await.unwrap_or(0), Ordering::Relaxed);
            }
            std::future::pending().await
        };
        tokio::select! {
            done = import => done,
            never = scan => never,
        }
    }
}

/// Bytes of the regular files that an import takes. What cannot be read is left to the import.
fn size_of(top: &Path, options: &ImportOptions) -> u64 {
    let mut total = 0u64;
    let Ok(top) = std::fs::canonicalize(top) else {
        return 0;
    };
    let mut todo = vec![(top, PathBuf::new())];
    while let Some((path, inside)) = todo.pop() {
        let Ok(found) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if found.is_file() {
            total = total.saturating_add(found.len());
        }
        let entries = found.is_dir().then(|| std::fs::read_dir(&path));
        for entry in entries.into_iter().flatten().flatten().flatten() {
            let name = entry.file_name();
            let inside = inside.join(&name);
            let hidden = name.as_encoded_bytes().starts_with(b".") && !options.hidden;
            if !hidden && !options.ignore.is_match(&inside) {
                todo.push((entry.path(), inside));
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glob_without_slash_matches_at_any_depth() {
        let set = globs(&["*.tmp".into(), "cache".into(), "a/b".into()]).unwrap();
        assert!(set.is_match("x.tmp") && set.is_match("d/x.tmp"));
        assert!(set.is_match("cache") && set.is_match("d/e/cache"));
        assert!(set.is_match("a/b") && !set.is_match("x/a/b"));
        assert_eq!(globs(&["[".into()]).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn size_leaves_out_what_the_import_does() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        for (name, len) in [("a", 1), ("d/b", 10), (".hidden", 100), ("d/c.tmp", 1000)] {
            std::fs::write(dir.path().join(name), vec![0; len]).unwrap();
        }
        let mut options = ImportOptions {
            ignore: globs(&["*.tmp".into()]).unwrap(),
            ..ImportOptions::default()
        };
        assert_eq!(size_of(dir.path(), &options), 11);
        options.hidden = true;
        assert_eq!(size_of(dir.path(), &options), 111);
        let link = dir.path().with_extension("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert_eq!(size_of(&link, &options), 111);
        std::fs::remove_file(link).unwrap();
    }
}
