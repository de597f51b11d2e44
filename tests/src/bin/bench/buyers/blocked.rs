//! `blocked`: ten endpoints, nine of them blocked at random, others every few seconds.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use duka_tests::net::wan::{Link, Wan};
use duka_tests::process;
use duka_tests::random::Random;
use serde_json::Value;

use super::{CLIENT, Lab, ms};
use crate::report::{Report, Row, Target};
use crate::setup::{Setup, megabytes};

const GATEWAYS: usize = 10;
/// Time until other gateways are blocked.
const PERIOD: Duration = Duration::from_secs(5);
/// Requests that meet a blocked way so soon after a change were under way, or could not know of it.
const UNDER_WAY: Duration = Duration::from_millis(300);
/// Longest that one download may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// A download that takes longer counts as blocked: two periods.
const LIMIT: Duration = Duration::from_secs(10);
const LINK: Link = Link {
    delay: ms(20),
    loss: 0.0,
    rate: Some(20_000_000),
};

/// What came of a series of downloads.
struct Series {
    took: Duration,
    downloads: Downloads,
    /// Part of the requests that met a blocked way.
    tried_in_vain: f64,
    /// How many did for each change of the open gateway,
    for_each_change: f64,
    /// and how many of them within [`UNDER_WAY`].
    under_way: f64,
}

#[derive(Default)]
struct Downloads {
    asked: u32,
    bytes: u64,
    /// Not there within [`LIMIT`].
    blocked: u32,
}

impl Series {
    fn megabytes(&self) -> f64 {
        megabytes(self.downloads.bytes, self.took)
    }

    /// Percent of the downloads that were blocked.
    fn blocked(&self) -> f64 {
        f64::from(self.downloads.blocked) / f64::from(self.downloads.asked) * 100.0
    }
}

pub(crate) fn run(setup: &Setup, downloads: usize, size: u64) -> Result<Report> {
    let seed = setup.seed(0);
    let lab = Lab::new(setup, seed, GATEWAYS, LINK, size)?;
    let all = series(&lab, seed, downloads, None)?;
    // As long as the other one took: whatever it gets in that time counts.
    let single = series(&lab, seed, downloads, Some(all.took))?;

    let mut speed = Row::new(format!("{downloads} downloads of {size} bytes"), "MB/s");
    speed.push("all gateways", all.megabytes());
    speed.push("the best alone", single.megabytes());
    speed.ratio("all gateways", "the best alone", Some(Target::AtLeast(1.4)));
    let mut share = Row::new(
        format!("blocked downloads: not there within {LIMIT:?}"),
        "%",
    );
    share.push("all gateways", all.blocked());
    share.push("the best alone", single.blocked());
    share.ratio("all gateways", "the best alone", Some(Target::AtMost(0.1)));
    let mut cost = Row::new("requests that met a blocked way", "%");
    cost.push("all gateways", all.tried_in_vain * 100.0);
    let (_, open) = best(seed, all.took);
    cost.push("the best alone", (1.0 - open) * 100.0);
    cost.ratio("all gateways", "the best alone", Some(Target::AtMost(0.1)));
    Ok(Report {
        bench: "blocked",
        repetitions: 1,
        kubo: Value::Null,
        notes: vec![
            format!("{GATEWAYS} gateways, nine duka and one Kubo, 20 MB/s and 20 ms each"),
            format!("every {PERIOD:?} another one, at random, is the only one that is not blocked"),
            format!("{downloads} of {downloads} downloads were complete and verified"),
            format!(
                "for each change {:.1} requests met a blocked way, {:.1} of them within {UNDER_WAY:?}; of the nine \
                 others four have to be asked on average before the one that is open",
                all.for_each_change, all.under_way
            ),
            "of requests at the best alone: those of a client that sends all of them to it, the part of \
             the time that it is blocked"
                .to_owned(),
        ],
        rows: vec![speed, share, cost],
    })
}

/// Downloads from all gateways, each of which must succeed, or, for so long, from the one that is open for
/// longest.
fn series(lab: &Lab, seed: u64, downloads: usize, alone: Option<Duration>) -> Result<Series> {
    let addresses: Vec<_> = lab.gateways.iter().map(|gateway| gateway.address).collect();
    let before = requests(&lab.wan, &addresses);
    let out = lab.buyer.home().join("out");
    let started = Instant::now();
    let (downloads, changes, under_way) = thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        let blocking = scope.spawn(|| {
            let stopped = stopped;
            let lasts = |time| stopped.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
            let (mut changes, mut under_way) = (0, 0);
            for open in schedule(seed) {
                let closed = addresses.iter().enumerate().filter(|(at, _)| *at != open);
                lab.wan.block(CLIENT, closed.map(|(_, address)| *address));
                let (blocked, _) = requests(&lab.wan, &addresses);
                let lasted = lasts(UNDER_WAY);
                under_way += requests(&lab.wan, &addresses).0 - blocked;
                changes += 1;
                if !lasted || !lasts(PERIOD - UNDER_WAY) {
                    break;
                }
            }
            (changes, under_way)
        });
        let downloads = match alone {
            None => all(lab, downloads, &out),
            Some(limit) => best_alone(lab, seed, limit, &out),
        };
        drop(stop);
        let (changes, under_way) = blocking.join().expect("it does not panic");
        anyhow::Ok((downloads?, changes, under_way))
    })?;
    lab.wan.block(CLIENT, []);
    let took = started.elapsed();
    let after = requests(&lab.wan, &addresses);
    let (blocked, open) = (after.0 - before.0, after.1 - before.1);
    Ok(Series {
        took,
        downloads,
        tried_in_vain: blocked as f64 / (blocked + open) as f64,
        for_each_change: blocked as f64 / f64::from(changes),
        under_way: under_way as f64 / f64::from(changes),
    })
}

/// Which gateway is open, period by period: never the same twice in a row.
fn schedule(seed: u64) -> impl Iterator<Item = usize> {
    let mut random = Random(seed);
    let mut open = 0;
    std::iter::repeat_with(move || {
        let others = (1..GATEWAYS).map(|step| (open + step) % GATEWAYS);
        open = random.pick(others);
        open
    })
}

fn all(lab: &Lab, count: usize, out: &Path) -> Result<Downloads> {
    let size = std::fs::metadata(&lab.file)?.len();
    let mut downloads = Downloads::default();
    for number in 1..=count {
        let got = process::run(&mut lab.get(out, lab.urls()), PATIENCE)?;
        ensure!(got.code == Some(0), "download {number}: {}", got.text());
        lab.check(out)?;
        std::fs::remove_file(out)?;
        downloads.asked += 1;
        downloads.bytes += size;
        downloads.blocked += u32::from(got.took > LIMIT);
    }
    Ok(downloads)
}

/// Each download begins anew after the limit; what arrived before counts for the next one.
fn best_alone(lab: &Lab, seed: u64, limit: Duration, out: &Path) -> Result<Downloads> {
    let size = std::fs::metadata(&lab.file)?.len();
    let (best, _) = best(seed, limit);
    let within = format!("{}s", LIMIT.as_secs());
    let end = Instant::now() + limit;
    let mut downloads = Downloads::default();
    while Instant::now() < end {
        let mut get = lab.get(out, [lab.gateways[best].url.as_str()]);
        let got = process::run(get.args(["--timeout", &within]), PATIENCE)?;
        downloads.asked += 1;
        if got.code == Some(0) {
            lab.check(out)?;
            std::fs::remove_file(out)?;
            downloads.bytes += size;
        } else {
            downloads.blocked += 1;
            thread::sleep(LIMIT.saturating_sub(got.took));
        }
    }
    Ok(downloads)
}

/// The gateway that is open for longest in this time, and the part of it that it is.
fn best(seed: u64, time: Duration) -> (usize, f64) {
    let periods = time.div_duration_f64(PERIOD);
    let mut open = [0.0; GATEWAYS];
    for (at, period) in schedule(seed).zip(0..) {
        let left = periods - f64::from(period);
        if left <= 0.0 {
            break;
        }
        open[at] += left.min(1.0);
    }
    let best = (0..GATEWAYS).max_by(|one, other| open[*one].total_cmp(&open[*other]));
    let best = best.unwrap_or(0);
    (best, open[best] / periods)
}

/// Requests of the client: attempts that met a blocked way, and requests that did not.
fn requests(wan: &Wan, addresses: &[Ipv4Addr]) -> (usize, usize) {
    let carried = addresses.iter().map(|to| wan.carried(CLIENT, *to));
    carried.fold((0, 0), |(blocked, sent), way| {
        let requests = way.sent.len() - way.begun.len();
        (blocked + way.blocked.len(), sent + requests)
    })
}
