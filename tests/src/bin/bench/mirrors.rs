//! A creator and mirrors, each in a network of its own: how soon a new head is everywhere, and for how long
//! a shop lives when machines die.

mod alive;
mod census;
mod freshness;
mod gossip;
mod limited;
mod month;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use duka_tests::duka::{self, Duka, GATEWAY_ANYWHERE, Serving, field};
use duka_tests::files;
use duka_tests::http1::Connection;
use duka_tests::kubo::{self, Kubo};
use duka_tests::net::Machine;
use duka_tests::net::wan::{Link, Wan};
use serde_json::Value;

use crate::setup::Setup;

pub(crate) use alive::run as alive;
pub(crate) use census::{Options as CensusOptions, run as census};
pub(crate) use freshness::run as freshness;
pub(crate) use gossip::run as gossip;
pub(crate) use limited::run as limited;
pub(crate) use month::run as month;

const CREATOR: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
const PRODUCT: &str = "album";

/// The address of a mirror; they are counted from 1.
fn mirror(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 66, 1, number)
}

/// A duka that serves, on a machine of its own.
struct Node {
    address: Ipv4Addr,
    machine: Machine,
    duka: Duka,
    serving: Option<Serving>,
}

/// How nodes are set up.
#[derive(Clone, Copy)]
struct Settings<'a> {
    link: Link,
    dht: &'static str,
    /// Peers that are dialed first.
    bootstrap: &'a [String],
    /// Further lines of the section `[network]` of the settings file.
    network: &'a str,
    /// Further sections of it.
    more: &'a str,
}

impl Settings<'_> {
    /// A machine that knows nobody, and nothing else set.
    fn without_dht(link: Link) -> Self {
        Self {
            link,
            dht: "off",
            bootstrap: &[],
            network: "",
            more: "",
        }
    }
}

impl Node {
    fn start(setup: &Setup, wan: &Wan, address: Ipv4Addr, settings: Settings<'_>) -> Result<Self> {
        let machine = wan.machine(address, settings.link)?;
        let options = duka::Options {
            listen: vec![duka::TCP_ANYWHERE],
            gateway: GATEWAY_ANYWHERE,
            dht: settings.dht,
            bootstrap: settings.bootstrap.to_vec(),
            network: settings.network.to_owned(),
            more: settings.more.to_owned(),
            ..duka::Options::default()
        };
        let duka = setup.duka(&options)?.on(&machine);
        duka.ok(&["init"])?;
        let serving = Some(duka.serve()?);
        Ok(Self {
            address,
            machine,
            duka,
            serving,
        })
    }

    fn serving(&self) -> Result<&Serving> {
        self.serving.as_ref().context("the node is down")
    }

    /// The gateway's URL for other machines.
    fn url(&self) -> Result<String> {
        Ok(format!("http://{}:{}", self.address, self.port()?))
    }

    fn port(&self) -> Result<u16> {
        let url = self.serving()?.gateway()?;
        let port = url.rsplit(':').next().context("a URL without a port")?;
        Ok(port.parse()?)
    }

    /// Where other machines reach it as a peer.
    fn peer_address(&self) -> Result<String> {
        self.serving()?.address(&format!("/ip4/{}/", self.address))
    }

    /// The command that starts it again, at the ports that it has now.
    fn again(&self) -> Result<Command> {
        let address = self.peer_address()?;
        let port = address
            .split('/')
            .nth(4)
            .context("an address without a port")?;
        let mut command = self.duka.command();
        command
            .args([
                "--json",
                "serve",
                "--gateway",
                &format!("0.0.0.0:{}", self.port()?),
            ])
            .args(["--listen", &format!("/ip4/0.0.0.0/tcp/{port}")]);
        Ok(command)
    }

    /// Asks it to mirror the shop that `from` serves.
    fn mirrors(&self, shop: &str, from: &Self) -> Result<()> {
        let url = format!("{}/ipns/{shop}", from.url()?);
        self.duka.ok(&["--yes", "mirror", "add", &url]).map(drop)
    }

    /// A connection to its gateway, on its own machine: no link is in between.
    fn ask(&self) -> Result<Client> {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()?));
        let connection = self.machine.enter(|| Connection::open(at))?;
        Ok(Client(connection))
    }

    fn shop(&self) -> Result<String> {
        Ok(field(&self.duka.ok(&["id"])?, "name")?.to_owned())
    }

    /// Publishes a file of fresh bytes as the next version; gives its version.
    fn publish(&self, seed: u64, number: usize, size: u64) -> Result<String> {
        let (file, version) = (self.file(), format!("1.{number}"));
        files::write_random(&file, seed + number as u64, size)?;
        let path = file.to_str().context("a path that is no text")?;
        self.duka
            .ok(&["publish", path, "--product", PRODUCT, "--version", &version])?;
        Ok(version)
    }

    /// The mirror, as `mirror status` shows it.
    fn mirror_status(&self) -> Result<Value> {
        let listed = self.duka.cmd(&["mirror", "status"])?.events()?;
        let mirror = listed.into_iter().find(|item| item["kind"] == "mirror");
        mirror.context("nothing is mirrored")
    }

    fn file(&self) -> PathBuf {
        self.duka.home().join("track.bin")
    }
}

/// A Kubo that follows the shop by gossip, and passes on what it hears.
fn follower(wan: &Wan, link: Link, shop: &str, neighbours: &[&Node]) -> Result<Kubo> {
    let machine = wan.machine(mirror(100), link)?;
    let mut kubo = Kubo::init(kubo::Options {
        anywhere: true,
        gossip: true,
        ..kubo::Options::default()
    })?
    .on(&machine);
    kubo.start()?;
    for node in neighbours {
        kubo.connect(&node.peer_address()?)?;
    }
    kubo.ok(&["name", "resolve", "--nocache", &format!("/ipns/{shop}")])?;
    Ok(kubo)
}

/// Asks a gateway what it has, which it does not fetch.
struct Client(Connection);

impl Client {
    /// Whether the release is there, by the shop's name.
    fn has(&mut self, shop: &str, version: &str) -> Result<bool> {
        self.holds(&format!("/ipns/{shop}/p/{PRODUCT}/{version}"))
    }

    /// Whether the whole file at this path is there.
    fn holds(&mut self, path: &str) -> Result<bool> {
        let headers = [("host", "localhost"), ("cache-control", "only-if-cached")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let answer = self.0.ask("GET", path, &headers)?;
        let absent = [404, 412, 502, 503, 504];
        ensure!(
            answer.status == 200 || absent.contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        Ok(answer.status == 200 && answer.complete)
    }
}

/// The value that so many percent of all do not exceed.
fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    let at = (values.len() * percent).div_ceil(100);
    values[at.clamp(1, values.len()) - 1]
}
