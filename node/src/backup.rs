//! BACKUP: check journal and checkpoint → export the manifest → seal the packs → take both into the folder → write its list.
//!
//! Packs that are sealed never change, so they are taken in as hard links where that can be, else as
//! copies. All that an export promises is in packs that are sealed after it; garbage collection has no
//! turn meanwhile. The list is the commit point: until it is written, the folder is the backup before.
//! [`crate::restore`] is the way back; `node/DESIGN.md` has the format.

mod files;
mod folder;
mod list;
mod secret;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::disk::{Disk, FileSystem};
use crate::keys::{self, KeyError};
use crate::manifest::{self, ManifestError};
use crate::node::{Node, keys_dir};
use crate::store::{PackKind, SealedPack, StoreError};

pub use files::{FileError, Progress};
pub(crate) use files::{Meter, Sum, copy, hash, write};
use folder::{Folder, Way};
pub use list::{List, ListError, Listed, Placed};
pub(crate) use secret::lock as lock_keys;
pub(crate) use secret::open as open_keys;
pub use secret::{Lock, Opener, SecretError};

/// Longest settings file that is taken in, in bytes.
const MAX_SETTINGS: u64 = 1 << 20;

/// What a backup is made of besides the data directory.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The folder: empty, missing, or with an older backup of the same shop.
    pub dir: PathBuf,
    /// The encrypted keys ([`encrypt_keys`]); with `None` those of the backup before stay, if any.
    pub keys: Option<String>,
    /// The file with the settings.
    pub settings: Option<PathBuf>,
}

/// What was made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The shop's name.
    pub shop: String,
    /// Packs in the backup.
    pub packs: u64,
    /// Those that were not in the one before.
    pub new_packs: u64,
    /// Those of them that are hard links: on the same disk, and damaged with it.
    pub linked_packs: u64,
    /// Bytes of all files in the backup.
    pub bytes: u64,
    /// Bytes of the new packs.
    pub new_bytes: u64,
    /// Files that were removed, for only the backup before named them.
    pub removed_files: u64,
    /// Blocks that are not in it, but in files that were added in place.
    pub in_place_blocks: u64,
    /// Blocks in it that are known to be damaged.
    pub damaged_blocks: u64,
    /// Whether the encrypted keys are in it.
    pub keys: bool,
}

/// Why no backup was made. The one before is whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The folder has other files.
    #[error("{} is not empty and holds no backup", dir.display())]
    NotForBackups {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder has the backup of another shop.
    #[error("{} holds a backup of another shop, {shop}", dir.display())]
    OtherShop {
        /// The folder.
        dir: PathBuf,
        /// That shop's name.
        shop: String,
    },
    /// The folder is something else.
    #[error("{} is not a folder", path.display())]
    NoFolder {
        /// What is there.
        path: PathBuf,
    },
    /// The folder is a part of what it is to replace.
    #[error("{} is inside the data directory {}", dir.display(), data_dir.display())]
    Inside {
        /// The folder.
        dir: PathBuf,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// Another backup is made there.
    #[error("{} is held by another backup", path.display())]
    InUse {
        /// Its lock.
        path: PathBuf,
    },
    /// The list of the backup before cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The keys could not be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The keys could not be encrypted.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Encrypts the keys of a data directory, which a node may have open, for [`BackupOptions`].
pub fn encrypt_keys(data_dir: &Path, lock: &Lock) -> Result<String, BackupError> {
    let files = keys::read_files(&keys_dir(data_dir))?;
    Ok(secret::lock(&files, lock)?)
}

/// Makes a backup, or brings the one in the folder up to date. Garbage collection and checks wait.
///
/// # Cancel safety
/// A dropped future ends it; the backup before stays, and the next one goes on from what was copied.
pub async fn run(
    node: &Node,
    options: BackupOptions,
    progress: impl Fn(u64, u64) + Send + 'static,
) -> Result<Report, BackupError> {
    run_on(Arc::new(FileSystem), node, options, progress).await
}

/// [`run`] on another file system.
#[doc(hidden)]
pub async fn run_on(
    disk: Arc<dyn Disk>,
    node: &Node,
    options: BackupOptions,
    progress: impl Fn(u64, u64) + Send + 'static,
) -> Result<Report, BackupError> {
    let turn = node.gc_turn().await;
    let stop = node.stop_token().child_token();
    let _ends_with_this_future = stop.clone().drop_guard();
    let source = node.clone();
    node.blocking(move || {
        let _turn = turn;
        back_up(&disk, &source, &options, &stop, &progress)
    })
    .await
}

/// Blocking; not beside a collection.
fn back_up(
    disk: &Arc<dyn Disk>,
    node: &Node,
    options: &BackupOptions,
    stop: &CancellationToken,
    progress: &Progress<'_>,
) -> Result<Report, BackupError> {
    let (dir, data_dir) = (&options.dir, node.data_dir());
    if dir.starts_with(data_dir) {
        return Err(BackupError::Inside {
            dir: dir.clone(),
            data_dir: data_dir.to_owned(),
        });
    }
    let shop = node.shop_name().to_string();
    let folder = Folder::open(disk.as_ref(), dir, &shop)?;
    let mut meter = Meter {
        stop,
        done: 0,
        total: 0,
        progress,
    };
    node.manifest().check()?;
    let mut files = vec![export_manifest(disk, node, &folder, &mut meter)?];
    files.extend(take_settings(options, &folder)?);
    let packs = node.store().seal_all()?;
    let mut report = Report {
        shop: shop.clone(),
        packs: packs.len() as u64,
        new_packs: 0,
        linked_packs: 0,
        bytes: 0,
        new_bytes: 0,
        removed_files: 0,
        in_place_blocks: node.store().in_place_blocks()?,
        damaged_blocks: node.store().known_damage(PackKind::Kept) as u64,
        keys: false,
    };
    meter.total = meter.done + new_bytes(&packs, &folder);
    for pack in &packs {
        files.extend(take_pack(pack, &folder, &mut meter, &mut report)?);
    }
    let keys = options.keys.as_ref();
    let list = List {
        duka: env!("CARGO_PKG_VERSION").to_owned(),
        created: Timestamp::now().to_string(),
        shop,
        keys: keys
            .map(|keys| folder.put(folder::KEYS, "keys", "age", keys.as_bytes()))
            .transpose()?
            .or_else(|| folder.keys().cloned()),
        files,
    };
    report.bytes = list.bytes();
    report.keys = list.keys.is_some();
    report.removed_files = folder.finish(&list)?;
    Ok(report)
}

fn export_manifest(
    disk: &Arc<dyn Disk>,
    node: &Node,
    folder: &Folder<'_>,
    meter: &mut Meter<'_>,
) -> Result<Placed, BackupError> {
    let unfinished = folder.path(&format!("{}/export.tmp", folder::MANIFEST));
    let last = node
        .manifest()
        .export(Arc::clone(disk), unfinished.clone())?;
    let name = manifest::checkpoint_name(last);
    let stem = name.trim_end_matches(".log");
    Ok(Placed {
        to: format!("manifest/{name}"),
        source: folder.adopt(&unfinished, folder::MANIFEST, stem, "log", meter)?,
    })
}

fn take_settings(
    options: &BackupOptions,
    folder: &Folder<'_>,
) -> Result<Option<Placed>, BackupError> {
    let Some(path) = &options.settings else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SETTINGS).read_to_end(&mut bytes))
        .map_err(|source| FileError::io("reading", path, source))?;
    Ok(Some(Placed {
        to: "config.toml".to_owned(),
        source: folder.put(folder::SETTINGS, "config", "toml", &bytes)?,
    }))
}

/// The pack, and its index if that is whole: it is made anew from the pack otherwise.
fn take_pack(
    pack: &SealedPack,
    folder: &Folder<'_>,
    meter: &mut Meter<'_>,
    report: &mut Report,
) -> Result<Vec<Placed>, BackupError> {
    let file = file_of(pack);
    let source = match folder.known(&file) {
        Some(known) => known.clone(),
        None => {
            let (listed, way) = folder.take(&pack.pack, file, meter)?;
            report.new_packs += 1;
            report.new_bytes += listed.bytes;
            report.linked_packs += u64::from(way == Way::Linked);
            listed
        }
    };
    let name = &pack.name;
    let mut files = vec![Placed {
        to: format!("blocks/packs/{name}.car"),
        source,
    }];
    if let Some(index) = &pack.index {
        let sum = hash(index, meter)?;
        let file = format!("{}/{name}-{}.idx", folder::PACKS, sum.short());
        let source = match folder.known(&file) {
            Some(known) => known.clone(),
            None => folder.take(index, file, meter)?.0,
        };
        files.push(Placed {
            to: format!("blocks/packs/{name}.idx"),
            source,
        });
    }
    Ok(files)
}

/// Two packs may have had one name, never one salt.
fn file_of(pack: &SealedPack) -> String {
    let salt = hex::encode(&pack.salt[..8]);
    format!("{}/{}-{salt}.car", folder::PACKS, pack.name)
}

fn new_bytes(packs: &[SealedPack], folder: &Folder<'_>) -> u64 {
    let new = packs
        .iter()
        .filter(|pack| folder.known(&file_of(pack)).is_none());
    new.filter_map(|pack| pack.pack.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}
