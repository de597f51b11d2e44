//! The command line, driven as a user does: the real binary, a home of its own, a clean environment.

#![allow(clippy::unwrap_used, reason = "tests, and the helpers of tests")]

mod damaged_manifest;
mod limits;
mod newer;
mod node;
mod read_only;
mod reading;
mod shop;
mod store;
mod usage;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A home without data directory or settings.
struct Home(TempDir);

/// What a command left.
struct Output {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A command with nothing of this process's environment.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_duka"));
        command
            .env_clear()
            .env("HOME", self.path())
            .env("XDG_RUNTIME_DIR", self.path())
            // How full the disk is decides nothing here.
            .env("DUKA_STORE_RESERVE", "1 MiB")
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command().args(arguments))
    }
}

fn finish(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

impl Output {
    /// The last event.
    fn last(&self) -> Value {
        let line = self.stdout.lines().last().unwrap();
        serde_json::from_str(line).unwrap()
    }
}
