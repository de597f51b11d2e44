//! `gateway`: the same files from Kubo's gateway, nginx and duka, under the load of wrk and curl.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use duka_tests::duka::{self, field};
use duka_tests::process::{self, Process, wait_until};
use duka_tests::{files, kubo, locate};
use serde_json::Value;
use tempfile::TempDir;

use crate::report::{Report, Row};
use crate::setup::{Setup, kubo_config, megabytes, turns};

/// File name, bytes, connections.
const LOADS: [(&str, u64, u32); 3] = [
    ("1 KiB", 1 << 10, 32),
    ("100 KiB", 100 << 10, 32),
    ("1 MB", 1_000_000, 32),
];

const LARGE: &str = "large";

pub(crate) fn run(setup: &Setup, seconds: u64, large: u64) -> Result<Report> {
    let mut rows: Vec<Row> = LOADS
        .iter()
        .map(|(name, _, connections)| {
            Row::new(
                format!("file of {name}, {connections} connections"),
                "req/s",
            )
        })
        .collect();
    let one_client = |when| {
        let what = format!("file of {large} bytes, one client, {when} download");
        Row::new(what, "MB/s")
    };
    let mut downloads = ["first", "second", "third", "fourth", "fifth"].map(one_client);
    let mut config = Value::Null;
    for repetition in 0..setup.repetitions {
        let site = setup.folder()?;
        let seed = setup.seed(repetition);
        for (name, bytes, _) in LOADS {
            files::write_random(&site.path().join(file_name(name)), seed ^ bytes, bytes)?;
        }
        files::write_random(&site.path().join(LARGE), seed, large)?;

        let kubo = setup.kubo(kubo::Options::default())?;
        config = kubo_config(&kubo)?;
        let root = kubo.add(site.path())?;
        let (duka, node) = setup.serving(&duka::Options::default())?;
        let added = duka.ok(&["add", site.path().to_str().context("a text path")?])?;
        ensure!(
            field(&added, "cid")? == root,
            "the root CIDs differ: {root} and {added}"
        );
        let nginx = Nginx::start(site.path())?;
        let contenders = [
            ("Kubo", format!("{}/ipfs/{root}", kubo.gateway()?)),
            ("nginx", nginx.url.clone()),
            ("duka", format!("{}/ipfs/{root}", node.gateway()?)),
        ];
        let order = turns(&[0, 1, 2], repetition);
        for (row, (name, _, connections)) in rows.iter_mut().zip(LOADS) {
            for &index in &order {
                let (contender, base) = &contenders[index];
                let rate = load(&format!("{base}/{}", file_name(name)), connections, seconds)?;
                row.push(contender, rate);
            }
        }
        for &index in &order {
            let (contender, base) = &contenders[index];
            for row in &mut downloads {
                let took = download(&format!("{base}/{LARGE}"))?;
                row.push(contender, megabytes(large, took));
            }
        }
    }
    rows.extend(downloads);
    for row in &mut rows {
        row.ratio("duka", "Kubo", None);
        row.ratio("duka", "nginx", None);
    }
    let notes = vec![format!(
        "wrk -t1 -d{seconds}s; curl for one client; nginx: 2 workers, sendfile; the files of \
         Kubo and nginx are in the page cache since they were written, duka's packs, which are \
         written past it, since they were first read"
    )];
    Ok(Report {
        bench: "gateway",
        repetitions: setup.repetitions,
        kubo: config,
        notes,
        rows,
    })
}

fn file_name(name: &str) -> String {
    name.replace(' ', "-")
}

/// Requests a second, by wrk; every answer must be a 2xx.
fn load(url: &str, connections: u32, seconds: u64) -> Result<f64> {
    let mut wrk = Command::new(locate::system("wrk")?);
    wrk.args([
        "-t1",
        &format!("-c{connections}"),
        &format!("-d{seconds}s"),
        url,
    ]);
    let output = process::run(&mut wrk, Duration::from_secs(seconds + 30))?;
    let said = output.text();
    ensure!(output.code == Some(0), "wrk {url}: {}", output.stderr);
    ensure!(
        !said.contains("Non-2xx") && !said.contains("Socket errors"),
        "wrk {url}: {said}"
    );
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"));
    Ok(line.context("no rate from wrk")?.trim().parse()?)
}

fn download(url: &str) -> Result<Duration> {
    let mut curl = Command::new(locate::system("curl")?);
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--output",
        "/dev/null",
        url,
    ]);
    let started = Instant::now();
    let output = process::run(&mut curl, Duration::from_secs(300))?;
    ensure!(output.code == Some(0), "curl {url}: {}", output.stderr);
    Ok(started.elapsed())
}

/// nginx with static files.
struct Nginx {
    _process: Process,
    _folder: TempDir,
    url: String,
}

impl Nginx {
    fn start(site: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let own = folder.path().to_str().context("a text path")?;
        let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
        // nginx cannot say which port it was given; this one was free a moment ago.
        let port = socket.local_addr()?.port();
        drop(socket);
        let user = if rustix::process::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let site = site.to_str().context("a text path")?;
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {own}/{kind};\n"))
            .collect();
        let config = format!(
            "daemon off; worker_processes 2; pid {own}/pid; error_log {own}/error; {user}\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
             {temporary}server {{ listen 127.0.0.1:{port}; root {site}; }} }}\n"
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config)?;
        let mut command = Command::new(locate::system("nginx")?);
        let process = Process::start("nginx", command.arg("-c").arg(&path))?;
        let url = format!("http://127.0.0.1:{port}");
        wait_until("nginx listens", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        })?;
        Ok(Self {
            _process: process,
            _folder: folder,
            url,
        })
    }
}
