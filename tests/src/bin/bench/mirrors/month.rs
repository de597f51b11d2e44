//! `month`: thirty days in minutes. Machines die and come back by a schedule that only the harness knows,
//! and a buyer asks every simulated minute.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use duka_tests::duka::Serving;
use duka_tests::net::wan::{Link, Wan};
use duka_tests::process::{self, wait_until};
use duka_tests::random::Random;
use serde_json::Value;

use super::{CREATOR, Node, PRODUCT, Settings, mirror};
use crate::report::{Report, Row, Target};
use crate::setup::Setup;

const MIRRORS: u8 = 5;
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest that one download may take; a minute of a buyer is shorter.
const ONE_GET: Duration = Duration::from_secs(20);
/// A day has so many minutes.
const DAY: u64 = 24 * 60;
const SIZE: u64 = 64 << 10;

/// A node that gets ready, and the command that started it.
type Starting = thread::JoinHandle<Result<(Command, Serving)>>;

/// A machine that dies, or comes back, in a minute.
#[derive(Clone, Copy)]
struct Turn {
    minute: u64,
    node: usize,
    comes_back: bool,
}

pub(crate) fn run(setup: &Setup, days: u64, minute: Duration) -> Result<Report> {
    let seed = setup.seed(0);
    let wan = Wan::new(seed)?;
    let settings = Settings::without_dht(Link::default());
    let creator = Node::start(setup, &wan, CREATOR, settings)?;
    let shop = creator.shop()?;
    creator.publish(seed, 0, SIZE)?;
    let mut nodes = vec![creator];
    for number in 1..=MIRRORS {
        let node = Node::start(setup, &wan, mirror(number), settings)?;
        node.mirrors(&shop, &nodes[0])?;
        let mut client = node.ask()?;
        wait_until("a mirror has the release", PATIENCE, || {
            client.has(&shop, "1.0").unwrap_or(false).then_some(())
        })?;
        nodes.push(node);
    }
    let machine = wan.machine(mirror(100), Link::default())?;
    let buyer = setup.duka(&Default::default())?.on(&machine);
    let wanted = format!("/ipns/{shop}/p/{PRODUCT}/1.0");
    let urls = nodes.iter().map(Node::url).collect::<Result<Vec<_>>>()?;
    let out = buyer.home().join("out");
    let get = |minute: u64| {
        let mut command = buyer.command();
        command
            .args(["--json", "--log-level", "warn,duka_node=debug"])
            .args(["get", &wanted, "--restart", "-o"])
            .arg(&out);
        for url in &urls {
            command.args(["--mirror", url]);
        }
        match process::run(&mut command, ONE_GET) {
            Ok(got) if got.code == Some(0) && is_whole(&out) => true,
            Ok(got) => {
                eprintln!("minute {minute}: {}", got.text());
                false
            }
            Err(error) => {
                eprintln!("minute {minute}: {error}");
                false
            }
        }
    };

    let starts = nodes.iter().map(Node::again);
    let mut starts = starts
        .map(|start| start.map(Some))
        .collect::<Result<Vec<_>>>()?;
    let mut coming: Vec<Option<Starting>> = nodes.iter().map(|_| None).collect();

    let turns = schedule(&mut Random(seed), days);
    let mut next = turns.iter().peekable();
    let started = Instant::now();
    let (mut asked, mut answered, mut longest, mut gap) = (0_u64, 0_u64, Duration::ZERO, 0_u64);
    for now in 0..days * DAY {
        while let Some(turn) = next.next_if(|turn| turn.minute <= now) {
            if turn.comes_back {
                let mut start = starts[turn.node].take().context("it is down")?;
                coming[turn.node] = Some(thread::spawn(move || {
                    Serving::start(&mut start).map(|serving| (start, serving))
                }));
                continue;
            }
            if let Some(starting) = coming[turn.node].take() {
                let (start, serving) = starting.join().expect("starting does not panic")?;
                starts[turn.node] = Some(start);
                nodes[turn.node].serving = Some(serving);
            }
            let running = nodes[turn.node].serving.take();
            running.context("it runs")?.kill();
        }
        let asking = Instant::now();
        let is_answered = get(now);
        asked += 1;
        answered += u64::from(is_answered);
        longest = longest.max(asking.elapsed());
        gap = if is_answered { 0 } else { gap + 1 };
        ensure!(gap < DAY, "nobody answers for a day");
        thread::sleep(minute.saturating_sub(asking.elapsed()));
        if (now + 1).is_multiple_of(DAY) {
            let (day, took) = ((now + 1) / DAY, started.elapsed());
            eprintln!("day {day} of {days}: {answered} of {asked} answered, {took:.0?}");
        }
    }
    let window = started.elapsed();
    let mut row = Row::new(format!("{asked} questions"), "%");
    row.push("answered", answered as f64 / asked as f64 * 100.0);
    row.absolute("answered", Target::AtLeast(99.99));
    let mut times = Row::new("longest answer", "s");
    times.push("duka get", longest.as_secs_f64());
    Ok(Report {
        bench: "month",
        repetitions: 1,
        kubo: Value::Null,
        notes: vec![
            format!(
                "{days} days in {:.0} s: a minute is {minute:?} or one download",
                window.as_secs_f64()
            ),
            format!(
                "a creator and {MIRRORS} mirrors; {} times one is killed or started again",
                turns.len()
            ),
        ],
        rows: vec![row, times],
    })
}

/// Each machine dies about once in two days and is away for up to a day; at least one is there.
fn schedule(random: &mut Random, days: u64) -> Vec<Turn> {
    let count = usize::from(MIRRORS) + 1;
    let mut back_at = vec![0; count];
    let mut turns = Vec::new();
    for minute in 0..days * DAY {
        for node in 0..count {
            if back_at[node] == minute && minute > 0 {
                let comes_back = true;
                turns.push(Turn {
                    minute,
                    node,
                    comes_back,
                });
            }
            let others = (0..count).filter(|other| *other != node && back_at[*other] <= minute);
            if back_at[node] <= minute && others.count() > 0 && random.below(2 * DAY) == 0 {
                back_at[node] = minute + 10 + random.below(DAY);
                let comes_back = false;
                turns.push(Turn {
                    minute,
                    node,
                    comes_back,
                });
            }
        }
    }
    turns
}

fn is_whole(out: &Path) -> bool {
    let len = std::fs::metadata(out).map(|file| file.len());
    std::fs::remove_file(out).is_ok() && len.ok() == Some(SIZE)
}
