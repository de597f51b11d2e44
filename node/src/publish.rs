//! PUBLISH, top to bottom: import under a temp pin → one durable commit of the blocks → one manifest
//! commit {product, release, pin, jobs}. Nothing is visible before that commit; all before it is
//! garbage that GC may take.

mod limits;
pub(crate) mod texts;
mod unchanged;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use globset::GlobSet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::announce;
use crate::channel::{self, history};
use crate::dag::import::{
    self, Chunker, ImportError, ImportOptions, Imported, OnProgress, Profile, Reflink, Sink,
};
use crate::ids::{Channel, ProductId, Version};
use crate::manifest::change::{Change, Conflict, Expect, Op};
use crate::manifest::record::{Cover, Job, JobId, Pin, Price, Product, Release, Shop, Text};
use crate::manifest::{Manifest, ManifestError};
use crate::node::Node;
use crate::store::{PackKind, StoreError};

pub use texts::FileEntry;
use texts::Texts;

/// Versions that begin with a number below this are counted on from.
const COUNTED: u64 = 1_000_000_000_000_000_000;

/// What is published.
pub enum Source {
    /// A file or a folder.
    Path(PathBuf),
    /// One file of this name from a stream, such as standard input.
    Reader {
        /// Its file name in the release.
        name: String,
        /// Its bytes.
        reader: Box<dyn Read + Send>,
    },
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Reader { name, .. } => f.debug_struct("Reader").field("name", name).finish(),
        }
    }
}

/// A publish, as the creator asked for it.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// As which product; made when it is new.
    pub product: ProductId,
    /// The version; by default the whole number after the largest that one begins with.
    pub version: Option<Version>,
    /// The channel that moves to the new version; by default `stable`.
    pub channel: Option<Channel>,
    /// New title; by default unchanged, or the product's id.
    pub title: Option<String>,
    /// New description, Markdown.
    pub description: Option<String>,
    /// New price.
    pub price: Option<Price>,
    /// Release notes, a file.
    pub notes: Option<PathBuf>,
    /// New cover picture, a file.
    pub cover: Option<PathBuf>,
    /// Paths inside the folder that are left out.
    pub ignore: GlobSet,
    /// Include files whose name begins with a dot.
    pub hidden: bool,
    /// Make no release when one that is offered, what the channel names or the newest, has the same root. What else
    /// is asked for is done all the same.
    pub if_changed: bool,
    /// Compute everything, store nothing.
    pub dry_run: bool,
    /// Keep Unix permission bits in the tree.
    pub preserve_mode: bool,
    /// Keep mtimes in the tree.
    pub preserve_mtime: bool,
    /// Leave the bytes of the files where they are.
    pub in_place: bool,
    /// Whether what is stored shares the room of the files.
    pub reflink: Reflink,
    /// Import profile; by default that of the product's newest release.
    pub profile: Option<Profile>,
    /// How files are cut into chunks; by default as in the product's newest release, or, where a profile is
    /// given, as that says.
    pub chunker: Option<Chunker>,
}

impl PublishOptions {
    /// Publishes as `product`, all else by default.
    pub fn new(product: ProductId) -> Self {
        Self {
            product,
            version: None,
            channel: None,
            title: None,
            description: None,
            price: None,
            notes: None,
            cover: None,
            ignore: GlobSet::empty(),
            hidden: false,
            if_changed: false,
            dry_run: false,
            preserve_mode: false,
            preserve_mtime: false,
            in_place: false,
            reflink: Reflink::default(),
            profile: None,
            chunker: None,
        }
    }

    fn channel(&self) -> Channel {
        self.channel.clone().unwrap_or_else(channel::default)
    }

    /// How the next release is imported: updates move little only while chunks stay cut as they were.
    fn import(&self, manifest: &Manifest) -> Result<ImportOptions, ManifestError> {
        let newest = manifest.releases(&self.product).next_back().transpose()?;
        let remembered = newest.and_then(|(_, release)| Profile::parse_with(&release.profile));
        let (profile, chunker) = match (self.profile, remembered) {
            (Some(profile), _) => (profile, profile.chunker()),
            (None, Some(remembered)) => remembered,
            (None, None) => (Profile::default(), Profile::default().chunker()),
        };
        Ok(ImportOptions {
            profile,
            chunker: Some(self.chunker.unwrap_or(chunker)),
            ignore: self.ignore.clone(),
            hidden: self.hidden,
            preserve_mode: self.preserve_mode,
            preserve_mtime: self.preserve_mtime,
            in_place: self.in_place,
            reflink: self.reflink,
        })
    }
}

/// What a publish made.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Published {
    /// The product.
    pub product: ProductId,
    /// The version.
    pub version: Version,
    /// Root of the release.
    pub cid: String,
    /// Number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of blocks that were not stored before.
    pub new_bytes: u64,
    /// How long it took, until all of it was durable, in seconds.
    pub duration_seconds: f64,
    /// `false` for a dry run, or when a release that is offered was the same already (`if_changed`).
    pub released: bool,
    /// The files were the same already, and what the publish asked for besides was changed.
    #[serde(default)]
    pub updated: bool,
    /// The files were the same already, and the version keeps its notes, which are others.
    #[serde(default)]
    pub notes_kept: bool,
    /// The job of the head that shows what was changed, if there is no release for it.
    #[serde(skip)]
    pub job: Option<JobId>,
    /// Whether a signed head has the release: before that the shop's name does not lead to it.
    pub signed: bool,
    /// Gateways and mirrors that were asked from outside and have it, head and all.
    #[serde(default)]
    pub proved_by: Vec<String>,
}

impl Published {
    /// Waits until a signed head shows what was published. Returns whether that was within `limit`.
    pub async fn wait_until_signed(
        &self,
        node: &Node,
        limit: Duration,
    ) -> Result<bool, ManifestError> {
        match self.job {
            Some(job) => announce::wait_for_job(node, job, limit).await,
            None => announce::wait_for_head(node, &self.product, &self.version, limit).await,
        }
    }
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The source could not be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest refused or failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is no file.
    #[error("there is nothing to publish: {} has no file that is not left out", path.display())]
    Empty {
        /// What was to be published.
        path: PathBuf,
    },
    /// Readers of the shop would refuse it.
    #[error("{what} would have {len} bytes, and no reader takes more than {limit}")]
    TooLarge {
        /// The file of the shop.
        what: String,
        /// Its length.
        len: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Readers of the shop would refuse the name of a file.
    #[error("the file {path:?} cannot be published: no reader takes such a path")]
    Path {
        /// Its path.
        path: String,
    },
    /// A title or a file name is empty or too long.
    #[error("the {what} {text:?} cannot be used: {reason}")]
    Text {
        /// `title`, `cover` or `name`.
        what: &'static str,
        /// What was given.
        text: String,
        /// Why not.
        reason: &'static str,
    },
}

/// Publishes: see the module. `progress` is told the bytes taken in and may stop the import.
///
/// # Cancel safety
/// A dropped future leaves the release either whole or absent; blocks stored so far are garbage
/// for GC. The import runs on until its next progress report.
pub async fn publish(
    node: &Node,
    source: Source,
    options: PublishOptions,
    progress: OnProgress,
) -> Result<Published, PublishError> {
    let started = Instant::now();
    texts::check(&source, &options)?;
    if let Some(cover) = &options.cover {
        texts::check_cover(node, cover.clone()).await?;
    }
    if !options.if_changed {
        check_new(node.manifest(), &options)?;
    }

    let import = options.import(node.manifest())?;
    let path = match &source {
        Source::Path(path) => path.clone(),
        Source::Reader { name, .. } => name.into(),
    };
    let mut temp_pin = node.temp_pin();
    let tree = import_tree(node, source, options.dry_run, &import, progress).await?;
    temp_pin.hold(tree.root);
    if tree.files.is_empty() {
        return Err(PublishError::Empty { path });
    }

    // From here on one publish at a time: what is read from the manifest holds until the commit.
    let _turn = node.publish_turn().await;
    let releases = Releases::read(node.manifest(), &options.product)?;
    let same = match options.if_changed {
        true => unchanged::same(
            node.manifest(),
            &options,
            releases.newest_offered,
            tree.root,
        )?,
        false => None,
    };
    if let Some((version, release)) = same {
        let done = match options.dry_run {
            true => unchanged::Done::default(),
            false => unchanged::update(node, &options, &tree, &version, &release).await?,
        };
        return Ok(Published {
            signed: done.job.is_none()
                && announce::is_announced(node, &options.product, &version).await?,
            updated: done.job.is_some(),
            notes_kept: done.notes_kept,
            job: done.job,
            ..published(options.product, version, &tree, started)
        });
    }

    check_new(node.manifest(), &options)?;
    let version = match &options.version {
        Some(version) => version.clone(),
        None => next_version(node.manifest(), &options.product, releases.largest)?,
    };
    limits::check(&options.product, &version, &tree.files, releases.listed)?;
    if !options.dry_run {
        let texts = texts::import(node, &options, &tree.files).await?;
        node.commit_blocks().await?;
        let change = release_change(node, &options, &import, &tree, texts, &version)?;
        node.manifest().commit(change).await?;
        node.jobs_changed();
        node.offer(tree.root);
    }
    Ok(Published {
        signed: announce::is_announced(node, &options.product, &version).await?,
        released: !options.dry_run,
        ..published(options.product, version, &tree, started)
    })
}

/// Of a version that has this tree, before anything was done.
fn published(product: ProductId, version: Version, tree: &Imported, started: Instant) -> Published {
    Published {
        product,
        version,
        cid: tree.root.to_string(),
        files: tree.files.len() as u64,
        bytes: tree.bytes,
        new_bytes: tree.new_bytes,
        duration_seconds: started.elapsed().as_secs_f64(),
        released: false,
        updated: false,
        notes_kept: false,
        job: None,
        signed: false,
        proved_by: Vec::new(),
    }
}

/// Refuses a version that is there already: before the import, which may take hours, and after it.
fn check_new(manifest: &Manifest, options: &PublishOptions) -> Result<(), ManifestError> {
    let product = &options.product;
    match &options.version {
        Some(version) if manifest.release(product, version)?.is_some() => {
            Err(ManifestError::Conflict(Conflict::ReleaseExists {
                product: product.clone(),
                version: version.clone(),
            }))
        }
        _ => Ok(()),
    }
}

/// Imports the source off the runtime. A dry run stores nothing.
async fn import_tree(
    node: &Node,
    source: Source,
    dry_run: bool,
    options: &ImportOptions,
    progress: OnProgress,
) -> Result<Imported, ImportError> {
    let store = node.store().clone();
    let sink = if dry_run {
        Sink::Compare(store, PackKind::Kept)
    } else {
        Sink::Store(store, PackKind::Kept)
    };
    let options = options.clone();
    node.blocking(move || match source {
        Source::Path(path) => {
            let tree = import::import_path(&sink, &path, &options, &progress)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Ok(with_name(tree, &name))
        }
        Source::Reader { name, mut reader } => {
            let tree = import::import_reader(&sink, &mut *reader, &options, &progress)?;
            Ok(with_name(tree, &name))
        }
    })
    .await
}

/// Names a file that is the whole release: in the tree it has no name.
fn with_name(mut tree: Imported, name: &str) -> Imported {
    for file in tree.files.iter_mut().filter(|file| file.path.is_empty()) {
        name.clone_into(&mut file.path);
    }
    tree
}

/// The releases that a product has so far.
#[derive(Default)]
struct Releases {
    newest_offered: Option<(Version, Release)>,
    /// The largest number that a version begins with: 2 of `2.0-beta`.
    largest: u64,
    /// Bytes that the list of them takes.
    listed: usize,
}

impl Releases {
    fn read(manifest: &Manifest, product: &ProductId) -> Result<Self, ManifestError> {
        let mut releases = Self::default();
        for row in manifest.releases(product) {
            let (version, release) = row?;
            releases.largest = releases.largest.max(leading_number(&version));
            releases.listed += limits::line_len(&version);
            if release.yanked.is_none() {
                releases.newest_offered = Some((version, release));
            }
        }
        Ok(releases)
    }
}

/// The whole number after `largest` that is not taken yet.
fn next_version(
    manifest: &Manifest,
    product: &ProductId,
    largest: u64,
) -> Result<Version, ManifestError> {
    let mut next = largest + 1;
    loop {
        let version: Version = next
            .to_string()
            .parse()
            .expect("a whole number is a valid version");
        if manifest.release(product, &version)?.is_none() {
            return Ok(version);
        }
        next += 1;
    }
}

/// The number that a version begins with.
fn leading_number(version: &Version) -> u64 {
    let text = version.as_str();
    let end = text.find(|c: char| !c.is_ascii_digit());
    // Versions of more than 18 digits are no numbers to count on from.
    let number = text[..end.unwrap_or(text.len())].parse().unwrap_or(0);
    if number < COUNTED { number } else { 0 }
}

/// Lets the product say what the publish asks for.
fn say(
    product: &mut Product,
    options: &PublishOptions,
    description: Option<Text>,
    cover: Option<Cover>,
) {
    if let Some(title) = &options.title {
        product.title.clone_from(title);
    }
    if let Some(description) = description {
        product.description = description;
    }
    if let Some(cover) = cover {
        product.cover = Some(cover);
    }
    if let Some(price) = &options.price {
        product.price = Some(price.clone());
    }
}

/// The one manifest commit that makes the release visible.
fn release_change(
    node: &Node,
    options: &PublishOptions,
    import: &ImportOptions,
    tree: &Imported,
    texts: Texts,
    version: &Version,
) -> Result<Change, ManifestError> {
    let now = Timestamp::now();
    let id = &options.product;
    let mut product = node.manifest().product(id)?.unwrap_or_else(|| Product {
        title: id.to_string(),
        description: Text::Inline(String::new()),
        price: None,
        cover: None,
        created: now,
        channels: BTreeMap::new(),
        history: BTreeMap::new(),
    });
    say(&mut product, options, texts.description, texts.cover);
    let channel = options.channel();
    let number = node.manifest().next_release_number(id)?;
    history::point(
        node.manifest(),
        id,
        &mut product,
        &channel,
        (version, number),
    )?;

    let release = Release {
        root: tree.root,
        profile: import.profile.name_with(import.chunker()),
        size: tree.bytes,
        tsize: tree.tsize,
        blocks: tree.blocks,
        files: tree.files.len() as u64,
        file_list: texts.file_list,
        record: None,
        notes: texts.notes,
        issued: now,
        number,
        yanked: None,
    };
    let pin = Pin {
        recursive: true,
        name: Some(format!("{id} {version}")),
        created: now,
    };
    let checksum = Job::Checksum(id.clone(), version.clone());
    let first = match node.manifest().counts()?.products {
        0 => Some(Op::PutShop(Shop {
            first_product: Some(id.clone()),
            ..node.manifest().shop()?
        })),
        _ => None,
    };
    Ok(Change {
        expect: vec![
            Expect::ReleaseAbsent(id.clone(), version.clone()),
            Expect::NextRelease(id.clone(), number),
        ],
        ops: vec![
            Op::PutProduct(id.clone(), product),
            Op::PutRelease(id.clone(), version.clone(), release),
            Op::PutPin(tree.root, pin),
            Op::PutJob(node.manifest().new_job_id(), checksum),
            Op::PutJob(node.manifest().new_job_id(), Job::Announce),
        ]
        .into_iter()
        .chain(first)
        .collect(),
    })
}
