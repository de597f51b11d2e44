//! duka as its users meet it: the real binary against Kubo, curl, `@helia/verified-fetch`, and faults.
#![allow(clippy::unwrap_used, reason = "tests, and the helpers of tests")]

mod acme;
mod any;
mod backup;
mod bad_blocks;
mod bad_input;
mod browser;
mod buying;
mod case;
mod checklist;
mod connectivity;
mod fixtures;
mod forged;
mod gateway;
mod get;
mod gossip;
mod handover;
mod https;
mod in_place;
mod kept;
mod killed;
mod limits;
mod memory;
mod mirror;
mod network;
mod reflink;
mod roots;
mod routing;
mod shop;
mod sources;
mod storefront;
mod thief;
mod up;
mod wait;

use std::time::Duration;

use anyhow::Result;
use duka_tests::duka::{Outcome, Serving, field};
use duka_tests::kubo::{self, Kubo};
use duka_tests::{Duka, files, process};

/// A duka that serves and a Kubo, connected over TCP, without routing.
struct Pair {
    kubo: Kubo,
    node: Serving,
    duka: Duka,
}

impl Pair {
    fn start() -> Result<Self> {
        let kubo = Kubo::run(kubo::Options::default())?;
        let duka = Duka::new()?;
        let node = duka.serve()?;
        duka.ok(&["swarm", "connect", &kubo.address("/tcp/")?])?;
        Ok(Self { kubo, node, duka })
    }
}

/// The refusal of a command: exit code, and a message for people with what to do.
#[track_caller]
fn assert_refused(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, code, "{outcome:?}");
    let said = outcome.complaint();
    let everything = format!("{}{}", outcome.text(), outcome.stderr);
    for word in words {
        assert!(
            everything.contains(word),
            "does not say {word:?}: {everything}"
        );
    }
    let lines = said.lines().filter(|line| !line.trim().is_empty()).count();
    assert!((1..=4).contains(&lines), "{lines} lines: {said}");
    for noise in ["RUST_BACKTRACE", "Err(", "Error {", "Custom {", "Os {"] {
        assert!(!said.contains(noise), "not for people: {said}");
    }
}

/// Whether the tests run as root: only root mounts file systems, and only root reads everything.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `duka cat`, which must succeed, and gives the bytes.
fn cat(duka: &Duka, path: &str) -> Result<Vec<u8>> {
    Ok(duka.plain(&["cat", path])?.stdout)
}

/// Adds a file or folder and gives its root CID.
fn add(duka: &Duka, path: &std::path::Path) -> Result<String> {
    let result = duka.ok(&[
        "add",
        "--hidden",
        path.to_str().expect("a test's path is text"),
    ])?;
    Ok(field(&result, "cid")?.to_owned())
}

/// Two files have the same bytes. They may be too long to be read into memory.
#[track_caller]
fn assert_same_file(one: &std::path::Path, other: &std::path::Path) {
    assert_eq!(
        files::sha256_of(one).unwrap(),
        files::sha256_of(other).unwrap(),
        "{} and {} differ",
        one.display(),
        other.display()
    );
}

/// A home without a data directory, as a buyer has it.
fn buyer(options: &duka_tests::duka::Options) -> Duka {
    Duka::bare(
        duka_tests::locate::duka().unwrap(),
        &std::env::temp_dir(),
        options,
    )
    .unwrap()
}

/// The versions of a product, oldest first.
fn versions(duka: &Duka, product: &str) -> Vec<String> {
    let events = duka
        .cmd(&["product", "history", product])
        .unwrap()
        .events()
        .unwrap();
    let versions = events.iter().filter_map(|event| event["version"].as_str());
    versions.map(str::to_owned).collect()
}

/// A program of the system, run to its end.
fn system(name: &str, arguments: &[&str]) -> Result<process::Output> {
    let mut command = std::process::Command::new(duka_tests::locate::system(name)?);
    process::run(command.args(arguments), Duration::from_secs(60))
}
