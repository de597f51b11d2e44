//! Paths that were asked for lately, and where they lead: the folders on the way are not read again. A path
//! below a CID leads to the same node for ever.

use std::sync::Arc;

use cid::Cid;

use super::memory::Memory;
use crate::dag::path::Resolved;
use crate::denylist::Denylists;

#[derive(Debug)]
pub(super) struct Paths(Memory<Box<[u8]>, Arc<Resolved>>);

impl Paths {
    pub(super) fn new(most: usize) -> Self {
        Self(Memory::new(most))
    }

    /// Where the path leads, unless something on the way is denied by now, or may be gone.
    pub(super) fn get(
        &self,
        root: &Cid,
        segments: &[String],
        denylists: &Denylists,
        removals: u64,
    ) -> Option<Resolved> {
        let known = self.0.get(&*key(root, segments), removals)?;
        let is_denied = |cid: &Cid| denylists.check_block(cid).is_some();
        let denied = !denylists.is_empty() && known.visited.iter().any(is_denied);
        (!denied).then(|| Resolved::clone(&known))
    }

    /// Takes what came out when the store had removed so many packs.
    pub(super) fn put(&self, root: &Cid, segments: &[String], found: &Resolved, removals: u64) {
        let key = key(root, segments);
        let names: usize = found
            .remainder
            .iter()
            .map(|name| name.len() + size_of_val(name))
            .sum();
        let cids = size_of_val(&*found.visited) + size_of_val(&*found.roots);
        let len = key.len() + names + cids;
        self.0.put(key, Arc::new(found.clone()), len, removals);
    }
}

/// Segments are UTF-8, in which no byte is 255.
fn key(root: &Cid, segments: &[String]) -> Box<[u8]> {
    let mut key = root.to_bytes();
    for segment in segments {
        key.push(0xff);
        key.extend_from_slice(segment.as_bytes());
    }
    key.into()
}
