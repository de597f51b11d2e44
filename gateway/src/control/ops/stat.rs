//! What the store holds, may hold, and when it was checked.

use duka_node::node::Node;
use duka_node::scrub::{self, Summary};
use duka_node::{blocking::blocking, gc};

use crate::control::event::{Outcome, Scrub, Stat};
use crate::control::failure::Failure;

pub(super) async fn stat(node: &Node) -> Result<Outcome, Failure> {
    let (store, manifest) = (node.store().clone(), node.manifest());
    let stats = blocking(move || store.stats()).await?;
    let counts = manifest.counts()?;
    let config = &node.config().store;
    let limit = |bytes: u64| (bytes > 0).then_some(bytes);
    Ok(Outcome::Stat(Box::new(Stat {
        data_dir: node.data_dir().display().to_string(),
        pins: counts.pins,
        releases: counts.releases,
        kept_blocks: stats.kept_blocks,
        kept_bytes: stats.kept_disk_bytes,
        cache_blocks: stats.cache_blocks,
        cache_bytes: stats.cache_disk_bytes,
        cache_limit_bytes: limit(config.cache_size.as_u64()),
        used_bytes: stats.disk_bytes,
        limit_bytes: limit(config.max_size.as_u64()),
        free_bytes: stats.free_bytes,
        reserve_bytes: config.reserve.as_u64(),
        last_gc: gc::last(manifest)?.map(|time| time.to_string()),
        last_scrub: scrub::last(manifest)?.as_ref().map(of),
        scrub: scrub::under_way(manifest)?.as_ref().map(of),
    })))
}

fn of(summary: &Summary) -> Scrub {
    Scrub {
        started: summary.started.to_string(),
        ended: summary.ended.map(|time| time.to_string()),
        blocks: summary.blocks,
        bytes: summary.bytes,
        damaged_blocks: summary.damaged_blocks,
        missing_blocks: summary.missing_blocks,
        repaired_blocks: summary.repaired_blocks,
        lost_blocks: summary.lost_blocks,
        rebuilt_indexes: summary.rebuilt_indexes,
        renewed_packs: summary.renewed_packs,
    }
}
