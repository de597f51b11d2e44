//! Lookups of names: at most one at a time for each name, and when the last one ended.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

use crate::keys::Name;
use crate::manifest::ManifestError;
use crate::source::trustless::Silence;

/// Names whose lookups are remembered.
const NAMES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// How a lookup ended: what it found is kept; with a gateway that did not answer, if there is one.
pub(super) type Ended = Result<Option<(Url, Silence)>, ManifestError>;

/// Lookups that are under way or have ended.
#[derive(Debug)]
pub(crate) struct Lookups {
    names: Mutex<LruCache<Name, Lookup>>,
}

#[derive(Debug)]
struct Lookup {
    ended: Option<Instant>,
    /// Its sender lives as long as the lookup.
    found: watch::Receiver<Option<Ended>>,
}

impl Lookups {
    pub(crate) fn new() -> Self {
        Self {
            names: Mutex::new(LruCache::new(NAMES)),
        }
    }

    /// Time since the name was last looked up.
    pub(super) fn age(&self, name: &Name) -> Option<Duration> {
        Some(self.names.lock().get(name)?.ended?.elapsed())
    }

    /// The lookup of the name that is under way, and the sender of a new one when there is none.
    pub(super) fn join(
        &self,
        name: &Name,
    ) -> (
        watch::Receiver<Option<Ended>>,
        Option<watch::Sender<Option<Ended>>>,
    ) {
        let mut names = self.names.lock();
        let last = names.get(name);
        if let Some(running) = last.filter(|lookup| lookup.found.has_changed().is_ok()) {
            return (running.found.clone(), None);
        }
        let ended = last.and_then(|lookup| lookup.ended);
        let (sender, found) = watch::channel(None);
        let lookup = Lookup {
            ended,
            found: found.clone(),
        };
        names.put(name.clone(), lookup);
        (found, Some(sender))
    }

    /// A lookup has ended, whatever it found.
    pub(super) fn ended(&self, name: &Name) {
        if let Some(lookup) = self.names.lock().get_mut(name) {
            lookup.ended = Some(Instant::now());
        }
    }
}
