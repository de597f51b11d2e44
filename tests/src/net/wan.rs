//! An internet whose ways are slow, lossy, narrow or blocked, and can change at any moment.
//!
//! Each machine has a TUN interface, and packets go from one to another through this process: the kernel
//! that tests run on may have no `netem`. IPv4 only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parking_lot::{Condvar, Mutex};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::Machine;
use crate::random::Random;

/// What a packet may have, headers included.
const MTU: usize = 1400;
/// Longest a packet waits for a narrow link before it is dropped.
const LONGEST_QUEUE: Duration = Duration::from_millis(150);
const INTERFACE: &str = "wan";
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// How a machine is connected, in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// Time that a packet takes between the machine and the middle of the internet.
    pub delay: Duration,
    /// Part of the packets that get lost on that way.
    pub loss: f64,
    /// Bytes a second.
    pub rate: Option<u64>,
}

/// What went over TCP from one machine to another.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// Bytes that arrived, without headers, each time that they did.
    pub bytes: u64,
    /// Packets with something in them, or that begin a connection, by port and place in the stream, that found the way
    /// open: of a client, its requests.
    pub sent: HashSet<Piece>,
    /// Those of them that begin a connection.
    pub begun: HashSet<Piece>,
    /// Those that found it blocked.
    pub blocked: HashSet<Piece>,
}

/// Port of the sender and place in its stream: the same when a packet is sent again.
pub type Piece = (u16, u32);

/// Machines that reach each other over links that can be changed. It ends when it is dropped.
#[derive(Debug)]
pub struct Wan(Arc<Middle>);

#[derive(Debug)]
struct Middle {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    ports: HashMap<Ipv4Addr, Port>,
    /// From, to.
    blocked: HashSet<(Ipv4Addr, Ipv4Addr)>,
    carried: BTreeMap<(Ipv4Addr, Ipv4Addr), Carried>,
    under_way: BinaryHeap<Reverse<Packet>>,
    /// Packets so far.
    count: u64,
    random: Random,
    is_over: bool,
}

struct Port {
    device: Arc<SyncDevice>,
    link: Link,
    /// When the link has sent what was given to it: from the machine, to the machine.
    idle: [Instant; 2],
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.link.fmt(f)
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    due: Instant,
    /// Among packets that are due at once, the first comes first.
    number: u64,
    way: (Ipv4Addr, Ipv4Addr),
    bytes: Vec<u8>,
}

impl Wan {
    /// Makes one without machines; `seed` decides which packets get lost.
    ///
    /// # Errors
    /// If this is not root.
    pub fn new(seed: u64) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "this makes network namespaces, which only root may: run it as root"
        );
        let middle = Arc::new(Middle {
            state: Mutex::new(State {
                ports: HashMap::new(),
                blocked: HashSet::new(),
                carried: BTreeMap::new(),
                under_way: BinaryHeap::new(),
                count: 0,
                random: Random(seed),
                is_over: false,
            }),
            changed: Condvar::new(),
        });
        let sender = Arc::clone(&middle);
        thread::spawn(move || sender.send());
        Ok(Self(middle))
    }

    /// A machine with this address.
    ///
    /// # Errors
    /// If the kernel has no TUN devices, or `ip` refuses.
    pub fn machine(&self, address: Ipv4Addr, link: Link) -> Result<Machine> {
        let machine = Machine::new()?;
        let device = machine.enter(|| {
            let device = DeviceBuilder::new().name(INTERFACE).layer(Layer::L3);
            device.build_sync().context("a TUN device")
        })?;
        let mtu = MTU.to_string();
        machine.run(
            "ip",
            &[
                "link",
                "set",
                INTERFACE,
                "mtu",
                &mtu,
                "txqueuelen",
                "5000",
                "up",
            ],
        )?;
        let network = format!("{address}/32");
        machine.run("ip", &["address", "add", &network, "dev", INTERFACE])?;
        machine.run("ip", &["route", "add", "default", "dev", INTERFACE])?;
        let device = Arc::new(device);
        let port = Port {
            device: Arc::clone(&device),
            link,
            idle: [Instant::now(); 2],
        };
        self.0.state.lock().ports.insert(address, port);
        let middle = Arc::downgrade(&self.0);
        // The device fails when its machine ends, and with it the thread.
        thread::spawn(move || receive(&device, &middle));
        Ok(machine)
    }

    /// Changes how a machine is connected; packets that are under way arrive as they would have.
    pub fn set_link(&self, address: Ipv4Addr, link: Link) {
        if let Some(port) = self.0.state.lock().ports.get_mut(&address) {
            port.link = link;
        }
    }

    /// From now on no packet gets from one of `from` to one of `to`, or back: each is dropped silently.
    /// What was blocked before is free.
    pub fn block(&self, from: Ipv4Addr, to: impl IntoIterator<Item = Ipv4Addr>) {
        let mut state = self.0.state.lock();
        state
            .blocked
            .retain(|(one, other)| *one != from && *other != from);
        for to in to {
            state.blocked.extend([(from, to), (to, from)]);
        }
    }

    /// What was carried from one machine to another so far.
    pub fn carried(&self, from: Ipv4Addr, to: Ipv4Addr) -> Carried {
        let state = self.0.state.lock();
        state.carried.get(&(from, to)).cloned().unwrap_or_default()
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_over = true;
        state.ports.clear();
        self.0.changed.notify_all();
    }
}

/// Takes what a machine sends.
fn receive(device: &SyncDevice, middle: &Weak<Middle>) {
    let mut buffer = [0; MTU];
    while let Ok(len) = device.recv(&mut buffer) {
        let Some(middle) = middle.upgrade() else {
            return;
        };
        let mut state = middle.state.lock();
        if state.take(&buffer[..len]) {
            middle.changed.notify_all();
        }
    }
}

impl State {
    /// Puts a packet on its way. Returns whether it is the next one to arrive.
    fn take(&mut self, packet: &[u8]) -> bool {
        let Some(way @ (from, to)) = addresses(packet) else {
            return false;
        };
        let is_blocked = self.blocked.contains(&way);
        if let Some(segment) = segment(packet)
            && (segment.is_first || segment.len > 0)
        {
            let carried = self.carried.entry(way).or_default();
            let pieces = if is_blocked {
                &mut carried.blocked
            } else {
                &mut carried.sent
            };
            pieces.insert(segment.piece);
            if segment.is_first && !is_blocked {
                carried.begun.insert(segment.piece);
            }
        }
        if is_blocked {
            return false;
        }
        let Some(due) = self.pass(from, to, packet.len()) else {
            return false;
        };
        self.count += 1;
        let number = self.count;
        let bytes = packet.to_vec();
        self.under_way.push(Reverse(Packet {
            due,
            number,
            way,
            bytes,
        }));
        self.under_way
            .peek()
            .is_some_and(|next| next.0.number == number)
    }

    /// When a packet arrives; `None` when it gets lost.
    fn pass(&mut self, from: Ipv4Addr, to: Ipv4Addr, len: usize) -> Option<Instant> {
        let mut due = Instant::now();
        for (address, direction) in [(from, 0), (to, 1)] {
            let port = self.ports.get_mut(&address)?;
            if port.link.loss > 0.0 && self.random.unit() < port.link.loss {
                return None;
            }
            if let Some(rate) = port.link.rate {
                let idle = &mut port.idle[direction];
                let start = (*idle).max(due);
                if start.duration_since(due) > LONGEST_QUEUE {
                    return None;
                }
                *idle = start + Duration::from_secs_f64(len as f64 / rate as f64);
                due = *idle;
            }
            due += port.link.delay;
        }
        Some(due)
    }
}

/// From and to.
fn addresses(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (head, _) = packet.split_first_chunk::<20>()?;
    let address = |at: usize| Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]);
    (head[0] >> 4 == 4).then(|| (address(12), address(16)))
}

/// A packet of TCP.
struct Segment {
    piece: Piece,
    /// Whether it begins a connection.
    is_first: bool,
    /// Bytes in it.
    len: usize,
}

fn segment(packet: &[u8]) -> Option<Segment> {
    let len = usize::from(packet.first()? & 15) * 4;
    if *packet.get(9)? != TCP {
        return None;
    }
    let inner = packet.get(len..)?;
    let (head, _) = inner.split_first_chunk::<20>()?;
    Some(Segment {
        piece: (
            u16::from_be_bytes([head[0], head[1]]),
            u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        ),
        is_first: head[13] & (SYN | ACK) == SYN,
        len: inner.len().saturating_sub(usize::from(head[12] >> 4) * 4),
    })
}

impl Middle {
    /// Delivers packets when they are due, until the internet is over.
    fn send(&self) {
        let mut state = self.state.lock();
        while !state.is_over {
            let now = Instant::now();
            match state.under_way.peek().map(|next| next.0.due) {
                None => self.changed.wait(&mut state),
                Some(due) if due > now => drop(self.changed.wait_until(&mut state, due)),
                Some(_) => {
                    let Some(Reverse(packet)) = state.under_way.pop() else {
                        continue;
                    };
                    if let Some(segment) = segment(&packet.bytes) {
                        let carried = state.carried.entry(packet.way).or_default();
                        carried.bytes += segment.len as u64;
                    }
                    let port = state.ports.get(&packet.way.1);
                    let device = port.map(|port| Arc::clone(&port.device));
                    // A machine that is gone gets nothing.
                    parking_lot::MutexGuard::unlocked(&mut state, || {
                        drop(device.map(|device| device.send(&packet.bytes)));
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(45, 66, 0, 1);
    const THERE: Ipv4Addr = Ipv4Addr::new(45, 66, 0, 2);

    /// Time for one byte to get there and back, and for a mebibyte.
    fn exchange(wan: &Wan, link: Link) -> (Duration, Duration) {
        let there = wan.machine(THERE, Link::default()).unwrap();
        let here = wan.machine(HERE, link).unwrap();
        let listener = there.enter(|| Ok(TcpListener::bind((THERE, 0))?)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&vec![7; 1 << 20]).unwrap();
        });
        let mut stream = here.enter(|| Ok(TcpStream::connect(address)?)).unwrap();
        stream.set_nodelay(true).unwrap();
        let started = Instant::now();
        stream.write_all(&[1]).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        let round_trip = started.elapsed();
        let started = Instant::now();
        stream.write_all(&[1]).unwrap();
        stream.read_exact(&mut vec![0; 1 << 20]).unwrap();
        server.join().unwrap();
        (round_trip, started.elapsed())
    }

    #[test]
    fn links_delay_and_are_narrow() {
        let link = Link {
            delay: Duration::from_millis(25),
            loss: 0.01,
            rate: Some(2 << 20),
        };
        let wan = Wan::new(1).unwrap();
        let (round_trip, mebibyte) = exchange(&wan, link);
        assert!(round_trip >= Duration::from_millis(50), "{round_trip:?}");
        assert!(mebibyte >= Duration::from_millis(500), "{mebibyte:?}");
        let carried = wan.carried(HERE, THERE);
        assert_eq!((carried.sent.len(), carried.blocked.len()), (3, 0));
        assert_eq!(carried.begun.len(), 1);
        assert!(wan.carried(THERE, HERE).bytes > 1 << 20);
    }

    #[test]
    fn a_blocked_way_carries_nothing() {
        let wan = Wan::new(1).unwrap();
        let there = wan.machine(THERE, Link::default()).unwrap();
        let here = wan.machine(HERE, Link::default()).unwrap();
        let listener = there.enter(|| Ok(TcpListener::bind((THERE, 0))?)).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || {
            let limit = Duration::from_millis(300);
            here.enter(|| Ok(TcpStream::connect_timeout(&address, limit).is_ok()))
                .unwrap()
        };
        wan.block(HERE, [THERE]);
        assert!(!connect());
        assert_eq!(wan.carried(HERE, THERE).blocked.len(), 1);
        wan.block(HERE, []);
        assert!(connect());
    }
}
