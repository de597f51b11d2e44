//! How fast work in the background goes.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

/// How often a pause looks whether to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(20);
/// Time that was not used is not made up for beyond this.
const MAX_CREDIT: Duration = Duration::from_millis(100);

/// What is left of an interval that began at `started`.
pub(crate) fn left_of(interval: Duration, started: Timestamp) -> Duration {
    let since = Timestamp::now().duration_since(started).unsigned_abs();
    interval.saturating_sub(since)
}

/// Holds blocking work to a rate. Ends it when the node stops.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    /// When what was taken so far has been worked off.
    due: Instant,
    stop: CancellationToken,
}

impl Pace {
    /// Up to `bytes_per_second`; 0 is without limit.
    pub fn new(bytes_per_second: u64, stop: CancellationToken) -> Self {
        Self {
            bytes_per_second,
            due: Instant::now(),
            stop,
        }
    }

    /// Waits until `bytes` more may be worked on; `false` when it is time to stop. Blocking.
    pub fn take(&mut self, bytes: u64) -> bool {
        if self.bytes_per_second > 0 {
            let earliest = Instant::now().checked_sub(MAX_CREDIT);
            self.due = earliest.map_or(self.due, |earliest| self.due.max(earliest));
            #[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
            let seconds = bytes as f64 / self.bytes_per_second as f64;
            self.due += Duration::from_secs_f64(seconds);
        }
        while !self.stop.is_cancelled() {
            let left = self.due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(STOP_INTERVAL));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_as_long_as_its_rate_says_and_stops_at_once() {
        let stop = CancellationToken::new();
        let mut pace = Pace::new(1 << 20, stop.clone());
        let started = Instant::now();
        for _ in 0..4 {
            assert!(pace.take(128 << 10));
        }
        assert!(started.elapsed() >= Duration::from_millis(390));
        stop.cancel();
        assert!(!pace.take(u64::MAX >> 20));
    }
}
