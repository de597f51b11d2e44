//! One workload: writers that are cut off again and again.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use duka_tests::disk::point::SyncKind;
use duka_tests::loop_disk::{FileSystem, LoopDisk};
use serde::Serialize;

use crate::Workload;
use crate::fact::Line;
use crate::ledger::Ledger;
use crate::point::Point;
use crate::statistics::upper_bound;

/// Cuts before a new disk: data directories are young and old.
const CUTS_PER_DISK: u64 = 8;
/// A writer works for up to so many milliseconds.
const LONGEST: u64 = 150;
/// Time that a writer has to look for what was acknowledged, or to reach a point.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a writer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    PowerCut,
    Kill,
    KillAt(Point),
}

/// One workload.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) how: How,
    pub(crate) workload: Workload,
    pub(crate) cuts: u64,
    pub(crate) without_sync: Option<SyncKind>,
    pub(crate) file_system: FileSystem,
    pub(crate) seed: u64,
    pub(crate) folder: PathBuf,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) workload: Workload,
    pub(crate) cuts: u64,
    /// Cuts that hit a write which was begun and not acknowledged.
    pub(crate) during_writes: u64,
    pub(crate) acknowledged: u64,
    pub(crate) losses: Vec<String>,
    /// Most losses per cut, at 95 %.
    pub(crate) upper_bound: f64,
    /// How long it took.
    pub(crate) seconds: u64,
}

/// Where a session writes.
enum Place {
    Disk(LoopDisk),
    Folder(tempfile::TempDir),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Disk(disk) => disk.path(),
            Self::Folder(folder) => folder.path(),
        }
    }
}

impl Session {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let mut outcome = Outcome {
            workload: self.workload,
            cuts: 0,
            during_writes: 0,
            acknowledged: 0,
            losses: Vec::new(),
            upper_bound: 1.0,
            seconds: 0,
        };
        let started = Instant::now();
        let mut number = 0;
        while outcome.cuts < self.cuts {
            self.run_disk(number, &mut outcome)?;
            number += 1;
            if self.without_sync.is_some() && !outcome.losses.is_empty() {
                break;
            }
        }
        let losses = outcome.losses.len() as u64;
        outcome.upper_bound = upper_bound(outcome.cuts, losses);
        outcome.seconds = started.elapsed().as_secs();
        Ok(outcome)
    }

    /// Cuts on one disk until something is lost, or it is old enough.
    fn run_disk(&self, number: u64, outcome: &mut Outcome) -> Result<()> {
        let place = match self.how {
            How::PowerCut => Place::Disk(LoopDisk::new(&self.folder, self.file_system)?),
            How::Kill | How::KillAt(_) => Place::Folder(tempfile::tempdir_in(&self.folder)?),
        };
        let mut ledger = Ledger::default();
        let done = self.cut_again_and_again(&place, number, &mut ledger, outcome);
        outcome.acknowledged += ledger.acknowledged;
        done
    }

    fn cut_again_and_again(
        &self,
        place: &Place,
        number: u64,
        ledger: &mut Ledger,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let cuts = CUTS_PER_DISK.min(self.cuts - outcome.cuts);
        for cut in 0..cuts {
            // What an open finds, the writer before must have written.
            let how = match self.how {
                How::KillAt(point) if point.is_at_open() && cut == 0 => How::Kill,
                how => how,
            };
            let mut writer = self.start(place, ledger, number, cut, how)?;
            let random = mix(self.seed ^ number << 32 ^ cut);
            // Some are cut off while they open what the one before left.
            let is_early = cut > 0 && random.is_multiple_of(5);
            if !is_early && let Some(loss) = writer.wait_until_ready(how)? {
                outcome.losses.push(loss);
                return Ok(());
            }
            match how {
                How::Kill if self.how != How::Kill => writer.wait_until_done(ledger)?,
                How::KillAt(point) => writer
                    .run_out(ledger)
                    .with_context(|| format!("the writer never came to {point}"))?,
                _ => std::thread::sleep(Duration::from_micros(random % (LONGEST * 1_000))),
            }
            if let Place::Disk(disk) = place {
                writer.lines.try_iter().for_each(|line| ledger.take(line));
                disk.cut()?;
                // A sync that was under way may end as if it had been done: ext4 looks for the cut only
                // when it begins.
                writer.end(|line| ledger.doubt(line))?;
            } else {
                writer.end(|line| ledger.take(line))?;
            }
            outcome.cuts += 1;
            outcome.during_writes += u64::from(ledger.end());
            if let Place::Disk(disk) = place {
                disk.restart()?;
            }
            if random & 64 == 0 {
                lose_index(place.path())?;
            }
        }
        let mut last = self.start(place, ledger, number, cuts, How::Kill)?;
        outcome.losses.extend(last.wait_until_ready(How::Kill)?);
        last.end(drop)
    }

    fn start(
        &self,
        place: &Place,
        ledger: &Ledger,
        disk: u64,
        cut: u64,
        how: How,
    ) -> Result<Writer> {
        let facts = self.folder.join("facts");
        ledger.save(&facts)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("writer");
        command.arg("--dir").arg(place.path().join("data"));
        command.arg("--facts").arg(&facts);
        command.arg("--scratch").arg(&self.folder);
        command.arg("--workload");
        command.arg(format!("{:?}", self.workload).to_lowercase());
        command.arg("--seed");
        command.arg(mix(self.seed ^ disk << 40 ^ cut).to_string());
        if disk % 2 == 1 || self.without_sync.is_some() && disk.is_multiple_of(4) {
            command.arg("--buffered");
        }
        if let Some(kind) = self.without_sync {
            command.arg("--without-sync").arg(kind.to_string());
        }
        if let How::KillAt(point) = how {
            command.arg("--kill-at").arg(point.to_string());
            let passes = if point.is_at_open() { 0 } else { cut % 3 };
            command.arg("--passes").arg(passes.to_string());
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // It complains of the power cut.
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        Ok(Writer {
            child,
            lines: read_lines(stdout),
        })
    }
}

/// The index of the manifest can be lost: journal and checkpoint have all that it has.
fn lose_index(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder.join("data/manifest/index")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// A running writer; killed when it is dropped.
struct Writer {
    child: Child,
    lines: Receiver<Line>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Writer {
    /// Waits until it has found everything, or says what is lost.
    fn wait_until_ready(&mut self, how: How) -> Result<Option<String>> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(Line::Ready) => Ok(None),
            Ok(Line::Lost(loss)) => Ok(Some(loss)),
            Ok(line) => bail!("the writer began with {line:?}"),
            Err(RecvTimeoutError::Timeout) => bail!("the writer is not ready after {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait()?;
                if matches!(how, How::KillAt(_)) && status.signal() == Some(9) {
                    return Ok(None);
                }
                // A program that dies of what it finds has lost it.
                Ok(Some(format!("the writer ended with {status}")))
            }
        }
    }

    /// Waits until something was acknowledged.
    fn wait_until_done(&mut self, ledger: &mut Ledger) -> Result<()> {
        while ledger.acknowledged == 0 {
            ledger.take(self.lines.recv_timeout(PATIENCE)?);
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    fn run_out(&mut self, ledger: &mut Ledger) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => ledger.take(line),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(timeout) => return Err(timeout.into()),
            }
        }
    }

    /// Kills it, and takes what it said.
    fn end(mut self, take: impl FnMut(Line)) -> Result<()> {
        drop(self.child.kill());
        self.child.wait()?;
        self.lines.iter().for_each(take);
        Ok(())
    }
}

fn read_lines(stdout: ChildStdout) -> Receiver<Line> {
    let (lines, received) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // The last one may be cut off.
            let Ok(line) = serde_json::from_str(&line) else {
                return;
            };
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    received
}

/// SplitMix64.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
