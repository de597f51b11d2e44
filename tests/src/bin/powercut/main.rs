//! Cuts the power of a disk, or kills the process, while store and manifest write, and looks for what
//! was acknowledged.
//!
//! `cargo run --release -p duka-tests --bin powercut -- --cuts 1000`, as root. A writer process works
//! on a loop device with ext4, or with XFS (`--file-system xfs`), and prints what it was acknowledged; the harness shuts the file system down
//! at a random moment (`EXT4_IOC_SHUTDOWN`, without a flush of its journal: what was not synced is gone),
//! mounts it again, and the next writer first looks for everything that was acknowledged: the release
//! or pin is there, and every block below it is there with the right hash. Every other file system is
//! written without direct I/O, as where that cannot be had. Exit code 1 says that something was lost.
//!
//! `--without-sync KIND` leaves one kind of sync out, which must be found. On ext4 that is `commit`,
//! `seal`, `journal` and `checkpoint`: there, each sync of a file makes all names and lengths durable, too,
//! so the other kinds are never missed. The simulated cuts of the test `durable` find those.
//!
//! `--kill` ends the writer with SIGKILL instead, and `--kill-at POINT` at the syncs of one kind, and
//! before files are renamed or removed. No disk is needed for that.
//!
//! Not proved: what disks do that lie about syncs or tear sectors, and other file systems.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints"
)]

mod fact;
mod ledger;
mod name_space;
mod point;
mod session;
mod statistics;
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use duka_tests::disk::point::SyncKind;
use duka_tests::loop_disk::FileSystem;
use serde::{Deserialize, Serialize};

use crate::point::Point;
use crate::session::{How, Outcome};

/// Cuts the power, or kills, while duka writes; exit code 1 when something acknowledged is lost.
#[derive(Debug, Parser)]
#[command(name = "powercut")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Cuts in all, spread evenly over the workloads
    #[arg(long, default_value_t = 350)]
    cuts: u64,
    /// Only this workload
    #[arg(long)]
    workload: Option<Workload>,
    /// What the disk is formatted with
    #[arg(long, value_enum, default_value_t)]
    file_system: FileSystem,
    /// Leave this kind of sync out; ends at the first loss
    #[arg(long)]
    without_sync: Option<SyncKind>,
    /// Kill the process at random moments, without a power cut
    #[arg(long)]
    kill: bool,
    /// Kill the process at this point, without a power cut
    #[arg(long)]
    kill_at: Option<Point>,
    /// Decides the moments and what is written
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print only JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// What the harness starts: looks for what was acknowledged, then writes until it is killed
    #[command(hide = true)]
    Writer(writer::Args),
}

/// What the writer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Workload {
    /// Publishes files of some MiB
    Publish,
    /// Publishes files of some MiB, whose bytes the packs share where the disk can
    Shared,
    /// Publishes folders of small files
    Small,
    /// Pins and unpins
    Pins,
    /// Pins and unpins while garbage is collected all the time
    Gc,
    /// All of these at once
    Mixed,
    /// Blocks alone, in small packs
    Blocks,
    /// The manifest alone, with many checkpoints
    Checkpoint,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Role::Writer(args)) = args.role {
        return writer::run(&args);
    }
    let how = match (args.kill, args.kill_at) {
        (_, Some(point)) => How::KillAt(point),
        (true, None) => How::Kill,
        (false, None) => How::PowerCut,
    };
    if how == How::PowerCut
        && let Some(code) = name_space::in_own()?
    {
        return Ok(code);
    }
    let workloads = match args.workload {
        Some(workload) => vec![workload],
        None => Workload::value_variants().to_vec(),
    };
    let folder = tempfile::Builder::new().prefix("powercut-").tempdir()?;
    let mut outcomes = Vec::new();
    for (workload, cuts) in spread(args.cuts, &workloads) {
        let session = session::Session {
            how,
            workload,
            cuts,
            without_sync: args.without_sync,
            file_system: args.file_system,
            seed: args.seed,
            folder: PathBuf::from(folder.path()),
        };
        let outcome = session.run()?;
        if !args.json {
            print(&outcome);
        }
        outcomes.push(outcome);
    }
    if !args.json && outcomes.len() > 1 {
        print_sum(&outcomes);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    }
    let lost = outcomes.iter().any(|outcome| !outcome.losses.is_empty());
    Ok(ExitCode::from(u8::from(lost)))
}

/// Each workload with its share of the cuts.
fn spread(cuts: u64, workloads: &[Workload]) -> impl Iterator<Item = (Workload, u64)> {
    let count = workloads.len() as u64;
    let shares = (0..count).map(move |at| cuts / count + u64::from(at < cuts % count));
    workloads.iter().copied().zip(shares)
}

fn print_sum(outcomes: &[Outcome]) {
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let (cuts, losses) = (sum(|o| o.cuts), sum(|o| o.losses.len() as u64));
    println!(
        "All: {cuts} cuts, {} during a write, {} acknowledgements, {losses} losses (at most {:.2} % of cuts, 95 %), {} s",
        sum(|o| o.during_writes),
        sum(|o| o.acknowledged),
        statistics::upper_bound(cuts, losses) * 100.0,
        sum(|o| o.seconds),
    );
}

fn print(outcome: &Outcome) {
    println!(
        "{:?}: {} cuts, {} during a write, {} acknowledgements, {} losses (at most {:.2} % of cuts, 95 %), {} s",
        outcome.workload,
        outcome.cuts,
        outcome.during_writes,
        outcome.acknowledged,
        outcome.losses.len(),
        outcome.upper_bound * 100.0,
        outcome.seconds,
    );
    for loss in &outcome.losses {
        println!("  lost: {loss}");
    }
}
