//! Writes messages: our wants on one stream for each peer, answers on a few.
//!
//! Wants have a stream of their own, because a want and its cancel must not overtake each other.
//! Streams are opened when there is something to send, stay open, and close after some idle time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cid::Cid;
use futures::{AsyncWrite, AsyncWriteExt};
use libp2p::Stream;

use super::engine::Engine;
use super::message::{OutgoingMessage, ProtocolVersion};
use super::metrics;
use super::peer::{Lane, Peer};
use crate::blocking::blocking;
use crate::net::yamux::FRAME_PAYLOAD;

/// A stream without messages is closed after this.
const IDLE: Duration = Duration::from_secs(60);
/// First pause after a stream could not be opened or broke; doubles each time in a row.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 250 });
/// Streams that fail in a row before what they were to carry is dropped.
pub(super) const MAX_FAILURES: u32 = 6;
/// Entries in one message; more than a peer is asked for at once, so cancels fit too.
const MAX_ENTRIES: usize = 2048;
/// With this many blocks outstanding, new wants are collected for a moment before they are sent:
/// the peer is busy anyway, and each message costs it more than each entry.
const BUSY_OUTSTANDING: usize = 48;
/// How long they are collected.
const COLLECT: Duration = Duration::from_millis(2);
/// Least time for a transfer.
const MIN_TRANSFER_TIME: Duration = Duration::from_secs(10);
/// Slowest peer that is served, in bytes per second.
const MIN_TRANSFER_RATE: usize = 16 << 10;
/// A write that takes longer than this waits for credit from a distant peer.
const STALL: Duration = Duration::from_millis(5);

/// Time that a message of `len` bytes may take.
pub(super) fn transfer_timeout(len: usize) -> Duration {
    MIN_TRANSFER_TIME + Duration::from_secs((len / MIN_TRANSFER_RATE) as u64)
}

/// Sends our wants to a peer until it is gone.
pub(super) async fn write_wants(engine: Arc<Engine>, peer: Arc<Peer>) {
    let writing = async {
        let mut outlet = Outlet::new(&peer.wants);
        let mut lost = false;
        loop {
            let (entries, outstanding) = engine.with_client(|client, _| client.load_of(&peer.id));
            if entries == 0 && !lost {
                outlet.wait().await;
                continue;
            }
            let Some((version, is_new)) = outlet.open(&peer).await else {
                if !outlet.pause().await {
                    engine.on_unreachable(&peer.id);
                    lost = false;
                }
                continue;
            };
            if !is_new && outstanding >= BUSY_OUTSTANDING && entries * 4 < outstanding {
                tokio::time::sleep(COLLECT).await;
            }
            let entries =
                engine.with_client(|client, _| client.take_entries(&peer.id, MAX_ENTRIES, is_new));
            metrics::wants_sent(entries.len());
            let message = OutgoingMessage::wantlist(&entries, is_new, version);
            // A new stream starts with the full list as it is by then, so what was lost is in it, and
            // what was cancelled is not.
            lost = !(outlet.send(&peer, &message).await && outlet.flush().await);
            if lost && !outlet.pause().await {
                engine.on_unreachable(&peer.id);
                lost = false;
            }
        }
    };
    peer.gone.run_until_cancelled(writing).await;
}

/// Sends answers to a peer until it is gone. The first writer of each peer waits for no other
/// peer's memory.
pub(super) async fn write_answers(engine: Arc<Engine>, peer: Arc<Peer>, is_first: bool) {
    let writing = async {
        let mut outlet = Outlet::new(&peer.answers);
        loop {
            if !peer.ledger.lock().has_answers() {
                outlet.wait().await;
                continue;
            }
            if write_answer(&engine, &peer, &mut outlet, is_first).await || outlet.pause().await {
                continue;
            }
            tracing::debug!(peer = %peer.id, "peer takes no answers: its wants are dropped");
            let noting = peer.noting.lock().await;
            let (engine, peer) = (Arc::clone(&engine), Arc::clone(&peer));
            blocking(move || engine.server.forget(&peer)).await;
            drop(noting);
        }
    };
    peer.gone.run_until_cancelled(writing).await;
}

/// Writes one message of answers, if there is one. `false` when the stream fails: then the blocks
/// are queued again.
async fn write_answer(
    engine: &Arc<Engine>,
    peer: &Arc<Peer>,
    outlet: &mut Outlet<'_>,
    is_first: bool,
) -> bool {
    let _writing = peer.begin_writing();
    let Some((version, _)) = outlet.open(peer).await else {
        return false;
    };
    let _room = match is_first {
        true => None,
        false => engine.server.shared_outbox.acquire().await.ok(),
    };
    let (message, blocks) = next_message(engine, peer, version).await;
    if message.is_empty() {
        return true;
    }
    engine.server.take_rate(message.block_bytes()).await;
    if outlet.send(peer, &message).await {
        metrics::blocks_sent(message.blocks(), message.block_bytes());
        peer.ledger.lock().sent(&blocks);
        return true;
    }
    drop(message);
    let noting = peer.noting.lock().await;
    let (engine, peer) = (Arc::clone(engine), Arc::clone(peer));
    blocking(move || engine.server.resend(&peer, &blocks)).await;
    drop(noting);
    false
}

/// Reads the next message of answers off the runtime, in turn with other peers.
async fn next_message(
    engine: &Arc<Engine>,
    peer: &Arc<Peer>,
    version: ProtocolVersion,
) -> (OutgoingMessage, Vec<Cid>) {
    let turn = engine.server.reads.acquire().await;
    let (engine, peer) = (Arc::clone(engine), Arc::clone(peer));
    let message = blocking(move || engine.server.next_message(&peer, version)).await;
    drop(turn);
    message
}

/// A stream to a peer, opened when needed.
struct Outlet<'a> {
    lane: &'a Lane,
    stream: Option<(Stream, ProtocolVersion)>,
    /// Streams of this writer that failed since any writer of the lane sent a message.
    failures: u32,
    /// Messages that the lane had sent at the last failure.
    sent: u64,
}

impl<'a> Outlet<'a> {
    fn new(lane: &'a Lane) -> Self {
        Self {
            lane,
            stream: None,
            failures: 0,
            sent: 0,
        }
    }

    /// Pauses after a stream could not be opened or broke. `false` when that happened too often.
    async fn pause(&mut self) -> bool {
        let sent = self.lane.sent.load(Relaxed);
        if std::mem::replace(&mut self.sent, sent) != sent {
            self.failures = 0;
        }
        let doublings = self.failures.min(MAX_FAILURES - 1);
        tokio::time::sleep(FIRST_RETRY * 2_u32.pow(doublings)).await;
        self.failures = doublings + 1;
        self.failures < MAX_FAILURES
    }

    /// The protocol of the open stream, and whether it was opened just now.
    async fn open(&mut self, peer: &Peer) -> Option<(ProtocolVersion, bool)> {
        if let Some((_, version)) = &self.stream {
            return Some((*version, false));
        }
        let (stream, version) = peer.open_stream().await?;
        self.stream = Some((stream, version));
        Some((version, true))
    }

    /// Waits for work; closes the stream when none comes for long.
    async fn wait(&mut self) {
        let wake = &self.lane.wake;
        self.flush().await;
        if self.stream.is_none() {
            return wake.notified().await;
        }
        if tokio::time::timeout(IDLE, wake.notified()).await.is_err()
            && let Some((mut stream, _)) = self.stream.take()
        {
            // The stream goes either way.
            drop(tokio::time::timeout(MIN_TRANSFER_TIME, stream.close()).await);
        }
    }

    /// Sends a message. On failure the stream is dropped and `false` returned.
    async fn send(&mut self, peer: &Peer, message: &OutgoingMessage) -> bool {
        let Some((stream, _)) = &mut self.stream else {
            return false;
        };
        let timeout = transfer_timeout(message.len());
        let error = match tokio::time::timeout(timeout, write_message(stream, message, peer)).await
        {
            Ok(Ok(())) => {
                self.lane.sent.fetch_add(1, Relaxed);
                return true;
            }
            Ok(Err(error)) => error,
            Err(_) => io::Error::from(io::ErrorKind::TimedOut),
        };
        tracing::debug!(peer = %peer.id, %error, "writing to a bitswap stream failed");
        self.stream = None;
        false
    }

    /// On failure the stream is dropped and `false` returned.
    async fn flush(&mut self) -> bool {
        let flushed = match &mut self.stream {
            Some((stream, _)) => stream.flush().await.is_ok(),
            None => true,
        };
        if !flushed {
            self.stream = None;
        }
        flushed
    }
}

/// Writes a message: small pieces together, long ones from where they lie.
async fn write_message(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &OutgoingMessage,
    peer: &Peer,
) -> io::Result<()> {
    let mut small = Vec::with_capacity(FRAME_PAYLOAD.min(message.len() + 16));
    for piece in message.pieces() {
        // Fill up the write that was begun, so that frames are full.
        let (fill, rest) = piece.split_at(piece.len().min(FRAME_PAYLOAD - small.len()));
        small.extend_from_slice(fill);
        if small.len() == FRAME_PAYLOAD {
            write_all(stream, &small, peer).await?;
            small.clear();
            if rest.len() >= FRAME_PAYLOAD {
                write_all(stream, rest, peer).await?;
            } else {
                small.extend_from_slice(rest);
            }
        }
    }
    if !small.is_empty() {
        write_all(stream, &small, peer).await?;
    }
    Ok(())
}

/// Writes, and tells the peer's other writers each time that the stream waits for credit.
async fn write_all(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    peer: &Peer,
) -> io::Result<()> {
    for part in bytes.chunks(FRAME_PAYLOAD) {
        let mut writing = std::pin::pin!(stream.write_all(part));
        match tokio::time::timeout(STALL, &mut writing).await {
            Ok(written) => written?,
            Err(_) => {
                peer.on_stalled();
                writing.await?;
            }
        }
    }
    Ok(())
}
