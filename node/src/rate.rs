//! A limit on bytes a second: of a download, or of what is given to others.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Time that was not used is not made up for beyond this.
const MAX_CREDIT: Duration = Duration::from_millis(100);

/// Lets so many bytes a second through, first come, first served. Cheap to clone; clones share the limit.
#[derive(Clone, Debug)]
pub struct Rate {
    bytes_per_second: u64,
    /// When what was taken so far has been worked off.
    due: Arc<Mutex<Instant>>,
}

impl Rate {
    /// So many bytes a second, one at least.
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            due: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Bytes a second.
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// Waits until `len` more bytes may be taken.
    pub async fn take(&self, len: u64) {
        let due = {
            let mut due = self.due.lock();
            let now = Instant::now();
            *due = (*due).max(now.checked_sub(MAX_CREDIT).unwrap_or(now));
            #[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
            let seconds = len as f64 / self.bytes_per_second as f64;
            *due += Duration::from_secs_f64(seconds);
            *due
        };
        sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_who_take_share_the_rate() {
        let rate = Rate::new(10_000);
        let started = Instant::now();
        let takers = (0..10).map(|_| {
            let rate = rate.clone();
            async move {
                for _ in 0..5 {
                    rate.take(100).await;
                }
            }
        });
        futures::future::join_all(takers).await;
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(500) - MAX_CREDIT, "{took:?}");
    }
}
