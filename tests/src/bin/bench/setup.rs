//! What all benches need: the release binary, a folder, fresh bytes.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use duka_node::block::Block;
use duka_node::manifest::Manifest;
use duka_node::manifest::change::{Change, Op};
use duka_node::manifest::record::Pin;
use duka_tests::duka::{self, Duka, Serving};
use duka_tests::kubo::{self, Kubo};
use duka_tests::locate;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The release binary and where to work.
#[derive(Debug)]
pub(crate) struct Setup {
    folder: TempDir,
    program: PathBuf,
    pub(crate) repetitions: usize,
    seed: u64,
}

impl Setup {
    /// Builds the release binary and makes an empty folder.
    pub(crate) fn new(parent: &Path, repetitions: usize) -> Result<Self> {
        ensure!(repetitions > 0, "no repetitions");
        let program = match std::env::var_os("DUKA") {
            Some(path) => PathBuf::from(path),
            None => build()?,
        };
        let parent = locate::repository().join(parent);
        std::fs::create_dir_all(&parent)?;
        let folder = tempfile::tempdir_in(parent)?;
        let seed = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs();
        Ok(Self {
            folder,
            program,
            repetitions,
            seed,
        })
    }

    /// An empty folder, gone when it is dropped.
    pub(crate) fn folder(&self) -> Result<TempDir> {
        Ok(tempfile::tempdir_in(self.folder.path())?)
    }

    /// A seed that no run and no repetition had before.
    pub(crate) fn seed(&self, repetition: usize) -> u64 {
        self.seed.wrapping_mul(1000) + repetition as u64
    }

    /// A duka that was never started before.
    pub(crate) fn duka(&self, options: &duka::Options) -> Result<Duka> {
        Duka::bare(self.program.clone(), self.folder.path(), options)
    }

    /// A duka that serves, in a fresh data directory.
    pub(crate) fn serving(&self, options: &duka::Options) -> Result<(Duka, Serving)> {
        let duka = self.duka(options)?;
        duka.ok(&["init"])?;
        let node = duka.serve()?;
        Ok((duka, node))
    }

    /// A Kubo with its daemon, in a fresh repository.
    pub(crate) fn kubo(&self, options: kubo::Options) -> Result<Kubo> {
        let mut kubo = Kubo::init_in(self.folder.path(), options)?;
        kubo.start()?;
        Ok(kubo)
    }
}

fn build() -> Result<PathBuf> {
    eprintln!("cargo build --release -p duka");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--package", "duka"])
        .current_dir(locate::repository())
        .status()?;
    ensure!(status.success(), "the release binary does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    Ok(locate::repository().join(target).join("release/duka"))
}

/// The contenders of a repetition, each time another one first.
pub(crate) fn turns<T: Copy>(contenders: &[T], repetition: usize) -> Vec<T> {
    let mut order = contenders.to_vec();
    order.rotate_left(repetition % contenders.len());
    order
}

/// Lets the disk finish what earlier contenders left, then measures.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    rustix::fs::sync();
    let started = Instant::now();
    let value = work()?;
    Ok((value, started.elapsed()))
}

/// Memory that a process has resident; `"self"` is this one.
pub(crate) fn resident_mib(pid: impl Display) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .context("no VmRSS")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// Millions of bytes a second.
pub(crate) fn megabytes(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

/// The part of Kubo's configuration that matters for figures.
pub(crate) fn kubo_config(kubo: &Kubo) -> Result<Value> {
    let config = kubo.config()?;
    let version = kubo
        .ok(&["version", "--number"])
        .context("Kubo's version")?;
    Ok(json!({
        "version": version,
        "init": "--empty-repo --profile=test",
        "Import": config["Import"],
        "Routing": config["Routing"]["Type"],
        "Provide": config["Provide"]["Enabled"],
        "Swarm": config["Addresses"]["Swarm"],
        "Datastore": config["Datastore"]["Spec"],
        "HashOnRead": config["Datastore"]["HashOnRead"],
    }))
}

/// Pins blocks with one change of the manifest.
pub(crate) fn pin<'a>(manifest: &Manifest, blocks: impl Iterator<Item = &'a Block>) -> Result<()> {
    let pin = Pin {
        recursive: true,
        name: None,
        created: "2026-01-01T00:00:00Z".parse()?,
    };
    manifest.commit_blocking(Change {
        expect: Vec::new(),
        ops: blocks
            .map(|block| Op::PutPin(*block.cid(), pin.clone()))
            .collect(),
    })?;
    Ok(())
}
