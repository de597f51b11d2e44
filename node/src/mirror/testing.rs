//! What tests of mirrors share.

use cid::Cid;
use duka_config::Config;
use jiff::Timestamp;
use tempfile::TempDir;

use super::Shop;
use crate::manifest::change::Op;
use crate::manifest::record::{Held, Mirror, MirrorPolicy};
use crate::node::{self, Node};
use crate::shop::follow::Followed;

/// A node without a network.
pub(super) async fn node() -> (Node, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.network.offline = true;
    config.store.reserve = bytesize::ByteSize::mib(1);
    node::init(dir.path()).unwrap();
    (Node::open(dir.path(), &config).await.unwrap(), dir)
}

pub(super) fn shop(node: &Node) -> Shop {
    Shop::new(node, &node.shop_name())
}

/// A head that nobody signed.
pub(super) fn head(root: Cid, seq: u64) -> Followed {
    Followed {
        shop_record: Vec::new(),
        shop_sequence: 1,
        shop_validity: Timestamp::UNIX_EPOCH,
        publishing: Vec::new(),
        head_record: seq.to_be_bytes().to_vec(),
        validity: Timestamp::UNIX_EPOCH,
        seq,
        root,
        shop_json: root,
        issued: Timestamp::UNIX_EPOCH,
        lifetime: 1,
        refresh: 1,
    }
}

/// Has the node mirror its own shop, of which it holds a head.
pub(super) async fn hold(node: &Node, root: Cid, kept: Cid, policy: MirrorPolicy) {
    let mut mirror = Mirror::new(Timestamp::UNIX_EPOCH);
    mirror.held = Some(Held {
        head: head(root, 1),
        kept,
        policy,
        bytes: 0,
    });
    let ops = vec![Op::PutMirror(node.shop_name().to_bytes(), mirror)];
    super::commit(node, ops).await.unwrap();
}
