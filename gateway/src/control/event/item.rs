//! Entries of lists.

use serde::{Deserialize, Serialize};

use super::{Mirror, Product, Release};

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
    /// What a peer or a gateway proved to have of a shop.
    Proved {
        /// Who: the peer's id, or the gateway's URL.
        who: String,
        /// How it was asked: `proof`, `bitswap` or `http`.
        by: String,
        /// Blocks it was asked for.
        asked: u64,
        /// Right answers in time.
        proved: u64,
        /// Right answers that came too late, or none: busy ones are late, too.
        late: u64,
        /// Blocks that came late each time, while others came in time.
        slow: u64,
        /// Wrong answers.
        wrong: u64,
        /// Blocks that it said it does not have.
        absent: u64,
        /// `has`, `busy`, `lacks` or `unheard`.
        verdict: String,
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
