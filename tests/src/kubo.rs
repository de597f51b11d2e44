//! Kubo on loopback, in a throwaway repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::locate;
use crate::net::{self, Machine};
use crate::process::{self, Output, Process};

/// Time for one command.
const PATIENCE: Duration = Duration::from_secs(180);

/// How a Kubo is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Take part in the DHT (the LAN one, with loopback addresses); else no routing at all.
    pub dht: bool,
    /// Listen on TCP.
    pub tcp: bool,
    /// Listen on QUIC.
    pub quic: bool,
    /// Serve over the gateway only what is stored.
    pub no_fetch: bool,
    /// The daemon takes no part in any network; its own names it resolves.
    pub offline: bool,
    /// Serve the gateway and the swarm on every interface.
    pub anywhere: bool,
    /// Names over gossipsub (`Ipns.UsePubsub`).
    pub gossip: bool,
    /// The import profile.
    pub profile: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dht: false,
            tcp: true,
            quic: false,
            no_fetch: true,
            offline: false,
            anywhere: false,
            gossip: false,
            profile: "unixfs-v1-2025",
        }
    }
}

/// A Kubo repository and, between [`Kubo::start`] and [`Kubo::stop`], its daemon.
#[derive(Debug)]
pub struct Kubo {
    program: PathBuf,
    repo: TempDir,
    daemon: Option<Process>,
    machine: Option<Machine>,
    offline: bool,
}

impl Kubo {
    /// Makes an empty repository.
    ///
    /// # Errors
    /// If Kubo is not built or refuses.
    pub fn init(options: Options) -> Result<Self> {
        Self::init_in(&std::env::temp_dir(), options)
    }

    /// Makes an empty repository below `folder`.
    ///
    /// # Errors
    /// As [`Kubo::init`].
    pub fn init_in(folder: &Path, options: Options) -> Result<Self> {
        let repo = tempfile::Builder::new()
            .prefix("kubo-")
            .tempdir_in(folder)?;
        let kubo = Self {
            program: locate::kubo()?,
            repo,
            daemon: None,
            machine: None,
            offline: options.offline,
        };
        // The profile `test` gives loopback ports that the kernel chooses, no bootstrap peers, no mDNS.
        let profile = format!("--profile=test,{}", options.profile);
        kubo.ok(&["init", "--empty-repo", "--algorithm=ed25519", &profile])?;
        kubo.change_config(|config| configure(config, options))?;
        Ok(kubo)
    }

    /// The same repository, but its programs run on a machine of a [`crate::net::Internet`].
    #[must_use]
    pub fn on(mut self, machine: &Machine) -> Self {
        self.machine = Some(machine.clone());
        self
    }

    /// Makes a repository and starts its daemon.
    ///
    /// # Errors
    /// As [`Kubo::init`] and [`Kubo::start`].
    pub fn run(options: Options) -> Result<Self> {
        let mut kubo = Self::init(options)?;
        kubo.start()?;
        Ok(kubo)
    }

    /// Starts the daemon and waits until it is ready.
    ///
    /// # Errors
    /// If it does not get ready within a minute.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// The same with variables in the daemon's environment.
    ///
    /// # Errors
    /// As [`Kubo::start`].
    pub fn start_with(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        // Stale files would point at the ports of the last run.
        for stale in ["api", "gateway"] {
            drop(fs::remove_file(self.repo.path().join(stale)));
        }
        let mut command = self.command();
        command.arg("daemon").envs(environment.iter().copied());
        if self.offline {
            command.arg("--offline");
        }
        let daemon = Process::start("kubo", &mut command)?;
        daemon.wait_for(Duration::from_secs(60), |line| {
            line.starts_with("Daemon is ready").then_some(())
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Stops the daemon by SIGTERM.
    ///
    /// # Errors
    /// If it still runs after 30 s.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop(Duration::from_secs(30))?;
        }
        Ok(())
    }

    /// Kills the daemon by SIGKILL.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// The daemon's process, if it runs.
    pub fn daemon(&self) -> Option<&Process> {
        self.daemon.as_ref()
    }

    /// Where the repository is.
    pub fn repo(&self) -> &Path {
        self.repo.path()
    }

    /// The configuration file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn config(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(
            self.repo.path().join("config"),
        )?)?)
    }

    /// Changes the configuration of a stopped Kubo.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn change_config(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut config = self.config()?;
        change(&mut config);
        fs::write(
            self.repo.path().join("config"),
            serde_json::to_vec_pretty(&config)?,
        )?;
        Ok(())
    }

    /// An `ipfs` command on this repository.
    pub fn command(&self) -> Command {
        let mut command = net::command(self.machine.as_ref(), &self.program);
        command
            .env_clear()
            .env("IPFS_PATH", self.repo.path())
            .env("HOME", self.repo.path())
            .env("IPFS_TELEMETRY", "off");
        command
    }

    /// Runs an `ipfs` command, whatever its outcome.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn cmd(&self, arguments: &[&str]) -> Result<Output> {
        process::run(self.command().args(arguments), PATIENCE)
    }

    /// Runs an `ipfs` command that must succeed, and gives its standard output as text.
    ///
    /// # Errors
    /// If it fails: with what it said.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.run_ok(arguments)?.text())
    }

    /// Runs an `ipfs` command that must succeed.
    ///
    /// # Errors
    /// If it fails: with what it said.
    pub fn run_ok(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.cmd(arguments)?;
        ensure!(
            output.code == Some(0),
            "ipfs {}: {}",
            arguments.join(" "),
            output.stderr.trim()
        );
        Ok(output)
    }

    /// Adds a file or folder and gives its root CID.
    ///
    /// # Errors
    /// If Kubo refuses.
    pub fn add(&self, path: &Path) -> Result<String> {
        self.add_with(path, &[])
    }

    /// [`Kubo::add`] with further arguments.
    ///
    /// # Errors
    /// If Kubo refuses.
    pub fn add_with(&self, path: &Path, further: &[&str]) -> Result<String> {
        let path = path.to_str().context("a test's path is text")?;
        let plain = [
            "add",
            "--recursive",
            "--quieter",
            "--progress=false",
            "--hidden",
        ];
        self.ok(&[&plain[..], further, &[path]].concat())
    }

    /// The content at a path.
    ///
    /// # Errors
    /// If Kubo does not get it.
    pub fn cat(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.run_ok(&["cat", "--progress=false", path])?.stdout)
    }

    /// Pins a root, fetching what is missing.
    ///
    /// # Errors
    /// If Kubo does not get it.
    pub fn pin(&self, cid: &str) -> Result<()> {
        self.ok(&["pin", "add", "--progress=false", cid]).map(drop)
    }

    /// Blocks in the repository, as the running daemon counts them.
    ///
    /// # Errors
    /// If Kubo does not tell.
    pub fn blocks(&self) -> Result<u64> {
        let counted = self.ok(&["repo", "stat", "--enc=json"])?;
        let counted: Value = serde_json::from_str(&counted).context("no JSON")?;
        counted["NumObjects"]
            .as_u64()
            .context("no number of blocks")
    }

    /// The gateway's URL, without a slash at its end.
    ///
    /// # Errors
    /// If the daemon does not run.
    pub fn gateway(&self) -> Result<String> {
        let url = fs::read_to_string(self.repo.path().join("gateway")).context("no gateway")?;
        Ok(url.trim().trim_end_matches('/').to_owned())
    }

    /// The peer id.
    ///
    /// # Errors
    /// If the configuration cannot be read.
    pub fn peer_id(&self) -> Result<String> {
        let config = self.config()?;
        Ok(config["Identity"]["PeerID"]
            .as_str()
            .context("no peer id")?
            .to_owned())
    }

    /// Addresses the daemon listens on, with its peer id; those that contain `kind`.
    ///
    /// # Errors
    /// If the daemon does not run, or has no such address.
    pub fn address(&self, kind: &str) -> Result<String> {
        let listed = self.ok(&["swarm", "addrs", "local", "--id"])?;
        let found = listed.lines().find(|line| line.contains(kind));
        Ok(found
            .with_context(|| format!("no {kind} in {listed}"))?
            .to_owned())
    }

    /// Connects to a peer.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn connect(&self, address: &str) -> Result<()> {
        self.ok(&["swarm", "connect", address]).map(drop)
    }
}

fn configure(config: &mut Value, options: Options) {
    let host = if options.anywhere {
        "0.0.0.0"
    } else {
        "127.0.0.1"
    };
    let mut swarm = Vec::new();
    if options.tcp {
        swarm.push(format!("/ip4/{host}/tcp/0"));
    }
    if options.quic {
        swarm.push(format!("/ip4/{host}/udp/0/quic-v1"));
    }
    config["Addresses"]["Gateway"] = json!(format!("/ip4/{host}/tcp/0"));
    config["Addresses"]["Swarm"] = json!(swarm);
    config["Ipns"]["UsePubsub"] = json!(options.gossip);
    config["Routing"]["Type"] = json!(if options.dht { "dht" } else { "none" });
    config["Provide"]["Enabled"] = json!(options.dht);
    config["Gateway"]["NoFetch"] = json!(options.no_fetch);
    config["Gateway"]["DeserializedResponses"] = json!(true);
    config["Swarm"]["Transports"]["Network"]["Relay"] = json!(false);
    config["Swarm"]["RelayClient"]["Enabled"] = json!(false);
    config["Version"] = json!({ "SwarmCheckEnabled": false });
    config["HTTPRetrieval"] = json!({ "Enabled": false });
}
