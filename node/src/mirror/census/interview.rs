//! Which blocks one peer is asked for, and what its answers say.
//!
//! Busy ones are late, too: a late answer, or none, counts neither for nor against a peer, and another block is
//! asked for in its place. A block that was late is asked for again, in turns with blocks that came in time before:
//! who is late with that one each time, and in time with the others just then, fetches it elsewhere.

use cid::Cid;
use rand::seq::IndexedRandom;

use super::asker::Found;
use super::{Sampled, draw};

/// So often in a row is a late block late again, and others in time between: for one that is late and in
/// time by chance that is less than once in 60,000 times, however busy it is.
const REPEATS: usize = 8;
/// Late blocks that are asked for again.
const MAX_REPEATED: usize = 8;
/// Who was late so often and never in time, or said nothing so often in a row, is asked no more.
const GIVE_UP: u64 = 10;

/// One peer's questions and answers.
pub(super) struct Interview {
    /// Blocks that were not asked for yet.
    fresh: Vec<Cid>,
    /// Answers that are wanted yet, late ones not counted.
    left: usize,
    /// Blocks that came in time.
    shown: Vec<Cid>,
    again: Option<Again>,
    repeated: usize,
    /// Questions in a row to which nothing was said.
    silent: u64,
    pub(super) counts: Counts,
    /// Blocks, and whether each was proved.
    pub(super) answers: Vec<(Cid, bool)>,
}

/// A block that came late.
#[derive(Clone, Copy)]
struct Again {
    cid: Cid,
    /// How often it was late again.
    times: usize,
    /// Next is a block that came in time before.
    compares: bool,
}

/// What came of the questions for blocks that were not asked for before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) proved: u64,
    pub(super) late: u64,
    pub(super) slow: u64,
    pub(super) wrong: u64,
    pub(super) absent: u64,
}

impl Counts {
    pub(super) fn asked(self) -> u64 {
        self.proved + self.late + self.slow + self.wrong + self.absent
    }
}

impl Interview {
    /// So many questions, and half as many in the place of late answers.
    pub(super) fn new(sample: &[Sampled], questions: usize) -> Self {
        Self {
            fresh: draw(sample, questions.saturating_add(questions.div_ceil(2))),
            left: questions,
            shown: Vec::new(),
            again: None,
            repeated: 0,
            silent: 0,
            counts: Counts::default(),
            answers: Vec::new(),
        }
    }

    /// The block that is asked for next.
    pub(super) fn next(&mut self) -> Option<Cid> {
        if self.silent >= GIVE_UP {
            self.end();
            return None;
        }
        match self.again {
            Some(again) if again.compares => self.shown.choose(&mut rand::rng()).copied(),
            Some(again) => Some(again.cid),
            None if self.left == 0 || self.is_vain() => None,
            None => self.fresh.pop(),
        }
    }

    /// No more is asked.
    pub(super) fn end(&mut self) {
        self.counts.late += u64::from(self.again.take().is_some());
    }

    fn is_vain(&self) -> bool {
        self.shown.is_empty() && self.counts.late >= GIVE_UP
    }

    /// Takes the answer for the block `cid`, which is what [`Interview::next`] gave.
    pub(super) fn heard(&mut self, cid: Cid, found: Found) {
        self.silent = match found {
            Found::Silent => self.silent + 1,
            _ => 0,
        };
        match self.again.take() {
            None => self.heard_first(cid, found),
            Some(again) if again.compares => match found {
                Found::Right => {
                    let compares = false;
                    self.again = Some(Again { compares, ..again });
                }
                _ => self.counts.late += 1,
            },
            Some(again) => match found {
                Found::Late | Found::Silent if again.times + 1 < REPEATS => {
                    self.again = Some(Again {
                        times: again.times + 1,
                        compares: true,
                        ..again
                    });
                }
                Found::Late | Found::Silent => self.lacks(|counts| &mut counts.slow),
                Found::Right => self.counts.late += 1,
                Found::Wrong => self.lacks(|counts| &mut counts.wrong),
                Found::Absent => self.lacks(|counts| &mut counts.absent),
            },
        }
    }

    /// The block that was next is not here any more: nothing is known of it.
    pub(super) fn gone(&mut self) {
        self.end();
    }

    fn heard_first(&mut self, cid: Cid, found: Found) {
        self.answers.push((cid, found == Found::Right));
        match found {
            Found::Right => {
                self.shown.push(cid);
                self.counts.proved += 1;
                self.left -= 1;
            }
            Found::Wrong => self.lacks(|counts| &mut counts.wrong),
            Found::Absent => self.lacks(|counts| &mut counts.absent),
            Found::Late | Found::Silent => {
                let is_known = self.counts.slow > 0;
                if is_known || self.shown.is_empty() || self.repeated == MAX_REPEATED {
                    self.counts.late += 1;
                    return;
                }
                self.repeated += 1;
                self.again = Some(Again {
                    cid,
                    times: 0,
                    compares: true,
                });
            }
        }
    }

    fn lacks(&mut self, how: impl Fn(&mut Counts) -> &mut u64) {
        *how(&mut self.counts) += 1;
        self.left -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::RngExt;

    use super::*;
    use crate::block::{RAW, cid_of};

    const QUESTIONS: usize = 50;

    /// Asks one who answers so for a block, the first time or again.
    fn interview(mut answer: impl FnMut(Cid, bool) -> Found) -> Counts {
        let block = |number: u32| (cid_of(RAW, &number.to_be_bytes()), None);
        let sample: Vec<Sampled> = (0..4096).map(block).collect();
        let mut interview = Interview::new(&sample, QUESTIONS);
        let (mut asked, mut questions) = (HashSet::new(), 0);
        while let Some(cid) = interview.next() {
            questions += 1;
            assert!(questions <= QUESTIONS * 2 + 2 * REPEATS * MAX_REPEATED);
            interview.heard(cid, answer(cid, asked.insert(cid)));
        }
        interview.counts
    }

    fn chance(one_in: u32) -> bool {
        rand::rng().random_range(0..one_in) == 0
    }

    /// A tenth of the blocks.
    fn is_missing(cid: Cid) -> bool {
        cid.hash().digest()[0] % 10 == 0
    }

    fn times(rounds: usize, mut is_so: impl FnMut() -> bool) -> usize {
        (0..rounds).filter(|_| is_so()).count()
    }

    #[test]
    fn who_is_busy_is_asked_more_and_not_accused() {
        for one_in in [2, 3, 5, 25] {
            let mut proved = 0;
            let accused = times(500, || {
                let counts = interview(|_, _| match chance(one_in) {
                    true => Found::Late,
                    false => Found::Right,
                });
                proved += counts.proved;
                counts.slow + counts.wrong + counts.absent > 0
            });
            // Once in 2^16 for each of eight blocks, in 500 rounds.
            assert!(accused <= 2, "{accused} with one in {one_in} late");
            if one_in >= 5 {
                assert!(proved >= 500 * 48, "{proved} with one in {one_in} late");
            }
        }
    }

    #[test]
    fn who_fetches_a_tenth_elsewhere_each_time_is_caught() {
        let caught = times(1000, || {
            let counts = interview(|cid, _| match is_missing(cid) {
                true => Found::Late,
                false => Found::Right,
            });
            counts.slow > 0
        });
        // 1 - 0.9^50, less four standard deviations; the first block cannot be compared with any.
        assert!(caught >= 980, "{caught}");
    }

    #[test]
    fn who_keeps_what_it_fetched_proves_no_more_than_it_had() {
        let counts = interview(|cid, is_first| match is_missing(cid) && is_first {
            true => Found::Late,
            false => Found::Right,
        });
        assert_eq!(counts.slow + counts.wrong + counts.absent, 0);
        assert_eq!(counts.asked(), counts.proved + counts.late);
        assert_eq!(counts.proved, 50);
    }

    #[test]
    fn who_says_no_when_asked_again_is_caught() {
        let counts = interview(|cid, is_first| match (is_missing(cid), is_first) {
            (false, _) => Found::Right,
            (true, true) => Found::Late,
            (true, false) => Found::Absent,
        });
        assert_eq!(counts.slow + counts.wrong, 0);
        // With one in 200 all fifty are there.
        assert!(counts.absent > 0 || counts.late <= 1, "{counts:?}");
    }

    #[test]
    fn who_falls_silent_is_left_alone_whatever_it_showed_and_is_not_accused() {
        for shown in [1, 5, 20] {
            let mut questions = 0;
            let counts = interview(|_, _| {
                questions += 1;
                match questions <= shown {
                    true => Found::Right,
                    false => Found::Silent,
                }
            });
            assert_eq!(questions, shown + GIVE_UP);
            assert_eq!(counts.proved, shown);
            assert_eq!(counts.slow + counts.wrong + counts.absent, 0);
            assert!(counts.late > 0);
        }
        let counts = interview(|_, _| match chance(2) {
            true => Found::Silent,
            false => Found::Right,
        });
        // Nine of ten are in a row less than once in a thousand times.
        assert!(counts.proved > 0 && counts.late > 0, "{counts:?}");
    }

    #[test]
    fn who_is_late_with_everything_is_soon_left_alone_and_proves_nothing() {
        let counts = interview(|_, _| Found::Late);
        assert_eq!((counts.asked(), counts.late), (GIVE_UP, GIVE_UP));
    }
}
