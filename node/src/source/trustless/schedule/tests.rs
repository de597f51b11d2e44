//! Blocks from sources made up here.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use futures::stream;
use tokio::time::{sleep, sleep_until};

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
    let blocks = (0..count).map(|nth| schedule.fetch(None, move |index, _| ask(nth, index)));
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
    let fetched = schedule.fetch(None, |index, _| {
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

/// How many sources are asked for a block that takes ten times as long as those before, of which this
/// part comes soon.
async fn asked_for_a_slow_block(share: f64) -> usize {
    let asked = AtomicUsize::new(0);
    let schedule = Schedule::new(2, RULES, MINUTE);
    let usual = Duration::from_millis(20);
    fetch_all(&schedule, 200, |_, _| async move {
        sleep(usual).await;
        Ok(block())
    })
    .await;
    let fetched = schedule.fetch(None, |_, progress| {
        let nth = asked.fetch_add(1, Relaxed);
        async move {
            if nth == 0 {
                progress.note(share);
                sleep(usual * 10).await;
            }
            Ok(block())
        }
    });
    assert_eq!(fetched.await, Ok(block()));
    asked.load(Relaxed)
}

#[tokio::test]
async fn what_is_nearly_there_is_asked_of_nobody_else() {
    assert_eq!(asked_for_a_slow_block(0.9).await, 1);
    assert_eq!(asked_for_a_slow_block(0.1).await, 2);
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
    let fetched = schedule.fetch(None, |index, _| {
        asked_of[index].fetch_add(1, Relaxed);
        async { Err(Refusal::NotFound) }
    });
    assert_eq!(fetched.await, Err(Refusal::NotFound));
    assert_eq!(asked(&asked_of), [1, 1, 1]);
}

#[tokio::test]
async fn requests_that_are_dropped_leave_their_place_to_others() {
    let schedule = Schedule::new(1, RULES, MINUTE);
    let never = || schedule.fetch(None, |_, _| pending());
    let mut dropped: Vec<_> = (0..20).map(|_| Box::pin(never())).collect();
    for request in &mut dropped {
        assert!(futures::poll!(request).is_pending());
    }
    let mut waiting = Box::pin(schedule.fetch(None, |_, _| async { Ok(block()) }));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(dropped);
    assert_eq!(waiting.await, Ok(block()));
}

/// Blocks of 4 ms each, one at a time, of a gateway and of peers who have a part of them. How many blocks
/// each gave, and how long it took.
async fn from_both(gateway: bool, peers_have: impl Fn(usize) -> bool) -> ([usize; 2], Duration) {
    let gave = counts::<2>();
    let turns = [tokio::sync::Mutex::new(()), tokio::sync::Mutex::new(())];
    let schedule = Arc::new(Schedule::new(1, RULES, MINUTE));
    let guest = schedule.join(|| None);
    let began = Instant::now();
    let (gave_by, turns, peers_have) = (&gave, &turns, &peers_have);
    let blocks = (0..300).map(|nth| {
        schedule.fetch(Some(&guest), move |index, _| async move {
            let has = if index == 0 { gateway } else { peers_have(nth) };
            if !has {
                return Err(Refusal::NotFound);
            }
            let _turn = turns[index].lock().await;
            sleep(Duration::from_millis(4)).await;
            gave_by[index].fetch_add(1, Relaxed);
            Ok(block())
        })
    });
    let got: Vec<_> = stream::iter(blocks).buffer_unordered(32).collect().await;
    assert!(got.iter().all(Result::is_ok));
    let [gateway, peers] = asked(&gave)[..] else {
        unreachable!()
    };
    ([gateway, peers], began.elapsed())
}

#[tokio::test]
async fn peers_and_gateways_share_the_blocks() {
    let (gave, alone) = from_both(true, |_| false).await;
    assert_eq!(gave, [300, 0]);
    let (gave, peers_alone) = from_both(false, |_| true).await;
    assert_eq!(gave, [0, 300]);
    let (gave, both) = from_both(true, |_| true).await;
    assert!(gave.iter().all(|blocks| *blocks > 100), "{gave:?}");
    assert!(both < alone.min(peers_alone) * 4 / 5, "{both:?}");
    // Peers who have one block in three.
    let (gave, third) = from_both(true, |nth| nth % 3 == 0).await;
    assert!(gave[1] > 70, "{gave:?}");
    assert!(third < alone * 9 / 10, "{third:?}");
}

/// A block that only the guest has.
async fn from_guest(schedule: &Schedule, guest: Option<&Guest>) -> Result<Block, Refusal> {
    let ask = |index, _| async move {
        match index {
            0 => Err(Refusal::NotFound),
            _ => Ok(block()),
        }
    };
    schedule.fetch(guest, ask).await
}

#[tokio::test]
async fn peers_of_one_request_are_asked_for_its_blocks_only() {
    let schedule = Arc::new(Schedule::new(1, RULES, MINUTE));
    let guest = schedule.join(|| None);
    let without = from_guest(&schedule, None).await;
    assert_eq!(without, Err(Refusal::NotFound));
    assert_eq!(from_guest(&schedule, Some(&guest)).await, Ok(block()));
    drop(guest);
    let other = schedule.join(|| None);
    assert_eq!(other.index(), 1);
    assert_eq!(from_guest(&schedule, Some(&other)).await, Ok(block()));
}

/// What was seen of a source an hour ago.
fn seen(failures: u32) -> Seen {
    Seen {
        at: Timestamp::now() - Duration::from_secs(60 * 60),
        usual_ms: None,
        failures,
    }
}

#[tokio::test]
async fn who_answered_before_is_asked_before_those_that_failed() {
    let asked_of = counts::<5>();
    let schedule = Schedule::new(5, RULES, MINUTE);
    for index in 0..5 {
        schedule.know(index, &seen(u32::from(index != 3)));
    }
    let got = fetch_all(&schedule, 8, |_, index| {
        asked_of[index].fetch_add(1, Relaxed);
        async move {
            sleep(Duration::from_millis(20)).await;
            Ok(block())
        }
    })
    .await;
    assert!(got.iter().all(Result::is_ok));
    assert_eq!(asked(&asked_of), [0, 0, 0, 8, 0]);
}

/// How often a source that failed is asked for a block that another one sends so many parts of, one each
/// 50 ms, and nothing more for a while.
async fn asked_of_a_failed_source(parts: usize) -> usize {
    let asked_of = counts::<2>();
    let schedule = Schedule::new(2, RULES, MINUTE);
    schedule.know(0, &seen(0));
    schedule.know(1, &seen(1));
    let (schedule, asked_of) = (&schedule, &asked_of);
    let fetched = schedule.fetch(None, |index, progress| async move {
        asked_of[index].fetch_add(1, Relaxed);
        if index == 0 {
            for _ in 0..parts {
                sleep(Duration::from_millis(50)).await;
                schedule.note(0, &progress, 0.01);
            }
            sleep(Duration::from_secs(2)).await;
        }
        Ok(block())
    });
    fetched.await.unwrap();
    asked_of[1].load(Relaxed)
}

#[tokio::test]
async fn a_source_that_failed_is_asked_when_another_one_sends_nothing_more_or_only_trickles() {
    assert_eq!(asked_of_a_failed_source(2).await, 1);
    assert_eq!(asked_of_a_failed_source(100).await, 1);
}

#[tokio::test]
async fn a_source_that_failed_is_not_asked_while_another_one_sends() {
    let asked_of = counts::<2>();
    let schedule = Schedule::new(2, RULES, MINUTE);
    schedule.know(0, &seen(0));
    schedule.know(1, &seen(1));
    let (schedule, asked_of) = (&schedule, &asked_of);
    let fetched = schedule.fetch(None, |index, progress| async move {
        asked_of[index].fetch_add(1, Relaxed);
        let began = Instant::now();
        for part in 1..=16 {
            sleep_until(began + Duration::from_millis(50) * part).await;
            schedule.note(index, &progress, 0.01);
        }
        Ok(block())
    });
    fetched.await.unwrap();
    assert_eq!(asked(asked_of), [1, 0]);
}

#[tokio::test]
async fn who_says_later_is_not_waited_for_while_another_one_may_answer() {
    for later in [1_000_000, 30] {
        let schedule = Schedule::new(2, RULES, MINUTE);
        schedule.know(0, &seen(0));
        let fetched = schedule.fetch(None, |index, _| async move {
            match index {
                0 => Err(Refusal::Later(Duration::from_secs(later))),
                _ => Ok(block()),
            }
        });
        let fetched = tokio::time::timeout(MINUTE / 4, fetched).await;
        assert_eq!(fetched.expect("an answer"), Ok(block()));
    }
}

#[tokio::test]
async fn who_sends_a_little_now_and_then_is_not_waited_for() {
    let schedule = Schedule::new(2, RULES, MINUTE);
    let crawls = AtomicUsize::new(0);
    let (schedule, crawls) = (&schedule, &crawls);
    let ask = |index, progress: Arc<Progress>| async move {
        let now_crawls = crawls.load(Relaxed) > 0;
        match index {
            1 if !now_crawls => return Err(Refusal::NotFound),
            _ => sleep(Duration::from_millis(20)).await,
        }
        if index == 0 && now_crawls {
            loop {
                schedule.note(0, &progress, 0.001);
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(block())
    };
    for blocks in [100, 20] {
        let began = Instant::now();
        let blocks = (0..blocks).map(|_| schedule.fetch(None, ask));
        let got: Vec<_> = stream::iter(blocks).buffer_unordered(32).collect().await;
        assert!(got.iter().all(Result::is_ok));
        let took = began.elapsed();
        assert!(took < MINUTE / 2, "{took:?}");
        crawls.store(1, Relaxed);
    }
}

#[tokio::test]
async fn one_interruption_of_all_sources_does_not_end_what_waits_in_the_queue() {
    let schedule = Schedule::new(1, RULES, MINUTE);
    let (asked, turn) = (AtomicUsize::new(0), tokio::sync::Mutex::new(()));
    let got = fetch_all(&schedule, 32, |_, _| async {
        let _turn = turn.lock().await;
        sleep(Duration::from_millis(180)).await;
        match asked.fetch_add(1, Relaxed) {
            20..22 => Err(Refusal::Failed),
            _ => Ok(block()),
        }
    })
    .await;
    assert!(got.iter().all(Result::is_ok), "{got:?}");
}

#[tokio::test]
async fn a_source_that_hangs_does_not_take_the_place_of_another_one() {
    let rules = Rules {
        max_sources: 1,
        ..RULES
    };
    let schedule = Schedule::new(2, rules, MINUTE);
    let fetched = schedule.fetch(None, |index, _| async move {
        match index {
            0 => pending().await,
            _ => Ok(block()),
        }
    });
    let fetched = tokio::time::timeout(MINUTE / 6, fetched).await;
    assert_eq!(fetched.expect("an answer"), Ok(block()));
}
