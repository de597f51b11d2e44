//! Networks of their own: an internet with machines on it, and homes behind routers.
//!
//! Each machine is a network namespace of Linux. Nothing of the real network is touched or reached.
//! Making them needs root.

pub mod igd;
pub mod wan;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{locate, process};

/// The bridge that all machines of an internet hang on.
const BRIDGE: &str = "bridge";
/// The address that a router has inside, and the one of the only machine in the home.
const INSIDE: (&str, &str) = ("192.168.77.1", "192.168.77.2");

/// Machines with addresses of one /24, that all reach each other. Nothing else is in it.
#[derive(Debug)]
pub struct Internet {
    switch: Machine,
}

/// A home with one machine, behind a router that lets connections only out.
#[derive(Debug)]
pub struct Home {
    /// The router.
    pub router: Machine,
    /// The machine in the home.
    pub machine: Machine,
}

/// A machine with a network of its own. It ends with its last clone; programs on it must end first.
#[derive(Clone, Debug)]
pub struct Machine(Arc<Namespace>);

#[derive(Debug)]
struct Namespace {
    ip: PathBuf,
    name: String,
}

impl Internet {
    /// Makes one without machines.
    ///
    /// # Errors
    /// If this is not root, or `ip` is missing.
    pub fn new() -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "this test makes network namespaces, which only root may: run the tests as root"
        );
        let switch = Machine::new()?;
        switch.run("ip", &["link", "add", BRIDGE, "type", "bridge"])?;
        switch.run("ip", &["link", "set", BRIDGE, "up"])?;
        Ok(Self { switch })
    }

    /// A machine with this address.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub fn machine(&self, address: &str) -> Result<Machine> {
        let machine = Machine::new()?;
        let port = format!("p{}", address.replace('.', "-"));
        connect((&self.switch, &port), (&machine, "eth0"))?;
        self.switch
            .run("ip", &["link", "set", &port, "master", BRIDGE])?;
        machine.address("eth0", address)?;
        // Multicast needs a route; there is no router, so everything is on the link.
        machine.run("ip", &["route", "add", "default", "dev", "eth0"])?;
        Ok(machine)
    }

    /// A home; its router has this address outside.
    ///
    /// # Errors
    /// If `ip` or `nft` refuses.
    pub fn home(&self, address: &str) -> Result<Home> {
        let router = self.machine(address)?;
        let machine = Machine::new()?;
        connect((&router, "inside"), (&machine, "eth0"))?;
        router.address("inside", INSIDE.0)?;
        machine.address("eth0", INSIDE.1)?;
        machine.run("ip", &["route", "add", "default", "via", INSIDE.0])?;
        router.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        router.run("nft", &["add table ip nat"])?;
        let hook = |chain: &str, hook: &str, priority: &str| {
            let rule =
                format!("add chain ip nat {chain} {{ type nat hook {hook} priority {priority}; }}");
            router.run("nft", &[&rule])
        };
        hook("out", "postrouting", "srcnat")?;
        hook("in", "prerouting", "dstnat")?;
        router.run("nft", &["add rule ip nat out oifname eth0 masquerade"])?;
        // What comes from outside and belongs to no connection is dropped, as home routers do.
        let filter = "type filter hook input priority filter; policy accept;";
        router.run("nft", &["add table ip filter"])?;
        router.run(
            "nft",
            &[&format!("add chain ip filter input {{ {filter} }}")],
        )?;
        router.run(
            "nft",
            &["add rule ip filter input iifname eth0 ct state new drop"],
        )?;
        Ok(Home { router, machine })
    }
}

impl Home {
    /// The router's address inside.
    pub fn inner_address(&self) -> &'static str {
        INSIDE.0
    }
}

impl Machine {
    fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("duka-{}-{count}", std::process::id());
        let ip = locate::system("ip")?;
        succeed(Command::new(&ip).args(["netns", "add", &name]))?;
        let machine = Self(Arc::new(Namespace { ip, name }));
        machine.run("ip", &["link", "set", "lo", "up"])?;
        Ok(machine)
    }

    /// Runs a program of the system on the machine; it must succeed.
    ///
    /// # Errors
    /// If it fails: with what it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let program = locate::system(program)?;
        succeed(command(Some(self), &program).args(arguments))
    }

    /// Runs a function on the machine: sockets that it opens are the machine's, also later.
    ///
    /// # Errors
    /// If the kernel refuses, or the function does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = File::open(Path::new("/run/netns").join(&self.0.name))?;
        // A thread of its own, because a thread does not come back.
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&namespace),
                    Some(LinkNameSpaceType::Network),
                )?;
                work()
            });
            entered
                .join()
                .expect("what runs on a machine does not panic")
        })
    }

    fn address(&self, interface: &str, address: &str) -> Result<()> {
        let address = format!("{address}/24");
        self.run("ip", &["address", "add", &address, "dev", interface])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(succeed(
            Command::new(&self.ip).args(["netns", "delete", &self.name]),
        ));
    }
}

/// A cable between two machines; each end is an interface with a name.
fn connect(one: (&Machine, &str), other: (&Machine, &str)) -> Result<()> {
    let peer = ["netns", &other.0.0.name];
    let cable = [
        "link", "add", one.1, "type", "veth", "peer", "name", other.1,
    ];
    one.0.run("ip", &[&cable[..], &peer[..]].concat())?;
    for (machine, interface) in [one, other] {
        machine.run("ip", &["link", "set", interface, "up"])?;
    }
    Ok(())
}

/// A program, on a machine or on this one.
pub(crate) fn command(machine: Option<&Machine>, program: &Path) -> Command {
    let Some(Machine(namespace)) = machine else {
        return Command::new(program);
    };
    let mut command = Command::new(&namespace.ip);
    command
        .args(["netns", "exec", &namespace.name])
        .arg(program);
    command
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = process::run(command, Duration::from_secs(30)).context("a network for a test")?;
    ensure!(
        output.code == Some(0),
        "{command:?}: {}",
        output.stderr.trim_end()
    );
    Ok(())
}
