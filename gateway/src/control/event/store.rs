//! The store, as it is shown.

use serde::{Deserialize, Serialize};

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
