//! A visitor of a storefront in headless Chromium: `tests/peers/npm/storefront.mjs`; and its downloads without a
//! browser: `tests/peers/npm/download.mjs`.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{locate, process};

/// Time for one scenario, a download of gigabytes included.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What a visitor sees, who does what the scenario says.
///
/// # Errors
/// If Chromium or the npm clients are missing, or the visitor cannot do it.
pub fn visit(scenario: &str, what: &Value) -> Result<Value> {
    let chromium = locate::system("chromium")?;
    let (chromium, what) = (chromium.as_os_str(), what.to_string());
    report(
        "storefront.mjs",
        &[chromium, scenario.as_ref(), what.as_ref()],
    )
}

/// How a download by the page's worker ends from gateways that behave as they are told. Its time is not real.
///
/// # Errors
/// If the npm clients are missing, or the worker fails in an unknown way.
pub fn download(what: &Value) -> Result<Value> {
    let worker = locate::repository().join("node/assets/storefront/worker.js");
    report(
        "download.mjs",
        &[worker.as_os_str(), what.to_string().as_ref()],
    )
}

fn report(script: &str, arguments: &[&OsStr]) -> Result<Value> {
    let (folder, runtime) = locate::npm()?;
    let mut command = Command::new(runtime);
    command.current_dir(&folder).arg(folder.join(script));
    let output = process::run(command.args(arguments), PATIENCE)?;
    ensure!(output.code == Some(0), "{}", output.stderr);
    serde_json::from_str(&output.text()).context("the report of a visitor")
}
