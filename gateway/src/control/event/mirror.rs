//! Mirrors of shops, as they are shown.

use serde::{Deserialize, Serialize};

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
    /// Who gave what since the node started, those that gave most first.
    pub sources: Vec<MirrorSource>,
    /// Products of which releases are kept.
    pub products: Vec<MirrorProduct>,
    /// Releases that do not fit into the quota.
    pub left_out_releases: u64,
    /// Their bytes.
    pub left_out_bytes: u64,
    /// What it waits for.
    pub stall: Option<String>,
    /// Gateways that the operator named, the last ones first.
    pub gateways: Vec<String>,
    /// What is kept of it.
    pub keeps: MirrorKeeps,
    /// Heads that were refused, newest first.
    pub refused: Vec<RefusedHead>,
    /// Since when it is mirrored.
    pub added: String,
}

/// What a mirror keeps of a shop.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct MirrorKeeps {
    /// Most bytes.
    pub quota_bytes: Option<u64>,
    /// Releases of each product: `all` or `latest:N`; with channels alone, the one that each names.
    pub keep: Option<String>,
    /// Only what these channels name; of all when there are none.
    pub channels: Vec<String>,
    /// Only releases of these products; of all when there are none.
    pub products: Vec<String>,
    /// Most bytes that are fetched in a second.
    pub bytes_per_second: Option<u64>,
    /// The hours in which it fetches, such as `22:00-06:00`.
    pub hours: Option<String>,
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

/// What a mirror got from one gateway or peer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct MirrorSource {
    /// The gateway or peer.
    pub source: String,
    /// Verified bytes.
    pub bytes: u64,
    /// Blocks.
    pub blocks: u64,
    /// Requests that failed.
    pub errors: u64,
    /// It sent wrong bytes and was dropped.
    pub lied: bool,
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
