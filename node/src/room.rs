//! ROOM: when it gets scarce the cache is evicted, then garbage is collected.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::gc::{self, GcError, GcOptions};
use crate::node::Node;
use crate::store::StoreError;

/// How often the figures are told without anything happening.
const INTERVAL: Duration = Duration::from_secs(30);
/// Least time between two collections for lack of room.
const BETWEEN: Duration = Duration::from_secs(10 * 60);
/// The same after one that freed nothing: what is there is not garbage.
const BETWEEN_VAIN: Duration = Duration::from_secs(6 * 3600);

/// Makes room whenever a put finds that it gets scarce, until the node stops.
pub(crate) async fn run(node: Node, stop: CancellationToken) {
    let mut collect_from = Instant::now();
    loop {
        tell(&node);
        let pressure = tokio::time::timeout(INTERVAL, node.store().wait_for_pressure());
        if stop.run_until_cancelled(pressure).await.is_none() {
            return;
        }
        match make_room(&node, &mut collect_from).await {
            Ok(()) => {}
            Err(GcError::Stopped) => return,
            Err(error) => tracing::warn!(%error, "room could not be made in the store"),
        }
    }
}

/// Evicts, then collects when that was not enough, and `collect_from` has come.
async fn make_room(node: &Node, collect_from: &mut Instant) -> Result<(), GcError> {
    let store = node.store().clone();
    let (freed, tight) = node
        .blocking(move || Ok::<_, StoreError>((store.evict()?, store.is_tight()?)))
        .await?;
    if freed > 0 {
        tracing::info!(freed, "evicted from the cache");
    }
    if !tight || Instant::now() < *collect_from {
        return Ok(());
    }
    *collect_from = Instant::now() + BETWEEN;
    let options = GcOptions {
        dry_run: false,
        // The newest pack may hold what was just given up.
        seal: true,
        bytes_per_second: node.config().store.gc_rate.as_u64(),
        spare_recent: true,
    };
    let report = gc::collect(node, options).await?;
    let freed = report.collected.freed_bytes;
    tracing::info!(freed, "collected garbage, for room gets scarce");
    if freed == 0 {
        *collect_from = Instant::now() + BETWEEN_VAIN;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a gauge need not be exact")]
fn tell(node: &Node) {
    let Ok(stats) = node.store().stats() else {
        return;
    };
    metrics::gauge!("duka_store_kept_bytes").set(stats.kept_disk_bytes as f64);
    metrics::gauge!("duka_store_cache_bytes").set(stats.cache_disk_bytes as f64);
    metrics::gauge!("duka_store_free_bytes").set(stats.free_bytes as f64);
}

#[cfg(test)]
mod tests {
    use duka_config::Config;

    use super::*;
    use crate::block::{Block, RAW};
    use crate::node;
    use crate::recent;
    use crate::store::PackKind;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_put_above_the_watermark_has_garbage_collected() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.network.offline = true;
        config.store.reserve = bytesize::ByteSize::b(1);
        config.store.max_size = bytesize::ByteSize::kib(600);
        config.store.pack_size = bytesize::ByteSize::kib(64);
        node::init(dir.path()).unwrap();
        let node = Node::open(dir.path(), &config).await.unwrap();
        let blocks: Vec<_> = (0..25u8)
            .map(|seed| Block::of(RAW, vec![seed; 20 << 10].into()))
            .collect();
        let first = node.temp_pin();
        for block in &blocks {
            node.store()
                .put(PackKind::Kept, std::slice::from_ref(block))
                .unwrap();
        }
        let recent = *blocks[3].cid();
        recent::note(&node, [recent]).await.unwrap();
        drop(first);
        node.commit_blocks().await.unwrap();
        // Nothing refers to the others any more.
        let mut collect_from = Instant::now();
        make_room(&node, &mut collect_from).await.unwrap();
        assert!(!node.store().is_tight().unwrap());
        assert!(node.store().stats().unwrap().kept_disk_bytes < 100 << 10);
        assert!(node.store().has(&recent).unwrap());

        let on_request = GcOptions {
            dry_run: false,
            seal: true,
            bytes_per_second: 0,
            spare_recent: false,
        };
        gc::collect(&node, on_request).await.unwrap();
        assert!(!node.store().has(&recent).unwrap());
        node.shutdown().await;
    }
}
