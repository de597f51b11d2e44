//! `soak`: mixed load on a gateway for a long time, while one process after the other takes it over.
//! Every answer is checked for its status, length and hash, and none may fail.

mod client;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use duka_tests::duka::{self, Duka, Outcome, Serving, field};
use duka_tests::files;
use duka_tests::process::wait_until;
use serde_json::Value;

use self::client::{Client, Request, Tally, Want};
use crate::report::{Report, Row, Target};
use crate::setup::{Setup, resident_mib};

const FAILURES: Target = Target::AtMost(0.0);

/// Clients that ask for small files; every other kind has one.
const SMALL_CLIENTS: usize = 4;
/// Files in the directory that is listed and in its CAR.
const SMALL_FILES: usize = 1000;
const SMALL_LEN: usize = 3000;
/// A range of the large file.
const RANGE_LEN: usize = 300_000;
/// A file that is added while the load goes on.
const ADDED_LEN: usize = 50_000;
/// Pauses between the requests of a client: those of one that asks often, and of one that asks for much.
const OFTEN: Duration = Duration::from_millis(2);
const SELDOM: Duration = Duration::from_millis(200);
/// Exit codes of a command that may be run again: the node went away, and another process has the directory.
const TEMPORARY: i32 = 5;
const LOCKED: i32 = 11;
/// Time for the last answers of a process whose place was taken.
const LEAVING: Duration = Duration::from_secs(120);

pub(crate) fn run(setup: &Setup, length: Duration, pause: Duration, large: u64) -> Result<Report> {
    let (duka, mut node) = setup.serving(&duka::Options::default())?;
    let address = node.gateway()?;
    let address = address.strip_prefix("http://").context("no address")?;
    let client = Client::new(address.parse()?);
    let site = Site::make(setup, &duka, large)?;
    let kinds = site.kinds(&client)?;

    let stop = AtomicBool::new(false);
    let mut rows = Rows::default();
    thread::scope(|scope| -> Result<()> {
        let mut asking: Vec<_> = kinds
            .iter()
            .map(|kind| scope.spawn(|| (kind.name, kind.ask(&client, &stop))))
            .collect();
        asking.push(scope.spawn(|| ("added files", add_and_ask(&duka, &client, &stop))));
        let handed_over = hand_over(&duka, &mut node, length, pause, &mut rows);
        stop.store(true, Ordering::Relaxed);
        for asked in asking {
            let (name, tally) = asked.join().expect("no panic");
            rows.add(name, &tally);
        }
        handed_over
    })?;
    duka.ok(&["fsck"])?;
    node.stop()?;
    Ok(rows.report(length))
}

/// Lets a new process take over again and again. Each one before must end well.
fn hand_over(
    duka: &Duka,
    node: &mut Serving,
    length: Duration,
    pause: Duration,
    rows: &mut Rows,
) -> Result<()> {
    let end = Instant::now() + length;
    while Instant::now() + pause < end {
        thread::sleep(pause);
        let memory = resident_mib(node.process().pid().as_raw_nonzero())?;
        rows.memory.push("before a hand-over", memory);
        let started = Instant::now();
        let next = duka.start(&["serve", "--take-over"])?;
        rows.ready
            .push("to the ready line", started.elapsed().as_secs_f64() * 1e3);
        let old = std::mem::replace(node, next);
        let ended = old.process().wait_exit(LEAVING)?;
        ensure!(
            ended.code() == Some(0),
            "the old process ended with {ended}"
        );
        rows.hand_overs += 1;
    }
    thread::sleep(end.saturating_duration_since(Instant::now()));
    Ok(())
}

/// What is asked for.
struct Site {
    directory: String,
    large: String,
    small: Vec<Vec<u8>>,
    large_bytes: u64,
    large_hash: String,
    seed: u64,
}

/// Requests of one kind, one after the other.
struct Kind {
    name: &'static str,
    requests: Vec<Request>,
    pause: Duration,
}

impl Site {
    fn make(setup: &Setup, duka: &Duka, large: u64) -> Result<Self> {
        let folder = setup.folder()?;
        let seed = setup.seed(0);
        let directory = folder.path().join("directory");
        fs::create_dir(&directory)?;
        let small: Vec<_> = (0..SMALL_FILES)
            .map(|number| files::random_bytes(seed + number as u64, SMALL_LEN))
            .collect();
        for (number, bytes) in small.iter().enumerate() {
            fs::write(directory.join(small_name(number)), bytes)?;
        }
        let path = folder.path().join("large");
        files::write_random(&path, seed, large)?;
        let add = |path: &std::path::Path| -> Result<String> {
            let added = duka.ok(&["add", path.to_str().context("a text path")?])?;
            Ok(format!("/ipfs/{}", field(&added, "cid")?))
        };
        Ok(Self {
            directory: add(&directory)?,
            large: add(&path)?,
            small,
            large_bytes: large,
            large_hash: files::sha256_of(&path)?,
            seed,
        })
    }

    fn kinds(&self, client: &Client) -> Result<Vec<Kind>> {
        let small = self.small.iter().enumerate().map(|(number, bytes)| {
            let path = format!("{}/{}", self.directory, small_name(number));
            Request::whole(path, bytes)
        });
        let small: Vec<_> = small.collect();
        let range_len = RANGE_LEN.min(usize::try_from(self.large_bytes)?);
        let range = Request {
            path: self.large.clone(),
            range: Some((0, range_len as u64)),
            want: Want::of(206, &files::random_bytes(self.seed, range_len)),
        };
        let large = Request {
            path: self.large.clone(),
            range: None,
            want: Want {
                status: 200,
                bytes: self.large_bytes,
                sha256: self.large_hash.clone(),
            },
        };
        // What the first answer was is what all are to be.
        let listing = client.learn(format!("{}/", self.directory))?;
        let car = client.learn(format!("{}?format=car", self.directory))?;
        let often = |name, requests| Kind {
            name,
            requests,
            pause: OFTEN,
        };
        let seldom = |name, request| Kind {
            name,
            requests: vec![request],
            pause: SELDOM,
        };
        let mut kinds: Vec<_> = (0..SMALL_CLIENTS)
            .map(|client| {
                let mut requests = small.clone();
                requests.rotate_left(client * SMALL_FILES / SMALL_CLIENTS);
                often("small files", requests)
            })
            .collect();
        kinds.extend([
            often("ranges", vec![range]),
            seldom("listings", listing),
            seldom("CARs", car),
            seldom("large files", large),
        ]);
        Ok(kinds)
    }
}

impl Kind {
    fn ask(&self, client: &Client, stop: &AtomicBool) -> Tally {
        let mut tally = Tally::default();
        let mut kept = None;
        for request in self.requests.iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            tally.count(client.ask(request, &mut kept));
            thread::sleep(self.pause);
        }
        tally
    }
}

/// Adds files through the control socket and asks for each.
fn add_and_ask(duka: &Duka, client: &Client, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        tally.count(add_one(duka, client, number));
        thread::sleep(SELDOM);
    }
    tally
}

fn add_one(duka: &Duka, client: &Client, number: u64) -> Result<Duration> {
    let bytes = files::random_bytes(number, ADDED_LEN);
    let path = duka.home().join("added");
    fs::write(&path, &bytes)?;
    let add = ["add", path.to_str().context("a text path")?];
    // While the directory changes hands a command is told to come again.
    let added = wait_until("a node takes a file", LEAVING, || {
        let outcome = duka.cmd(&add);
        let is_refused = |it: &Outcome| matches!(it.code, TEMPORARY | LOCKED);
        (!outcome.as_ref().is_ok_and(is_refused)).then_some(outcome)
    })??;
    ensure!(added.code == 0, "duka add: {}", added.complaint());
    let path = format!("/ipfs/{}", field(&added.result()?, "cid")?);
    client.ask(&Request::whole(path, &bytes), &mut None)
}

fn small_name(number: usize) -> String {
    format!("file-{number:04}.bin")
}

/// What is told in the end.
struct Rows {
    requests: Row,
    failures: Row,
    longest: Row,
    ready: Row,
    memory: Row,
    hand_overs: u64,
    notes: Vec<String>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            requests: Row::new("requests", ""),
            failures: Row::new("failures", ""),
            longest: Row::new("longest time to the first byte of a body", "ms"),
            ready: Row::new("time of a hand-over", "ms"),
            memory: Row::new("memory", "MiB"),
            hand_overs: 0,
            notes: Vec::new(),
        }
    }
}

impl Rows {
    fn add(&mut self, kind: &'static str, tally: &Tally) {
        self.requests.push(kind, tally.requests as f64);
        self.failures.push(kind, tally.failures as f64);
        self.longest.push(kind, tally.longest.as_secs_f64() * 1e3);
        self.notes.extend(
            tally
                .told
                .iter()
                .map(|failure| format!("{kind}: {failure}")),
        );
    }

    fn report(mut self, length: Duration) -> Report {
        let all = |row: &Row| row.series.iter().flat_map(|it| &it.values).sum::<f64>();
        let (requests, failures) = (all(&self.requests), all(&self.failures));
        self.requests.check("all", requests, None);
        self.requests
            .check("hand-overs", self.hand_overs as f64, None);
        self.failures.check("all", failures, Some(FAILURES));
        let longest = self.longest.series.iter().flat_map(|it| &it.values);
        let longest = longest.copied().fold(0.0, f64::max);
        self.longest.check("all", longest, None);
        self.notes.insert(0, format!("{length:?}"));
        Report {
            bench: "soak",
            repetitions: 1,
            kubo: Value::Null,
            notes: self.notes,
            rows: vec![
                self.requests,
                self.failures,
                self.longest,
                self.ready,
                self.memory,
            ],
        }
    }
}
