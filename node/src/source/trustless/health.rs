//! What is known of one source: how fast it answers, how many requests it takes at a time, and whether
//! it is worth asking. Knows no clock and no network: whoever asks says what time it is.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::memory::Seen;

/// Requests that one source has at a time at most; with HTTP/1.1 as many connections.
pub(super) const MAX_PARALLEL: usize = 32;
/// The same of a source that is many: the peers of a request.
const MAX_PARALLEL_OF_MANY: usize = 128;
const FIRST_PARALLEL: usize = 4;
/// The same of one that sends, and has not proven itself: more would make its first block late.
const MAX_UNPROVEN: usize = 2;
/// Requests that wait at a source for others before them: fewer than this and it gets more at a time,
const FEW_QUEUED: f64 = 3.0;
/// more than this and it gets fewer.
const MANY_QUEUED: f64 = 6.0;
/// Answers that are remembered.
const SAMPLES: usize = 64;
/// Answers from which on a source has a usual time.
const ENOUGH_SAMPLES: usize = 8;
/// Bounds of the time after which a block is asked of another source as well.
const FIRST_HEDGE: Duration = Duration::from_millis(250);
const MIN_HEDGE: Duration = Duration::from_millis(50);
const MAX_HEDGE: Duration = Duration::from_secs(10);
/// A source that sends nothing for so long may be gone.
pub(super) const QUIET: Duration = Duration::from_millis(250);
/// One that stops sending for so long has stalled: more than a lost packet costs.
const STALL: Duration = Duration::from_millis(500);
/// One that has not begun to may take thrice its usual time, but so long at least.
pub(super) const MIN_STALL: Duration = Duration::from_secs(1);
/// Least time after which a request that takes much longer than usual crawls.
const CRAWL: Duration = Duration::from_secs(5);
/// A source that failed is left alone for this long; twice as long each time that it fails again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// and for this long at most when it failed already before this request.
const MAX_REMEMBERED_PAUSE: Duration = Duration::from_secs(60 * 60);
/// What one that lied is remembered as: failures in a row.
const FAILURES_OF_LIAR: u32 = 14;
/// Time of an answer that is presumed of who has not answered yet.
const PRESUMED: Duration = FIRST_HEDGE;
/// The same where no other source is left to ask.
const FIRST_LAST_RESORT: Duration = Duration::from_millis(100);
const MAX_LAST_RESORT: Duration = Duration::from_secs(2);
/// While nobody answers, one more source is tried each time that this has passed (RFC 8305, section 5: the least
/// "Connection Attempt Delay").
pub(super) const TRIAL_PACE: Duration = Duration::from_millis(100);
/// Who has not proven itself gets one more request after this time.
pub(super) const TRIAL: Duration = Duration::from_millis(250);
/// Answers in a row that are no answers of a gateway, after which a source has failed.
const MAX_FAILURES: u32 = 2;
/// Blocks in a row that a source does not have, after which the others are asked first.
const MANY_MISSES: u32 = 4;
/// Classes of block sizes, by powers of two.
const CLASSES: usize = 24;

/// Health of one source.
#[derive(Debug)]
pub(super) struct Health {
    in_flight: usize,
    /// Requests that it may have at a time.
    limit: usize,
    most: usize,
    /// Answers since the limit last changed.
    answers: usize,
    /// The limit has not met a bound yet, and doubles.
    is_new: bool,
    /// Least time that a block of each size took.
    least: [Option<Duration>; CLASSES],
    /// Times of the last answers.
    recent: VecDeque<Duration>,
    failures: u32,
    misses: u32,
    /// It has answered.
    is_proven: bool,
    /// It answered before this request.
    was_good: bool,
    /// It sent nothing since a request was begun that it had time to answer.
    is_silent: bool,
    breaker: Breaker,
    /// When the last request began,
    began: Option<Instant>,
    /// and the first one of those that are under way, or the probe.
    tried_since: Option<Instant>,
    /// It said "later".
    paused_until: Option<Instant>,
    has_lied: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Breaker {
    Closed,
    /// It failed, and is left alone.
    Open {
        /// When it first failed since it last answered.
        since: Instant,
        /// How often it did.
        times: u32,
        /// When one request tries it again.
        retry_at: Instant,
        /// When one does that has nobody else to ask.
        last_resort_at: Instant,
        /// That request is under way.
        is_tried: bool,
    },
}

/// Whether a source can be asked now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ready {
    /// Its pause is over: one request finds out whether it answers.
    Probe,
    /// With this load; the least one answers first.
    Now(Load),
    /// It has enough to do.
    Busy,
    /// It said "later".
    Paused(Instant),
    /// It failed: a request that has nobody else to ask may ask it at the first time, any at the second.
    Failed(Instant, Instant),
    /// It failed, and a request is finding out whether it answers again.
    Probed,
    /// It lied.
    Never,
}

/// What is expected of one more request.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Load {
    /// It seldom has what is asked for.
    lacks: bool,
    /// Seconds until the answer.
    seconds: f64,
    /// Part of what it takes that it has.
    share: f64,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            in_flight: 0,
            limit: FIRST_PARALLEL,
            most: MAX_PARALLEL,
            answers: 0,
            is_new: true,
            least: [None; CLASSES],
            recent: VecDeque::with_capacity(SAMPLES),
            failures: 0,
            misses: 0,
            is_proven: false,
            was_good: false,
            is_silent: false,
            breaker: Breaker::Closed,
            began: None,
            tried_since: None,
            paused_until: None,
            has_lied: false,
        }
    }

    /// A source that is many.
    pub(super) fn of_many() -> Self {
        Self {
            most: MAX_PARALLEL_OF_MANY,
            ..Self::new()
        }
    }

    /// A source of which this was seen before: one that answered is among the first to be asked, one that
    /// failed among the last.
    pub(super) fn remembered(seen: &Seen, now: Instant, wall: Timestamp) -> Self {
        let mut health = Self::new();
        health
            .recent
            .extend(seen.usual_ms.map(Duration::from_millis));
        health.was_good = seen.failures == 0;
        if let Some(times) = seen.failures.checked_sub(1) {
            let age = seen.age(wall);
            let pause = doubled(FIRST_PAUSE, times, MAX_REMEMBERED_PAUSE);
            health.breaker = Breaker::Open {
                since: now,
                times,
                retry_at: now + pause.saturating_sub(age),
                last_resort_at: now.checked_sub(age).unwrap_or(now),
                is_tried: false,
            };
        }
        health
    }

    /// What is to be remembered; `None` if it was not asked.
    pub(super) fn seen(&self, wall: Timestamp) -> Option<Seen> {
        self.began?;
        let failures = match self.breaker {
            _ if self.has_lied => FAILURES_OF_LIAR,
            Breaker::Open { times, .. } => times + 1,
            Breaker::Closed if self.is_silent => 1,
            // It is still being found out.
            Breaker::Closed if !self.is_proven => return None,
            Breaker::Closed => 0,
        };
        Some(Seen {
            at: wall,
            usual_ms: self
                .mean()
                .and_then(|mean| u64::try_from(mean.as_millis()).ok()),
            failures,
        })
    }

    pub(super) fn ready(&self, now: Instant) -> Ready {
        if let Some(out) = self.out(now) {
            return out;
        }
        let trial = self.trial();
        match self.breaker {
            Breaker::Closed if trial.is_some_and(|began| began + TRIAL > now) => {
                Ready::Paused(trial.map_or(now, |began| began + TRIAL))
            }
            Breaker::Closed if self.in_flight < self.limit => Ready::Now(self.load()),
            Breaker::Closed => Ready::Busy,
            Breaker::Open { is_tried: true, .. } => Ready::Probed,
            Breaker::Open { retry_at, .. } if retry_at <= now => Ready::Probe,
            Breaker::Open {
                retry_at,
                last_resort_at,
                ..
            } => Ready::Failed(last_resort_at, retry_at),
        }
    }

    /// The same of one that has not proven itself, but sends.
    pub(super) fn ready_while_it_sends(&self, now: Instant) -> Ready {
        let has_room = self.in_flight < self.limit.min(MAX_UNPROVEN);
        self.out(now).unwrap_or_else(|| match has_room {
            true => Ready::Now(self.load()),
            false => Ready::Busy,
        })
    }

    /// Whether it lied, or said "later".
    fn out(&self, now: Instant) -> Option<Ready> {
        let paused = self.paused_until.filter(|until| *until > now);
        match self.has_lied {
            true => Some(Ready::Never),
            false => paused.map(Ready::Paused),
        }
    }

    /// How many requests it has.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether it answers, as far as is known.
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven && !self.is_silent && !self.has_failed() && !self.has_lied
    }

    /// When the last request began that finds out whether it answers, while one is under way.
    pub(super) fn trial(&self) -> Option<Instant> {
        let is_trial = self.in_flight > 0 && !self.is_proven();
        self.began.filter(|_| is_trial)
    }

    /// Since when it is being found out whether it answers, if nothing went wrong since.
    pub(super) fn tried_since(&self) -> Option<Instant> {
        let is_tried = match self.breaker {
            Breaker::Closed => true,
            Breaker::Open { is_tried, .. } => is_tried,
        };
        let trial = self.trial().filter(|_| is_tried && self.failures == 0);
        trial.and(self.tried_since)
    }

    /// Whether it answered before this request.
    pub(super) fn was_good(&self) -> bool {
        self.was_good && !self.has_failed() && !self.has_lied
    }

    /// Until when it is hoped that it answers as it did before.
    pub(super) fn hope(&self, now: Instant) -> Option<Instant> {
        let until = match self.in_flight {
            0 => Some(now + TRIAL),
            1 => self.trial().map(|began| began + TRIAL),
            _ => None,
        };
        let is_paused = self.paused_until.is_some_and(|until| until > now);
        until.filter(|until| self.was_good() && !is_paused && *until > now)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed_since().is_some()
    }

    /// When it first failed since it last answered.
    pub(super) fn failed_since(&self) -> Option<Instant> {
        match self.breaker {
            Breaker::Closed => None,
            Breaker::Open { since, .. } => Some(since),
        }
    }

    /// Whether it is not to be asked until then: it said "later", or it lied.
    pub(super) fn is_out_until(&self, time: Instant) -> bool {
        self.out(time).is_some()
    }

    pub(super) fn has_lied(&self) -> bool {
        self.has_lied
    }

    /// A request begins. Whether it is the one that finds out if the source answers again.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let is_probe = match &mut self.breaker {
            Breaker::Closed => false,
            Breaker::Open { is_tried, .. } => !mem::replace(is_tried, true),
        };
        if self.in_flight == 0 || is_probe {
            self.tried_since = Some(now);
        }
        self.in_flight += 1;
        self.began = Some(now);
        is_probe
    }

    /// A request is over, whatever came of it.
    pub(super) fn end(&mut self, is_probe: bool) {
        self.in_flight -= 1;
        if let Breaker::Open { is_tried, .. } = &mut self.breaker {
            *is_tried &= !is_probe;
        }
    }

    /// One of `with` requests gave a block of `len` bytes.
    pub(super) fn gave(&mut self, took: Duration, len: usize, with: usize) {
        self.answered();
        self.remember(took);
        self.misses = 0;
        let least = &mut self.least[class(len)];
        let known = least.map_or(took, |least| least.min(took));
        *least = Some(known);
        #[expect(clippy::cast_precision_loss, reason = "at most 128")]
        let queued = with as f64 * (1.0 - known.as_secs_f64() / took.as_secs_f64().max(1e-9));
        self.adapt(queued, with);
    }

    fn adapt(&mut self, queued: f64, with: usize) {
        self.answers += 1;
        if queued > MANY_QUEUED {
            self.is_new = false;
            if self.answers >= self.limit {
                self.limit = (self.limit - 1).max(FIRST_PARALLEL);
                self.answers = 0;
            }
        } else if queued < FEW_QUEUED && with + 1 >= self.limit {
            let enough = if self.is_new { 1 } else { self.limit };
            if self.answers >= enough {
                self.limit = (self.limit + 1).min(self.most);
                self.answers = 0;
            }
        }
    }

    /// It does not have a block.
    pub(super) fn missed(&mut self) {
        self.answered();
        self.misses = self.misses.saturating_add(1);
    }

    fn answered(&mut self) {
        self.failures = 0;
        self.is_proven = true;
        self.is_silent = false;
        if self.has_failed() {
            self.breaker = Breaker::Closed;
            self.is_new = true;
            self.least = [None; CLASSES];
        }
    }

    fn remember(&mut self, took: Duration) {
        if self.recent.len() == SAMPLES {
            self.recent.pop_front();
        }
        self.recent.push_back(took);
    }

    /// A request was given up after so long, since another source was faster, which took `winner`; `is_silent`
    /// if this one sent nothing meanwhile, for no request.
    pub(super) fn was_slower(
        &mut self,
        now: Instant,
        waited: Duration,
        winner: Duration,
        is_silent: bool,
        is_probe: bool,
    ) {
        if is_silent && waited > TRIAL.max(winner) {
            if !self.is_proven() {
                self.leave_alone(now, is_probe);
            }
            self.is_silent = true;
        } else if waited > self.hedge_after() {
            self.remember(waited);
        }
    }

    /// It said "later".
    pub(super) fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
        self.limit = (self.limit / 2).max(1);
        self.is_new = false;
    }

    /// It answered with an error, or broke off.
    pub(super) fn failed(&mut self, now: Instant, is_probe: bool) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= MAX_FAILURES || is_probe {
            self.leave_alone(now, is_probe);
        }
    }

    /// It cannot be reached, or sends nothing more.
    pub(super) fn leave_alone(&mut self, now: Instant, is_probe: bool) {
        let (since, times, is_tried) = match self.breaker {
            Breaker::Closed => (now, 0, false),
            Breaker::Open {
                since,
                times,
                is_tried,
                ..
            } if is_probe => (since, times.saturating_add(1), is_tried),
            // What was under way when it failed says nothing new.
            Breaker::Open { .. } => return,
        };
        self.failures = 0;
        self.breaker = Breaker::Open {
            since,
            times,
            retry_at: now + doubled(FIRST_PAUSE, times, MAX_PAUSE),
            last_resort_at: now + doubled(FIRST_LAST_RESORT, times, MAX_LAST_RESORT),
            is_tried,
        };
        self.limit = (self.limit / 2).max(FIRST_PARALLEL);
    }

    pub(super) fn lied(&mut self) {
        self.has_lied = true;
    }

    /// Time after which a block is asked of another source as well: nineteen of twenty answers take less.
    pub(super) fn hedge_after(&self) -> Duration {
        match self.usual(95) {
            Some(usual) => usual.clamp(MIN_HEDGE, MAX_HEDGE),
            None => FIRST_HEDGE,
        }
    }

    /// Time without a byte after which it counts as failed. One that `was_sending` has no block to look for.
    pub(super) fn stalled_after(&self, was_sending: bool) -> Duration {
        match self.usual(95) {
            _ if was_sending => STALL,
            Some(usual) => usual.saturating_mul(3).max(MIN_STALL),
            None => MIN_STALL,
        }
    }

    /// Time from which on a request that is not soon over crawls, though bytes arrive.
    pub(super) fn crawls_after(&self) -> Option<Duration> {
        let usual = self.usual(95)?;
        Some(usual.saturating_mul(3).max(CRAWL))
    }

    /// Whether it has a usual time.
    pub(super) fn is_known(&self) -> bool {
        self.recent.len() >= ENOUGH_SAMPLES
    }

    /// The time that so many per cent of its answers stay below.
    fn usual(&self, percent: usize) -> Option<Duration> {
        if !self.is_known() {
            return None;
        }
        let mut times: Vec<Duration> = self.recent.iter().copied().collect();
        let at = times.len() * percent / 100;
        Some(*times.select_nth_unstable(at).1)
    }

    fn mean(&self) -> Option<Duration> {
        let known = u32::try_from(self.recent.len()).ok()?;
        self.recent.iter().sum::<Duration>().checked_div(known)
    }

    fn load(&self) -> Load {
        let usual = self.mean().unwrap_or(PRESUMED).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "at most 128")]
        let share = (self.in_flight + 1) as f64 / self.limit as f64;
        Load {
            lacks: self.misses >= MANY_MISSES,
            seconds: usual * share,
            share,
        }
    }
}

/// `first`, doubled so many times.
fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(most)
}

fn class(len: usize) -> usize {
    let bits = usize::BITS - len.leading_zeros();
    usize::try_from(bits).map_or(CLASSES - 1, |bits| bits.min(CLASSES - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A source that carries so many bytes a second after a delay, kept as busy as it may be. The
    /// limit that it comes to.
    fn limit_of(bytes_per_second: f64, delay: Duration) -> usize {
        let mut health = Health::new();
        for _ in 0..2_000 {
            let with = health.limit;
            // All share the rate.
            let sending = MIB as f64 * with as f64 / bytes_per_second;
            let took = (delay.as_secs_f64() + MIB as f64 / bytes_per_second).max(sending);
            health.gave(Duration::from_secs_f64(took), MIB, with);
        }
        health.limit
    }

    #[test]
    fn a_source_has_as_many_requests_as_keep_it_busy() {
        // What is on the way is a tenth of a block, or ten: some more wait at the source.
        let (near, far) = (limit_of(10e6, millis(10)), limit_of(100e6, millis(100)));
        assert!((4..=8).contains(&near), "{near}");
        assert!((12..=20).contains(&far), "{far}");
        assert_eq!(limit_of(1e9, millis(200)), MAX_PARALLEL);
    }

    #[test]
    fn a_source_that_failed_is_left_alone_for_longer_each_time_and_tried_by_one() {
        let mut now = Instant::now();
        let mut health = Health::new();
        assert!(!health.begin(now));
        health.leave_alone(now, false);
        health.end(false);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let Ready::Failed(_, retry_at) = health.ready(now) else {
                panic!("it is asked again at once");
            };
            pauses.push((retry_at - now).as_millis());
            now = retry_at;
            assert_eq!(health.ready(now), Ready::Probe);
            assert!(health.begin(now));
            assert_eq!(health.ready(now), Ready::Probed);
            health.leave_alone(now, true);
            health.end(true);
        }
        assert_eq!(
            pauses,
            [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
        );
        now += MAX_PAUSE;
        assert!(health.begin(now));
        health.gave(millis(5), MIB, 1);
        health.end(true);
        assert!(matches!(health.ready(now), Ready::Now(_)));
    }

    #[test]
    fn what_was_seen_before_decides_who_is_asked_first() {
        let (now, wall) = (Instant::now(), Timestamp::from_second(1_000_000).unwrap());
        let mut good = Health::new();
        assert_eq!(good.seen(wall), None);
        good.begin(now);
        good.gave(millis(30), MIB, 1);
        let good = good.seen(wall).unwrap();
        assert_eq!((good.usual_ms, good.failures), (Some(30), 0));
        let mut bad = Health::new();
        bad.begin(now);
        bad.leave_alone(now, false);
        bad.end(false);
        let mut bad = bad.seen(wall).unwrap();
        assert_eq!((bad.usual_ms, bad.failures), (None, 1));

        let load = |health: &Health| match health.ready(now) {
            Ready::Now(load) => load,
            other => panic!("{other:?}"),
        };
        let later = wall + millis(100);
        let good = Health::remembered(&good, now, later);
        assert!(load(&good) < load(&Health::new()));
        let failed = Health::remembered(&bad, now, later).ready(now);
        let Ready::Failed(last_resort_at, retry_at) = failed else {
            panic!("it is asked at once");
        };
        assert!(last_resort_at <= now && retry_at == now + millis(400));
        // Each time that it fails it is left alone for longer, and the next request knows.
        bad.failures = 12;
        let mut health = Health::remembered(&bad, now, later);
        let Ready::Failed(_, retry_at) = health.ready(now) else {
            panic!("it is asked at once");
        };
        assert_eq!(retry_at, now + FIRST_PAUSE * 2_048 - millis(100));
        assert_eq!(health.seen(later), None);
        assert!(health.begin(now));
        health.leave_alone(now, true);
        assert_eq!(health.seen(later).unwrap().failures, 13);
        health.gave(millis(10), MIB, 1);
        assert_eq!(health.seen(later).unwrap().failures, 0);
        // It had no time to fail, but time enough to answer.
        let mut silent = Health::new();
        silent.begin(now);
        silent.was_slower(now, millis(300), millis(400), true, false);
        assert_eq!(silent.seen(wall), None);
        silent.was_slower(now, millis(300), millis(200), true, false);
        silent.end(false);
        assert_eq!(silent.seen(wall).unwrap().failures, 1);
    }

    #[test]
    fn one_broken_answer_is_forgiven_and_two_in_a_row_are_not() {
        let now = Instant::now();
        let mut health = Health::new();
        health.failed(now, false);
        assert!(!health.has_failed());
        health.gave(millis(5), MIB, 1);
        health.failed(now, false);
        assert!(!health.has_failed());
        health.failed(now, false);
        assert!(health.has_failed());
    }

    #[test]
    fn what_was_under_way_when_a_source_failed_makes_no_pause_longer() {
        let now = Instant::now();
        let mut health = Health::new();
        for _ in 0..4 {
            health.begin(now);
        }
        for _ in 0..4 {
            health.leave_alone(now, false);
            health.end(false);
        }
        let Ready::Failed(_, retry_at) = health.ready(now) else {
            panic!("it is asked again at once");
        };
        assert_eq!(retry_at - now, FIRST_PAUSE);
    }

    #[test]
    fn a_probe_that_fails_counts_once_with_what_was_asked_beside_it() {
        let start = Instant::now();
        let mut health = Health::new();
        health.begin(start);
        health.leave_alone(start, false);
        let now = start + FIRST_PAUSE;
        assert!(health.begin(now));
        assert_eq!(health.tried_since(), Some(now));
        assert!(!health.begin(now + TRIAL));
        assert_eq!(health.tried_since(), Some(now));
        // What goes wrong beside it says that it does not answer yet.
        health.failed(now + TRIAL, false);
        assert_eq!(health.tried_since(), None);
        let later = now + TRIAL * 3;
        health.was_slower(later, TRIAL * 2, TRIAL, true, false);
        health.leave_alone(later, true);
        health.end(true);
        let Ready::Failed(_, retry_at) = health.ready(later) else {
            panic!("it is asked again at once");
        };
        assert_eq!(retry_at - later, FIRST_PAUSE * 2);
    }

    #[test]
    fn a_block_is_hedged_when_it_takes_longer_than_nineteen_of_twenty() {
        let mut health = Health::new();
        assert_eq!(health.hedge_after(), FIRST_HEDGE);
        for answer in 0..64 {
            let took = if answer % 32 == 0 { 900 } else { 100 + answer };
            health.gave(millis(took), MIB, 1);
        }
        assert_eq!(health.hedge_after(), millis(162));
    }

    #[test]
    fn a_source_that_says_later_is_paused_and_has_half_as_many() {
        let now = Instant::now();
        let mut health = Health::new();
        health.pause(now + millis(700));
        assert_eq!(health.ready(now), Ready::Paused(now + millis(700)));
        assert!(matches!(health.ready(now + millis(700)), Ready::Now(_)));
        assert_eq!(health.limit, FIRST_PARALLEL / 2);
    }
}
