//! A few dozen rounds of what the program `powercut` does in thousands: nothing that was acknowledged
//! is lost to power cuts and SIGKILL, and without a sync that is needed something is.
#![allow(clippy::unwrap_used, reason = "tests, and the helpers of tests")]

use std::process::Command;
use std::time::Duration;

use duka_tests::process;
use serde_json::Value;

/// Time for one run of the program.
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs the program, which exits with `code`, and gives an outcome per workload.
fn powercut(arguments: &[&str], code: i32) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_powercut"));
    let output = process::run(command.arg("--json").args(arguments), PATIENCE).unwrap();
    assert_eq!(output.code, Some(code), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[expect(clippy::print_stderr, reason = "says what was left out")]
fn can_mount() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("left out: only root mounts disks");
    }
    root
}

fn total(outcomes: &[Value], field: &str) -> u64 {
    outcomes
        .iter()
        .map(|outcome| outcome[field].as_u64().unwrap())
        .sum()
}

#[test]
fn power_cuts_lose_nothing_that_was_acknowledged() {
    if !can_mount() {
        return;
    }
    let outcomes = powercut(&["--cuts", "48"], 0);
    assert_eq!(total(&outcomes, "cuts"), 48);
    assert!(total(&outcomes, "during_writes") > 10, "{outcomes:?}");
    assert!(total(&outcomes, "acknowledged") > 50, "{outcomes:?}");
}

#[test]
fn power_cuts_on_xfs_lose_nothing_that_was_acknowledged_and_shared() {
    if !can_mount() {
        return;
    }
    let shared = ["--file-system", "xfs", "--workload", "shared"];
    let outcomes = powercut(&[&shared[..], &["--cuts", "30"]].concat(), 0);
    assert!(total(&outcomes, "during_writes") > 2, "{outcomes:?}");
    assert!(total(&outcomes, "acknowledged") > 2, "{outcomes:?}");
    let without = ["--cuts", "60", "--without-sync", "commit"];
    let outcomes = powercut(&[&shared[..], &without].concat(), 1);
    assert_eq!(outcomes[0]["losses"].as_array().unwrap().len(), 1);
}

#[test]
fn without_a_sync_power_cuts_lose_something() {
    if !can_mount() {
        return;
    }
    for (sync, workload) in [
        ("commit", "blocks"),
        ("seal", "blocks"),
        ("commit", "publish"),
        ("journal", "publish"),
        ("journal", "checkpoint"),
        ("checkpoint", "checkpoint"),
    ] {
        let arguments = [
            "--cuts",
            "60",
            "--without-sync",
            sync,
            "--workload",
            workload,
        ];
        let outcomes = powercut(&arguments, 1);
        assert_eq!(outcomes[0]["losses"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let outcomes = powercut(&["--kill", "--cuts", "42"], 0);
    assert!(total(&outcomes, "during_writes") > 10, "{outcomes:?}");
}

#[test]
fn a_kill_at_any_point_loses_nothing_that_was_acknowledged() {
    for (workload, points) in [
        (
            "gc",
            &[
                "commit",
                "seal",
                "pack-name",
                "index",
                "index-name",
                "removal",
                "rename",
                "remove",
            ][..],
        ),
        (
            "checkpoint",
            &[
                "journal",
                "checkpoint",
                "new-journal",
                "journal-name",
                "rename",
                "remove",
            ],
        ),
        ("small", &["directory", "reopen", "journal-reopen"]),
    ] {
        for point in points {
            powercut(
                &["--kill-at", point, "--cuts", "3", "--workload", workload],
                0,
            );
        }
    }
}
