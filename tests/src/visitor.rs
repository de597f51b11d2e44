//! A visitor of a storefront in headless Chromium: `tests/peers/npm/storefront.mjs`.

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
    let (folder, runtime) = locate::npm()?;
    let mut command = Command::new(runtime);
    command
        .current_dir(&folder)
        .arg(folder.join("storefront.mjs"))
        .arg(locate::system("chromium")?)
        .args([scenario, &what.to_string()]);
    let output = process::run(&mut command, PATIENCE)?;
    ensure!(output.code == Some(0), "{}", output.stderr);
    serde_json::from_str(&output.text()).context("the visitor's report")
}
