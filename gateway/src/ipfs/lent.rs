//! A node on loan: the gateway goes on with what is stored after it was taken back.

use std::sync::Arc;

use duka_node::node::Node;
use parking_lot::RwLock;

/// The node that a gateway serves from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LentNode(Arc<RwLock<Option<Node>>>);

impl LentNode {
    pub(super) fn new(node: Node) -> Self {
        Self(Arc::new(RwLock::new(Some(node))))
    }

    /// From now on the gateway resolves no name, and fetches from other gateways only; requests that resolve a
    /// name hold the node until they end.
    pub fn take_back(&self) {
        self.0.write().take();
    }

    pub(super) fn get(&self) -> Option<Node> {
        self.0.read().clone()
    }
}
