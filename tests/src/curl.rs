//! The gateway asked by curl: an HTTP client that nobody here wrote.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{locate, process};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// `HTTP/1.1` or `HTTP/2`.
    pub version: String,
    /// HTTP status.
    pub status: u16,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value, empty if it was not sent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Fetches a URL over HTTP/1.1; `arguments` are curl's, and may say another version.
///
/// # Errors
/// If curl fails: no connection, a body cut short, or a minute passed.
pub fn curl(url: &str, arguments: &[&str]) -> Result<Answer> {
    let mut command = Command::new(locate::system("curl")?);
    command.args([
        "--silent",
        "--show-error",
        "--max-time",
        "60",
        "--include",
        "--http1.1",
    ]);
    let output = process::run(command.args(arguments).arg(url), Duration::from_secs(70))?;
    ensure!(
        output.code == Some(0),
        "curl {url}: {}",
        output.stderr.trim_end()
    );
    let mut rest = output.stdout.as_slice();
    loop {
        let end = rest
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .context("no end of head")?;
        let head = std::str::from_utf8(&rest[..end])?;
        rest = &rest[end + 4..];
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (version, status) = (words.next(), words.next().context("no status")?);
        let status: u16 = status.parse()?;
        // 100 Continue and redirects that curl followed come before the answer.
        if status < 200 || (arguments.contains(&"--location") && (300..400).contains(&status)) {
            continue;
        }
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        return Ok(Answer {
            version: version.unwrap_or_default().to_owned(),
            status,
            headers,
            body: rest.to_vec(),
        });
    }
}
