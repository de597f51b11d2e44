//! Names of bitswap's metrics, with units.

use super::client::Received;

/// Wantlist entries that a peer sent.
pub(super) fn wants_received(entries: usize) {
    ::metrics::counter!("duka_bitswap_wants_received_total").increment(entries as u64);
}

/// Wantlist entries that were sent to a peer.
pub(super) fn wants_sent(entries: usize) {
    ::metrics::counter!("duka_bitswap_wants_sent_total").increment(entries as u64);
}

/// Blocks that were sent to a peer.
pub(super) fn blocks_sent(blocks: usize, bytes: usize) {
    ::metrics::counter!("duka_bitswap_blocks_sent_total").increment(blocks as u64);
    ::metrics::counter!("duka_bitswap_sent_bytes_total").increment(bytes as u64);
}

/// Blocks that a peer sent, of `bytes` together.
pub(super) fn blocks_received(bytes: usize, received: &Received) {
    let Received {
        useful,
        duplicate,
        unwanted,
    } = received;
    ::metrics::counter!("duka_bitswap_received_bytes_total").increment(bytes as u64);
    ::metrics::counter!("duka_bitswap_blocks_received_total").increment(*useful as u64);
    ::metrics::counter!("duka_bitswap_blocks_duplicate_total").increment(*duplicate as u64);
    ::metrics::counter!("duka_bitswap_blocks_unwanted_total").increment(*unwanted as u64);
}
