//! What the program mounts is seen by nobody else.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use duka_tests::locate;

/// Says that the name space was made.
const IN_NAME_SPACE: &str = "DUKA_POWERCUT_NAME_SPACE";

/// Starts this program again in a name space of its own: what it mounts is gone with it, however it ends.
/// `None` when it runs there.
pub(crate) fn in_own() -> Result<Option<ExitCode>> {
    if std::env::var_os(IN_NAME_SPACE).is_some() {
        return Ok(None);
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "mounting a disk needs root"
    );
    let status = Command::new(locate::system("unshare")?)
        .args(["--mount", "--propagation", "private", "--kill-child"])
        .args(["--fork", "--pid", "--mount-proc"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(IN_NAME_SPACE, "1")
        .status()?;
    let code = status.code().or(status.signal()).unwrap_or(1);
    Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(1))))
}
