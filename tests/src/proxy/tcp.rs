//! The wire for TCP streams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use super::IN_FLIGHT;

/// Bytes of one read.
const READ: usize = 256 << 10;

/// Reads on the wire, each way.
const READS: usize = 16 << 10;

/// A read, with the time at which it arrives. The permits are its place on the wire.
type Parcel = (Instant, Bytes, OwnedSemaphorePermit);

pub(super) async fn start(upstream: SocketAddr, one_way: Duration) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(connect(client, upstream, one_way));
        }
    });
    Ok(address)
}

async fn connect(client: TcpStream, upstream: SocketAddr, one_way: Duration) -> io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::spawn(carry(from_client, to_server, one_way));
    tokio::spawn(carry(from_server, to_client, one_way));
    Ok(())
}

/// One direction, until its end. The writer's end closes the other side's reading.
async fn carry(from: OwnedReadHalf, to: OwnedWriteHalf, one_way: Duration) {
    let (queue, arriving) = mpsc::channel(READS);
    tokio::spawn(deliver(arriving, to));
    drop(take(from, queue, one_way).await);
}

async fn take(
    mut from: OwnedReadHalf,
    queue: mpsc::Sender<Parcel>,
    one_way: Duration,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        let read = from.read_buf(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let arrives = Instant::now() + one_way;
        let permits = u32::try_from(read).expect("a read is smaller than 4 GiB");
        let place = Arc::clone(&room).acquire_many_owned(permits).await;
        let place = place.expect("the semaphore is never closed");
        if queue
            .send((arrives, buffer.split().freeze(), place))
            .await
            .is_err()
        {
            return Ok(());
        }
    }
}

async fn deliver(mut arriving: mpsc::Receiver<Parcel>, mut to: OwnedWriteHalf) {
    while let Some((arrives, bytes, place)) = arriving.recv().await {
        if arrives > Instant::now() {
            sleep_until(arrives).await;
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
        drop(place);
    }
}
