//! What an operation tells while it runs, and in the end. The command line prints these as they are
//! with `--json`.

use bytes::Bytes;
use duka_node::publish::Published;
use serde::{Deserialize, Serialize};

use super::failure::Failure;

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
    },
    /// A product.
    Product(Product),
    /// A release.
    Release(Release),
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
    /// A release was withdrawn.
    ProductYank {
        /// The product.
        product: String,
        /// The version.
        version: String,
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
    /// A peer was connected to.
    SwarmConnect {
        /// Who.
        peer_id: String,
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
