//! GET: a reference → verified blocks from gateways and peers → whole files on disk, or nothing.
//!
//! The tree is taken apart node by node, depth first, with at most `window` blocks and 16 MiB under
//! way: a run that is killed loses no more, whatever it had. Each piece of a file is written to its place in `<out>.duka-part` as it arrives; symbolic links come
//! last, so that nothing is ever written through one. At the end everything is synced and renamed.

pub(crate) mod leaf;
mod lock;
mod old;
mod part;
mod record;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use self::old::Cut;
use self::part::Part;
use self::record::Record;
use crate::block::{MAX_BLOCK_LEN, RAW};
use crate::blocking::blocking;
use crate::dag::DagError;
use crate::dag::hamt::prefix_len;
use crate::dag::unixfs::{self, FileNode, Link, Metadata, ShardNode, UnixFs};
use crate::human::printable;
use crate::rate::Rate;
use crate::source::{BlockSource, Obtained};

/// Entries of a whole tree, shards of directories included.
const MAX_ENTRIES: usize = 1 << 20;
/// Levels of directories, and of nodes in one file or HAMT.
const MAX_DEPTH: usize = 256;
/// Length of most blocks of a file.
const USUAL_BLOCK_LEN: u64 = 1 << 20;
/// Length of a block that only links to others, about.
const LINKING_BLOCK_LEN: u64 = 64 << 10;
/// Bytes under way at a time, about: what a run that is killed loses.
const MAX_UNDER_WAY: u64 = 16 << 20;
/// Longest file name on common file systems, in bytes.
const MAX_NAME_LEN: usize = 255;

/// How to write what was fetched.
#[derive(Clone, Debug, Default)]
pub struct GetOptions {
    /// Write into an existing folder: files that differ are replaced, others stay.
    pub update: bool,
    /// Start over instead of using what an interrupted `get` left.
    pub restart: bool,
    /// Files and folders that may have parts of it, such as what another program began to download.
    pub from: Vec<PathBuf>,
    /// Blocks in flight.
    pub window: usize,
    /// What the record of a release says of its files; all of them, or nothing is written.
    pub record: Option<Vec<RecordedFile>>,
    /// Bytes a second that may come over the network; `None` is without limit.
    pub rate: Option<u64>,
}

/// What the record of a release says of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedFile {
    /// Path below the target, segments joined by `/`; empty for the target itself.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Whether it gets execute permission.
    pub executable: bool,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct Got {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that came over the network.
    pub fetched: u64,
    /// Bytes that were already on this disk, from an interrupted run or an older version.
    pub reused: u64,
}

/// Called with bytes verified so far and bytes in all, once known.
pub type OnProgress = std::sync::Arc<dyn Fn(u64, Option<u64>) + Send + Sync>;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The DAG could not be fetched or read.
    #[error(transparent)]
    Dag(#[from] DagError),
    /// The target exists.
    #[error("{} exists already", shown(path))]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// A folder would replace something else, or something else a folder.
    #[error("{} is {there}, and {wanted} would take its place", shown(path))]
    Conflict {
        /// The place in the target.
        path: PathBuf,
        /// What is there.
        there: &'static str,
        /// What the tree has there.
        wanted: &'static str,
    },
    /// The record of the release and its files differ.
    #[error(
        "the record of the release and its files differ: {what} {}",
        named(path)
    )]
    Record {
        /// The file, below the target.
        path: PathBuf,
        /// How they differ.
        what: &'static str,
    },
    /// Another download has the target.
    #[error("another download writes to {}", shown(path))]
    Locked {
        /// The target.
        path: PathBuf,
    },
    /// A folder of the DAG has two entries of one name.
    #[error("the folder has two entries named {}", named(path))]
    Twice {
        /// The place of both, below the target.
        path: PathBuf,
    },
    /// A name in the DAG would leave the target folder, or cannot be a file name here.
    #[error("the entry {name:?} cannot be written as a file name")]
    Name {
        /// The name.
        name: String,
    },
    /// The disk is full.
    #[error("the disk holding {} has no room for {needed} bytes", shown(path))]
    Full {
        /// The target.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
    },
    /// Writing failed.
    #[error("writing {} failed", shown(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// Fetches the UnixFS tree under `root` to `out`: everything is written beside it and renamed at the
/// end, so that `out` is whole or absent. What an interrupted run left is verified by hash and reused.
///
/// With `update` an existing folder is brought up to date file by file instead; what is in it besides
/// stays. Then the whole tree is looked at before any content comes, so that a folder in the place of
/// a file, or a file in that of a folder, is found while nothing is written yet.
///
/// # Cancel safety
/// A dropped future leaves `<out>.duka-part`, from which the next run goes on; `<out>.duka-lock` goes
/// with the last write that is under way.
pub async fn get<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    out: &Path,
    options: &GetOptions,
    progress: OnProgress,
) -> Result<Got, GetError> {
    let part = {
        let (out, options) = (out.to_owned(), options.clone());
        Arc::new(blocking(move || Part::open(&out, &options)).await?)
    };
    let mut run = Run {
        out: out.to_owned(),
        free: part.free_bytes()?,
        record: options.record.as_ref().map(|files| Record::new(files)),
        progress,
        entries: HashSet::new(),
        dir_nodes: 0,
        planned: 0,
        total: None,
        finish: Finish::default(),
        got: Got::default(),
    };
    run.expect_record()?;
    let rate = options.rate.map(Rate::new);
    let window = window(options);
    let fetched = fetch(source, root, &part, &mut run, window, rate.as_ref()).await;
    let checked = match (fetched, run.record.take()) {
        (Ok(()), Some(record)) => {
            let part = Arc::clone(&part);
            blocking(move || record.check(|path| part.sha256(path))).await
        }
        (fetched, _) => fetched,
    };
    let is_in_vain = match &checked {
        Err(GetError::Conflict { .. } | GetError::Record { .. }) => true,
        Err(GetError::Full { .. }) => run.got.bytes == 0,
        _ => false,
    };
    if is_in_vain {
        let part = Arc::clone(&part);
        blocking(move || part.discard()).await?;
    }
    checked?;

    let Run {
        got,
        progress,
        finish,
        entries,
        ..
    } = run;
    blocking(move || part.finish(&finish, &entries)).await?;
    progress(got.bytes, Some(got.bytes));
    Ok(got)
}

/// Blocks under way at a time: with a limit as many as come within a second or two.
fn window(options: &GetOptions) -> usize {
    let window = options.window.max(1);
    let Some(rate) = options.rate else {
        return window;
    };
    let least = rate / USUAL_BLOCK_LEN + 1;
    usize::try_from(least).map_or(window, |least| window.min(least))
}

/// Brings everything below `root` into the part, `window` blocks at a time.
async fn fetch<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    part: &Arc<Part>,
    run: &mut Run,
    window: usize,
    rate: Option<&Rate>,
) -> Result<(), GetError> {
    if root.codec() == RAW {
        let part = Arc::clone(part);
        blocking(move || part.check_place(Path::new(""), false)).await?;
    }
    let mut waiting = Waiting::new(part.is_update());
    waiting.push(vec![Item::Node {
        cid: root,
        path: PathBuf::new(),
        claimed: LINKING_BLOCK_LEN,
        depth: 0,
    }]);
    let mut under_way = FuturesUnordered::new();
    let mut bytes_under_way = 0;
    loop {
        while under_way.len() < window
            && bytes_under_way < MAX_UNDER_WAY
            && let Some(item) = waiting.pop()
        {
            bytes_under_way += item.block_len();
            under_way.push(arrive(source.clone(), Arc::clone(part), item, rate));
        }
        let Some(arrived) = under_way.next().await else {
            return Ok(());
        };
        let (item, arrived) = arrived?;
        bytes_under_way -= item.block_len();
        waiting.arrived(&item);
        waiting.push(run.take(item, arrived)?);
    }
}

/// What is still to be had, depth first. In an update all structure comes before any content.
struct Waiting {
    structure_first: bool,
    next: Vec<Item>,
    /// What waits for the structure.
    content: Vec<Item>,
    structure_under_way: usize,
}

impl Waiting {
    fn new(structure_first: bool) -> Self {
        Self {
            structure_first,
            next: Vec::new(),
            content: Vec::new(),
            structure_under_way: 0,
        }
    }

    /// Adds the children of one node; the first is taken first.
    fn push(&mut self, items: Vec<Item>) {
        for item in items.into_iter().rev() {
            if self.structure_first && item.is_content() {
                self.content.push(item);
            } else {
                self.next.push(item);
            }
        }
    }

    fn pop(&mut self) -> Option<Item> {
        if let Some(item) = self.next.pop() {
            self.structure_under_way += usize::from(!item.is_content());
            return Some(item);
        }
        if self.structure_under_way == 0 {
            return self.content.pop();
        }
        None
    }

    fn arrived(&mut self, item: &Item) {
        self.structure_under_way -= usize::from(!item.is_content());
    }
}

/// Something of the tree that is still to be had.
#[derive(Debug)]
enum Item {
    /// A file, directory or symlink: only its block tells.
    Node {
        cid: Cid,
        path: PathBuf,
        /// Bytes of it and all below, as its parent claims.
        claimed: u64,
        depth: usize,
    },
    /// A part of a HAMT directory.
    Shard {
        cid: Cid,
        dir: PathBuf,
        /// Level of the directory in the tree, and of the shard in the directory.
        depth: usize,
        level: usize,
    },
    /// A node below the root of a file: `len` bytes at `offset`.
    Piece {
        cid: Cid,
        file: PathBuf,
        offset: u64,
        len: u64,
        level: usize,
        /// How the file was cut, as far as its nodes tell.
        cut: Option<Cut>,
    },
}

/// How an item came. File bytes of its own are in their place already.
#[derive(Debug)]
enum Arrived {
    /// All its bytes were on this disk and hash to its CID.
    Reused(u64),
    /// From the source, in a block of so many bytes.
    Read {
        node: UnixFs,
        /// Bytes of its block.
        len: u64,
        from_outside: bool,
    },
}

/// What is left to do when all bytes are there, by path below the target.
#[derive(Debug, Default)]
struct Finish {
    symlinks: Vec<(PathBuf, Bytes)>,
    /// Parents come before their children.
    metadata: Vec<(PathBuf, Metadata)>,
    executables: Vec<PathBuf>,
}

/// Finds the bytes of an item on this disk, or fetches its block and writes what it holds of a file.
async fn arrive<S: BlockSource>(
    source: S,
    part: Arc<Part>,
    item: Item,
    rate: Option<&Rate>,
) -> Result<(Item, Arrived), GetError> {
    if part.has_old()
        && let Some((cid, path, range, cut)) = item.reusable()
        && let Some(len) = blocking({
            let part = Arc::clone(&part);
            move || part.reuse(&cid, &path, range, cut)
        })
        .await?
    {
        return Ok((item, Arrived::Reused(len)));
    }
    let Obtained {
        block,
        from_outside,
    } = source.obtain(item.cid()).await.map_err(DagError::from)?;
    if let Some(rate) = rate.filter(|_| from_outside) {
        rate.take(block.data().len() as u64).await;
    }
    let node = unixfs::decode(&block)?;
    if part.is_update() {
        let places = places(&item, &node)?;
        let part = Arc::clone(&part);
        blocking(move || {
            let mut places = places.iter();
            places.try_for_each(|(path, is_dir)| part.check_place(path, *is_dir))
        })
        .await?;
    }
    match (&item, &node) {
        (Item::Node { path, .. }, UnixFs::File(file)) => {
            part.check_begun(file.size)?;
            let (path, size, data) = (path.clone(), file.size, file.data.clone());
            blocking(move || {
                part.check_beginning(&data)?;
                part.begin_file(&path, size, &data)
            })
            .await?;
        }
        (Item::Node { path, .. }, UnixFs::Directory(_) | UnixFs::Shard(_)) => {
            part.check_not_begun()?;
            let path = path.clone();
            blocking(move || part.begin_dir(&path)).await?;
        }
        (Item::Node { .. }, UnixFs::Symlink { .. }) => part.check_not_begun()?,
        (Item::Shard { .. }, UnixFs::Shard(_)) => {}
        (
            Item::Piece {
                file, offset, len, ..
            },
            UnixFs::File(node),
        ) if node.size == *len => {
            let (file, offset, data) = (file.clone(), *offset, node.data.clone());
            blocking(move || {
                if offset == 0 {
                    part.check_beginning(&data)?;
                }
                part.write(&file, offset, &data)
            })
            .await?;
        }
        _ => {
            return Err(GetError::Dag(DagError::Malformed {
                cid: *item.cid(),
                what: "UnixFS",
                reason: "its kind or size is not what its parent says".to_owned(),
            }));
        }
    }
    let len = block.data().len() as u64;
    Ok((
        item,
        Arrived::Read {
            node,
            len,
            from_outside,
        },
    ))
}

/// What a node says of places in the tree, and whether a folder is there: its own, and those of
/// its entries that are chunks, and so files.
fn places(item: &Item, node: &UnixFs) -> Result<Vec<(PathBuf, bool)>, GetError> {
    let mut places = Vec::new();
    if let Item::Node { path, .. } = item {
        let is_dir = matches!(node, UnixFs::Directory(_) | UnixFs::Shard(_));
        places.push((path.clone(), is_dir));
    }
    let (Item::Node { path: dir, .. } | Item::Shard { dir, .. }) = item else {
        return Ok(places);
    };
    let (links, prefix) = match node {
        UnixFs::Directory(node) => (&node.links, 0),
        UnixFs::Shard(node) => (&node.links, prefix_len(node.fanout)),
        _ => return Ok(places),
    };
    for link in links.iter().filter(|link| link.cid.codec() == RAW) {
        let name = link.name.get(prefix..).unwrap_or_default();
        places.push((dir.join(file_name(name)?), false));
    }
    Ok(places)
}

/// CID, file, which bytes of it (offset and length), `None` for all, and how it was cut.
type Reusable = (Cid, PathBuf, Option<(u64, u64)>, Option<Cut>);

impl Item {
    fn cid(&self) -> &Cid {
        match self {
            Self::Node { cid, .. } | Self::Shard { cid, .. } | Self::Piece { cid, .. } => cid,
        }
    }

    /// Length of its block, as far as can be told before it is there.
    fn block_len(&self) -> u64 {
        let all = match self {
            Self::Node { claimed, .. } => *claimed,
            Self::Shard { .. } => LINKING_BLOCK_LEN,
            Self::Piece { len, .. } => *len,
        };
        if all > MAX_BLOCK_LEN as u64 {
            LINKING_BLOCK_LEN
        } else {
            all
        }
    }

    /// Whether it is bytes of a file, and has nothing to say about what is where.
    fn is_content(&self) -> bool {
        match self {
            Self::Node { cid, .. } => cid.codec() == RAW,
            Self::Shard { .. } => false,
            Self::Piece { .. } => true,
        }
    }

    /// What to look for on this disk.
    fn reusable(&self) -> Option<Reusable> {
        match self {
            Self::Node { cid, path, .. } => Some((*cid, path.clone(), None, Cut::of_whole(cid))),
            Self::Shard { .. } => None,
            Self::Piece {
                cid,
                file,
                offset,
                len,
                cut,
                ..
            } => Some((*cid, file.clone(), Some((*offset, *len)), *cut)),
        }
    }
}

/// What is known of the tree so far.
struct Run {
    out: PathBuf,
    free: u64,
    record: Option<Record>,
    progress: OnProgress,
    /// Every path below the target: none may come twice.
    entries: HashSet<PathBuf>,
    /// Directories, and shards of them.
    dir_nodes: usize,
    /// Bytes of all files met so far.
    planned: u64,
    /// Bytes in all, as the root claims.
    total: Option<u64>,
    finish: Finish,
    got: Got,
}

impl Run {
    /// The record says how much comes, before anything does.
    fn expect_record(&mut self) -> Result<(), GetError> {
        self.total = self.record.as_ref().map(Record::bytes);
        self.check_room()
    }

    /// Takes note of what arrived, and returns what is below it.
    fn take(&mut self, item: Item, arrived: Arrived) -> Result<Vec<Item>, GetError> {
        let node = match arrived {
            Arrived::Reused(len) => {
                if let Item::Node { cid, path, .. } = &item {
                    self.file(cid, path, len, Metadata::default())?;
                }
                self.got.reused += len;
                self.verified(len);
                return Ok(Vec::new());
            }
            Arrived::Read {
                node,
                len,
                from_outside,
            } => {
                match from_outside {
                    true => self.got.fetched += len,
                    false => self.got.reused += len,
                }
                node
            }
        };
        match (item, node) {
            (Item::Node { cid, path, .. }, UnixFs::File(node)) => {
                self.file(&cid, &path, node.size, node.metadata)?;
                self.pieces(cid, &path, 0, 0, None, node)
            }
            (
                Item::Piece {
                    cid,
                    file,
                    offset,
                    level,
                    cut,
                    ..
                },
                UnixFs::File(node),
            ) => self.pieces(cid, &file, offset, level, cut, node),
            (
                Item::Node {
                    cid, path, depth, ..
                },
                UnixFs::Directory(dir),
            ) => {
                self.dir_node(cid)?;
                self.total.get_or_insert_with(|| claimed(&dir.links));
                self.check_room()?;
                let children = self.children(cid, &path, depth, dir.links, 0)?;
                self.finish.metadata.push((path, dir.metadata));
                Ok(children)
            }
            (
                Item::Node {
                    cid, path, depth, ..
                },
                UnixFs::Shard(shard),
            ) => {
                self.total.get_or_insert_with(|| claimed(&shard.links));
                self.check_room()?;
                let metadata = shard.metadata;
                let children = self.shard(cid, &path, depth, 0, shard)?;
                self.finish.metadata.push((path, metadata));
                Ok(children)
            }
            (
                Item::Shard {
                    cid,
                    dir,
                    depth,
                    level,
                },
                UnixFs::Shard(shard),
            ) => self.shard(cid, &dir, depth, level, shard),
            (Item::Node { path, .. }, UnixFs::Symlink { target }) => {
                self.finish.symlinks.push((path, target));
                Ok(Vec::new())
            }
            // `arrive` let nothing else through.
            _ => Ok(Vec::new()),
        }
    }

    fn file(
        &mut self,
        cid: &Cid,
        path: &Path,
        size: u64,
        metadata: Metadata,
    ) -> Result<(), GetError> {
        self.got.files += 1;
        self.planned = self.planned.saturating_add(size);
        self.total.get_or_insert(size);
        self.check_room()?;
        self.finish.metadata.push((path.to_owned(), metadata));
        if let Some(record) = &mut self.record
            && record.file(cid, path, size)?
        {
            self.finish.executables.push(path.to_owned());
        }
        Ok(())
    }

    /// The children of a node of a file whose own bytes are written.
    fn pieces(
        &mut self,
        cid: Cid,
        file: &Path,
        offset: u64,
        level: usize,
        cut: Option<Cut>,
        node: FileNode,
    ) -> Result<Vec<Item>, GetError> {
        check_depth(cid, level)?;
        let own = node.data.len() as u64;
        self.verified(own);
        let mut at = offset.saturating_add(own);
        let cut = Cut::of(&node.children).or(cut);
        let mut pieces = Vec::with_capacity(node.children.len());
        for (child, len) in node.children {
            // An empty child adds nothing, whatever is under its CID.
            if len > 0 {
                pieces.push(Item::Piece {
                    cid: child,
                    file: file.to_owned(),
                    offset: at,
                    len,
                    level: level + 1,
                    cut,
                });
            }
            at = at.saturating_add(len);
        }
        if at != offset.saturating_add(node.size) {
            return Err(GetError::Dag(DagError::Malformed {
                cid,
                what: "UnixFS",
                reason: "its size is not that of its children".to_owned(),
            }));
        }
        Ok(pieces)
    }

    fn shard(
        &mut self,
        cid: Cid,
        dir: &Path,
        depth: usize,
        level: usize,
        shard: ShardNode,
    ) -> Result<Vec<Item>, GetError> {
        check_depth(cid, level)?;
        self.dir_node(cid)?;
        let prefix = prefix_len(shard.fanout);
        let (shards, entries): (Vec<_>, Vec<_>) = shard
            .links
            .into_iter()
            .partition(|link| link.name.len() == prefix);
        let mut items = self.children(cid, dir, depth, entries, prefix)?;
        items.extend(shards.into_iter().map(|link| Item::Shard {
            cid: link.cid,
            dir: dir.to_owned(),
            depth,
            level: level + 1,
        }));
        Ok(items)
    }

    /// The entries of a directory, their names after `prefix` bytes.
    fn children(
        &mut self,
        cid: Cid,
        dir: &Path,
        depth: usize,
        links: Vec<Link>,
        prefix: usize,
    ) -> Result<Vec<Item>, GetError> {
        check_depth(cid, depth)?;
        let mut items = Vec::with_capacity(links.len());
        for link in links {
            let name = link.name.get(prefix..).unwrap_or_default();
            let path = dir.join(file_name(name)?);
            if !self.entries.insert(path.clone()) {
                let path = path.clone();
                return Err(GetError::Twice { path });
            }
            items.push(Item::Node {
                cid: link.cid,
                path,
                claimed: link.tsize,
                depth: depth + 1,
            });
        }
        if self.entries.len() > MAX_ENTRIES {
            return Err(limit(cid, format!("{MAX_ENTRIES} entries")));
        }
        Ok(items)
    }

    fn dir_node(&mut self, cid: Cid) -> Result<(), GetError> {
        self.dir_nodes += 1;
        if self.dir_nodes > MAX_ENTRIES {
            return Err(limit(cid, format!("{MAX_ENTRIES} directory nodes")));
        }
        Ok(())
    }

    fn check_room(&self) -> Result<(), GetError> {
        let needed = self.planned.max(self.total.unwrap_or(0));
        if needed > self.free {
            return Err(GetError::Full {
                path: self.out.clone(),
                needed,
            });
        }
        Ok(())
    }

    fn verified(&mut self, bytes: u64) {
        self.got.bytes += bytes;
        (self.progress)(self.got.bytes, self.total);
    }
}

fn named(path: &Path) -> String {
    match path.to_str() {
        Some("") => "the file".to_owned(),
        _ => shown(path),
    }
}

/// Names in the DAG are whatever somebody chose.
fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

/// Bytes below links, as their author claims.
fn claimed(links: &[Link]) -> u64 {
    links
        .iter()
        .fold(0, |sum, link| sum.saturating_add(link.tsize))
}

fn check_depth(cid: Cid, depth: usize) -> Result<(), GetError> {
    if depth > MAX_DEPTH {
        return Err(limit(cid, format!("{MAX_DEPTH} levels")));
    }
    Ok(())
}

fn limit(cid: Cid, limit: String) -> GetError {
    GetError::Dag(DagError::Limit { cid, limit })
}

/// A name that stays in its directory.
fn file_name(name: &[u8]) -> Result<&OsStr, GetError> {
    let unsafe_name = matches!(name, b"" | b"." | b"..")
        || name.len() > MAX_NAME_LEN
        || name.iter().any(|byte| matches!(byte, b'/' | 0));
    if unsafe_name {
        return Err(bad_name(name));
    }
    Ok(OsStr::from_bytes(name))
}

fn bad_name(name: &[u8]) -> GetError {
    GetError::Name {
        name: String::from_utf8_lossy(name).into_owned(),
    }
}
