//! Who may be asked for which block now: the sources with their health, and the blocks that wait for
//! one. Gateways are everybody's, guests (the peers of one request) only of the blocks that name them. Knows no clock and no network: whoever asks says what time it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::health::{Health, MIN_STALL, QUIET, Ready, TRIAL_PACE};
use super::progress::Progress;
use super::refusal::Refusal;

/// Blocks of a hundred that are asked of a second source because the first one is slow,
const HEDGED_PERCENT: u64 = 3;
/// and how many may be at the beginning.
const FIRST_HEDGES: u64 = 4;
/// While other sources answer, one request of so many finds out whether one that failed does again.
const PROBED: u64 = 32;
/// How long a block waits before the same source is asked for it again; doubled each time.
const FIRST_AGAIN: Duration = Duration::from_millis(100);
const MAX_AGAIN: Duration = Duration::from_secs(2);
/// Sources that are tried at a time, not knowing whether they answer, while another one does.
const FEW_TRIALS: usize = 2;
/// A source that says "later" is waited for so long at most.
const MAX_LATER: Duration = Duration::from_secs(60);
/// A block waits so long for sources that all failed, for each time that they are asked again.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is asked, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How often a source that failed is asked again for the same block.
    pub(super) retries: u32,
    /// Sources that are asked at a time.
    pub(super) max_sources: usize,
}

/// What a source gave so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    pub(super) errors: u64,
}

#[derive(Debug)]
pub(super) struct Source {
    pub(super) health: Health,
    pub(super) totals: Totals,
}

/// The sources, and the blocks that wait for one.
#[derive(Debug)]
pub(super) struct Board {
    rules: Rules,
    /// When bytes last arrived from each gateway.
    progress: Arc<[Progress]>,
    /// Gateways.
    pub(super) sources: Vec<Source>,
    /// Their indexes come after those of the gateways.
    guests: Vec<Option<Source>>,
    /// The next one first.
    waiting: VecDeque<Waiting>,
    next_id: u64,
    requests: u64,
    hedges: u64,
    probes: u64,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    tried: Tried,
    since: Instant,
    granted: oneshot::Sender<Result<Grant, Refusal>>,
}

/// A source has room for a request, which counts as begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) index: usize,
    /// It finds out whether the source answers again.
    pub(super) is_probe: bool,
    /// Requests that the source has, this one included.
    pub(super) with: usize,
}

/// What the board says to a block that wants a source.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Granted(T),
    /// Ask again at this time, or when a request is over.
    Wait(Option<Instant>),
    /// Nobody is left to ask, for this reason.
    Nobody(Refusal),
}

/// What came of asking each source for one block.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    /// Only who is known to answer is asked.
    pub(super) is_picky: bool,
    gateways: Vec<Asked>,
    guest: Option<(usize, Asked)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    /// A request is under way, or another one would not help.
    is_over: bool,
    times: u32,
    not_before: Option<Instant>,
}

impl Board {
    /// A source for each `progress`, where others note when bytes arrive.
    pub(super) fn new(progress: Arc<[Progress]>, rules: Rules) -> Self {
        let source = |_: &Progress| Source::with(Health::new());
        Self {
            rules,
            sources: progress.iter().map(source).collect(),
            progress,
            guests: Vec::new(),
            waiting: VecDeque::new(),
            next_id: 0,
            requests: 0,
            hedges: 0,
            probes: 0,
        }
    }

    /// Begins with what is known of a source.
    pub(super) fn know(&mut self, index: usize, health: Health) {
        self.sources[index].health = health;
    }

    /// Adds a guest. Its index.
    pub(super) fn join(&mut self) -> usize {
        let guest = Some(Source::with(Health::of_many()));
        let free = self.guests.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.guests.push(None);
            self.guests.len() - 1
        });
        self.guests[at] = guest;
        self.sources.len() + at
    }

    /// A guest goes; none of its requests is left.
    pub(super) fn part(&mut self, index: usize) {
        self.guests[index - self.sources.len()] = None;
    }

    pub(super) fn source(&self, index: usize) -> Option<&Source> {
        let guest = || self.guests.get(index - self.sources.len())?.as_ref();
        self.sources.get(index).or_else(guest)
    }

    pub(super) fn source_mut(&mut self, index: usize) -> Option<&mut Source> {
        match index.checked_sub(self.sources.len()) {
            None => self.sources.get_mut(index),
            Some(at) => self.guests.get_mut(at)?.as_mut(),
        }
    }

    /// Whom a block may ask, the guest first, and what came of it.
    fn candidates<'a>(
        &'a self,
        tried: &'a Tried,
    ) -> impl Iterator<Item = (usize, &'a Source, &'a Asked)> {
        let guest = tried.guest.iter();
        let guest = guest.filter_map(|(index, asked)| Some((*index, self.source(*index)?, asked)));
        let gateways = self.sources.iter().zip(&tried.gateways).enumerate();
        guest.chain(gateways.map(|(index, (source, asked))| (index, source, asked)))
    }

    /// Those of them that it may still ask, now or soon.
    fn left<'a>(
        &'a self,
        tried: &'a Tried,
        now: Instant,
    ) -> impl Iterator<Item = (usize, &'a Source, &'a Asked)> {
        let retries = self.rules.retries;
        self.candidates(tried).filter(move |(_, source, asked)| {
            let is_out = source.health.is_out_until(now + MAX_LATER);
            !asked.is_over && asked.times <= retries && !is_out
        })
    }

    /// What a block has tried that nobody was asked for; it may ask this guest.
    pub(super) fn nothing_tried(&self, guest: Option<usize>) -> Tried {
        Tried {
            is_picky: false,
            gateways: vec![Asked::default(); self.sources.len()],
            guest: guest.map(|index| (index, Asked::default())),
        }
    }

    /// A source for a block that wants one since `since`.
    pub(super) fn take(&mut self, tried: &Tried, since: Instant, now: Instant) -> Answer<Grant> {
        match self.find(tried, since, now) {
            Answer::Granted(index) => match self.begin(index, now) {
                Some(grant) => Answer::Granted(grant),
                None => Answer::Nobody(Refusal::Failed),
            },
            Answer::Wait(until) => Answer::Wait(until),
            Answer::Nobody(why) => Answer::Nobody(why),
        }
    }

    fn begin(&mut self, index: usize, now: Instant) -> Option<Grant> {
        self.requests += 1;
        let health = &mut self.source_mut(index)?.health;
        let is_probe = health.begin(now);
        let with = health.in_flight();
        self.probes += u64::from(is_probe);
        Some(Grant {
            index,
            is_probe,
            with,
        })
    }

    /// A request is over.
    pub(super) fn end(&mut self, grant: Grant, now: Instant) {
        self.give_back(grant);
        self.share_out(now);
    }

    fn give_back(&mut self, grant: Grant) {
        if let Some(source) = self.source_mut(grant.index) {
            source.health.end(grant.is_probe);
        }
    }

    /// Puts a block into the queue; one that a slow source was asked for goes first.
    pub(super) fn queue(
        &mut self,
        tried: &Tried,
        since: Instant,
        goes_first: bool,
    ) -> (u64, oneshot::Receiver<Result<Grant, Refusal>>) {
        let (granted, receiver) = oneshot::channel();
        let id = self.next_id;
        self.next_id += 1;
        let waiting = Waiting {
            id,
            tried: tried.clone(),
            since,
            granted,
        };
        if goes_first {
            self.waiting.push_front(waiting);
        } else {
            self.waiting.push_back(waiting);
        }
        (id, receiver)
    }

    /// Takes a block out of the queue.
    pub(super) fn leave(&mut self, id: u64) {
        self.waiting.retain(|waiting| waiting.id != id);
    }

    /// Gives sources that have room to the blocks that wait.
    pub(super) fn share_out(&mut self, now: Instant) {
        let is_busy = |source: &Source| source.health.ready(now) == Ready::Busy;
        let guests = self.guests.iter().flatten();
        if self.sources.iter().chain(guests).all(is_busy) {
            return;
        }
        let mut at = 0;
        while let Some(waiting) = self.waiting.get(at) {
            let answer = match self.take(&waiting.tried.clone(), waiting.since, now) {
                Answer::Wait(_) => {
                    at += 1;
                    continue;
                }
                Answer::Granted(grant) => Ok(grant),
                Answer::Nobody(why) => Err(why),
            };
            let waiting = self.waiting.remove(at);
            if let Some(Err(Ok(unused))) = waiting.map(|waiting| waiting.granted.send(answer)) {
                self.give_back(unused);
            }
        }
    }

    /// When a block in the queue should have sources shared out again.
    pub(super) fn wake(&self, id: u64, now: Instant) -> Option<Instant> {
        let waiting = self.waiting.iter().find(|waiting| waiting.id == id)?;
        match self.find(&waiting.tried, waiting.since, now) {
            Answer::Wait(until) => until,
            Answer::Granted(_) | Answer::Nobody(_) => None,
        }
    }

    /// The source that is expected to answer first. One whose pause is over goes before, so that it
    /// is known again; while only sources are left that failed, the one that failed longest ago.
    fn find(&self, tried: &Tried, since: Instant, now: Instant) -> Answer<usize> {
        // Who failed may still have a request that nobody counts on.
        let active = |(index, source): &(usize, &Source)| {
            let is_heard = || {
                self.heard(*index, source)
                    .is_some_and(|last| now < last + QUIET)
            };
            source.health.in_flight() > 0 && (!source.health.has_failed() || is_heard())
        };
        let gateways = self.sources.iter().enumerate();
        let is_full = gateways.filter(active).count() >= self.rules.max_sources;
        let trials = self.trials(tried, now);
        let mut others = self.left(tried, now);
        let is_answered = others.any(|(_, source, _)| source.health.is_proven());
        let mut others = self.left(tried, now);
        let hope = others.find_map(|(index, source, _)| self.hope(index, source, now));
        let may_probe =
            !is_answered && hope.is_none() || (self.probes + 1) * PROBED <= self.requests;
        let mut best = None;
        let mut last_resort: Option<(Instant, usize)> = None;
        let mut wake: Option<Instant> = None;
        let (mut is_anybody, mut is_hope) = (false, false);
        // All have failed since then, and nothing arrives any more, if there is no hope.
        let mut hopeless_since = since;
        for (index, source @ Source { health, .. }, asked) in self.left(tried, now) {
            let is_guest = index >= self.sources.len();
            if tried.is_picky && !health.is_proven() {
                continue;
            }
            is_anybody = true;
            is_hope |= !health.has_failed();
            let last = self.heard(index, source).max(health.failed_since());
            hopeless_since = last.map_or(hopeless_since, |last| last.max(hopeless_since));
            if let Some(later) = asked.not_before.filter(|later| *later > now) {
                wake = earliest(wake, later);
                continue;
            }
            if is_full && health.in_flight() == 0 && !is_guest {
                continue;
            }
            let sends = self.sends_until(index, source, now).is_some();
            let ready = match sends {
                true => health.ready_while_it_sends(now),
                false => health.ready(now),
            };
            let is_unproven = !health.is_proven() && !is_guest && !sends;
            if let Some(until) = hope.filter(|_| is_unproven && !health.was_good()) {
                wake = earliest(wake, until);
                continue;
            }
            if let Some(until) = trials.filter(|_| is_unproven) {
                wake = until.map_or(wake, |until| earliest(wake, until));
                continue;
            }
            match ready {
                Ready::Probe if may_probe => return Answer::Granted(index),
                // Whether its peers have it decides how much the gateways are needed.
                Ready::Now(_) if is_guest && !health.is_proven() => return Answer::Granted(index),
                Ready::Now(load) => {
                    if best.is_none_or(|(least, _)| load < least) {
                        best = Some((load, index));
                    }
                }
                Ready::Paused(until) => wake = earliest(wake, until),
                Ready::Failed(last_resort_at, retry_at) => {
                    wake = earliest(wake, retry_at);
                    if last_resort.is_none_or(|(first, _)| last_resort_at < first) {
                        last_resort = Some((last_resort_at, index));
                    }
                }
                Ready::Busy | Ready::Probe | Ready::Probed | Ready::Never => {}
            }
        }
        if let Some((_, index)) = best {
            return Answer::Granted(index);
        }
        if !is_anybody {
            let all_lied = self.sources.iter().all(|source| source.health.has_lied());
            let why = if all_lied {
                Refusal::Lied
            } else {
                Refusal::NotFound
            };
            return Answer::Nobody(why);
        }
        if !is_hope {
            match last_resort {
                Some((at, index)) if at <= now => return Answer::Granted(index),
                Some((at, _)) => wake = earliest(wake, at),
                None => {}
            }
            let end = hopeless_since + PATIENCE.saturating_mul(self.rules.retries);
            if end <= now {
                return Answer::Nobody(Refusal::Failed);
            }
            wake = earliest(wake, end);
        }
        Answer::Wait(wake)
    }

    /// Until when it is hoped that a source answers that has not proven itself: it did before, or it has begun to.
    fn hope(&self, index: usize, source: &Source, now: Instant) -> Option<Instant> {
        let sends_until = self.sends_until(index, source, now);
        sends_until.or_else(|| source.health.hope(now))
    }

    /// When something last arrived from a gateway that has requests.
    fn heard(&self, index: usize, source: &Source) -> Option<Instant> {
        let last = self.progress.get(index).and_then(Progress::last);
        let last = last.filter(|_| source.health.in_flight() > 0);
        last.map(Instant::from_std)
    }

    /// Until when a gateway is presumed to answer that has not proven itself, since bytes arrive.
    fn sends_until(&self, index: usize, source: &Source, now: Instant) -> Option<Instant> {
        let since = source.health.tried_since()?;
        let last = self.heard(index, source).filter(|last| since < *last)?;
        // One that trickles is not waited for.
        let until = (last + QUIET).min(since + MIN_STALL);
        (until > now).then_some(until)
    }

    /// Whether no more sources are tried now, and until when.
    fn trials(&self, tried: &Tried, now: Instant) -> Option<Option<Instant>> {
        let gateways = self.sources.iter().map(|source| &source.health);
        let under_way: Vec<Instant> = gateways.filter_map(Health::trial).collect();
        let mut others = self.left(tried, now);
        if others.any(|(_, source, _)| source.health.is_proven()) {
            return (under_way.len() >= FEW_TRIALS).then_some(None);
        }
        let next = under_way.into_iter().max()? + TRIAL_PACE;
        (next > now).then_some(Some(next))
    }

    /// Whether it is not known of any source that it answers.
    pub(super) fn nobody_answers(&self) -> bool {
        let guests = self.guests.iter().flatten();
        let mut all = self.sources.iter().chain(guests);
        all.all(|source| !source.health.is_proven())
    }

    /// Time after which a request at a source is looked at that is not over.
    pub(super) fn look_after(&self, index: usize) -> Duration {
        let health = self.source(index).map(|source| &source.health);
        let after = health.map(Health::hedge_after).unwrap_or_default();
        match index < self.sources.len() && self.nobody_answers() {
            true => after.min(TRIAL_PACE),
            false => after,
        }
    }

    /// Whether one more block may be asked of a second source; it counts.
    pub(super) fn may_hedge(&mut self) -> bool {
        let may = self.hedges <= FIRST_HEDGES + self.requests * HEDGED_PERCENT / 100;
        self.hedges += u64::from(may);
        may
    }
}

fn earliest(known: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(known.map_or(other, |known| known.min(other)))
}

impl Source {
    fn with(health: Health) -> Self {
        Self {
            health,
            totals: Totals::default(),
        }
    }
}

impl Tried {
    fn asked(&mut self, index: usize) -> Option<&mut Asked> {
        let guest = self.guest.as_mut().filter(|(guest, _)| *guest == index);
        guest
            .map(|(_, asked)| asked)
            .or(self.gateways.get_mut(index))
    }

    /// A source is asked.
    pub(super) fn begin(&mut self, index: usize) {
        if let Some(asked) = self.asked(index) {
            asked.is_over = true;
        }
    }

    /// A source did not give the block.
    pub(super) fn refused(&mut self, index: usize, why: Refusal, now: Instant) {
        let Some(asked) = self.asked(index) else {
            return;
        };
        asked.times += 1;
        asked.is_over = match why {
            Refusal::NotFound | Refusal::Lied | Refusal::TimedOut => true,
            Refusal::Later(_) => false,
            Refusal::Failed | Refusal::Unreachable => {
                let times = asked.times.saturating_sub(1).min(16);
                asked.not_before =
                    Some(now + FIRST_AGAIN.saturating_mul(1 << times).min(MAX_AGAIN));
                false
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sources that send nothing.
    fn silent(sources: usize) -> Arc<[Progress]> {
        let progress = std::iter::repeat_with(Progress::default);
        progress.take(sources).collect()
    }

    const RULES: Rules = Rules {
        retries: 3,
        max_sources: usize::MAX,
    };
    const SECOND: Duration = Duration::from_secs(1);

    fn granted(answer: Answer<Grant>) -> Grant {
        match answer {
            Answer::Granted(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hedges_are_a_few_of_a_hundred() {
        let mut board = Board::new(silent(1), RULES);
        let now = Instant::now();
        let tried = board.nothing_tried(None);
        let mut hedged = 0;
        for _ in 0..10_000 {
            let grant = granted(board.take(&tried, now, now));
            board.end(grant, now);
            hedged += u64::from(board.may_hedge());
        }
        assert!((300..=310).contains(&hedged), "{hedged}");
    }

    #[test]
    fn a_block_that_a_slow_source_was_asked_for_goes_before_others() {
        let mut board = Board::new(silent(1), RULES);
        let now = Instant::now();
        let tried = board.nothing_tried(None);
        board.sources[0].health.gave(SECOND / 100, 1_000, 1);
        let mut grants = Vec::new();
        while let Answer::Granted(grant) = board.take(&tried, now, now) {
            grants.push(grant);
        }
        let (_, mut usual) = board.queue(&tried, now, false);
        let (_, mut urgent) = board.queue(&tried, now, true);
        board.end(grants.pop().unwrap(), now);
        assert!(urgent.try_recv().unwrap().is_ok());
        assert!(usual.try_recv().is_err());
        board.end(grants.pop().unwrap(), now);
        assert!(usual.try_recv().unwrap().is_ok());
    }

    #[test]
    fn no_more_sources_are_asked_at_a_time_than_may_be() {
        let rules = Rules {
            max_sources: 2,
            ..RULES
        };
        let mut board = Board::new(silent(5), rules);
        let start = Instant::now();
        let tried = board.nothing_tried(None);
        let mut asked = std::collections::BTreeSet::new();
        for turn in 0..20 {
            let now = start + TRIAL_PACE * turn;
            while let Answer::Granted(grant) = board.take(&tried, start, now) {
                asked.insert(grant.index);
            }
        }
        assert_eq!(asked.len(), 2);
    }

    #[test]
    fn sources_that_nobody_knows_are_tried_one_after_the_other() {
        let mut board = Board::new(silent(4), RULES);
        let start = Instant::now();
        let mut trials = Vec::new();
        for after in 0..350 {
            let now = start + Duration::from_millis(after);
            let tried = board.nothing_tried(None);
            if let Answer::Granted(grant) = board.take(&tried, start, now) {
                trials.push((after, grant.index));
            }
        }
        assert_eq!(trials, [(0, 0), (100, 1), (200, 2), (300, 3)]);
    }

    #[test]
    fn who_begins_to_send_gets_more_requests_and_no_other_is_tried() {
        let progress = silent(4);
        let mut board = Board::new(Arc::clone(&progress), RULES);
        let start = Instant::now();
        for index in 0..4 {
            let failed = start.checked_sub(SECOND).unwrap();
            board.sources[index].health.leave_alone(failed, false);
        }
        let (first, second) = (board.nothing_tried(None), board.nothing_tried(None));
        let probe = granted(board.take(&first, start, start));
        assert!(probe.is_probe);
        assert!(matches!(board.take(&second, start, start), Answer::Wait(_)));
        progress[probe.index].note(0.1);
        let now = Instant::now();
        let mut more = 0;
        while let Answer::Granted(grant) = board.take(&second, start, now) {
            assert_eq!((grant.index, grant.is_probe), (probe.index, false));
            more += 1;
        }
        assert_eq!(more, 1);
        // It stops: another one is tried.
        let grant = granted(board.take(&second, start, now + QUIET));
        assert_ne!(grant.index, probe.index);
    }

    #[test]
    fn requests_are_looked_at_sooner_while_nobody_answers() {
        let mut board = Board::new(silent(2), RULES);
        assert_eq!(board.look_after(1), TRIAL_PACE);
        // Who is only slow to begin has time to.
        board.sources[0].health.gave(SECOND / 100, 1_000, 1);
        assert!(board.look_after(1) > TRIAL_PACE);
    }

    #[test]
    fn a_block_waits_for_a_failed_source_from_which_something_arrives() {
        let progress = silent(1);
        let mut board = Board::new(Arc::clone(&progress), RULES);
        let since = Instant::now().checked_sub(SECOND * 10).unwrap();
        let tried = board.nothing_tried(None);
        let grant = granted(board.take(&tried, since, since));
        board.sources[0].health.leave_alone(since, false);
        let next = granted(board.take(&tried, since, since + SECOND));
        assert!(next.is_probe);
        progress[grant.index].note(0.5);
        let now = Instant::now();
        assert!(matches!(
            board.take(&tried, since, now),
            Answer::Wait(Some(_))
        ));
        // Nothing more comes.
        let end = now + PATIENCE * RULES.retries + SECOND / 100;
        assert!(matches!(
            board.find(&tried, since, end),
            Answer::Nobody(Refusal::Failed)
        ));
    }

    #[test]
    fn who_has_nobody_else_to_ask_asks_a_failed_source_before_its_pause_is_over() {
        let mut board = Board::new(silent(2), RULES);
        let start = Instant::now();
        for index in 0..2 {
            board.sources[index].health.leave_alone(start, false);
        }
        let tried = board.nothing_tried(None);
        let Answer::Wait(Some(wake)) = board.take(&tried, start, start) else {
            panic!("it should wait");
        };
        assert!(wake < start + SECOND / 2, "{:?}", wake - start);
        assert!(granted(board.take(&tried, start, wake)).is_probe);
        // The other one by another block, a moment later.
        let Answer::Wait(Some(wake)) = board.take(&tried, start, wake) else {
            panic!("it should wait");
        };
        assert!(granted(board.take(&tried, start, wake)).is_probe);
        // Somebody else is there: its pause counts.
        board.sources[0].health.gave(SECOND / 100, 1_000, 1);
        let grant = granted(board.take(&tried, start, wake));
        assert_eq!((grant.index, grant.is_probe), (0, false));
    }

    #[test]
    fn a_block_does_not_wait_for_ever_for_sources_that_all_failed() {
        let mut board = Board::new(silent(1), RULES);
        let start = Instant::now();
        board.sources[0].health.leave_alone(start, false);
        let tried = board.nothing_tried(None);
        let mut now = start;
        let mut probes = 0;
        loop {
            match board.take(&tried, start, now) {
                Answer::Granted(grant) => {
                    probes += 1;
                    board.sources[0].health.leave_alone(now, true);
                    board.end(grant, now);
                }
                Answer::Wait(until) => now = until.expect("a time"),
                Answer::Nobody(why) => {
                    assert_eq!(why, Refusal::Failed);
                    break;
                }
            }
        }
        assert_eq!(now - start, SECOND * 3);
        assert!((3..=6).contains(&probes), "{probes}");
    }

    #[test]
    fn a_source_that_fails_for_a_block_is_asked_again_later_and_not_for_ever() {
        let board = Board::new(silent(1), RULES);
        let mut now = Instant::now();
        let mut tried = board.nothing_tried(None);
        let mut pauses = Vec::new();
        for _ in 0..4 {
            assert!(matches!(board.find(&tried, now, now), Answer::Granted(0)));
            tried.begin(0);
            tried.refused(0, Refusal::Failed, now);
            match board.find(&tried, now, now) {
                Answer::Wait(Some(until)) => {
                    pauses.push((until - now).as_millis());
                    now = until;
                }
                other => assert!(matches!(other, Answer::Nobody(_)), "{other:?}"),
            }
        }
        assert_eq!(pauses, [100, 200, 400]);
        assert!(matches!(
            board.find(&tried, now, now),
            Answer::Nobody(Refusal::NotFound)
        ));
    }
}
