//! Yamux as libp2p's stream multiplexer, with the settings that `libp2p-yamux` does not expose.
//!
//! Every yamux frame becomes one noise message and one write, so at the stock 16 KiB a block of
//! 1 MiB costs 64 of each. Larger frames make bitswap over TCP about a third faster
//! (`node/DESIGN.md`, "Bitswap").
//!
//! Use: `with_tcp(tcp_config, noise::Config::new, yamux::Config::default)`.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::io;
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use yamux::{Connection, ConnectionError, Mode, Stream};

use super::joined::Joined;

/// Protocol id in the negotiation.
const PROTOCOL: &str = "/yamux/1.0.0";

/// Most bytes of one noise message of libp2p-noise.
const NOISE_PAYLOAD: usize = 64_511;
/// A frame's header, in bytes.
const HEADER_LEN: usize = 12;
/// Most payload of one frame, in bytes: with its header it fills one noise message. A frame is
/// sealed and written as a whole, so this also bounds how long a ping waits behind a block.
pub(super) const FRAME_PAYLOAD: usize = NOISE_PAYLOAD - HEADER_LEN;
/// Open streams of one connection. Kubo opens one for each message.
const MAX_STREAMS: usize = 512;
/// Receive windows of all streams of one connection, in bytes. Windows grow to twice the
/// bandwidth-delay product; every stream is guaranteed 256 KiB, which alone is 128 MiB.
const MAX_RECEIVE_WINDOW: usize = 256 << 20;
/// Streams that the peer opened and the swarm has not taken yet. Equal to the acknowledgement
/// backlog that well-behaved peers keep to; beyond it streams are reset.
const MAX_WAITING_STREAMS: usize = 256;

/// Upgrade of a secured connection to yamux.
#[derive(Clone, Debug)]
pub struct Config(yamux::Config);

impl Default for Config {
    fn default() -> Self {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config.set_max_connection_receive_window(Some(MAX_RECEIVE_WINDOW));
        config.set_split_send_size(FRAME_PAYLOAD);
        Self(config)
    }
}

impl UpgradeInfo for Config {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once(PROTOCOL)
    }
}

impl<C> InboundConnectionUpgrade<C> for Config
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<Result<Muxer<C>, io::Error>>;

    fn upgrade_inbound(self, socket: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(socket, self.0, Mode::Server)))
    }
}

impl<C> OutboundConnectionUpgrade<C> for Config
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<Result<Muxer<C>, io::Error>>;

    fn upgrade_outbound(self, socket: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(socket, self.0, Mode::Client)))
    }
}

/// Why a connection's multiplexer ended.
#[derive(Debug, thiserror::Error)]
#[error("yamux connection failed")]
pub struct MuxerError(#[from] ConnectionError);

/// The streams of one connection.
#[derive(Debug)]
pub struct Muxer<C> {
    connection: Connection<Joined<C>>,
    /// Yamux makes progress only while it is asked for inbound streams, also when the swarm asked
    /// for something else: what turns up then waits here.
    waiting: VecDeque<Stream>,
    inbound: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(socket: C, config: yamux::Config, mode: Mode) -> Self {
        Self {
            connection: Connection::new(Joined::new(socket), config, mode),
            waiting: VecDeque::new(),
            inbound: None,
        }
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, MuxerError>> {
        self.connection
            .poll_next_inbound(cx)
            .map(|next| match next {
                Some(stream) => Ok(stream?),
                None => Err(ConnectionError::Closed.into()),
            })
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + 'static> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = MuxerError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, MuxerError>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let polled = self.poll_connection(cx);
        if polled.is_pending() {
            self.inbound = Some(cx.waker().clone());
        }
        polled
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, MuxerError>> {
        self.connection.poll_new_outbound(cx).map_err(MuxerError)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), MuxerError>> {
        self.connection.poll_close(cx).map_err(MuxerError)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, MuxerError>> {
        while let Poll::Ready(stream) = self.poll_connection(cx) {
            let stream = stream?;
            if self.waiting.len() == MAX_WAITING_STREAMS {
                tracing::debug!(%stream, "reset a stream: too many wait to be accepted");
                continue;
            }
            self.waiting.push_back(stream);
            if let Some(waker) = self.inbound.take() {
                waker.wake();
            }
        }
        Poll::Pending
    }
}
