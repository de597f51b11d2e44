//! duka itself: the real binary with a home of its own and a clean environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::locate;
use crate::net::{self, Machine};
use crate::process::{self, Output, Process};

/// Time for one command.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the configuration file of a test says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Multiaddrs to listen on.
    pub listen: Vec<&'static str>,
    /// Take part in the DHT: `off`, `client`, `server`.
    pub dht: &'static str,
    /// Multiaddrs of peers that are dialed first.
    pub bootstrap: Vec<String>,
    /// Free space the store leaves.
    pub reserve: &'static str,
    /// Find peers on the local network.
    pub mdns: bool,
    /// Ask the router to forward ports.
    pub upnp: bool,
    /// Use relays and hole punching.
    pub relay: bool,
    /// Address of the gateway.
    pub gateway: &'static str,
    /// Further lines of the section `[network]`.
    pub network: String,
    /// Further lines, as in the configuration file: whole sections.
    pub more: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: vec![TCP, QUIC],
            dht: "off",
            bootstrap: Vec::new(),
            reserve: "1 MiB",
            mdns: false,
            upnp: false,
            relay: false,
            gateway: "127.0.0.1:0",
            network: String::new(),
            more: String::new(),
        }
    }
}

/// TCP on loopback, at a port that the kernel chooses.
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";

/// QUIC on loopback, at a port that the kernel chooses.
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// TCP on every interface, at a port that the kernel chooses.
pub const TCP_ANYWHERE: &str = "/ip4/0.0.0.0/tcp/0";

/// QUIC on every interface, at a port that the kernel chooses.
pub const QUIC_ANYWHERE: &str = "/ip4/0.0.0.0/udp/0/quic-v1";

/// A gateway on every interface, at a port that the kernel chooses.
pub const GATEWAY_ANYWHERE: &str = "0.0.0.0:0";

/// A home with a configuration that names no public peer, and a data directory. Commands run in it.
#[derive(Debug)]
pub struct Duka {
    program: PathBuf,
    home: TempDir,
    machine: Option<Machine>,
}

impl Duka {
    /// Makes a home.
    ///
    /// # Errors
    /// If the binary is not built, or the folder cannot be written.
    pub fn new() -> Result<Self> {
        Self::with(&Options::default())
    }

    /// Makes a home with other settings.
    ///
    /// # Errors
    /// As [`Duka::new`].
    pub fn with(options: &Options) -> Result<Self> {
        Self::in_folder(&std::env::temp_dir(), options)
    }

    /// Makes a home below `folder`.
    ///
    /// # Errors
    /// As [`Duka::new`].
    pub fn in_folder(folder: &Path, options: &Options) -> Result<Self> {
        let duka = Self::bare(locate::duka()?, folder, options)?;
        duka.ok(&["init"])?;
        Ok(duka)
    }

    /// Makes a home below `folder` for a program, without a data directory: as of somebody who only
    /// downloads, or who never ran duka before.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn bare(program: PathBuf, folder: &Path, options: &Options) -> Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("duka-")
            .tempdir_in(folder)?;
        let duka = Self {
            program,
            home,
            machine: None,
        };
        duka.configure(options)?;
        Ok(duka)
    }

    /// The same home, but its programs run on a machine of a [`crate::net::Internet`].
    #[must_use]
    pub fn on(self, machine: &Machine) -> Self {
        Self {
            machine: Some(machine.clone()),
            ..self
        }
    }

    /// Writes the configuration file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn configure(&self, options: &Options) -> Result<()> {
        let Options {
            listen,
            dht,
            bootstrap,
            reserve,
            mdns,
            upnp,
            relay,
            gateway,
            network,
            more,
        } = options;
        let text = format!(
            "[store]\nreserve = {reserve:?}\n\n[network]\nlisten = {listen:?}\nbootstrap = {bootstrap:?}\n\
             mdns = {mdns}\nupnp = {upnp}\nrelay = {relay}\ndht = {dht:?}\n{network}\n\n\
             [gateway]\nlisten = {gateway:?}\n\n{more}"
        );
        fs::write(self.home.path().join("config.toml"), text).context("the configuration")
    }

    /// The home: an empty folder but for the configuration and the data directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A command of duka; its arguments are to be added.
    pub fn command(&self) -> Command {
        let mut command = net::command(self.machine.as_ref(), &self.program);
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .env("XDG_RUNTIME_DIR", self.home.path())
            .env("RUST_BACKTRACE", "1")
            .current_dir(self.home.path())
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--config")
            .arg(self.home.path().join("config.toml"));
        command
    }

    /// A command of duka, by a shell that does `first` before; its arguments are to be added.
    pub fn command_after(&self, first: &str) -> Command {
        let duka = self.command();
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", &format!("{first}; exec \"$@\""), "sh"])
            .arg(duka.get_program())
            .args(duka.get_args())
            .env_clear()
            .envs(
                duka.get_envs()
                    .filter_map(|(key, value)| Some((key, value?))),
            )
            .current_dir(self.home.path());
        shell
    }

    /// Runs a command with `--json`, whatever its outcome.
    ///
    /// # Errors
    /// If it does not end in time, or dies of a panic or a signal.
    pub fn cmd(&self, arguments: &[&str]) -> Result<Outcome> {
        Outcome::of(process::run(
            self.command().arg("--json").args(arguments),
            PATIENCE,
        )?)
    }

    /// Runs a command with `--json` that must succeed, and gives its result event.
    ///
    /// # Errors
    /// If it fails: with what it said.
    pub fn ok(&self, arguments: &[&str]) -> Result<Value> {
        let outcome = self.cmd(arguments)?;
        ensure!(
            outcome.code == 0,
            "duka {} exits with {}: {}{}",
            arguments.join(" "),
            outcome.code,
            String::from_utf8_lossy(&outcome.stdout),
            outcome.stderr
        );
        outcome.result()
    }

    /// Runs a command without `--json` that must succeed.
    ///
    /// # Errors
    /// If it fails: with what it said.
    pub fn plain(&self, arguments: &[&str]) -> Result<Outcome> {
        let outcome = Outcome::of(process::run(self.command().args(arguments), PATIENCE)?)?;
        ensure!(
            outcome.code == 0,
            "duka {}: {}",
            arguments.join(" "),
            outcome.stderr
        );
        Ok(outcome)
    }

    /// Starts `duka serve` and waits until it is ready.
    ///
    /// # Errors
    /// If it does not get ready within 30 s.
    pub fn serve(&self) -> Result<Serving> {
        self.start(&["serve"])
    }

    /// Starts a command that serves, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not get ready within a minute.
    pub fn start(&self, arguments: &[&str]) -> Result<Serving> {
        Serving::start(self.command().arg("--json").args(arguments))
    }
}

/// A duka that serves.
#[derive(Debug)]
pub struct Serving {
    process: Process,
    ready: Value,
}

impl Serving {
    /// Starts a command that serves, and that has `--json`, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not get ready within a minute.
    pub fn start(command: &mut Command) -> Result<Self> {
        let process = Process::start("duka", command)?;
        let ready = process.wait_for(Duration::from_secs(60), |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["type"] == "ready").then_some(event)
        })?;
        Ok(Self { process, ready })
    }

    /// The event that said it is ready.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// The gateway's URL, without a slash at its end.
    ///
    /// # Errors
    /// If the ready event has none.
    pub fn gateway(&self) -> Result<String> {
        let url = self.ready["gateway"]
            .as_str()
            .context("no gateway in the ready event")?;
        Ok(url.trim_end_matches('/').to_owned())
    }

    /// Where health and metrics are: a URL without a slash at its end.
    ///
    /// # Errors
    /// If the ready event has none.
    pub fn admin(&self) -> Result<String> {
        Ok(field(&self.ready, "admin")?.to_owned())
    }

    /// The first peer address, with the peer id, that contains `kind`.
    ///
    /// # Errors
    /// If there is none.
    pub fn address(&self, kind: &str) -> Result<String> {
        let addresses = self.ready["addresses"]
            .as_array()
            .context("no addresses when ready")?;
        let mut texts = addresses.iter().filter_map(Value::as_str);
        let found = texts.find(|address| address.contains(kind));
        Ok(found
            .with_context(|| format!("no {kind} in {addresses:?}"))?
            .to_owned())
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Sends SIGTERM; the node must drain and exit within 10 s, with 0 or the code of SIGTERM.
    ///
    /// # Errors
    /// If it does not.
    pub fn stop(self) -> Result<()> {
        let status = self.process.stop(Duration::from_secs(10))?;
        ensure!(
            matches!(status.code(), Some(0 | 143)),
            "stopping ended with {status}"
        );
        Ok(())
    }

    /// Sends SIGKILL.
    pub fn kill(self) {
        self.process.kill();
    }
}

/// What a command left.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Outcome {
    fn of(output: Output) -> Result<Self> {
        let Output {
            code,
            signal: _,
            stdout,
            stderr,
            took,
        } = output;
        if stderr.contains("panicked at") {
            bail!("duka panicked: {stderr}");
        }
        let code = code.with_context(|| format!("duka was killed by a signal: {stderr}"))?;
        Ok(Self {
            code,
            stdout,
            stderr,
            took,
        })
    }

    /// Standard output as text, without the last line break.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// The NDJSON events of standard output.
    ///
    /// # Errors
    /// If a line is not JSON.
    pub fn events(&self) -> Result<Vec<Value>> {
        let text = std::str::from_utf8(&self.stdout)?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// What went wrong, for people: the error event's message and advice, or standard error.
    pub fn complaint(&self) -> String {
        let last = self.events().ok().and_then(|mut events| events.pop());
        let Some(error) = last.filter(|event| event["type"] == "error") else {
            return self.stderr.trim_end().to_owned();
        };
        let hints = error["hints"].as_array().into_iter().flatten();
        let lines = std::iter::once(&error["message"])
            .chain(hints)
            .filter_map(Value::as_str);
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The last event, which must be the result.
    ///
    /// # Errors
    /// If it is not.
    pub fn result(&self) -> Result<Value> {
        let last = self
            .events()?
            .pop()
            .context("no event on standard output")?;
        ensure!(
            last["type"] == "result",
            "the last event is not the result: {last}"
        );
        Ok(last)
    }
}

/// A text field of an event.
///
/// # Errors
/// If the event has no such field.
pub fn field<'a>(event: &'a Value, name: &str) -> Result<&'a str> {
    event[name]
        .as_str()
        .with_context(|| format!("no {name} in {event}"))
}
