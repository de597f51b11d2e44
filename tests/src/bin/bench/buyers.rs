//! Buyers who download from many gateways that fail: in networks of their own, with real processes. Only
//! the harness knows what fails when.

mod blocked;
mod killed;
mod limited;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use duka_tests::duka::{self, Duka, GATEWAY_ANYWHERE, Serving, field};
use duka_tests::files;
use duka_tests::kubo::{self, Kubo};
use duka_tests::net::Machine;
use duka_tests::net::wan::{Link, Wan};

use crate::setup::Setup;

pub(crate) use blocked::run as blocked;
pub(crate) use killed::run as killed;
pub(crate) use limited::run as limited;

const CLIENT: Ipv4Addr = Ipv4Addr::new(45, 66, 1, 1);

/// A buyer, and gateways that have the same file.
struct Lab {
    wan: Wan,
    buyer: Duka,
    gateways: Vec<Gateway>,
    cid: String,
    sha256: String,
    file: PathBuf,
}

/// A gateway on a machine of its own.
struct Gateway {
    address: Ipv4Addr,
    url: String,
    machine: Machine,
    program: Program,
}

enum Program {
    Duka {
        serving: Option<Serving>,
        _home: Duka,
    },
    Kubo(Kubo),
}

impl Lab {
    /// `count` gateways behind links like `link`, the last one a Kubo; `file` is in all of them.
    fn new(setup: &Setup, seed: u64, count: usize, link: Link, size: u64) -> Result<Self> {
        let wan = Wan::new(seed)?;
        let machine = wan.machine(CLIENT, Link::default())?;
        let buyer = setup.duka(&duka::Options::default())?.on(&machine);
        let file = buyer.home().join("file");
        files::write_random(&file, seed, size)?;
        let mut cid = String::new();
        let mut gateways = Vec::new();
        for (number, address) in (1..=count).zip((1..).map(|last| Ipv4Addr::new(45, 66, 2, last))) {
            let machine = wan.machine(address, link)?;
            let (program, added) = if number == count {
                kubo_with(&machine, &file)?
            } else {
                duka_with(setup, &machine, &file)?
            };
            ensure!(cid.is_empty() || cid == added, "{cid} and {added} differ");
            cid = added;
            gateways.push(Gateway {
                address,
                url: format!("http://{address}:{}", program.port()?),
                machine,
                program,
            });
        }
        Ok(Self {
            wan,
            buyer,
            gateways,
            cid,
            sha256: files::sha256_of(&file)?,
            file,
        })
    }

    /// `duka get` of the file into `out`, from these gateways.
    fn get<'a>(&self, out: &Path, gateways: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.buyer.command();
        command
            .arg("--json")
            .args(["get", &self.cid, "-o"])
            .arg(out);
        for gateway in gateways {
            command.args(["--gateway", gateway]);
        }
        command
    }

    fn urls(&self) -> impl Iterator<Item = &str> {
        self.gateways.iter().map(|gateway| gateway.url.as_str())
    }

    /// The download is the file.
    fn check(&self, out: &Path) -> Result<()> {
        let found = files::sha256_of(out)?;
        ensure!(found == self.sha256, "{} is another file", out.display());
        Ok(())
    }

    /// Bytes that came to the buyer, without headers of packets.
    fn received(&self) -> u64 {
        let carried = |gateway: &Gateway| self.wan.carried(gateway.address, CLIENT).bytes;
        self.gateways.iter().map(carried).sum()
    }
}

impl Program {
    fn port(&self) -> Result<u16> {
        let url = match self {
            Self::Duka { serving, .. } => {
                serving.as_ref().context("it does not serve")?.gateway()?
            }
            Self::Kubo(kubo) => kubo.gateway()?,
        };
        let port = url.trim_end_matches('/').rsplit(':').next();
        Ok(port.context("a URL without a port")?.parse()?)
    }
}

impl Gateway {
    fn kill(&mut self) {
        match &mut self.program {
            Program::Duka { serving, .. } => drop(serving.take().map(Serving::kill)),
            Program::Kubo(kubo) => kubo.kill(),
        }
    }
}

fn duka_with(setup: &Setup, machine: &Machine, file: &Path) -> Result<(Program, String)> {
    let options = duka::Options {
        gateway: GATEWAY_ANYWHERE,
        ..duka::Options::default()
    };
    let duka = setup.duka(&options)?.on(machine);
    duka.ok(&["init"])?;
    let added = duka.ok(&["add", file.to_str().context("a path that is no text")?])?;
    let cid = field(&added, "cid")?.to_owned();
    let serving = Some(duka.serve()?);
    let _home = duka;
    Ok((Program::Duka { serving, _home }, cid))
}

fn kubo_with(machine: &Machine, file: &Path) -> Result<(Program, String)> {
    let options = kubo::Options {
        anywhere: true,
        ..kubo::Options::default()
    };
    let mut kubo = Kubo::init(options)?.on(machine);
    let cid = kubo.add(file)?;
    kubo.start()?;
    Ok((Program::Kubo(kubo), cid))
}

/// Milliseconds.
const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
