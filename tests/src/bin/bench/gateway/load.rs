//! Load by wrk and curl, and what they say of it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use duka_tests::{locate, process};

/// An answer that takes longer than this is an error.
const PATIENCE: Duration = Duration::from_secs(60);

/// What wrk saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) mean_ms: f64,
    pub(super) p99_ms: f64,
    /// Connections that failed, answers that did not come, and those that are no 2xx.
    pub(super) errors: u64,
}

/// The same file again and again, over so many connections.
pub(super) fn wrk(url: &str, connections: u32, seconds: u64) -> Result<Seen> {
    let mut wrk = Command::new(locate::system("wrk")?);
    wrk.args([
        "-t1",
        "--latency",
        &format!("-c{connections}"),
        &format!("-d{seconds}s"),
        &format!("--timeout={}s", PATIENCE.as_secs()),
        url,
    ]);
    let output = process::run(&mut wrk, Duration::from_secs(seconds) + PATIENCE)?;
    let said = output.text();
    ensure!(output.code == Some(0), "wrk {url}: {}", output.stderr);
    read(&said).with_context(|| format!("wrk {url}: {said}"))
}

fn read(said: &str) -> Result<Seen> {
    let after = |start: &str| {
        let mut lines = said.lines().map(str::trim_start);
        lines.find_map(|line| line.strip_prefix(start))
    };
    let first = |rest: Option<&str>| {
        let word = rest.and_then(|rest| rest.split_whitespace().next());
        word.map(str::to_owned).context("a line is missing")
    };
    let broken = after("Socket errors:").map_or(0, |errors| {
        errors.split([' ', ',']).filter_map(number).sum()
    });
    let refused = after("Non-2xx or 3xx responses:").and_then(|count| number(count.trim()));
    Ok(Seen {
        rate: first(after("Requests/sec:"))?.parse()?,
        // The header of the distribution begins with the same word.
        mean_ms: milliseconds(&first(after("Latency  "))?)?,
        p99_ms: milliseconds(&first(after("99%"))?)?,
        errors: broken + refused.unwrap_or(0),
    })
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// A time as wrk writes it: `12.34us`, `1.50s`.
fn milliseconds(text: &str) -> Result<f64> {
    let unit = text
        .find(|c: char| c.is_ascii_alphabetic())
        .context("no unit")?;
    let (value, unit) = text.split_at(unit);
    let in_ms = match unit {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 60e3,
        _ => anyhow::bail!("{text} is no time"),
    };
    Ok(value.parse::<f64>()? * in_ms)
}

/// What curl saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Download {
    pub(super) bytes: u64,
    pub(super) first_byte: Duration,
    pub(super) took: Duration,
}

/// One download by a client that asks for nothing else.
pub(super) fn curl(url: &str) -> Result<Download> {
    let mut curl = Command::new(locate::system("curl")?);
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--output",
        "/dev/null",
        "--write-out",
        "%{size_download} %{time_starttransfer} %{time_total}",
        url,
    ]);
    let output = process::run(&mut curl, Duration::from_secs(300))?;
    ensure!(output.code == Some(0), "curl {url}: {}", output.stderr);
    let said = output.text();
    let [bytes, first_byte, took] = said.split(' ').collect::<Vec<_>>()[..] else {
        anyhow::bail!("curl {url}: {said}");
    };
    Ok(Download {
        bytes: bytes.parse()?,
        first_byte: Duration::from_secs_f64(first_byte.parse()?),
        took: Duration::from_secs_f64(took.parse()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_read() {
        let said = "Running 10s test @ http://127.0.0.1:1/\n\
            \x20 1 threads and 10000 connections\n\
            \x20 Thread Stats   Avg      Stdev     Max   +/- Stdev\n\
            \x20   Latency     1.32s   900.10ms   7.90s    80.00%\n\
            \x20   Req/Sec     7.50k     1.00k    9.00k    70.00%\n\
            \x20 Latency Distribution\n\
            \x20    50%  812.50us\n\
            \x20    99%    7.00s \n\
            \x20 75000 requests in 10.00s, 90.00MB read\n\
            \x20 Socket errors: connect 1, read 2, write 0, timeout 40\n\
            \x20 Non-2xx or 3xx responses: 100\n\
            Requests/sec:   7500.25\n\
            Transfer/sec:      9.00MB\n";
        let seen = read(said).unwrap();
        assert_eq!(seen.mean_ms, 1320.0);
        assert_eq!(seen.p99_ms, 7000.0);
        assert_eq!(seen.rate, 7500.25);
        assert_eq!(seen.errors, 143);
        assert_eq!(milliseconds("812.50us").unwrap(), 0.8125);
    }
}
