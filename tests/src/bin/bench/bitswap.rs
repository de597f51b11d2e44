//! `bitswap`: one peer fetches and pins what another has, routing off, nobody else connected.

use std::time::Duration;

use anyhow::{Result, ensure};
use duka_tests::duka::{self, Duka, Serving, field};
use duka_tests::files;
use duka_tests::kubo::{self, Kubo};
use duka_tests::proxy::{Carries, DelayProxy, ceiling};
use serde_json::Value;

use crate::report::{Report, Row, Target};
use crate::setup::{Setup, kubo_config, megabytes, timed, turns};

/// What to measure.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) size: u64,
    /// Round trip in milliseconds.
    pub(crate) delay: Option<u64>,
    pub(crate) quic: bool,
    pub(crate) small_blocks: bool,
    /// Blocks that duka keeps in flight.
    pub(crate) window: Option<usize>,
}

impl Options {
    fn transport(&self) -> &'static str {
        if self.quic { "/quic-v1" } else { "/tcp/" }
    }

    fn profile(&self) -> &'static str {
        if self.small_blocks {
            "unixfs-v0-2015"
        } else {
            "unixfs-v1-2025"
        }
    }

    fn kubo(&self) -> kubo::Options {
        let (tcp, quic) = (!self.quic, self.quic);
        kubo::Options {
            tcp,
            quic,
            profile: self.profile(),
            ..kubo::Options::default()
        }
    }

    fn duka(&self) -> duka::Options {
        let listen = vec![if self.quic { duka::QUIC } else { duka::TCP }];
        let more = self.window.map_or(String::new(), |window| {
            format!("[network.limits]\nwindow = {window}\n")
        });
        duka::Options {
            listen,
            more,
            ..duka::Options::default()
        }
    }

    /// The targets are for TCP and blocks of 1 MiB.
    fn has_targets(&self) -> bool {
        !self.small_blocks && !self.quic
    }
}

/// Receiver and sender.
type Contender = (&'static str, bool, bool);

const CONTENDERS: [Contender; 4] = [
    ("Kubo ← Kubo", false, false),
    ("Kubo ← duka", false, true),
    ("duka ← Kubo", true, false),
    ("duka ← duka", true, true),
];

pub(crate) fn run(setup: &Setup, options: &Options) -> Result<Report> {
    let mut notes = wire_notes(options)?;
    notes.extend(
        options
            .window
            .map(|window| format!("window of duka: {window} blocks")),
    );
    let blocks = if options.small_blocks {
        "256 KiB"
    } else {
        "1 MiB"
    };
    let over = if options.quic { "QUIC" } else { "TCP" };
    let delay = options
        .delay
        .map_or(String::new(), |delay| format!(", {delay} ms round trip"));
    let what = format!(
        "fetch and pin {} bytes, blocks of {blocks}, {over}{delay}",
        options.size
    );
    let mut row = Row::new(what, "MB/s");
    let mut config = Value::Null;
    for repetition in 0..setup.repetitions {
        let senders = Senders::start(setup, options, setup.seed(repetition))?;
        config = kubo_config(&senders.kubo)?;
        for (name, to_duka, from_duka) in turns(&CONTENDERS, repetition) {
            let took = senders.fetch(setup, options, to_duka, from_duka)?;
            row.push(name, megabytes(options.size, took));
        }
    }
    targets(&mut row, options);
    Ok(Report {
        bench: "bitswap",
        repetitions: setup.repetitions,
        kubo: config,
        notes,
        rows: vec![row],
    })
}

fn targets(row: &mut Row, options: &Options) {
    let (kubo_duka, duka_kubo, duka_duka) = match (options.has_targets(), options.delay) {
        (false, _) => (None, None, None),
        (true, None) => (Some(1.1), Some(1.6), Some(2.5)),
        (true, Some(_)) => (Some(3.0), Some(1.0), None),
    };
    row.ratio("Kubo ← duka", "Kubo ← Kubo", kubo_duka.map(Target::AtLeast));
    row.ratio("duka ← Kubo", "Kubo ← Kubo", duka_kubo.map(Target::AtLeast));
    row.ratio("duka ← duka", "Kubo ← Kubo", duka_duka.map(Target::AtLeast));
    if options.has_targets() && options.delay.is_some() {
        row.absolute("duka ← duka", Target::AtLeast(100.0));
    }
}

/// What the wire itself carries.
fn wire_notes(options: &Options) -> Result<Vec<String>> {
    let Some(delay) = options.delay else {
        return Ok(Vec::new());
    };
    let carries = if options.quic {
        Carries::Udp
    } else {
        Carries::Tcp
    };
    let mut notes = Vec::new();
    for one_way in [Duration::ZERO, Duration::from_millis(delay) / 2] {
        let measured = ceiling::measure(carries, one_way, 512 << 20)?;
        let note = format!(
            "the wire alone, {carries:?}, {} ms each way: {:.0} MB/s, round trip {:.1} ms, {:.1} % arrived",
            one_way.as_millis(),
            measured.rate / 1e6,
            measured.round_trip.as_secs_f64() * 1e3,
            measured.arrived * 100.0,
        );
        eprintln!("{note}");
        notes.push(note);
    }
    Ok(notes)
}

/// The two that have the content.
struct Senders {
    kubo: Kubo,
    node: Serving,
    _duka: Duka,
    root: String,
}

impl Senders {
    fn start(setup: &Setup, options: &Options, seed: u64) -> Result<Self> {
        let folder = setup.folder()?;
        let input = folder.path().join("input");
        files::write_random(&input, seed, options.size)?;
        let kubo = setup.kubo(options.kubo())?;
        let root = kubo.add(&input)?;
        let (duka, node) = setup.serving(&options.duka())?;
        let path = input.to_str().expect("a bench's path is text");
        let added = duka.ok(&["add", "--profile", options.profile(), path])?;
        ensure!(
            field(&added, "cid")? == root,
            "the root CIDs differ: {root} and {added}"
        );
        Ok(Self {
            kubo,
            node,
            _duka: duka,
            root,
        })
    }

    /// A fresh receiver fetches and pins the root.
    fn fetch(
        &self,
        setup: &Setup,
        options: &Options,
        to_duka: bool,
        from_duka: bool,
    ) -> Result<Duration> {
        let transport = options.transport();
        let far = if from_duka {
            self.node.address(transport)
        } else {
            self.kubo.address(transport)
        }?;
        let (_wire, sender) = match options.delay {
            Some(delay) => {
                let (wire, near) = DelayProxy::before(&far, Duration::from_millis(delay) / 2)?;
                (Some(wire), near)
            }
            None => (None, far),
        };
        if to_duka {
            let (duka, _node) = setup.serving(&options.duka())?;
            duka.ok(&["swarm", "connect", &sender])?;
            Ok(timed(|| duka.ok(&["pin", "add", &self.root]))?.1)
        } else {
            let kubo = setup.kubo(options.kubo())?;
            kubo.connect(&sender)?;
            Ok(timed(|| kubo.pin(&self.root))?.1)
        }
    }
}
