//! What was heard and nobody has looked at yet: the newest record of each name.

use std::collections::HashMap;

use libp2p::PeerId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ipns::Record;
use crate::keys::Name;

/// A valid record, newer than the one before.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// Whose.
    pub(crate) name: Name,
    /// The record.
    pub(crate) record: Record,
    /// Who sent it.
    pub(crate) from: PeerId,
}

/// Holds one record for each name that is followed, so it is bounded as these are.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    newest: Mutex<HashMap<Name, Heard>>,
    came: Notify,
}

impl Inbox {
    pub(super) fn put(&self, heard: Heard) {
        self.newest.lock().insert(heard.name.clone(), heard);
        self.came.notify_one();
    }

    /// All that came, once something has. One caller.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn take(&self) -> Vec<Heard> {
        loop {
            let came = self.came.notified();
            let heard: Vec<Heard> = self.newest.lock().drain().map(|(_, heard)| heard).collect();
            if !heard.is_empty() {
                return heard;
            }
            came.await;
        }
    }
}
