//! Shares blocks out among sources. Each block waits for a source that has room for it, so that fast
//! sources take more of them than slow ones. What a source is slow with another one is asked for as
//! well, and the first good answer wins; how often that may be is bounded.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::board::{Answer, Board, Grant, Rules, Totals, Tried};
use super::progress::Progress;
use super::refusal::Refusal;
use crate::block::Block;

/// See the module.
#[derive(Debug)]
pub(super) struct Schedule {
    /// When bytes last arrived from each source.
    progress: Vec<Progress>,
    /// Longest time without a byte.
    timeout: Duration,
    board: Mutex<Board>,
}

impl Schedule {
    pub(super) fn new(sources: usize, rules: Rules, timeout: Duration) -> Self {
        Self {
            progress: std::iter::repeat_with(Progress::default)
                .take(sources)
                .collect(),
            timeout,
            board: Mutex::new(Board::new(sources, rules)),
        }
    }

    /// One block from whoever gives it first. `ask` asks one source and notes when bytes arrive, here
    /// and with [`Schedule::note`].
    ///
    /// # Cancel safety
    /// Dropping the future gives up the requests.
    pub(super) async fn fetch<A, F>(&self, ask: A) -> Result<Block, Refusal>
    where
        A: Fn(usize, Arc<Progress>) -> F,
        F: Future<Output = Result<Block, Refusal>>,
    {
        let mut tried = self.board.lock().nothing_tried();
        let mut worst = Refusal::NotFound;
        let mut under_way = FuturesUnordered::new();
        let mut watched: Vec<Watched> = Vec::new();
        // One more source is wanted, though one is asked already.
        let mut is_hedging = false;
        loop {
            let wants_source = under_way.is_empty() || is_hedging;
            let look_at = watched.iter().map(|request| request.look_at).min();
            tokio::select! {
                biased;
                Some((slot, answer)) = under_way.next() => {
                    let index = Slot::settle(slot, &answer);
                    watched.retain(|request| request.grant.index != index);
                    match answer {
                        Ok(block) => return Ok(block),
                        Err(refusal) => {
                            tried.refused(index, refusal, Instant::now());
                            worst = worst.max(refusal);
                        }
                    }
                }
                found = self.slot(&tried, is_hedging), if wants_source => {
                    is_hedging = false;
                    match found {
                        Ok(slot) => {
                            tried.begin(slot.grant.index);
                            let progress = Arc::new(Progress::default());
                            watched.push(self.watch(&slot, &progress));
                            let answer = ask(slot.grant.index, progress);
                            under_way.push(async move { (slot, answer.await) });
                        }
                        Err(why) if under_way.is_empty() => return Err(worst.max(why)),
                        // Nobody else is left: who is asked already is waited for.
                        Err(_) => {}
                    }
                }
                () = until(look_at) => is_hedging |= self.look(&mut watched, is_hedging),
            }
        }
    }

    /// Bytes arrived from a source.
    pub(super) fn note(&self, index: usize) {
        self.progress[index].note();
    }

    /// What each source gave so far.
    pub(super) fn totals(&self) -> Vec<Totals> {
        let board = self.board.lock();
        board.sources.iter().map(|source| source.totals).collect()
    }

    /// A source that has room, once there is one.
    async fn slot(&self, tried: &Tried, goes_first: bool) -> Result<Slot<'_>, Refusal> {
        let since = Instant::now();
        let mut queued = {
            let mut board = self.board.lock();
            match board.take(tried, since, since) {
                Answer::Granted(grant) => return Ok(Slot::new(self, grant)),
                Answer::Nobody(why) => return Err(why),
                Answer::Wait(until) => {
                    let (id, granted) = board.queue(tried, since, goes_first);
                    Queued {
                        schedule: self,
                        id,
                        granted: Some(granted),
                        until,
                    }
                }
            }
        };
        loop {
            let wake = queued.until;
            tokio::select! {
                biased;
                granted = queued.granted() => {
                    queued.granted = None;
                    return granted.map(|grant| Slot::new(self, grant));
                }
                () = until(wake) => {
                    let mut board = self.board.lock();
                    let now = Instant::now();
                    board.share_out(now);
                    queued.until = board.wake(queued.id, now);
                }
            }
        }
    }

    fn watch(&self, slot: &Slot<'_>, progress: &Arc<Progress>) -> Watched {
        let board = self.board.lock();
        let after = board.sources[slot.grant.index].health.hedge_after();
        Watched {
            grant: slot.grant,
            began: slot.began,
            look_at: slot.began + after.min(self.timeout / 4),
            has_stalled: false,
            progress: Arc::clone(progress),
        }
    }

    /// Looks at requests that take longer than usual: whether one more source should be asked.
    fn look(&self, watched: &mut [Watched], is_hedging: bool) -> bool {
        let now = Instant::now();
        let mut board = self.board.lock();
        let (mut is_slow, mut is_lost, mut is_covered) = (false, false, false);
        for request in watched {
            let Grant {
                index, is_probe, ..
            } = request.grant;
            let health = &mut board.sources[index].health;
            if request.look_at > now {
                is_covered |= !health.has_failed();
                continue;
            }
            let stalled_after = health.stalled_after().min(self.timeout / 2);
            let last = self.progress[index].last().map(Instant::from_std);
            let last = last.map_or(request.began, |last| last.max(request.began));
            if last + stalled_after <= now && !request.has_stalled {
                request.has_stalled = true;
                health.leave_alone(now, is_probe);
            }
            // Who sends the first block slowly may be as fast as any.
            is_slow |= health.is_known() || request.progress.last().is_none();
            is_lost |= health.has_failed();
            request.look_at = now + health.hedge_after().min(self.timeout / 4);
        }
        let is_wanted = !is_hedging && !is_covered;
        is_wanted && (is_lost || is_slow && board.may_hedge())
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// A request that is under way.
struct Watched {
    grant: Grant,
    began: Instant,
    look_at: Instant,
    has_stalled: bool,
    progress: Arc<Progress>,
}

/// A place in the queue, left when it is dropped.
struct Queued<'a> {
    schedule: &'a Schedule,
    id: u64,
    granted: Option<oneshot::Receiver<Result<Grant, Refusal>>>,
    until: Option<Instant>,
}

impl Queued<'_> {
    async fn granted(&mut self) -> Result<Grant, Refusal> {
        match &mut self.granted {
            Some(granted) => granted.await.unwrap_or(Err(Refusal::Failed)),
            None => Err(Refusal::Failed),
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let Some(mut granted) = self.granted.take() else {
            return;
        };
        let mut board = self.schedule.board.lock();
        board.leave(self.id);
        if let Ok(Ok(unused)) = granted.try_recv() {
            board.end(unused, Instant::now());
        }
    }
}

/// One request at a source, over when it is dropped.
struct Slot<'a> {
    schedule: &'a Schedule,
    grant: Grant,
    began: Instant,
    is_settled: bool,
}

impl<'a> Slot<'a> {
    fn new(schedule: &'a Schedule, grant: Grant) -> Self {
        Self {
            schedule,
            grant,
            began: Instant::now(),
            is_settled: false,
        }
    }

    /// Takes note of the answer. Who was asked.
    fn settle(mut self, answer: &Result<Block, Refusal>) -> usize {
        self.is_settled = true;
        let Grant {
            index,
            is_probe,
            with,
        } = self.grant;
        let now = Instant::now();
        let mut board = self.schedule.board.lock();
        let source = &mut board.sources[index];
        let (health, totals) = (&mut source.health, &mut source.totals);
        match answer {
            Ok(block) => {
                let len = block.data().len();
                health.gave(now - self.began, len, with);
                totals.blocks += 1;
                totals.bytes += len as u64;
            }
            Err(Refusal::NotFound) => health.missed(),
            Err(Refusal::Later(pause)) => health.pause(now + *pause),
            Err(Refusal::Lied) => health.lied(),
            Err(Refusal::Failed) => health.failed(now, is_probe),
            Err(Refusal::Unreachable | Refusal::TimedOut) => health.leave_alone(now, is_probe),
        }
        let is_error = !matches!(answer, Ok(_) | Err(Refusal::NotFound | Refusal::Later(_)));
        totals.errors += u64::from(is_error);
        index
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut board = self.schedule.board.lock();
        if !self.is_settled {
            board.sources[self.grant.index]
                .health
                .was_slower(now - self.began);
        }
        board.end(self.grant, now);
    }
}
