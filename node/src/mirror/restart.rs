//! A worker that panics is started anew, and its mirror says so.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, sleep};

use super::Shop;

/// Pause before the first start anew; doubles up to [`LONGEST`].
pub(super) const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// Runs the shop's worker, and again whenever it ends, `first` after the first time.
pub(super) async fn for_ever<W: Future<Output = ()>>(
    shop: &Shop,
    first: Duration,
    work: impl Fn() -> W,
) {
    let mut pause = first;
    loop {
        let started = Instant::now();
        // What it shares with others are short locked sections, which leave nothing half done.
        let ended = AssertUnwindSafe(work()).catch_unwind().await;
        if started.elapsed() > LONGEST {
            pause = first;
        }
        failed(shop, ended.is_err(), pause);
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

fn failed(shop: &Shop, has_panicked: bool, pause: Duration) {
    let how = if has_panicked { "failed" } else { "ended" };
    tracing::error!(shop = %shop.name, ?pause, "the worker of a mirror {how}");
    let mut progress = shop.progress.lock();
    progress.is_busy = false;
    progress.stall = Some(format!(
        "its worker {how}, which is a fault of duka, and is started anew after {pause:?}"
    ));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::super::testing;
    use super::*;

    #[tokio::test]
    async fn a_worker_that_panics_is_started_anew_after_longer_and_longer_pauses() {
        let (node, _dir) = testing::node().await;
        let shop = testing::shop(&node);
        let started = AtomicU32::new(0);
        let (lives, mut is_alive) = tokio::sync::mpsc::channel(1);
        let work = || {
            let number = started.fetch_add(1, Relaxed);
            let (shop, lives) = (&shop, lives.clone());
            async move {
                shop.progress.lock().is_busy = true;
                assert_eq!(number, 3, "a fault");
                lives.send(()).await.unwrap();
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = for_ever(&shop, Duration::from_millis(1), work) => {}
            alive = is_alive.recv() => alive.unwrap(),
        }
        assert_eq!(started.load(Relaxed), 4);
        // It says so until the worker gets somewhere.
        let stall = shop.progress.lock().stall.clone().unwrap();
        assert!(
            stall.contains("failed") && stall.ends_with("after 4ms"),
            "{stall}"
        );
    }
}
