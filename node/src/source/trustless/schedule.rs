//! Shares blocks out among sources: gateways, and the peers of a request. Each block waits for a source that has room for it, so that fast
//! sources take more of them than slow ones. What a source is slow with another one is asked for as
//! well, and the first good answer wins; how often that may be is bounded.

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::board::{Answer, Board, Grant, Rules, Source, Totals, Tried};
use super::health::{Health, MIN_STALL, QUIET};
use super::memory::Seen;
use super::progress::Progress;
use super::refusal::Refusal;
use crate::block::Block;

/// Whom a block is asked of as well that is slow to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hedge {
    /// Who is known to answer: the first one sends.
    Proven,
    /// Whoever may: the first one may be gone.
    Anybody,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Schedule {
    /// When bytes last arrived from each source.
    progress: Arc<[Progress]>,
    /// Longest time without a byte.
    timeout: Duration,
    board: Mutex<Board>,
}

/// The peers of one request: a source among the gateways, for its blocks only. It goes when it is dropped.
pub(crate) struct Guest {
    schedule: Arc<Schedule>,
    index: usize,
    heard: Box<dyn Fn() -> Option<std::time::Instant> + Send + Sync>,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guest").field(&self.index).finish()
    }
}

impl Guest {
    pub(super) fn index(&self) -> usize {
        self.index
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.schedule.board.lock().part(self.index);
    }
}

impl Schedule {
    /// A guest, who last sent something when `heard` says.
    pub(super) fn join(
        self: &Arc<Self>,
        heard: impl Fn() -> Option<std::time::Instant> + Send + Sync + 'static,
    ) -> Guest {
        Guest {
            schedule: Arc::clone(self),
            index: self.board.lock().join(),
            heard: Box::new(heard),
        }
    }

    pub(super) fn new(sources: usize, rules: Rules, timeout: Duration) -> Self {
        let progress = std::iter::repeat_with(Progress::default).take(sources);
        let progress: Arc<[Progress]> = progress.collect();
        Self {
            board: Mutex::new(Board::new(Arc::clone(&progress), rules)),
            progress,
            timeout,
        }
    }

    /// One block from whoever gives it first, of the gateways and of the `guest`. `ask` asks one source and
    /// notes when bytes arrive, here and with [`Schedule::note`].
    ///
    /// # Cancel safety
    /// Dropping the future gives up the requests.
    pub(super) async fn fetch<A, F>(&self, guest: Option<&Guest>, ask: A) -> Result<Block, Refusal>
    where
        A: Fn(usize, Arc<Progress>) -> F,
        F: Future<Output = Result<Block, Refusal>>,
    {
        let mut tried = self.board.lock().nothing_tried(guest.map(Guest::index));
        let mut worst = Refusal::NotFound;
        let won = OnceLock::new();
        let mut under_way = FuturesUnordered::new();
        let mut watched: Vec<Watched> = Vec::new();
        // One more source is wanted, though one is asked already.
        let mut hedge = None;
        loop {
            let wants_source = under_way.is_empty() || hedge.is_some();
            tried.is_picky = !under_way.is_empty() && hedge == Some(Hedge::Proven);
            let look_at = watched.iter().map(Watched::due).min();
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
                found = self.slot(&tried, hedge.is_some(), &won), if wants_source => {
                    hedge = None;
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
                () = until(look_at) => {
                    let more = self.look(&mut watched, guest, hedge);
                    hedge = hedge.max(more);
                }
            }
        }
    }

    /// Begins with what was seen of a source before.
    pub(super) fn know(&self, index: usize, seen: &Seen) {
        let health = Health::remembered(seen, Instant::now(), Timestamp::now());
        self.board.lock().know(index, health);
    }

    /// What was seen of each source that was asked.
    pub(super) fn seen(&self) -> Vec<Option<Seen>> {
        let (board, now) = (self.board.lock(), Timestamp::now());
        let sources = board.sources.iter();
        sources.map(|source| source.health.seen(now)).collect()
    }

    /// Bytes arrived from a source for the request whose progress this is.
    pub(super) fn note(&self, index: usize, request: &Progress, share: f64) {
        let is_first = request.last().is_none();
        request.note(share);
        self.progress[index].note(share);
        if !is_first {
            return;
        }
        let mut board = self.board.lock();
        let health = board.source(index).map(|source| &source.health);
        if health.is_some_and(|health| !health.is_proven()) {
            // What waits for somebody who answers may ask it.
            board.share_out(Instant::now());
        }
    }

    /// What each source gave so far.
    pub(super) fn totals(&self) -> Vec<Totals> {
        let board = self.board.lock();
        board.sources.iter().map(|source| source.totals).collect()
    }

    /// A source that has room, once there is one.
    async fn slot<'a>(
        &'a self,
        tried: &Tried,
        goes_first: bool,
        won: &'a OnceLock<Duration>,
    ) -> Result<Slot<'a>, Refusal> {
        let since = Instant::now();
        let mut queued = {
            let mut board = self.board.lock();
            match board.take(tried, since, since) {
                Answer::Granted(grant) => return Ok(Slot::new(self, grant, won)),
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
                    return granted.map(|grant| Slot::new(self, grant, won));
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
        let after = board.look_after(slot.grant.index);
        Watched {
            grant: slot.grant,
            began: slot.began,
            look_at: slot.began + after.min(self.timeout / 4),
            stalled_at: slot.began + self.timeout.min(MIN_STALL),
            has_stalled: false,
            progress: Arc::clone(progress),
        }
    }

    /// Looks at requests that take longer than usual: whether one more source should be asked, beyond `hedge`.
    fn look(
        &self,
        watched: &mut [Watched],
        guest: Option<&Guest>,
        hedge: Option<Hedge>,
    ) -> Option<Hedge> {
        let now = Instant::now();
        let heard = guest.map(|guest| (guest.index, (guest.heard)()));
        let mut board = self.board.lock();
        let (mut is_slow, mut is_lost, mut is_covered) = (false, false, false);
        let (mut is_sending, mut has_begun) = (false, false);
        let (mut is_crawling, mut may_come) = (false, false);
        for request in watched {
            let Grant {
                index, is_probe, ..
            } = request.grant;
            let look_after = board.look_after(index).min(self.timeout / 4);
            let Some(Source { health, .. }) = board.source_mut(index) else {
                continue;
            };
            let last = match heard {
                Some((guest, heard)) if guest == index => heard,
                _ => self.progress[index].last(),
            };
            let last = last.map(Instant::from_std);
            let is_heard = last.is_some_and(|last| now - last < QUIET);
            let last = last.map_or(request.began, |last| last.max(request.began));
            let was_sending = request.progress.last().is_some();
            request.stalled_at = last + health.stalled_after(was_sending).min(self.timeout / 2);
            if !request.has_stalled {
                // Somebody may answer by now.
                request.look_at = request.look_at.max(request.began + look_after);
            }
            if request.stalled_at <= now && !request.has_stalled {
                request.has_stalled = true;
                request.look_at = now;
                health.leave_alone(now, is_probe);
            }
            let may_answer = is_heard && now < request.began + MIN_STALL;
            let is_gone = health.has_failed() && !may_answer;
            if is_heard {
                let after = health.hedge_after().min(self.timeout / 4);
                request.look_at = request.look_at.max(request.began + after);
            }
            if request.look_at > now {
                is_covered |= !is_gone;
                continue;
            }
            let patience = health.hedge_after().saturating_mul(2).max(MIN_STALL);
            let is_patient = now - request.began < patience;
            is_sending |= is_patient && now - last < QUIET;
            has_begun |= was_sending;
            // Who sends the first block slowly may be as fast as any, and what is there soon would
            // come from nobody else sooner.
            let rest = request.progress.rest(now - request.began);
            let is_soon_there = rest.is_some_and(|rest| rest <= health.hedge_after());
            let crawls_after = health.crawls_after();
            let crawls = crawls_after.is_some_and(|after| now - request.began > after);
            is_crawling |= crawls && !is_soon_there;
            may_come |= !crawls || is_soon_there;
            let is_known = health.is_known() || !was_sending || !is_patient;
            is_slow |= is_known && !is_soon_there;
            is_lost |= is_gone;
            request.look_at = now + look_after;
        }
        if is_covered || hedge == Some(Hedge::Anybody) {
            return None;
        }
        let is_vain = is_crawling && !may_come;
        if is_lost || is_vain || is_slow && !has_begun && board.nobody_answers() {
            return Some(Hedge::Anybody);
        }
        let hedge = match is_sending {
            true => Hedge::Proven,
            false => Hedge::Anybody,
        };
        (is_slow && board.may_hedge()).then_some(hedge)
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
    /// When it counts as stalled, if nothing comes.
    stalled_at: Instant,
    has_stalled: bool,
    progress: Arc<Progress>,
}

impl Watched {
    /// When it should be looked at.
    fn due(&self) -> Instant {
        match self.has_stalled {
            true => self.look_at,
            false => self.look_at.min(self.stalled_at),
        }
    }
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
    /// How long the request took that gave the block.
    won: &'a OnceLock<Duration>,
    began: Instant,
    is_settled: bool,
}

impl<'a> Slot<'a> {
    fn new(schedule: &'a Schedule, grant: Grant, won: &'a OnceLock<Duration>) -> Self {
        Self {
            schedule,
            grant,
            won,
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
        let Some(Source { health, totals }) = board.source_mut(index) else {
            return index;
        };
        match answer {
            Ok(block) => {
                let len = block.data().len();
                let took = *self.won.get_or_init(|| now - self.began);
                health.gave(took, len, with);
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
        let index = self.grant.index;
        let last = self.schedule.progress.get(index).map(Progress::last);
        let is_silent =
            last.is_some_and(|last| last.is_none_or(|last| last < self.began.into_std()));
        if let Some(source) = board.source_mut(index)
            && !self.is_settled
        {
            let waited = now - self.began;
            let winner = self.won.get().copied().unwrap_or_default();
            let is_probe = self.grant.is_probe;
            let health = &mut source.health;
            health.was_slower(now, waited, winner, is_silent, is_probe);
        }
        board.end(self.grant, now);
    }
}
