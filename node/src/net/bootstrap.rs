//! When to dial the first peers again.

use std::time::Duration;

use tokio::time::Instant;

/// With fewer peers than this the configured ones are dialed again.
const ENOUGH_PEERS: usize = 4;
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);

/// Doubles the wait after each attempt that left this node without enough peers.
#[derive(Debug)]
pub(super) struct Backoff {
    wait: Duration,
    next: Instant,
}

impl Backoff {
    /// Due at once.
    pub(super) fn new() -> Self {
        Self {
            wait: FIRST_WAIT,
            next: Instant::now(),
        }
    }

    /// When to look again.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Called at [`Backoff::next`]: whether to dial now.
    pub(super) fn due(&mut self, peers: usize, now: Instant) -> bool {
        if peers >= ENOUGH_PEERS {
            self.wait = FIRST_WAIT;
            self.next = now + LONGEST_WAIT / 10;
            return false;
        }
        self.next = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_ten_minutes_and_starts_over_with_enough_peers() {
        let start = Instant::now();
        let mut backoff = Backoff::new();
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert!(backoff.due(0, start));
            waits.push((backoff.next() - start).as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert!(!backoff.due(ENOUGH_PEERS, start));
        assert!(backoff.due(0, start));
        assert_eq!((backoff.next() - start).as_secs(), 5);
    }
}
