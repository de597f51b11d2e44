//! When bytes last arrived, and what part of the answer is there.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// When bytes last arrived for a request, and how much of it there is.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Option<Arrived>>);

#[derive(Clone, Copy, Debug)]
struct Arrived {
    at: Instant,
    /// Part of the answer; 0 if its length is not known.
    share: f64,
}

impl Progress {
    pub(super) fn note(&self, share: f64) {
        let at = Instant::now();
        *self.0.lock() = Some(Arrived { at, share });
    }

    pub(crate) fn last(&self) -> Option<Instant> {
        self.0.lock().map(|arrived| arrived.at)
    }

    /// Time until the answer is whole, if the rest comes like what is there, which took so long.
    pub(super) fn rest(&self, took: Duration) -> Option<Duration> {
        let share = self.0.lock().map(|arrived| arrived.share)?;
        Duration::try_from_secs_f64(took.as_secs_f64() * (1.0 - share) / share).ok()
    }
}
