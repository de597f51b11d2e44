//! What operations made.

use duka_node::publish::Published;
use serde::{Deserialize, Serialize};

use super::{ChannelMove, MirrorKeeps, PinSize, Product, Release, Shop, ShopHead, Source, Stat};

/// What an operation made.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "op", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// Who this node is.
    Id {
        /// Peer id.
        peer_id: String,
        /// The shop's name, `k51…`.
        name: String,
        /// Addresses that peers can dial; empty while no network runs.
        addresses: Vec<String>,
    },
    /// A publish.
    Publish(Published),
    /// The end of a list.
    List {
        /// Number of entries.
        count: u64,
    },
    /// The end of what was found.
    Search {
        /// Products that match, shown or not.
        total: u64,
    },
    /// One product.
    ProductShow {
        /// The product.
        #[serde(flatten)]
        product: Product,
        /// Description, Markdown.
        description: String,
        /// The newest release.
        newest: Option<Release>,
    },
    /// What a product says of itself was changed.
    ProductSet {
        /// The product.
        product: String,
        /// Whether a signed head shows it.
        signed: bool,
    },
    /// Two releases were compared.
    ProductDiff {
        /// The product.
        product: String,
        /// The older version.
        from: String,
        /// The newer version.
        to: String,
        /// Files that are new.
        added: u64,
        /// Files that are gone.
        removed: u64,
        /// Files with other bytes, or another mode.
        changed: u64,
        /// Files that are the same.
        unchanged: u64,
        /// Bytes of the newer version's files.
        bytes: u64,
        /// Bytes that a buyer of the older version downloads.
        buyer_bytes: u64,
        /// In so many blocks.
        buyer_blocks: u64,
        /// Bytes that a mirror of the older version fetches, head apart.
        mirror_bytes: u64,
        /// Bytes that the creator stores, head apart.
        creator_bytes: u64,
        /// Blocks that are not stored here; what lies below them is not counted.
        missing_blocks: u64,
    },
    /// A channel was pointed to a version.
    ChannelSet(ChannelMove),
    /// A channel was removed.
    ChannelRemove(ChannelMove),
    /// A channel was pointed back to an older version.
    Rollback(ChannelMove),
    /// A release was withdrawn, or is offered again.
    Yank {
        /// The product.
        product: String,
        /// The version.
        version: String,
        /// It is offered again.
        undo: bool,
        /// Channels of the product and the version that each names now.
        channels: std::collections::BTreeMap<String, String>,
        /// Channels that are gone, as nothing else that they named is still offered.
        #[serde(default)]
        gone: Vec<String>,
        /// Whether a signed head shows it.
        signed: bool,
    },
    /// What the shop says of itself.
    ShopShow(Box<Shop>),
    /// What the shop says of itself was changed.
    ShopSet {
        /// Whether a signed head shows it.
        signed: bool,
    },
    /// The keys may be put into the data directory.
    KeyCheck,
    /// The key files are used as they are now.
    KeyReload,
    /// The shop key was removed.
    KeyOffline {
        /// The shop's name.
        name: String,
        /// Until when its record is valid.
        valid_until: String,
    },
    /// There is a new publishing key.
    KeyRotate {
        /// The shop's name.
        name: String,
        /// The name of the new publishing key.
        publishing: String,
    },
    /// A pin was set.
    PinAdd {
        /// What is pinned.
        cid: String,
        /// Blocks of the DAG.
        blocks: u64,
        /// Their bytes.
        bytes: u64,
        /// Bytes that came over the network.
        fetched: u64,
    },
    /// One pin, and what it keeps.
    PinStat {
        /// What is pinned.
        cid: String,
        /// The whole DAG, or the one block.
        recursive: bool,
        /// Its label.
        name: Option<String>,
        /// When it was pinned.
        created: String,
        /// What it keeps.
        #[serde(flatten)]
        size: PinSize,
    },
    /// A pin was removed.
    PinRm {
        /// What was pinned.
        cid: String,
    },
    /// Content was added.
    Add {
        /// Its root.
        cid: String,
        /// Number of files.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// Bytes of blocks that were not stored before.
        new_bytes: u64,
    },
    /// A file was read.
    Cat {
        /// Its root.
        cid: String,
        /// Bytes given.
        bytes: u64,
    },
    /// CAR files were imported.
    CarImport {
        /// Blocks read.
        blocks: u64,
        /// Their bytes.
        bytes: u64,
        /// Number of roots.
        roots: u64,
    },
    /// A CAR file was written.
    CarExport {
        /// The root.
        cid: String,
        /// The file.
        file: String,
        /// Blocks written.
        blocks: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A name was published, resolved or put.
    Name {
        /// The name.
        name: String,
        /// What its record says.
        value: String,
        /// Where it leads in the end.
        path: String,
        /// Sequence number of the record.
        sequence: u64,
        /// Until when the record is valid.
        validity: String,
    },
    /// A shop is mirrored, or what that would take.
    MirrorAdd {
        /// Its name.
        shop: String,
        /// It is mirrored now.
        added: bool,
        /// Title of the shop.
        title: String,
        /// Sequence number of its head.
        seq: u64,
        /// Products of the shop.
        products: u64,
        /// Releases that are kept.
        releases: u64,
        /// Their files; `None` when there are too many releases to count them.
        files: Option<u64>,
        /// Bytes that are kept.
        bytes: u64,
        /// Bytes that are fetched first.
        traffic_bytes: u64,
        /// Releases that do not fit into the quota.
        left_out_releases: u64,
        /// Free bytes of the disk, above the reserve.
        free_bytes: u64,
        /// It is not in its hours: bytes and releases are the most that may be kept.
        is_most: bool,
        /// What is kept.
        keeps: MirrorKeeps,
        /// What was kept until now.
        kept_before: Option<MirrorKeeps>,
    },
    /// A census.
    MirrorCensus {
        /// The shop.
        shop: String,
        /// Blocks of it that are here.
        blocks: u64,
        /// Peers and gateways that were asked.
        asked: u64,
    },
    /// A mirror was paused, resumed or removed.
    MirrorChanged {
        /// The shop.
        shop: String,
    },
    /// A peer was connected to.
    SwarmConnect {
        /// Who.
        peer_id: String,
    },
    /// The newest valid head of somebody's shop; `None` when the name is not that of a shop.
    ShopHead {
        /// The head.
        head: Option<Box<ShopHead>>,
    },
    /// Content was written to disk.
    Get {
        /// The root.
        cid: String,
        /// Where it is.
        path: String,
        /// Number of files.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// Bytes that came over the network.
        fetched: u64,
        /// Bytes that were on this disk.
        reused: u64,
        /// Who gave what.
        sources: Vec<Source>,
    },
    /// A file or folder is what a CID says.
    Verify {
        /// The CID.
        cid: String,
        /// Bytes compared.
        bytes: u64,
        /// Files and folders on disk of which the CID says nothing.
        added: u64,
        /// `tree`: compared with the tree of the CID. `import`: that is not stored here, and the
        /// files gave the CID when they were imported again.
        way: String,
    },
    /// What the store holds, may hold, and when it was checked.
    Stat(Box<Stat>),
    /// The store was checked and is whole.
    Fsck {
        /// Every block was read and hashed.
        deep: bool,
        /// Packs checked.
        packs: u64,
        /// Blocks in them.
        blocks: u64,
        /// Their bytes.
        bytes: u64,
        /// Index files rebuilt.
        rebuilt_indexes: u64,
        /// Blocks that were damaged or missing and are here again.
        repaired_blocks: u64,
    },
    /// What follows from journal and packs was made anew, and nothing is missing.
    Rebuild {
        /// Products.
        products: u64,
        /// Releases of all products.
        releases: u64,
        /// Pins.
        pins: u64,
        /// Packs.
        packs: u64,
        /// Blocks in them.
        blocks: u64,
        /// Index files made anew.
        rebuilt_indexes: u64,
    },
    /// A backup was made.
    Backup {
        /// The folder.
        dir: String,
        /// The shop's name.
        name: String,
        /// Packs in it.
        packs: u64,
        /// Those that were not in the backup before.
        new_packs: u64,
        /// Those of them that are hard links to the store's.
        linked_packs: u64,
        /// Bytes of all its files.
        bytes: u64,
        /// Bytes of the new packs.
        new_bytes: u64,
        /// Files of the backup before that were removed.
        removed_files: u64,
        /// Whether the keys are in it, encrypted.
        keys: bool,
        /// Whether a settings file is in it.
        settings: bool,
    },
    /// A backup was restored, or, in a dry run, verified.
    Restore {
        /// The data directory.
        data_dir: String,
        /// The shop's name.
        name: String,
        /// When the backup was made.
        created: String,
        /// Files verified.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// Whether the keys are there.
        keys: bool,
        /// Where the settings file of the backup is now.
        settings: Option<String>,
        /// Nothing was written.
        dry_run: bool,
    },
    /// Blocks that nothing refers to were removed.
    Gc {
        /// Blocks that something refers to.
        live_blocks: u64,
        /// Bytes that the disk got back.
        freed_bytes: u64,
        /// Bytes that nothing refers to and that stay: too few in their pack, or a dry run.
        left_bytes: u64,
        /// Packs that were removed.
        removed_packs: u64,
        /// Packs that were written anew.
        rewritten_packs: u64,
    },
}
