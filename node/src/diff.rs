//! DIFF: what changes from one release of a product to another, from their DAGs alone: nothing is
//! downloaded, and of the files only the inner nodes are read.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::io::{self, BufRead};
use std::iter::Peekable;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::dag::stored::StoredFile;
use crate::ids::{ProductId, Version};
use crate::manifest::ManifestError;
use crate::manifest::record::Release;
use crate::node::Node;
use crate::pin::{Kept, PinError, count_new};
use crate::publish::FileEntry;
use crate::store::Store;

/// How a file changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has other bytes.
    Changed,
    /// Only whether it is executable changed.
    Mode,
}

impl Kind {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
            Self::Mode => "mode",
        }
    }
}

/// A file that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// How.
    pub kind: Kind,
    /// Its path in the release.
    pub path: String,
    /// Bytes that it had.
    pub before: u64,
    /// Bytes that it has.
    pub after: u64,
    /// Bytes of its blocks that neither the older release nor a file listed before it has.
    pub new_bytes: u64,
}

/// What changes in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files that are new.
    pub added: u64,
    /// Files that are gone.
    pub removed: u64,
    /// Files with other bytes, or another mode.
    pub changed: u64,
    /// Files that are the same.
    pub unchanged: u64,
    /// What the newer release has and the older one lacks: what an upgrade downloads.
    pub upgrade: Kept,
    /// Besides that, what a mirror fetches: checksums and release notes.
    pub record_bytes: u64,
    /// Besides all that, what the creator stores: the list of files.
    pub list_bytes: u64,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// A DAG could not be counted.
    #[error(transparent)]
    Count(#[from] PinError),
    /// The manifest failed, or has no such release.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A list of files could not be read.
    #[error("the list of the files of {product} {version} cannot be read")]
    List {
        /// The product.
        product: ProductId,
        /// The version.
        version: Version,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Nobody waits for it any more.
    #[error("the comparison was stopped")]
    Stopped,
}

/// Called with each file that is not the same, in the order of paths. Returns `false` to stop.
pub type OnChange = Arc<dyn Fn(FileChange) -> bool + Send + Sync>;

/// Compares two releases of a product. Remembers about 30 bytes a block.
///
/// # Cancel safety
/// A dropped future ends the comparison.
pub async fn diff(
    node: &Node,
    product: &ProductId,
    [from, to]: [&Version; 2],
    on_change: OnChange,
) -> Result<Totals, DiffError> {
    let stop = node.stop_token().child_token();
    let _ends_with_this_future = stop.clone().drop_guard();
    let read = |version: &Version| -> Result<Side, DiffError> {
        let release = node.manifest().known_release(product, version)?;
        let (product, version) = (product.clone(), version.clone());
        Ok(Side {
            product,
            version,
            release,
        })
    };
    let sides = [read(from)?, read(to)?];
    let (store, runtime) = (node.store().clone(), Handle::current());
    node.blocking(move || {
        let count = Count {
            store,
            runtime,
            stop,
        };
        count.compare(&sides, &on_change)
    })
    .await
}

struct Side {
    product: ProductId,
    version: Version,
    release: Release,
}

struct Count {
    store: Store,
    runtime: Handle,
    stop: CancellationToken,
}

impl Count {
    fn compare(&self, [from, to]: &[Side; 2], on_change: &OnChange) -> Result<Totals, DiffError> {
        let mut seen = HashSet::new();
        self.count(from.release.root, &mut seen)?;

        let mut totals = Totals::default();
        let mut files = [self.files(from).peekable(), self.files(to).peekable()];
        while let Some(pair) = next_pair(&mut files)? {
            let same = |one: &FileEntry, other: &FileEntry| {
                (&one.cid, one.executable) == (&other.cid, other.executable)
            };
            let kind = match &pair {
                (None, _) => Kind::Added,
                (_, None) => Kind::Removed,
                (Some(before), Some(after)) if same(before, after) => {
                    totals.unchanged += 1;
                    continue;
                }
                (Some(before), Some(after)) if before.cid == after.cid => Kind::Mode,
                _ => Kind::Changed,
            };
            *match kind {
                Kind::Added => &mut totals.added,
                Kind::Removed => &mut totals.removed,
                Kind::Changed | Kind::Mode => &mut totals.changed,
            } += 1;
            let (before, after) = pair;
            let new = match &after {
                Some(file) => {
                    let cid = file.cid.parse().map_err(|error| list_error(to, error))?;
                    self.count(cid, &mut seen)?
                }
                None => Kept::default(),
            };
            add(&mut totals.upgrade, new);
            let size = |file: &Option<FileEntry>| file.as_ref().map_or(0, |file| file.size);
            let change = FileChange {
                kind,
                before: size(&before),
                after: size(&after),
                new_bytes: new.bytes,
                path: after.or(before).map(|file| file.path).unwrap_or_default(),
            };
            if !on_change(change) {
                return Err(DiffError::Stopped);
            }
        }
        // What is left are folders.
        add(&mut totals.upgrade, self.count(to.release.root, &mut seen)?);
        for cid in to.release.record.into_iter().chain(to.release.notes) {
            totals.record_bytes += self.count(cid, &mut seen)?.bytes;
        }
        totals.list_bytes = self.count(to.release.file_list, &mut seen)?.bytes;
        Ok(totals)
    }

    fn count(&self, root: cid::Cid, seen: &mut HashSet<u128>) -> Result<Kept, DiffError> {
        let kept = count_new(&self.store, root, true, seen, &self.stop)?;
        match self.stop.is_cancelled() {
            true => Err(DiffError::Stopped),
            false => Ok(kept),
        }
    }

    /// The files of a release, in the order of their paths.
    fn files<'a>(
        &self,
        side: &'a Side,
    ) -> impl Iterator<Item = Result<FileEntry, DiffError>> + use<'a> {
        let list = StoredFile::open(&self.runtime, &self.store, side.release.file_list);
        list.lines().map(move |line| {
            let line = line.map_err(|error| list_error(side, error))?;
            serde_json::from_str(&line).map_err(|error| list_error(side, error))
        })
    }
}

fn list_error(
    side: &Side,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> DiffError {
    DiffError::List {
        product: side.product.clone(),
        version: side.version.clone(),
        source: io::Error::other(error),
    }
}

/// A file of the older release and of the newer one, with the same path.
type Pair = (Option<FileEntry>, Option<FileEntry>);

/// The files with the next path: of the older release, of the newer one, or of both.
fn next_pair<I: Iterator<Item = Result<FileEntry, DiffError>>>(
    [from, to]: &mut [Peekable<I>; 2],
) -> Result<Option<Pair>, DiffError> {
    let order = match (from.peek(), to.peek()) {
        (None, None) => return Ok(None),
        (Some(Ok(before)), Some(Ok(after))) => before.path.cmp(&after.path),
        // What cannot be read comes first.
        (Some(_), None) | (Some(Err(_)), _) => Ordering::Less,
        (None, Some(_)) | (_, Some(Err(_))) => Ordering::Greater,
    };
    let before = if order.is_le() {
        from.next().transpose()?
    } else {
        None
    };
    let after = if order.is_ge() {
        to.next().transpose()?
    } else {
        None
    };
    Ok(Some((before, after)))
}

fn add(total: &mut Kept, more: Kept) {
    total.blocks += more.blocks;
    total.bytes += more.bytes;
    total.missing_blocks += more.missing_blocks;
}
