//! Blocks from sources made up here.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use futures::stream;
use tokio::time::sleep;

use super::*;
use crate::block::RAW;

const RULES: Rules = Rules {
    retries: 3,
    max_sources: usize::MAX,
};
const MINUTE: Duration = Duration::from_secs(60);

fn block() -> Block {
    Block::of(RAW, Bytes::from_static(b"content"))
}

/// Fetches so many blocks, some at a time; `ask` is told the block and the source.
async fn fetch_all<A, F>(schedule: &Schedule, count: usize, ask: A) -> Vec<Result<Block, Refusal>>
where
    A: Fn(usize, usize) -> F,
    F: Future<Output = Result<Block, Refusal>>,
{
    let ask = &ask;
    let blocks = (0..count).map(|nth| schedule.fetch(move |index, _| ask(nth, index)));
    stream::iter(blocks).buffer_unordered(32).collect().await
}

fn asked(counts: &[AtomicUsize]) -> Vec<usize> {
    counts.iter().map(|count| count.load(Relaxed)).collect()
}

fn counts<const N: usize>() -> [AtomicUsize; N] {
    std::array::from_fn(|_| AtomicUsize::new(0))
}

#[tokio::test]
async fn the_first_good_answer_wins_and_the_other_request_is_given_up() {
    struct GivenUp<'a>(&'a AtomicUsize);
    impl Drop for GivenUp<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let given_up = AtomicUsize::new(0);
    let schedule = Schedule::new(2, RULES, MINUTE);
    let fetched = schedule.fetch(|index, _| {
        let given_up = &given_up;
        async move {
            if index == 0 {
                let _request = GivenUp(given_up);
                pending::<()>().await;
            }
            Ok(block())
        }
    });
    assert_eq!(fetched.await, Ok(block()));
    assert_eq!(given_up.load(Relaxed), 1);
}

#[tokio::test]
async fn a_fast_source_takes_more_than_a_slow_one() {
    let asked_of = counts::<2>();
    let schedule = Schedule::new(2, RULES, MINUTE);
    let got = fetch_all(&schedule, 300, |_, index| {
        asked_of[index].fetch_add(1, Relaxed);
        async move {
            sleep(Duration::from_millis(if index == 0 { 40 } else { 4 })).await;
            Ok(block())
        }
    })
    .await;
    assert!(got.iter().all(Result::is_ok));
    let [slow, fast] = asked(&asked_of)[..] else {
        unreachable!()
    };
    assert!(slow > 4 && fast > 2 * slow, "{slow}, {fast}");
}

#[tokio::test]
async fn sources_that_fail_are_hardly_asked() {
    let asked_of = counts::<10>();
    let schedule = Schedule::new(10, RULES, MINUTE);
    let got = fetch_all(&schedule, 2_000, |_, index| {
        asked_of[index].fetch_add(1, Relaxed);
        async move {
            sleep(Duration::from_millis(1)).await;
            match index {
                7 => Ok(block()),
                _ => Err(Refusal::Unreachable),
            }
        }
    })
    .await;
    assert!(got.iter().all(Result::is_ok));
    let asked = asked(&asked_of);
    let blocked = asked.iter().sum::<usize>() - asked[7];
    assert!(blocked < 100, "{asked:?}");
}

/// Of ten sources one is good, and another one after each hundred blocks: some of the others refuse,
/// some are silent.
#[tokio::test]
async fn every_block_comes_from_the_source_that_is_good_at_the_time() {
    let (given, blocked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let schedule = Schedule::new(10, RULES, MINUTE);
    let got = fetch_all(&schedule, 1_000, |_, index| {
        let (given, blocked) = (&given, &blocked);
        async move {
            sleep(Duration::from_millis(5)).await;
            let good = given.load(Relaxed) / 100 * 3 % 10;
            if index == good {
                given.fetch_add(1, Relaxed);
                return Ok(block());
            }
            blocked.fetch_add(1, Relaxed);
            if index % 2 == 0 {
                sleep(Duration::from_millis(500)).await;
            }
            Err(Refusal::Unreachable)
        }
    })
    .await;
    assert!(got.iter().all(Result::is_ok));
    let blocked = blocked.load(Relaxed);
    assert!(blocked < 400, "{blocked}");
}

#[tokio::test]
async fn a_liar_is_asked_no_more() {
    let lies = AtomicUsize::new(0);
    let schedule = Schedule::new(4, RULES, MINUTE);
    let got = fetch_all(&schedule, 400, |_, index| {
        let lies = &lies;
        async move {
            sleep(Duration::from_millis(1)).await;
            if index == 2 {
                lies.fetch_add(1, Relaxed);
                return Err(Refusal::Lied);
            }
            Ok(block())
        }
    })
    .await;
    assert!(got.iter().all(Result::is_ok));
    // Those that were under way.
    let lies = lies.load(Relaxed);
    assert!((1..=4).contains(&lies), "{lies}");
}

#[tokio::test]
async fn what_nobody_has_each_is_asked_for_once() {
    let asked_of = counts::<3>();
    let schedule = Schedule::new(3, RULES, MINUTE);
    let fetched = schedule.fetch(|index, _| {
        asked_of[index].fetch_add(1, Relaxed);
        async { Err(Refusal::NotFound) }
    });
    assert_eq!(fetched.await, Err(Refusal::NotFound));
    assert_eq!(asked(&asked_of), [1, 1, 1]);
}

#[tokio::test]
async fn requests_that_are_dropped_leave_their_place_to_others() {
    let schedule = Schedule::new(1, RULES, MINUTE);
    let never = || schedule.fetch(|_, _| pending());
    let mut dropped: Vec<_> = (0..20).map(|_| Box::pin(never())).collect();
    for request in &mut dropped {
        assert!(futures::poll!(request).is_pending());
    }
    let mut waiting = Box::pin(schedule.fetch(|_, _| async { Ok(block()) }));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(dropped);
    assert_eq!(waiting.await, Ok(block()));
}
