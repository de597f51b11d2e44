//! The DAG of a CID against what is on disk.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cid::Cid;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};

use super::{Difference, Kind, OnProgress, Verdict, VerifyError, Way, failed};
use crate::block::RAW;
use crate::blocking::blocking;
use crate::dag::unixfs::{FileNode, UnixFs};
use crate::dag::{DagError, read};
use crate::get::leaf::matching;
use crate::source::BlockSource;

/// Entries of a whole tree, and of one folder on disk.
const MAX_ENTRIES: usize = 1 << 20;
/// Levels of directories, and of nodes in one file.
const MAX_DEPTH: usize = 256;
/// Pieces of a file that are read at a time.
const AT_A_TIME: usize = 8;

/// Compares the tree under `root` with what is at `top`.
pub(super) async fn compare<S: BlockSource + Clone>(
    source: &S,
    top: &Path,
    root: Cid,
    progress: &OnProgress,
) -> Result<Verdict, VerifyError> {
    let mut run = Run {
        source,
        top,
        progress,
        bytes: 0,
        entries: 0,
        differences: Vec::new(),
    };
    let mut todo = vec![Entry {
        cid: root,
        path: PathBuf::new(),
        depth: 0,
    }];
    while let Some(entry) = todo.pop() {
        todo.extend(run.entry(entry).await?);
    }
    let Run {
        bytes,
        mut differences,
        ..
    } = run;
    differences.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(Verdict {
        way: Way::Tree,
        bytes,
        differences,
    })
}

/// A node of the tree, and its place.
struct Entry {
    cid: Cid,
    path: PathBuf,
    depth: usize,
}

struct Run<'a, S> {
    source: &'a S,
    top: &'a Path,
    progress: &'a OnProgress,
    bytes: u64,
    entries: usize,
    differences: Vec<Difference>,
}

/// What is on disk.
enum OnDisk {
    File { len: u64 },
    Folder(HashSet<OsString>),
    Symlink(Vec<u8>),
    Other,
}

impl<S: BlockSource + Clone> Run<'_, S> {
    /// Compares one entry, and returns what is below it.
    async fn entry(&mut self, entry: Entry) -> Result<Vec<Entry>, VerifyError> {
        let at = below(self.top, &entry.path);
        let place = at.clone();
        let Some(on_disk) = blocking(move || look(&place)).await? else {
            self.difference(&entry.path, Kind::Missing);
            return Ok(Vec::new());
        };
        let same = if entry.cid.codec() == RAW {
            match on_disk {
                OnDisk::File { len } => self.piece(&at, entry.cid, 0, len).await?,
                _ => false,
            }
        } else {
            match (read::load(self.source, &entry.cid).await?, on_disk) {
                (UnixFs::File(node), OnDisk::File { len }) if node.size == len => {
                    self.file(&at, node).await?
                }
                (UnixFs::Symlink { target }, OnDisk::Symlink(found)) => target == found,
                (UnixFs::Directory(_) | UnixFs::Shard(_), OnDisk::Folder(names)) => {
                    return self.folder(entry, names).await;
                }
                _ => false,
            }
        };
        if !same {
            self.difference(&entry.path, Kind::Differs);
        }
        Ok(Vec::new())
    }

    /// The entries of a folder; tells what is on disk only.
    async fn folder(
        &mut self,
        folder: Entry,
        mut on_disk: HashSet<OsString>,
    ) -> Result<Vec<Entry>, VerifyError> {
        let mut entries = Vec::new();
        let mut links = read::list(self.source, folder.cid).boxed();
        while let Some(link) = links.try_next().await? {
            self.entries += 1;
            if self.entries > MAX_ENTRIES || folder.depth >= MAX_DEPTH {
                let limit = format!("{MAX_ENTRIES} entries, and {MAX_DEPTH} levels");
                let cid = folder.cid;
                return Err(DagError::Limit { cid, limit }.into());
            }
            let name = OsString::from_vec(link.name);
            let path = folder.path.join(&name);
            // A name that leads elsewhere, or comes twice, is no file of this folder.
            if on_disk.remove(&name) {
                entries.push(Entry {
                    cid: link.cid,
                    path,
                    depth: folder.depth + 1,
                });
            } else {
                self.difference(&path, Kind::Missing);
            }
        }
        for name in on_disk {
            self.difference(&folder.path.join(name), Kind::Added);
        }
        Ok(entries)
    }

    /// Whether the file at `at`, which has the right length, has the bytes of the node.
    async fn file(&mut self, at: &Path, node: FileNode) -> Result<bool, VerifyError> {
        let mut todo = Vec::new();
        if !self.node(at, 0, 0, node, &mut todo).await? {
            return Ok(false);
        }
        while !todo.is_empty() {
            let next = todo.split_off(todo.len().saturating_sub(AT_A_TIME));
            let checks = next.iter().map(|piece: &Piece| is_leaf(at, piece));
            let checked = try_join_all(checks).await?;
            for (piece, is_leaf) in next.into_iter().zip(checked) {
                if is_leaf {
                    self.compared(piece.len);
                    continue;
                }
                if piece.cid.codec() == RAW {
                    return Ok(false);
                }
                let same = match read::load(self.source, &piece.cid).await? {
                    UnixFs::File(node) if node.size == piece.len => {
                        self.node(at, piece.offset, piece.level, node, &mut todo)
                            .await?
                    }
                    _ => false,
                };
                if !same {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Compares the bytes that a node of a file has itself, and adds its children to `todo`.
    async fn node(
        &mut self,
        at: &Path,
        offset: u64,
        level: usize,
        node: FileNode,
        todo: &mut Vec<Piece>,
    ) -> Result<bool, VerifyError> {
        let own = node.data.len() as u64;
        if own > 0 && !has_bytes(at, offset, node.data).await? {
            return Ok(false);
        }
        self.compared(own);
        // An endless chain, or too many pieces: no file that was ever imported.
        if level >= MAX_DEPTH || todo.len() > MAX_ENTRIES {
            return Ok(false);
        }
        let mut start = offset + own;
        for (cid, len) in node.children {
            todo.push(Piece {
                cid,
                offset: start,
                len,
                level: level + 1,
            });
            start += len;
        }
        Ok(true)
    }

    /// Whether the file at `at` is one chunk.
    async fn piece(
        &mut self,
        at: &Path,
        cid: Cid,
        offset: u64,
        len: u64,
    ) -> Result<bool, VerifyError> {
        let piece = Piece {
            cid,
            offset,
            len,
            level: 0,
        };
        let same = is_leaf(at, &piece).await?;
        if same {
            self.compared(len);
        }
        Ok(same)
    }

    fn compared(&mut self, bytes: u64) {
        self.bytes += bytes;
        (self.progress)(self.bytes);
    }

    fn difference(&mut self, path: &Path, kind: Kind) {
        self.differences.push(Difference {
            path: path.to_string_lossy().into_owned(),
            kind,
        });
    }
}

/// A node below the root of a file.
struct Piece {
    cid: Cid,
    offset: u64,
    len: u64,
    level: usize,
}

fn below(top: &Path, path: &Path) -> PathBuf {
    if path == Path::new("") {
        top.to_owned()
    } else {
        top.join(path)
    }
}

/// What is at `at`, if anything.
fn look(at: &Path) -> Result<Option<OnDisk>, VerifyError> {
    let look = || -> io::Result<OnDisk> {
        let found = fs::symlink_metadata(at)?;
        if found.is_dir() {
            let names = fs::read_dir(at)?.take(MAX_ENTRIES);
            let names = names.map(|entry| Ok(entry?.file_name()));
            return Ok(OnDisk::Folder(names.collect::<io::Result<_>>()?));
        }
        if found.is_symlink() {
            let target = fs::read_link(at)?;
            return Ok(OnDisk::Symlink(target.into_os_string().into_vec()));
        }
        if found.is_file() {
            // One that cannot be read is an error, and no difference.
            File::open(at)?;
            return Ok(OnDisk::File { len: found.len() });
        }
        Ok(OnDisk::Other)
    };
    match look() {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(at, error)),
    }
}

async fn is_leaf(at: &Path, piece: &Piece) -> Result<bool, VerifyError> {
    let (at, cid, range) = (at.to_owned(), piece.cid, (piece.offset, piece.len));
    let found = blocking(move || matching(&at, &cid, Some(range))).await;
    Ok(found.is_some())
}

async fn has_bytes(at: &Path, offset: u64, wanted: Bytes) -> Result<bool, VerifyError> {
    let at = at.to_owned();
    blocking(move || {
        let mut found = vec![0; wanted.len()];
        let read = File::open(&at).and_then(|file| file.read_exact_at(&mut found, offset));
        match read {
            Ok(()) => Ok(found == wanted),
            // It became shorter.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(failed(&at, error)),
        }
    })
    .await
}
