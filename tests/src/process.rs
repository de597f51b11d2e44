//! Child processes in groups of their own: waiting with a deadline, logs, and nothing left behind.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

/// Lines kept of one program's output.
const MAX_LINES: usize = 20_000;

/// A program that keeps running. Dropping it kills its whole process group; if the thread is
/// panicking, its output is printed first.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    exit: Option<ExitStatus>,
    readers: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

impl Process {
    /// Starts the command. Standard output and standard error are collected line by line.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let shared = Arc::new(Shared::default());
        shared.lock().readers = 2;
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        collect(stdout, Arc::clone(&shared));
        collect(stderr, Arc::clone(&shared));
        let pid = pid_of(&child);
        let waiter = Arc::clone(&shared);
        thread::spawn(move || {
            let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(-1));
            waiter.update(|state| state.exit = Some(status));
        });
        Ok(Self {
            name: name.to_owned(),
            pid,
            shared,
        })
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Everything printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.shared.lock().lines.clone()
    }

    /// Waits until a line was printed for which `pick` gives a value.
    ///
    /// # Errors
    /// If the program ends or the deadline passes before.
    pub fn wait_for<T>(&self, deadline: Duration, pick: impl Fn(&str) -> Option<T>) -> Result<T> {
        let end = Instant::now() + deadline;
        let mut seen = 0;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = state.lines[seen..].iter().find_map(|line| pick(line)) {
                return Ok(found);
            }
            seen = state.lines.len();
            if let Some(status) = state.exit.filter(|_| state.readers == 0) {
                let log = state.lines.join("\n");
                bail!(
                    "{} ended with {status} before it was ready:\n{log}",
                    self.name
                );
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let log = state.lines.join("\n");
                bail!("{} was not ready after {deadline:?}:\n{log}", self.name);
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        self.shared.lock().exit.is_none()
    }

    /// Waits until the program ends.
    ///
    /// # Errors
    /// If the deadline passes before.
    pub fn wait_exit(&self, deadline: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + deadline;
        let mut state = self.shared.lock();
        loop {
            if let Some(status) = state.exit {
                return Ok(status);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{} still runs after {deadline:?}", self.name);
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// If it does not end before the deadline.
    pub fn stop(&self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait_exit(deadline)
    }

    /// Sends SIGKILL to the whole group and waits for the end.
    pub fn kill(&self) {
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        self.wait_exit(Duration::from_secs(10))
            .expect("SIGKILL ends a process");
    }

    /// Sends a signal to the program, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let state = self.shared.lock();
        if state.exit.is_none() {
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "the log of a failed test")]
    fn drop(&mut self) {
        // The group may outlive its leader, so it is killed in any case.
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        drop(self.wait_exit(Duration::from_secs(10)));
        if thread::panicking() {
            eprintln!(
                "--- output of {}:\n{}\n---",
                self.name,
                self.lines().join("\n")
            );
        }
    }
}

/// The id of a child.
pub fn pid_of(child: &Child) -> Pid {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a child has a process id")
}

fn collect(output: impl Read + Send + 'static, shared: Arc<Shared>) {
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            shared.update(|state| {
                if state.lines.len() < MAX_LINES {
                    state.lines.push(line);
                }
            });
        }
        shared.update(|state| state.readers -= 1);
    });
}

/// What a program that ended left.
#[derive(Debug)]
pub struct Output {
    /// Exit code; a program killed by a signal has none.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Output {
    /// Standard output as text, without the last line break.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// Runs a program to its end.
///
/// # Errors
/// If it cannot be started, or still runs at the deadline: then its group is killed.
pub fn run(command: &mut Command, deadline: Duration) -> Result<Output> {
    run_with_input(command, Vec::new(), deadline)
}

/// Runs a program to its end, with `input` as its standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: Vec<u8>, deadline: Duration) -> Result<Output> {
    let name = format!("{command:?}");
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let pid = pid_of(&child);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = read_all(child.stdout.take().expect("stdout is piped"));
    let stderr = read_all(child.stderr.take().expect("stderr is piped"));
    // A program that does not read its input closes the pipe: that is its right.
    thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
    let (ended, exit) = std::sync::mpsc::sync_channel(1);
    thread::spawn(move || ended.send(child.wait()));
    let status = match exit.recv_timeout(deadline) {
        Ok(status) => status?,
        Err(_) => {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            let stderr = String::from_utf8_lossy(&joined(stderr)).into_owned();
            bail!("{name} still ran after {deadline:?}; standard error:\n{stderr}");
        }
    };
    let took = started.elapsed();
    Ok(Output {
        code: status.code(),
        signal: status.signal(),
        stdout: joined(stdout),
        stderr: String::from_utf8_lossy(&joined(stderr)).into_owned(),
        took,
    })
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(from.read_to_end(&mut bytes));
        bytes
    })
}

fn joined(reader: JoinHandle<Vec<u8>>) -> Vec<u8> {
    reader.join().expect("reading into memory does not panic")
}

/// The most memory that a running process ever had resident, in bytes.
///
/// # Errors
/// If it has ended.
pub fn peak_memory(pid: Pid) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim_end().parse()?;
    Ok(kibibytes << 10)
}

/// Asks again and again until `check` gives a value; for state that nobody announces.
///
/// # Errors
/// If the deadline passes before; the error tells `what` was waited for.
pub fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut check: impl FnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(value) = check() {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("after {deadline:?} still not: {what}");
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// The TCP ports on which a process listens.
///
/// # Errors
/// If the system does not say.
pub fn listening_ports(pid: Pid) -> Result<Vec<u16>> {
    const LISTENS: &str = "0A";
    let pid = pid.as_raw_nonzero();
    let mut sockets = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let target = std::fs::read_link(entry?.path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        let inode = target
            .strip_prefix("socket:[")
            .and_then(|it| it.strip_suffix(']'));
        sockets.extend(inode.map(str::to_owned));
    }
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let port = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let is_own = *state == LISTENS && sockets.iter().any(|socket| socket == inode);
        let port = local.split_once(':').filter(|_| is_own)?.1;
        u16::from_str_radix(port, 16).ok()
    };
    Ok(table.lines().filter_map(port).collect())
}
