//! Where an operation puts its events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::mpsc;

use super::event::{Event, Item, Progress};

/// Events that wait for the reader before the operation does.
const QUEUE: usize = 32;
/// Progress is told at most this often.
const PROGRESS_INTERVAL_MS: u64 = 100;

/// Where an operation puts its events. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct EventSink {
    events: mpsc::Sender<Event>,
    started: Instant,
    /// Milliseconds after `started` at which progress may be told again.
    next_progress: Arc<AtomicU64>,
}

impl EventSink {
    pub(super) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(QUEUE);
        let sink = Self {
            events,
            started: Instant::now(),
            next_progress: Arc::new(AtomicU64::new(PROGRESS_INTERVAL_MS)),
        };
        (sink, receiver)
    }

    /// Sends an event, waiting until the reader has room. Nobody reads any more: the operation is
    /// being dropped, and the event with it.
    pub(super) async fn send(&self, event: Event) {
        let _nobody_reads = self.events.send(event).await;
    }

    /// Sends a warning.
    pub(super) async fn warn(&self, message: String) {
        self.send(Event::Warning { message }).await;
    }

    /// Sends an entry of a list.
    pub(super) async fn item(&self, item: Item) {
        self.send(Event::Item(item)).await;
    }

    /// Tells progress, unless that was done just now or the reader is behind.
    pub(super) fn progress(&self, progress: Progress) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = self.next_progress.load(Ordering::Relaxed);
        let next = now.saturating_add(PROGRESS_INTERVAL_MS);
        let is_due = now >= due
            && self
                .next_progress
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_due {
            let _reader_is_behind = self.events.try_send(Event::Progress(progress));
        }
    }

    /// Whether nobody wants the result any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }
}
