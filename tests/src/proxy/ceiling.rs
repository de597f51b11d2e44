//! What the wire itself carries, measured: no bench result above it means anything.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Carries, DelayProxy, udp};

/// What a wire carried.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling {
    /// Bytes a second that arrived.
    pub rate: f64,
    /// Round trip of a small message.
    pub round_trip: Duration,
    /// Part of the packets that arrived.
    pub arrived: f64,
}

/// Sends `bytes` one way over a fresh wire.
///
/// # Errors
/// If a socket fails.
pub fn measure(carries: Carries, one_way: Duration, bytes: usize) -> Result<Ceiling> {
    match carries {
        Carries::Tcp => stream(one_way, bytes),
        Carries::Udp => packets(one_way, bytes),
    }
}

fn stream(one_way: Duration, bytes: usize) -> Result<Ceiling> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let proxy = DelayProxy::start(Carries::Tcp, listener.local_addr()?, one_way)?;
    let server = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        // One byte for the round trip, then everything, then the receipt.
        let mut one = [0];
        stream.read_exact(&mut one)?;
        stream.write_all(&one)?;
        let mut chunk = vec![0; 1 << 20];
        let mut left = bytes;
        while left > 0 {
            let read = stream.read(&mut chunk)?;
            ensure!(read > 0, "the wire ended early");
            left = left.saturating_sub(read);
        }
        Ok(stream.write_all(&one)?)
    });
    let mut client = TcpStream::connect(proxy.address())?;
    client.set_nodelay(true)?;
    let mut one = [1];
    let started = Instant::now();
    client.write_all(&one)?;
    client.read_exact(&mut one)?;
    let round_trip = started.elapsed();

    let chunk = vec![7; 1 << 20];
    let started = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let part = left.min(chunk.len());
        client.write_all(&chunk[..part])?;
        left -= part;
    }
    client.read_exact(&mut one)?;
    // The receipt's way back is not part of the transfer.
    let took = started.elapsed().saturating_sub(one_way);
    server.join().expect("the server does not panic")?;
    Ok(Ceiling {
        rate: bytes as f64 / took.as_secs_f64(),
        round_trip,
        arrived: 1.0,
    })
}

/// Bytes of a QUIC packet.
const PACKET: usize = 1400;

/// Sends without flow control: the rate is of what arrived; the rest met a full socket.
fn packets(one_way: Duration, bytes: usize) -> Result<Ceiling> {
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    udp::enlarge(&receiver);
    let proxy = DelayProxy::start(Carries::Udp, receiver.local_addr()?, one_way)?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    sender.connect(proxy.address())?;

    let mut packet = vec![0; PACKET];
    let patience = Some(Duration::from_secs(5));
    sender.set_read_timeout(patience)?;
    receiver.set_read_timeout(patience)?;
    let started = Instant::now();
    sender.send(&[1])?;
    let (_, from) = receiver.recv_from(&mut packet)?;
    receiver.send_to(&[1], from)?;
    sender.recv(&mut packet)?;
    let round_trip = started.elapsed();

    let count = bytes / PACKET;
    let counting = thread::spawn(move || -> Result<(usize, Instant)> {
        // Silence is the end.
        receiver.set_read_timeout(Some(Duration::from_millis(500)))?;
        let mut packet = vec![0; PACKET];
        let (mut arrived, mut last) = (0, Instant::now());
        while arrived < count && receiver.recv(&mut packet).is_ok() {
            (arrived, last) = (arrived + 1, Instant::now());
        }
        Ok((arrived, last))
    });
    let packet = vec![7; PACKET];
    let started = Instant::now();
    for _ in 0..count {
        sender.send(&packet)?;
    }
    let (arrived, last) = counting.join().expect("the receiver does not panic")?;
    let took = last
        .saturating_duration_since(started)
        .saturating_sub(one_way);
    Ok(Ceiling {
        rate: (arrived * PACKET) as f64 / took.as_secs_f64(),
        round_trip,
        arrived: arrived as f64 / count as f64,
    })
}
