//! Loads the record stores at the start and saves them in the background.

use std::path::{Path, PathBuf};

use libp2p::PeerId;
use tokio_util::task::TaskTracker;

use super::snapshot::{self, Entry};
use super::{Limits, Records};
use crate::net::address::Scope;

/// Where the records of each DHT are kept between runs.
#[derive(Debug)]
pub(in crate::net) struct RecordFiles {
    dir: PathBuf,
    tasks: TaskTracker,
}

impl RecordFiles {
    /// Saves run as blocking tasks of `tasks`.
    pub(in crate::net) fn new(dir: &Path, tasks: TaskTracker) -> Self {
        Self {
            dir: dir.to_owned(),
            tasks,
        }
    }

    /// The records of the last run. A file that cannot be read is as good as none: other peers
    /// have the same records.
    pub(in crate::net) async fn load(&self, scope: Scope, local: PeerId) -> Records {
        let path = self.path(scope);
        let read = self.tasks.spawn_blocking(move || {
            let entries = snapshot::load(&path).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "cannot read the DHT's records");
                Vec::new()
            });
            Records::restore(local, Limits::default(), entries)
        });
        read.await
            .unwrap_or_else(|_| Records::new(local, Limits::default()))
    }

    /// Saves in the background.
    pub(in crate::net) fn save(&self, scope: Scope, entries: Vec<Entry>) {
        let path = self.path(scope);
        self.tasks.spawn_blocking(move || {
            if let Err(error) = snapshot::save(&path, &entries) {
                tracing::warn!(path = %path.display(), %error, "cannot save the DHT's records");
            }
        });
    }

    fn path(&self, scope: Scope) -> PathBuf {
        self.dir.join(scope.as_str())
    }
}
