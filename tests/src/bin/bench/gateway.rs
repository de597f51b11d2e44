//! `gateway`: the same files from Kubo's gateway, nginx and duka, under the load of wrk and curl.

mod connections;
mod listing;
mod load;
mod nginx;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use duka_tests::duka::{self, Duka, Serving, field};
use duka_tests::files;
use duka_tests::kubo::{self, Kubo};
use duka_tests::process::Process;
use serde_json::Value;

pub(crate) use self::connections::run as connections;
pub(crate) use self::listing::run as listing;
use self::nginx::Nginx;
use crate::report::{Report, Row, Target};
use crate::setup::{Setup, kubo_config, megabytes, turns};

/// Connections that ask for a file all the time.
const CONNECTIONS: u32 = 32;

/// A file under load.
struct Load {
    name: &'static str,
    bytes: u64,
    /// Requests a second, against Kubo.
    rate: Target,
    /// Time of 99 of 100 requests, against Kubo.
    p99: Option<Target>,
}

const LOADS: [Load; 3] = [
    Load {
        name: "1 KiB",
        bytes: 1 << 10,
        rate: Target::AtLeast(3.0),
        p99: Some(Target::AtMost(0.33)),
    },
    Load {
        name: "100 KiB",
        bytes: 100 << 10,
        rate: Target::AtLeast(2.5),
        p99: None,
    },
    Load {
        name: "1 MB",
        bytes: 1_000_000,
        rate: Target::AtLeast(1.6),
        p99: None,
    },
];

/// A large file for one client: targets against Kubo and nginx, and of its CAR against Kubo.
const LARGE: &str = "large";
const DOWNLOAD: Target = Target::AtLeast(1.5);
const DOWNLOAD_NGINX: Target = Target::AtLeast(0.7);
const CAR: Target = Target::AtLeast(2.0);
/// Downloads after the first.
const LATER: usize = 3;

/// Kubo, nginx and duka with the same files.
struct Contenders {
    kubo: Kubo,
    nginx: Nginx,
    node: Serving,
    root: String,
    _duka: Duka,
}

impl Contenders {
    fn start(setup: &Setup, site: &Path) -> Result<Self> {
        let kubo = setup.kubo(kubo::Options::default())?;
        let root = kubo.add(site)?;
        let (duka, node) = setup.serving(&duka::Options::default())?;
        let added = duka.ok(&["add", site.to_str().context("a text path")?])?;
        ensure!(
            field(&added, "cid")? == root,
            "the root CIDs differ: {root} and {added}"
        );
        Ok(Self {
            kubo,
            nginx: Nginx::start(site)?,
            node,
            root,
            _duka: duka,
        })
    }

    /// Each one's name, process, and the URL of the folder with the files.
    fn all(&self) -> Result<[(&'static str, &Process, String); 3]> {
        let root = &self.root;
        let daemon = self.kubo.daemon().context("Kubo runs")?;
        let kubo = format!("{}/ipfs/{root}", self.kubo.gateway()?);
        let duka = format!("{}/ipfs/{root}", self.node.gateway()?);
        Ok([
            ("Kubo", daemon, kubo),
            ("nginx", &self.nginx.process, self.nginx.url.clone()),
            ("duka", self.node.process(), duka),
        ])
    }
}

pub(crate) fn run(setup: &Setup, seconds: u64, large: u64) -> Result<Report> {
    let mut loads: Vec<(Load, Row, Row)> = LOADS.into_iter().map(with_rows).collect();
    let one_client = |what| Row::new(format!("file of {large} bytes, one client, {what}"), "MB/s");
    let mut first = one_client("first download");
    let mut later = one_client("later downloads");
    let mut car = one_client("CAR");
    let mut config = Value::Null;
    for repetition in 0..setup.repetitions {
        let site = setup.folder()?;
        let seed = setup.seed(repetition);
        for Load { name, bytes, .. } in LOADS {
            files::write_random(&site.path().join(file_name(name)), seed ^ bytes, bytes)?;
        }
        files::write_random(&site.path().join(LARGE), seed, large)?;
        let contenders = Contenders::start(setup, site.path())?;
        config = kubo_config(&contenders.kubo)?;
        let contenders = contenders.all()?;
        let order = turns(&[0, 1, 2], repetition);
        for (load, rate, p99) in &mut loads {
            for &index in &order {
                let (contender, _, base) = &contenders[index];
                let url = format!("{base}/{}", file_name(load.name));
                let seen = load::wrk(&url, CONNECTIONS, seconds)?;
                ensure!(seen.errors == 0, "{url}: {seen:?}");
                rate.push(contender, seen.rate);
                p99.push(contender, seen.p99_ms);
            }
        }
        for &index in &order {
            let (contender, _, base) = &contenders[index];
            let url = format!("{base}/{LARGE}");
            first.push(contender, megabytes(large, load::curl(&url)?.took));
            for _ in 0..LATER {
                later.push(contender, megabytes(large, load::curl(&url)?.took));
            }
            if *contender != "nginx" {
                let got = load::curl(&format!("{url}?format=car"))?;
                ensure!(got.bytes > large, "{url}: a CAR of {} bytes", got.bytes);
                car.push(contender, megabytes(got.bytes, got.took));
            }
        }
    }
    let mut rows = Vec::new();
    for (load, mut rate, mut p99) in loads {
        rate.ratio("duka", "Kubo", Some(load.rate));
        rate.ratio("duka", "nginx", None);
        p99.ratio("duka", "Kubo", load.p99);
        rows.extend([rate, p99]);
    }
    first.ratio("duka", "Kubo", None);
    first.ratio("duka", "nginx", None);
    later.ratio("duka", "Kubo", Some(DOWNLOAD));
    later.ratio("duka", "nginx", Some(DOWNLOAD_NGINX));
    car.ratio("duka", "Kubo", Some(CAR));
    rows.extend([first, later, car]);
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

fn with_rows(load: Load) -> (Load, Row, Row) {
    let what = format!("file of {}, {CONNECTIONS} connections", load.name);
    let rate = Row::new(what.clone(), "req/s");
    let p99 = Row::new(format!("{what}: 99 of 100 requests"), "ms");
    (load, rate, p99)
}

fn file_name(name: &str) -> String {
    name.replace(' ', "-")
}
