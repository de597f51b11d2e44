//! When bytes last arrived.

use std::time::Instant;

use parking_lot::Mutex;

/// When bytes last arrived for a request.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Option<Instant>>);

impl Progress {
    pub(super) fn note(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    pub(crate) fn last(&self) -> Option<Instant> {
        *self.0.lock()
    }
}
