//! Denylists in the compact format (IPIP-383): what this node gives to nobody.
//!
//! `header.rs` reads the head of a file, `line.rs` its lines, `rules.rs` answers, `files.rs` finds the
//! files. [`Denylists::refresh`] reads them again when one of them changed.

mod files;
mod header;
mod line;
mod rules;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cid::Cid;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use self::files::Stamp;
use self::header::{Header, HeaderError};
use self::line::LineError;
pub use self::rules::{Denied, Status};
use self::rules::{RootRef, Rules};
use crate::blocking::blocking;
use crate::dag::path::{ContentPath, Root};

/// How often it is looked whether a file changed.
pub(crate) const POLL: Duration = Duration::from_secs(5);
/// A header that is not at its end by then is none (IPIP-383).
const MAX_HEADER: usize = 1 << 20;
/// Longest line (IPIP-383).
const MAX_LINE: u64 = 2 << 20;
/// Lines of a file that are told to be no rules; others are counted.
const MAX_TOLD: u64 = 20;

/// The denylists of a node. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Denylists {
    /// `None` when none are configured.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    /// Files and directories, as configured.
    paths: Vec<PathBuf>,
    rules: RwLock<Arc<Rules>>,
    seen: Mutex<Seen>,
}

/// What was there when it was looked last.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Files(Vec<Stamp>),
    /// They could not be listed, for this reason.
    Failed(String),
}

/// Why denylists cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DenylistError {
    /// A file or directory cannot be read.
    #[error("the denylist {} cannot be read", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It says that it is something else.
    #[error("the denylist {} cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There are more than 65,536 files.
    #[error("there are more than 65,536 denylists")]
    TooMany,
}

impl Denylists {
    /// Reads the lists at `paths`, later ones overriding earlier ones: files, and directories of files
    /// named `*.deny`, which are read in alphabetical order. Blocking.
    ///
    /// # Errors
    /// The first that cannot be used. Lines that are no rules are logged and left out.
    pub fn load(paths: &[impl AsRef<Path>]) -> Result<Self, DenylistError> {
        if paths.is_empty() {
            return Ok(Self::default());
        }
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.as_ref().to_owned()).collect();
        let files = files::list(&paths)?;
        let rules = read(&files)?;
        Ok(Self {
            shared: Some(Arc::new(Shared {
                paths,
                rules: RwLock::new(Arc::new(rules)),
                seen: Mutex::new(Seen::Files(files)),
            })),
        })
    }

    /// Whether none are configured.
    pub fn is_empty(&self) -> bool {
        self.shared.is_none()
    }

    /// Whether a path is denied as it stands, before anything is resolved.
    pub fn check(&self, path: &ContentPath) -> Option<Denied> {
        let rules = self.rules()?;
        let below = path.segments.join("/");
        match &path.root {
            Root::Cid(cid) => rules.check(&RootRef::Content(cid), &below),
            Root::Name(name) => rules.check(&RootRef::Key(name.cid()), &below),
            Root::Domain(domain) => {
                let domain = domain.to_ascii_lowercase();
                rules.check(&RootRef::Domain(&domain), &below)
            }
        }
    }

    /// Whether a block is denied, wherever it is linked.
    pub fn check_block(&self, cid: &Cid) -> Option<Denied> {
        self.rules()?.check(&RootRef::Content(cid), "")
    }

    /// Lists that never change.
    fn of(rules: Rules) -> Self {
        Self {
            shared: Some(Arc::new(Shared {
                paths: Vec::new(),
                rules: RwLock::new(Arc::new(rules)),
                seen: Mutex::new(Seen::Files(Vec::new())),
            })),
        }
    }

    fn rules(&self) -> Option<Arc<Rules>> {
        let shared = self.shared.as_ref()?;
        Some(Arc::clone(&shared.rules.read()))
    }

    /// Reads the files again when one of them changed, came or went. What cannot be used is logged once,
    /// and the old rules stay. Blocking.
    pub fn refresh(&self) {
        let Some(shared) = &self.shared else {
            return;
        };
        let listed = files::list(&shared.paths);
        let found = match &listed {
            Ok(files) => Seen::Files(files.clone()),
            Err(error) => Seen::Failed(error.to_string()),
        };
        {
            let mut seen = shared.seen.lock();
            if *seen == found {
                return;
            }
            *seen = found;
        }
        match listed.and_then(|files| read(&files)) {
            Ok(rules) => *shared.rules.write() = Arc::new(rules),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the denylists stay as they were");
            }
        }
    }

    /// Keeps the rules up to date until the node stops: looks for changes after each `pause`.
    pub(crate) async fn run(self, pause: Duration, stop: CancellationToken) {
        if self.shared.is_none() {
            return;
        }
        loop {
            let pause = tokio::time::sleep(pause);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            let lists = self.clone();
            blocking(move || lists.refresh()).await;
        }
    }
}

fn read(files: &[Stamp]) -> Result<Rules, DenylistError> {
    let started = Instant::now();
    let mut rules = Rules::default();
    for Stamp { path, .. } in files {
        let unreadable = |source| DenylistError::Unreadable {
            path: path.clone(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        let invalid = read_list(&mut rules, path, file).map_err(|error| match error {
            ListError::Io(source) => unreadable(source),
            ListError::Header(reason) => DenylistError::Unusable {
                path: path.clone(),
                reason: reason.to_string(),
            },
            ListError::TooMany => DenylistError::TooMany,
        })?;
        if invalid > MAX_TOLD {
            tracing::warn!(file = %path.display(), lines = invalid, "lines of a denylist are no rules");
        }
    }
    rules.finish();
    let (count, took) = (rules.count(), started.elapsed());
    tracing::info!(
        files = files.len(),
        rules = count,
        ?took,
        "denylists were read"
    );
    Ok(rules)
}

#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("too many lists")]
    TooMany,
}

/// Adds the rules of one list. The number of lines that are no rules.
fn read_list(rules: &mut Rules, path: &Path, mut list: impl Read) -> Result<u64, ListError> {
    let mut start = Vec::new();
    list.by_ref()
        .take(MAX_HEADER as u64)
        .read_to_end(&mut start)?;
    let (header, body) = split_header(&start);
    let mut number = start[..body].iter().filter(|byte| **byte == b'\n').count() as u64;
    let header = match header {
        Some(yaml) => header::read(&String::from_utf8_lossy(yaml))?,
        None => Header::default(),
    };
    let name = header.name.unwrap_or_else(|| {
        let file = path.file_name().unwrap_or(path.as_os_str());
        file.to_string_lossy().into_owned()
    });
    let id = rules.begin_list(&name).map_err(|_| ListError::TooMany)?;
    let default = header.status.unwrap_or_default();

    let mut lines = BufReader::new(Cursor::new(&start[body..]).chain(list));
    let mut line = Vec::new();
    let mut invalid = 0;
    while next_line(&mut lines, &mut line)? {
        number += 1;
        let parsed = match std::str::from_utf8(&line) {
            _ if line.len() as u64 > MAX_LINE => Err(LineError::Length),
            Ok(text) => line::parse(text),
            Err(_) => Err(LineError::Text),
        };
        match parsed {
            Ok(Some(parsed)) => rules.add(id, parsed, default),
            Ok(None) => {}
            Err(error) => {
                invalid += 1;
                if invalid <= MAX_TOLD {
                    tracing::warn!(file = %path.display(), line = number, %error, "no rule");
                }
            }
        }
    }
    Ok(invalid)
}

/// The header, if there is one, and where what follows it begins.
fn split_header(start: &[u8]) -> (Option<&[u8]>, usize) {
    let mut at = 0;
    for line in start.split_inclusive(|byte| *byte == b'\n') {
        if line.trim_ascii_end() == b"---" {
            return (Some(&start[..at]), at + line.len());
        }
        at += line.len();
    }
    (None, 0)
}

/// Reads a line; of one that is too long the first bytes. `false` at the end.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = lines.by_ref().take(MAX_LINE + 1).read_until(b'\n', line)?;
    if line.len() as u64 > MAX_LINE && line.last() != Some(&b'\n') {
        lines.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

/// Reads a list of any bytes, and asks for what its lines name: a rule that is not taken back denies.
///
/// # Panics
/// When the answer is wrong.
pub fn fuzz(bytes: &[u8]) {
    let mut rules = Rules::default();
    if read_list(&mut rules, Path::new("fuzz.deny"), bytes).is_err() {
        return;
    }
    rules.finish();
    let text = String::from_utf8_lossy(bytes);
    assert!(rules.count() <= 2 * text.lines().count(), "{rules:?}");
    let takes_back = text.contains('!');
    let lists = Denylists::of(rules);
    let (_, body) = split_header(bytes);
    for line in String::from_utf8_lossy(&bytes[body..]).lines().take(16) {
        let is_plain = !line.contains(['%', char::REPLACEMENT_CHARACTER]);
        let is_rule = is_plain && matches!(line::parse(line), Ok(Some(_)));
        let plain = line.split_ascii_whitespace().next().unwrap_or_default();
        let asked = plain.trim_end_matches('*');
        if let Ok(path) = ContentPath::parse(asked)
            && plain.starts_with("/ip")
            && !plain.contains("//")
        {
            let denied = lists.check(&path);
            assert!(denied.is_some() || takes_back || !is_rule, "{line:?}");
        }
    }
}

#[cfg(test)]
mod tests;
