//! What an operation tells while it runs, and in the end. The command line prints these as they are
//! with `--json`.

use bytes::Bytes;
use duka_node::channel::Moved;
use duka_node::publish::Published;
use duka_node::shop::follow::Followed;
use duka_node::source::trustless::Given;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::release::Chosen;

/// One event of an operation.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// How far it is.
    Progress(Progress),
    /// Something the user should know; the operation goes on.
    Warning {
        /// One sentence.
        message: String,
    },
    /// One entry of a list.
    Item(Item),
    /// Bytes of a file.
    #[serde(skip)]
    Data(Bytes),
    /// It is done. The last event.
    Result(Outcome),
    /// It failed. The last event.
    Error(Failure),
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub bytes: u64,
    /// Bytes in all, once known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub total: Option<u64>,
}

/// One entry of a list.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Item {
    /// An entry of a directory.
    Entry {
        /// Its name.
        name: String,
        /// Its root.
        cid: String,
        /// `file`, `directory` or `symlink`, where the entry could be read.
        entry_type: Option<String>,
        /// Length of a file in bytes; of other entries, what their DAG holds.
        size: u64,
    },
    /// A pin.
    Pin {
        /// What is pinned.
        cid: String,
        /// The whole DAG, or the one block.
        recursive: bool,
        /// Its label.
        name: Option<String>,
        /// What it keeps, where that was asked for.
        #[serde(flatten, skip_serializing_if = "Option::is_none", default)]
        size: Option<PinSize>,
    },
    /// A product.
    Product(Product),
    /// A release.
    Release(Release),
    /// A key.
    Key {
        /// `shop`, `publishing` or `peer`.
        key: String,
        /// Its name, `k51…`; of the peer key, the peer id.
        name: String,
        /// Whether it is on this machine.
        here: bool,
        /// Its file, where it is here.
        file: Option<String>,
        /// Where the newest record that it signed leads.
        leads_to: Option<String>,
        /// Until when that record is valid.
        valid_until: Option<String>,
    },
    /// A file that is not the same in two releases.
    FileChange {
        /// `added`, `removed`, `changed` or `mode`.
        change: String,
        /// Its path in the release.
        path: String,
        /// Bytes that it had.
        before_bytes: u64,
        /// Bytes that it has.
        bytes: u64,
        /// Bytes of its blocks that neither the older release nor a file listed before it has.
        new_bytes: u64,
    },
    /// A channel of a product.
    Channel {
        /// The product.
        product: String,
        /// The channel.
        channel: String,
        /// The version that it names.
        version: String,
        /// The root of that release.
        cid: Option<String>,
    },
    /// A mirror.
    Mirror(Box<Mirror>),
    /// What a peer proved to have of a shop.
    Proved {
        /// Who.
        peer_id: String,
        /// Blocks it was asked for.
        asked: u64,
        /// Right answers in time.
        proved: u64,
        /// Right answers that came too late.
        late: u64,
        /// Wrong answers.
        wrong: u64,
        /// Blocks it does not have, or did not answer for.
        absent: u64,
        /// Least share of all blocks that it has, 99 of 100 times.
        share_low: f64,
        /// Largest.
        share_high: f64,
        /// Seconds to it and back.
        round_trip_seconds: Option<f64>,
    },
    /// What was proved of a product's blocks.
    ProvedProduct {
        /// The product.
        product: String,
        /// Blocks that somebody was asked for.
        asked: u64,
        /// Blocks of these that somebody proved.
        proved: u64,
    },
    /// A connected peer.
    Peer {
        /// Who.
        peer_id: String,
        /// Over which address.
        address: String,
        /// What it calls itself.
        agent: Option<String>,
        /// Last ping, in seconds.
        round_trip_seconds: Option<f64>,
    },
    /// A root of an imported CAR.
    Root {
        /// The root.
        cid: String,
        /// Whether it was pinned.
        pinned: bool,
    },
    /// A file that is not as a CID says.
    Difference {
        /// `differs`, `missing` or `added`.
        difference: String,
        /// Its path.
        path: String,
    },
    /// Something that a check found to be wrong.
    Problem {
        /// `damaged` or `missing`.
        problem: String,
        /// The block.
        cid: String,
        /// The pinned root that needs it.
        root: Option<String>,
    },
}

/// What a pin keeps. Blocks that are in several places of its DAG count once; those that other pins keep,
/// too, count in each.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct PinSize {
    /// Blocks that are here.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks that are missing or damaged; what lies below them is not known.
    pub missing_blocks: u64,
}

/// A product, without its texts.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Product {
    /// Its id.
    pub product: String,
    /// Title.
    pub title: String,
    /// Price, such as `9.50 USD`.
    pub price: Option<String>,
    /// Channels and the version that each names.
    pub channels: std::collections::BTreeMap<String, String>,
    /// Number of releases.
    pub releases: u64,
    /// When it was first published.
    pub created: String,
}

/// Where a channel leads.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ChannelMove {
    /// From which version to which.
    #[serde(flatten)]
    pub moved: Moved,
    /// The root of the release that it names now.
    pub cid: Option<String>,
    /// Whether a signed head shows it.
    pub signed: bool,
}

/// The own shop.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Shop {
    /// Its name, `k51…`.
    pub name: String,
    /// Title; empty while there is neither one nor a product.
    pub title: String,
    /// Description, Markdown.
    pub description: String,
    /// URLs of gateways that serve the shop.
    pub gateways: Vec<String>,
    /// Addresses of mirrors.
    pub mirrors: Vec<String>,
    /// Seconds that a signed head is valid.
    pub expiry_seconds: u64,
    /// Seconds between signatures of the same head.
    pub refresh_seconds: u64,
    /// Those of the above that the shop says itself; for the others the settings file counts.
    pub own: Vec<String>,
    /// Products.
    pub products: u64,
    /// Releases of all products, yanked ones included.
    pub releases: u64,
    /// The newest signed head.
    pub head: Option<Head>,
}

/// A signed head.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Head {
    /// Its sequence number.
    pub seq: u64,
    /// The shop directory.
    pub cid: String,
    /// When it was built.
    pub issued: String,
    /// When it was signed last.
    pub signed: Option<String>,
}

/// A release.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Release {
    /// The product.
    pub product: String,
    /// The version.
    pub version: String,
    /// The root of its tree.
    pub cid: String,
    /// Number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When it was published.
    pub issued: String,
    /// When it was withdrawn.
    pub yanked: Option<String>,
}

/// A mirrored shop.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Mirror {
    /// Its name.
    pub shop: String,
    /// `whole`, `fetching`, `waiting` or `paused`.
    pub state: String,
    /// The newest head that was checked.
    pub head: Option<MirrorHead>,
    /// Sequence number of the newest head that is whole here, and shown.
    pub whole_seq: Option<u64>,
    /// Bytes of that.
    pub kept_bytes: u64,
    /// Bytes of the newest head that are here.
    pub bytes: u64,
    /// Bytes of what is kept of it.
    pub total_bytes: u64,
    /// Bytes that came over the network since the node started.
    pub fetched_bytes: u64,
    /// The same in a second, lately.
    pub bytes_per_second: u64,
    /// Seconds until it is whole, at that rate.
    pub eta_seconds: Option<u64>,
    /// Products of which releases are kept.
    pub products: Vec<MirrorProduct>,
    /// Releases that do not fit into the quota.
    pub left_out_releases: u64,
    /// Their bytes.
    pub left_out_bytes: u64,
    /// What it waits for.
    pub stall: Option<String>,
    /// Gateways that the operator named.
    pub gateways: Vec<String>,
    /// Heads that were refused, newest first.
    pub refused: Vec<RefusedHead>,
    /// Since when it is mirrored.
    pub added: String,
}

/// A head of a mirrored shop.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct MirrorHead {
    /// Its sequence number.
    pub seq: u64,
    /// The shop directory.
    pub cid: String,
    /// When it was built.
    pub issued: String,
    /// Seconds since then.
    pub age_seconds: u64,
    /// `fresh`, `stale` or `expired`: how old its signature is.
    pub freshness: String,
}

/// What is kept of a product.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct MirrorProduct {
    /// Its id.
    pub product: String,
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes of all releases that are kept.
    pub total_bytes: u64,
}

/// A head that was refused.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct RefusedHead {
    /// Its sequence number; `None` when its record is not valid.
    pub seq: Option<u64>,
    /// Why.
    pub why: String,
    /// Who showed it.
    pub from: String,
    /// When it was first seen.
    pub when: String,
    /// How often.
    pub times: u64,
}

/// What the store holds, may hold, and when it was checked.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Stat {
    /// The data directory.
    pub data_dir: String,
    /// Pins.
    pub pins: u64,
    /// Releases of all products.
    pub releases: u64,
    /// Blocks that were published, pinned or imported.
    pub kept_blocks: u64,
    /// Bytes of their packs on disk, garbage included.
    pub kept_bytes: u64,
    /// Blocks that were fetched for requests.
    pub cache_blocks: u64,
    /// Bytes of their packs on disk.
    pub cache_bytes: u64,
    /// Most bytes that the cache may take; `None` without a limit of its own.
    pub cache_limit_bytes: Option<u64>,
    /// Bytes of all packs on disk.
    pub used_bytes: u64,
    /// Most bytes that packs may take; `None` without a limit.
    pub limit_bytes: Option<u64>,
    /// Free bytes of the disk.
    pub free_bytes: u64,
    /// Free bytes below which nothing is stored.
    pub reserve_bytes: u64,
    /// When garbage was collected last.
    pub last_gc: Option<String>,
    /// The last time that all blocks were read and hashed.
    pub last_scrub: Option<Scrub>,
    /// The scrub under way.
    pub scrub: Option<Scrub>,
}

/// What a scrub found.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Scrub {
    /// When it began.
    pub started: String,
    /// When it ended.
    pub ended: Option<String>,
    /// Blocks read and hashed.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks whose bytes did not match.
    pub damaged_blocks: u64,
    /// Blocks that something refers to and that were not here when all had been read.
    pub missing_blocks: u64,
    /// Blocks that were fetched again.
    pub repaired_blocks: u64,
    /// Blocks that something refers to and that nobody had.
    pub lost_blocks: u64,
    /// Index files made anew.
    pub rebuilt_indexes: u64,
    /// Packs written anew.
    pub renewed_packs: u64,
}

/// What a gateway or peer gave.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Source {
    /// The URL of the gateway, or the peer id.
    pub source: String,
    /// Verified blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests that failed.
    pub errors: u64,
    /// It sent wrong bytes and was dropped.
    pub lied: bool,
}

impl From<Given> for Source {
    fn from(given: Given) -> Self {
        Self {
            source: given.source,
            blocks: given.blocks,
            bytes: given.bytes,
            errors: given.errors,
            lied: given.lied,
        }
    }
}

/// The head of somebody's shop.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ShopHead {
    /// The shop's name.
    pub name: String,
    /// What to remember of it.
    pub followed: Followed,
    /// Its title; `None` where the head was known.
    pub title: Option<String>,
    /// Gateways and mirrors that it names; `None` where the head was known.
    pub gateways: Option<Vec<String>>,
    /// The release that was wanted.
    pub chosen: Option<Chosen>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

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
    },
    /// A census.
    MirrorCensus {
        /// The shop.
        shop: String,
        /// Blocks of it that are here.
        blocks: u64,
        /// Peers that were asked.
        peers: u64,
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
