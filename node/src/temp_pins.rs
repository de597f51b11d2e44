//! Temp pins: what must not be collected while it is being built. They live in memory only: after a
//! crash, what was not committed is garbage.

use std::collections::HashMap;
use std::sync::Arc;

use cid::Cid;
use parking_lot::Mutex;

use crate::store::{Session, Store};

/// The temp pins of one node. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TempPins {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    guards: usize,
    roots: HashMap<Cid, usize>,
}

/// Keeps DAGs from collection until it is dropped, and whatever is put or found in the store meanwhile:
/// the root of an import is not known before its end.
#[derive(Debug)]
#[must_use = "dropping the guard lets the DAG be collected"]
pub struct TempPin {
    pins: TempPins,
    roots: Vec<Cid>,
    _session: Session,
}

impl TempPins {
    /// A guard that holds nothing yet.
    pub(crate) fn begin(&self, store: &Store) -> TempPin {
        self.held.lock().guards += 1;
        TempPin {
            pins: self.clone(),
            roots: Vec::new(),
            _session: store.session(),
        }
    }

    /// Whether any guard lives.
    pub fn any(&self) -> bool {
        self.held.lock().guards > 0
    }

    /// The roots that guards hold, in no order.
    pub fn roots(&self) -> Vec<Cid> {
        self.held.lock().roots.keys().copied().collect()
    }
}

impl TempPin {
    /// Holds the DAG under `root`, too.
    pub fn hold(&mut self, root: Cid) {
        *self.pins.held.lock().roots.entry(root).or_default() += 1;
        self.roots.push(root);
    }
}

impl Drop for TempPin {
    fn drop(&mut self) {
        let mut held = self.pins.held.lock();
        held.guards -= 1;
        for root in &self.roots {
            if let Some(count) = held.roots.get_mut(root) {
                *count -= 1;
                if *count == 0 {
                    held.roots.remove(root);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{RAW, cid_of};
    use crate::store::StoreOptions;

    #[test]
    fn root_is_held_until_its_last_guard_drops() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let pins = TempPins::default();
        let root = cid_of(RAW, b"root");
        let (mut one, mut two) = (pins.begin(&store), pins.begin(&store));
        one.hold(root);
        two.hold(root);
        drop(one);
        assert_eq!(pins.roots(), [root]);
        drop(two);
        assert!(pins.roots().is_empty());
        assert!(!pins.any());
    }
}
