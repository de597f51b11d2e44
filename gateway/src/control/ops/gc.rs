//! Garbage collection on request: at full speed, the newest pack and what is recent included.

use duka_node::gc::{self, GcOptions};
use duka_node::node::Node;

use crate::control::event::Outcome;
use crate::control::failure::Failure;

pub(super) async fn gc(node: &Node, dry_run: bool) -> Result<Outcome, Failure> {
    let options = GcOptions {
        dry_run,
        seal: true,
        bytes_per_second: 0,
        spare_recent: false,
    };
    let report = gc::collect(node, options).await?;
    Ok(Outcome::Gc {
        live_blocks: report.live_blocks,
        freed_bytes: report.collected.freed_bytes,
        left_bytes: report.collected.left_bytes,
        removed_packs: report.collected.removed_packs,
        rewritten_packs: report.collected.rewritten_packs,
    })
}
