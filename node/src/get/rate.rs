//! A limit on the bytes a second that a download takes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Time that was not used is not made up for beyond this.
const MAX_CREDIT: Duration = Duration::from_millis(100);

/// Cheap to clone; clones share the limit.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    bytes_per_second: u64,
    /// When what was taken so far has been worked off.
    due: Arc<Mutex<Instant>>,
}

impl Rate {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            due: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Waits until `len` more bytes may be taken.
    pub(super) async fn take(&self, len: u64) {
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
