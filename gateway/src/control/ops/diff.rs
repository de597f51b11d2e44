//! What changes from one release to another.

use std::sync::Arc;

use duka_node::diff::{self, FileChange};
use duka_node::ids::{ProductId, Version};
use duka_node::node::Node;
use tokio::runtime::Handle;

use crate::control::event::{Item, Outcome};
use crate::control::failure::Failure;
use crate::control::sink::EventSink;

pub(super) async fn diff(
    node: &Node,
    product: &ProductId,
    [from, to]: [&Version; 2],
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let (runtime, told) = (Handle::current(), sink.clone());
    let on_change = Arc::new(move |change: FileChange| {
        // It runs off the runtime, and waits here while the reader is slow.
        runtime.block_on(told.item(Item::FileChange {
            change: change.kind.name().to_owned(),
            path: change.path,
            before_bytes: change.before,
            bytes: change.after,
            new_bytes: change.new_bytes,
        }));
        !told.is_cancelled()
    });
    let totals = diff::diff(node, product, [from, to], on_change).await?;
    let bytes = node.manifest().release(product, to)?;
    let mirror_bytes = totals.upgrade.bytes.saturating_add(totals.record_bytes);
    Ok(Outcome::ProductDiff {
        product: product.to_string(),
        from: from.to_string(),
        to: to.to_string(),
        added: totals.added,
        removed: totals.removed,
        changed: totals.changed,
        unchanged: totals.unchanged,
        bytes: bytes.map_or(0, |release| release.size),
        buyer_bytes: totals.upgrade.bytes,
        buyer_blocks: totals.upgrade.blocks,
        mirror_bytes,
        creator_bytes: mirror_bytes.saturating_add(totals.list_bytes),
        missing_blocks: totals.upgrade.missing_blocks,
    })
}
