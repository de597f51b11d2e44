//! `upgrade`: what buyers of five real programs download for their next version, cut by buzhash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use duka_tests::duka;
use duka_tests::locate;
use serde_json::Value;

use crate::report::{Report, Row, Target};
use crate::setup::Setup;

/// Target, in per cent of the new version's size, on average over the pairs.
const PART: Target = Target::AtMost(25.0);

/// A program, where its releases come from, and an older and a newer one.
const PAIRS: [(&str, Registry, [&str; 2]); 5] = [
    ("typescript", Registry::Npm, ["5.8.2", "5.8.3"]),
    ("three", Registry::Npm, ["0.170.0", "0.171.0"]),
    ("django", Registry::PyPi, ["5.1", "5.1.1"]),
    ("numpy", Registry::PyPi, ["2.1.0", "2.1.1"]),
    ("github.com/ipfs/kubo", Registry::Go, ["0.42.0", "0.43.0"]),
];

/// Where releases come from, with the client that fetches them.
#[derive(Clone, Copy)]
enum Registry {
    /// `npm pack`
    Npm,
    /// `pip download`, wheels of CPython 3.11 on x86-64 Linux
    PyPi,
    /// `go mod download`
    Go,
}

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    // Kept between runs: releases never change.
    let folder = locate::repository().join("target/bench/releases");
    let mut row = Row::new("bytes that an upgrade downloads, of the new version's", "%");
    let mut notes = Vec::new();
    let (duka, _node) = setup.serving(&duka::Options::default())?;
    let mut sum = 0.0;
    for (program, registry, versions) in PAIRS {
        let product = program.rsplit('/').next().unwrap_or(program);
        for version in versions {
            let release = registry.fetch(&folder, program, version)?;
            let path = release.to_str().context("a bench's path is text")?;
            let cut = ["--chunker", "buzhash", "--hidden"];
            let publish = ["publish", path, "--product", product, "--version", version];
            duka.ok(&[&publish[..], &cut].concat())?;
        }
        let [from, to] = versions;
        let diff = duka.ok(&["product", "diff", product, from, to])?;
        let number = |key: &str| diff[key].as_u64().with_context(|| key.to_owned());
        let (new, all) = (number("buyer_bytes")?, number("bytes")?);
        let part = new as f64 * 100.0 / all as f64;
        sum += part;
        row.push(product, part);
        notes.push(format!("{product} {from} → {to}: {new} of {all} bytes"));
    }
    row.check("mean, %", sum / PAIRS.len() as f64, Some(PART));
    Ok(Report {
        bench: "upgrade",
        repetitions: 1,
        kubo: Value::Null,
        notes,
        rows: vec![row],
    })
}

impl Registry {
    /// The folder of an unpacked release, fetched unless it is there.
    fn fetch(self, folder: &Path, program: &str, version: &str) -> Result<PathBuf> {
        if let Self::Go = self {
            return go_module(program, version);
        }
        let release = folder.join(format!("{program}-{version}"));
        if release.exists() {
            return Ok(release);
        }
        fs::create_dir_all(folder)?;
        let work = tempfile::tempdir_in(folder)?;
        let unpacked = work.path().join("unpacked");
        fs::create_dir(&unpacked)?;
        match self {
            Self::Npm => {
                let wanted = format!("{program}@{version}");
                fetch(
                    Command::new("npm").args(["pack", "--silent", &wanted]),
                    work.path(),
                )?;
            }
            _ => {
                let wanted = format!("{program}=={version}");
                let wheel = ["--only-binary=:all:", "--python-version=3.11"];
                let platform = ["--platform=manylinux2014_x86_64", "--platform=any"];
                let mut pip = Command::new("pip");
                pip.args(["download", "--quiet", "--no-deps"]);
                fetch(pip.args(wheel).args(platform).arg(&wanted), work.path())?;
            }
        }
        let packed = fs::read_dir(work.path())?
            .flatten()
            .map(|entry| entry.path());
        let packed = packed.into_iter().find(|path| path.is_file());
        let packed = packed.with_context(|| format!("nothing came for {program} {version}"))?;
        let mut unpack = if let Self::Npm = self {
            let mut tar = Command::new("tar");
            tar.arg("xzf");
            tar
        } else {
            let mut zip = Command::new("python3");
            zip.args(["-m", "zipfile", "-e"]);
            zip
        };
        unpack.arg(&packed);
        if let Self::PyPi = self {
            unpack.arg(&unpacked);
        }
        fetch(&mut unpack, &unpacked)?;
        fs::rename(&unpacked, &release)?;
        Ok(release)
    }
}

/// The folder into which Go unpacks a module.
fn go_module(module: &str, version: &str) -> Result<PathBuf> {
    let wanted = format!("{module}@v{version}");
    let mut go = Command::new("go");
    let output = go.args(["mod", "download", "-json", &wanted]).output()?;
    let found: Value = serde_json::from_slice(&output.stdout)?;
    let folder = found["Dir"].as_str();
    Ok(folder
        .with_context(|| format!("no module {wanted}: {found}"))?
        .into())
}

fn fetch(command: &mut Command, folder: &Path) -> Result<()> {
    let status = command.current_dir(folder).status();
    let status = status.with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(status.success(), "{command:?} ends with {status}");
    Ok(())
}
