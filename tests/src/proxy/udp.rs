//! The wire for UDP packets: one socket towards the upstream for each client.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use rustix::net::sockopt;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::IN_FLIGHT;

/// Most bytes of one packet.
const PACKET: usize = 64 << 10;

/// Packets on the wire, each way, if each fills an Ethernet frame.
const PACKETS: usize = IN_FLIGHT / 1500;

/// Bytes the kernel may hold for a socket, where it allows so much.
const SOCKET_BUFFER: usize = 16 << 20;

type Parcel = (Instant, Bytes);

pub(super) async fn start(upstream: SocketAddr, one_way: Duration) -> Result<SocketAddr> {
    let listener = Arc::new(socket().await?);
    let address = listener.local_addr()?;
    tokio::spawn(listen(listener, upstream, one_way));
    Ok(address)
}

/// Packets of all clients, to the upstream.
async fn listen(listener: Arc<UdpSocket>, upstream: SocketAddr, one_way: Duration) -> Result<()> {
    let mut clients: HashMap<SocketAddr, mpsc::Sender<Parcel>> = HashMap::new();
    let mut buffer = BytesMut::new();
    loop {
        let (packet, client) = receive(&listener, &mut buffer).await?;
        let wire = match clients.get(&client) {
            Some(wire) => wire,
            None => {
                let server = Arc::new(socket().await?);
                server.connect(upstream).await?;
                let (back, arriving) = mpsc::channel(PACKETS);
                tokio::spawn(deliver(arriving, Arc::clone(&listener), Some(client)));
                tokio::spawn(answers(Arc::clone(&server), back, one_way));
                let (there, arriving) = mpsc::channel(PACKETS);
                tokio::spawn(deliver(arriving, server, None));
                clients.entry(client).or_insert(there)
            }
        };
        // A full wire drops the packet, as a router does.
        drop(wire.try_send((Instant::now() + one_way, packet)));
    }
}

/// Packets of the upstream, to one client.
async fn answers(
    server: Arc<UdpSocket>,
    back: mpsc::Sender<Parcel>,
    one_way: Duration,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        let (packet, _) = receive(&server, &mut buffer).await?;
        drop(back.try_send((Instant::now() + one_way, packet)));
    }
}

async fn receive(socket: &UdpSocket, buffer: &mut BytesMut) -> io::Result<(Bytes, SocketAddr)> {
    // Packets share an allocation, until less than the largest packet fits.
    if buffer.capacity() < PACKET {
        buffer.reserve(16 * PACKET);
    }
    let (_, from) = socket.recv_buf_from(buffer).await?;
    Ok((buffer.split().freeze(), from))
}

async fn deliver(
    mut arriving: mpsc::Receiver<Parcel>,
    socket: Arc<UdpSocket>,
    to: Option<SocketAddr>,
) {
    while let Some((arrives, packet)) = arriving.recv().await {
        if arrives > Instant::now() {
            sleep_until(arrives).await;
        }
        // An error belongs to one packet (its receiver is gone): packets may be lost.
        drop(match to {
            Some(client) => socket.send_to(&packet, client).await,
            None => socket.send(&packet).await,
        });
    }
}

async fn socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    enlarge(&socket);
    Ok(socket)
}

/// Large kernel buffers, by force where this process may.
pub(super) fn enlarge(socket: &impl AsFd) {
    if sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER);
    }
    let _ = sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER);
}
