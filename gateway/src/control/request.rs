//! The operations and their arguments.

use std::path::PathBuf;

use cid::Cid;
use duka_node::ids::{Channel, ProductId, Version};
use duka_node::manifest::record::{MirrorPolicy, Price};
use duka_node::product;
use duka_node::shop::follow::Followed;
use duka_node::shop::settings::Setting;
use serde::{Deserialize, Serialize};

use super::release::Wanted;

/// One operation. All paths of files are absolute.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "op", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Request {
    /// Who this node is.
    Id,
    /// Publishes a release.
    Publish(Box<Publish>),
    /// All products.
    ProductList,
    /// Products that match, best first.
    Search {
        /// Words.
        terms: String,
        /// At most so many.
        limit: usize,
    },
    /// One product.
    ProductShow {
        /// Which.
        product: ProductId,
    },
    /// The releases of a product, oldest first.
    ProductHistory {
        /// Which.
        product: ProductId,
    },
    /// Changes what a product says of itself.
    ProductSet {
        /// Which.
        product: ProductId,
        /// What, and its value.
        setting: product::Setting,
    },
    /// What changes from one release of a product to another.
    ProductDiff {
        /// Of which product.
        product: ProductId,
        /// The older one.
        from: Version,
        /// The newer one.
        to: Version,
    },
    /// Points a channel to a version.
    ChannelSet {
        /// Of which product.
        product: ProductId,
        /// Which.
        channel: Channel,
        /// To which version.
        version: Version,
    },
    /// The channels of a product.
    ChannelList {
        /// Which.
        product: ProductId,
    },
    /// Removes a channel.
    ChannelRemove {
        /// Of which product.
        product: ProductId,
        /// Which.
        channel: Channel,
    },
    /// Points a channel back to an older version.
    Rollback {
        /// Of which product.
        product: ProductId,
        /// Which channel.
        channel: Channel,
        /// To which version; by default the newest before the present one that is still offered.
        version: Option<Version>,
    },
    /// Withdraws a release: not offered any more, still there.
    Yank {
        /// Of which product.
        product: ProductId,
        /// Which.
        version: Version,
        /// Offer it again.
        undo: bool,
    },
    /// What the shop says of itself.
    ShopShow,
    /// Changes what the shop says of itself.
    ShopSet {
        /// What, and its value.
        setting: Setting,
    },
    /// The keys, and the records that they signed.
    KeyList,
    /// Looks whether keys may be put into the data directory.
    KeyCheck {
        /// The name of the shop they are of.
        shop: Option<String>,
        /// The name of the publishing key, if it is one of them.
        publishing: Option<String>,
    },
    /// Uses the key files as they are now.
    KeyReload,
    /// Signs the shop's record for the time without its key, and removes the key.
    KeyOffline {
        /// Seconds that the record is valid.
        expiry_seconds: u64,
    },
    /// Makes a new publishing key, to which the shop's record leads.
    KeyRotate,
    /// Fetches a DAG and keeps it.
    PinAdd {
        /// A content path.
        path: String,
        /// A label.
        name: Option<String>,
        /// Only the one block.
        direct: bool,
    },
    /// Gives a DAG up.
    PinRm {
        /// A content path.
        path: String,
    },
    /// Pins.
    PinLs {
        /// Only those of whole DAGs, or only those of single blocks.
        recursive: Option<bool>,
        /// With the number and bytes of their blocks.
        size: bool,
    },
    /// One pin, and what it keeps.
    PinStat {
        /// A content path.
        path: String,
    },
    /// Adds content that is no release.
    Add(Add),
    /// The bytes of a file.
    Cat {
        /// A content path.
        path: String,
        /// Bytes to skip.
        offset: u64,
        /// At most so many bytes.
        length: Option<u64>,
        /// Gateways to ask besides peers.
        gateways: Vec<String>,
        /// How often a gateway that failed is asked again for the same block.
        #[serde(default)]
        retries: Option<u32>,
        /// Gateways that are asked at a time.
        #[serde(default)]
        max_sources: Option<usize>,
        /// Bytes that may come in a second.
        #[serde(default)]
        rate: Option<u64>,
    },
    /// The entries of a directory.
    Ls {
        /// A content path.
        path: String,
    },
    /// Whether a file or folder on disk is what a CID says.
    Verify {
        /// The file or folder.
        path: PathBuf,
        /// The CID.
        cid: Cid,
        /// Gateways to ask for the tree of the CID, when it is not stored here.
        gateways: Vec<String>,
    },
    /// Reads CAR files.
    CarImport {
        /// The files.
        files: Vec<PathBuf>,
        /// Pin the roots.
        pin: bool,
    },
    /// Writes a DAG as CAR.
    CarExport {
        /// A content path.
        path: String,
        /// The file.
        file: PathBuf,
    },
    /// Points the name of the node's own peer key to a path.
    NamePublish {
        /// A content path.
        path: String,
        /// Seconds the record is valid.
        lifetime_seconds: u64,
    },
    /// Where a name leads.
    NameResolve {
        /// The name.
        name: String,
    },
    /// Keeps a record that someone else signed, and tells the network.
    NamePut {
        /// The name.
        name: String,
        /// The file that holds the record.
        file: PathBuf,
    },
    /// What a mirror of a shop will take.
    MirrorEstimate {
        /// Its name, or its URL at a gateway.
        shop: String,
        /// What is to be kept of it; what it leaves open stays as it was.
        policy: MirrorPolicy,
        /// Nothing stays as it was.
        #[serde(default)]
        anew: bool,
    },
    /// Mirrors a shop.
    MirrorAdd {
        /// Its name, or its URL at a gateway.
        shop: String,
        /// What is to be kept of it; what it leaves open stays as it was.
        policy: MirrorPolicy,
        /// Nothing stays as it was.
        #[serde(default)]
        anew: bool,
    },
    /// Mirrors, and how far they are.
    MirrorList {
        /// Only this one.
        shop: Option<String>,
    },
    /// Who really has the blocks of a shop.
    MirrorCensus {
        /// The shop; the own one if there is none.
        shop: Option<String>,
        /// Blocks that each peer is asked for.
        challenges: u32,
    },
    /// Stops fetching, or goes on.
    MirrorPause {
        /// The shop.
        shop: String,
        /// Whether it stops.
        paused: bool,
    },
    /// Mirrors a shop no longer.
    MirrorRemove {
        /// The shop.
        shop: String,
    },
    /// Connected peers.
    SwarmPeers,
    /// Connects to a peer.
    SwarmConnect {
        /// Its multiaddr, with `/p2p/…`.
        address: String,
    },
    /// The newest valid head of somebody's shop.
    ShopHead(Box<ShopHead>),
    /// Fetches content and writes it to disk.
    Get(Get),
    /// What the store holds, may hold, and when it was checked.
    Stat,
    /// Checks packs and pins.
    Fsck {
        /// Read and hash every block.
        deep: bool,
        /// Fetch again what is damaged or missing.
        repair: bool,
        /// Make index files anew.
        repair_index: bool,
    },
    /// Makes a backup, or brings one up to date.
    Backup {
        /// The folder.
        dir: PathBuf,
        /// The keys, encrypted by whoever asks; `None` leaves them out.
        keys: Option<String>,
        /// The file with the settings.
        settings: Option<PathBuf>,
    },
    /// Removes blocks that nothing refers to.
    Gc {
        /// Only say how much that is.
        dry_run: bool,
    },
}

impl Request {
    /// Whether what comes of it is signed by the publishing key.
    pub(super) fn is_signed(&self) -> bool {
        match self {
            Self::Publish(publish) => !publish.dry_run,
            Self::ProductSet { .. }
            | Self::ChannelSet { .. }
            | Self::ChannelRemove { .. }
            | Self::Rollback { .. }
            | Self::Yank { .. }
            | Self::ShopSet { .. }
            | Self::KeyOffline { .. } => true,
            _ => false,
        }
    }

    /// Whether it shows whose the shop is.
    pub(super) fn shows_shop(&self) -> bool {
        matches!(self, Self::KeyList | Self::ShopShow | Self::Id)
    }
}

/// Where published or added bytes come from.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A file or a folder.
    Path(PathBuf),
    /// Standard input, as a file of this name.
    Stdin(String),
}

/// How files become a tree.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Import {
    /// Globs of paths that are left out.
    pub ignore: Vec<String>,
    /// Include names that begin with a dot.
    pub hidden: bool,
    /// Keep Unix permission bits.
    pub preserve_mode: bool,
    /// Keep modification times.
    pub preserve_mtime: bool,
    /// Leave the bytes of the files where they are.
    pub in_place: bool,
    /// Share the room of the files.
    pub reflink: Reflink,
    /// Name of the import profile; by default that of the product's newest release, or the newest profile.
    pub profile: Option<String>,
    /// How files are cut into chunks, such as `buzhash`; by default as in the product's newest release, or
    /// as the profile says.
    pub chunker: Option<String>,
}

/// When stored bytes share the room of the files that they are from.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Reflink {
    /// Where the file system can.
    #[default]
    Auto,
    /// It is an error where the file system cannot.
    Always,
    /// Never.
    Never,
}

/// Arguments of [`Request::Publish`].
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Publish {
    /// What.
    pub source: Source,
    /// As which product.
    pub product: ProductId,
    /// Which version; by default the whole number after the largest that one begins with.
    pub version: Option<Version>,
    /// The channel that moves to the new version; by default `stable`.
    pub channel: Option<Channel>,
    /// New title.
    pub title: Option<String>,
    /// New description, Markdown.
    pub description: Option<String>,
    /// New price.
    pub price: Option<Price>,
    /// Release notes, a file.
    pub notes: Option<PathBuf>,
    /// New cover picture, a file.
    pub cover: Option<PathBuf>,
    /// How files become a tree.
    pub import: Import,
    /// No release when nothing changed.
    pub if_changed: bool,
    /// Compute everything, store nothing.
    pub dry_run: bool,
    /// Who must have it before the operation is done.
    pub wait: Vec<Wait>,
    /// Seconds that this may take, the publish included; without, others are given ten minutes after it.
    pub wait_seconds: Option<u64>,
}

/// Who must have a release.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// So many of the gateways and mirrors that the head names.
    Mirrors(usize),
    /// The gateway with this URL.
    Gateway(String),
}

/// Arguments of [`Request::Add`].
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Add {
    /// What.
    pub source: Source,
    /// How files become a tree.
    pub import: Import,
    /// Keep it.
    pub pin: bool,
    /// Compute the CID, store nothing.
    pub only_hash: bool,
}

/// Arguments of [`Request::ShopHead`].
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ShopHead {
    /// The shop's name.
    pub name: String,
    /// Gateways to ask besides peers.
    pub gateways: Vec<String>,
    /// The release that is wanted of it.
    pub wanted: Option<Wanted>,
    /// What is known of the shop.
    pub known: Option<Followed>,
}

/// Arguments of [`Request::Get`].
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Get {
    /// A content path.
    pub path: String,
    /// Where to.
    pub out: PathBuf,
    /// Gateways to ask besides peers.
    pub gateways: Vec<String>,
    /// Write into an existing folder.
    pub update: bool,
    /// Forget what an interrupted run left.
    pub restart: bool,
    /// Files and folders that may have parts of it.
    pub from: Vec<PathBuf>,
    /// How often a gateway that failed is asked again for the same block; `None` is as usual.
    pub retries: Option<u32>,
    /// How many gateways are asked at a time; `None` is without limit.
    pub max_sources: Option<usize>,
    /// Bytes a second; `None` is without limit.
    pub rate: Option<u64>,
}
