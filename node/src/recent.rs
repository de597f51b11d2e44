//! RECENT: trees that were stored without a pin a moment ago. Who stores one mostly means to use it next,
//! so collections that nobody asked for leave it alone for a while.

use std::time::Duration;

use cid::Cid;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::manifest::change::{Change, Op};
use crate::manifest::{Manifest, ManifestError};
use crate::node::Node;

/// How long a tree is left alone.
const GRACE: Duration = Duration::from_secs(3600);
/// Most trees that are: the newest ones.
const MOST: usize = 256;
/// Where the manifest keeps them.
const KEY: &str = "gc/recent";
/// Newest form of [`Trees`]; what is in another one is not left alone.
const VERSION: u32 = 1;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Trees {
    version: u32,
    /// When each was stored, in Unix seconds, and its root; in the order of storing.
    trees: Vec<(i64, Cid)>,
}

/// Notes trees that were stored and not pinned, durably. The caller holds them with a temp pin.
pub async fn note(node: &Node, roots: impl IntoIterator<Item = Cid>) -> Result<(), ManifestError> {
    let _turn = node.recent_turn().await;
    let now = Timestamp::now().as_second();
    let mut trees = read(node.manifest(), now)?;
    for root in roots {
        trees.retain(|(_, other)| *other != root);
        trees.push((now, root));
    }
    trees.drain(..trees.len().saturating_sub(MOST));
    let value = Trees {
        version: VERSION,
        trees,
    };
    let kind = "state";
    let value = serde_ipld_dagcbor::to_vec(&value).map_err(|_| ManifestError::Record { kind })?;
    let change = Change {
        expect: Vec::new(),
        ops: vec![Op::PutState(KEY.to_owned(), value)],
    };
    node.manifest().commit(change).await.map(drop)
}

/// The roots of the trees that are to be left alone at `now`.
pub(crate) fn roots(manifest: &Manifest, now: Timestamp) -> Result<Vec<Cid>, ManifestError> {
    let trees = read(manifest, now.as_second())?;
    Ok(trees.into_iter().map(|(_, root)| root).collect())
}

fn read(manifest: &Manifest, now: i64) -> Result<Vec<(i64, Cid)>, ManifestError> {
    let stored = manifest.state(KEY)?;
    let stored = stored.and_then(|value| serde_ipld_dagcbor::from_slice::<Trees>(&value).ok());
    let mut trees = stored.unwrap_or_default();
    if trees.version != VERSION {
        return Ok(Vec::new());
    }
    // A clock that was set back must not keep them for good.
    trees
        .trees
        .retain(|(stored, _)| now.abs_diff(*stored) < GRACE.as_secs());
    Ok(trees.trees)
}

#[cfg(test)]
mod tests {
    use duka_config::Config;
    use jiff::SignedDuration;

    use super::*;
    use crate::block::{RAW, cid_of};
    use crate::node;

    #[tokio::test]
    async fn the_newest_trees_are_left_alone_for_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.network.offline = true;
        node::init(dir.path()).unwrap();
        let node = Node::open(dir.path(), &config).await.unwrap();
        let root = |number: usize| cid_of(RAW, &number.to_le_bytes());
        note(&node, [root(0), root(1)]).await.unwrap();
        note(&node, [root(0)]).await.unwrap();
        let at = |seconds| {
            let now = Timestamp::now() + SignedDuration::from_secs(seconds);
            roots(node.manifest(), now).unwrap()
        };
        assert_eq!(at(0), [root(1), root(0)]);
        assert_eq!(at(3_000).len(), 2);
        for away in [3_700, -3_700] {
            assert_eq!(at(away), []);
        }

        note(&node, (2..MOST + 1).map(root)).await.unwrap();
        assert_eq!(at(0).len(), MOST);
        assert!(at(0).contains(&root(0)));
        assert!(!at(0).contains(&root(1)));
        node.shutdown().await;
    }
}
