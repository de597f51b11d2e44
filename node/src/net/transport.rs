//! The ways to reach a peer: TCP, QUIC, WebSocket and relays, each encrypted and multiplexed.

use std::io;
use std::time::Duration;

use futures::io::BufReader;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, dns, quic, relay, tcp, websocket};

use super::dial_filter::DialFilter;
use super::security::Security;

/// A connection stands after this, either way, or is given up. Shorter than the 10 s that AutoNAT
/// gives a peer to say whether it could dial back.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Bytes that are read from a socket at once.
const READ_AHEAD: usize = 128 << 10;

/// What the swarm dials and listens with.
pub(super) type Transports = Boxed<(PeerId, StreamMuxerBox)>;

/// Builds all transports, and the behaviour that belongs to the relay transport.
///
/// # Errors
/// When the key cannot be used for encryption.
pub(super) fn build(key: &Keypair) -> io::Result<(Transports, relay::client::Behaviour)> {
    let security = Security::new(key)?;
    let (relay, relay_behaviour) = relay::client::new(key.public().to_peer_id());

    let tcp = tcp_socket()
        .upgrade(Version::V1Lazy)
        .authenticate(security.clone())
        .multiplex(muxer())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let quic = quic::tokio::Transport::new(quic::Config::new(key))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let sockets = quic
        .or_transport(tcp)
        .map(|either, _| either.into_inner())
        .boxed();
    let websocket = websocket::Config::new(with_dns(DialFilter(tcp_socket())))
        .upgrade(Version::V1Lazy)
        .authenticate(security.clone())
        .multiplex(muxer())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let relay = relay
        .upgrade(Version::V1Lazy)
        .authenticate(security)
        .multiplex(muxer())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    // The transport that resolves names takes every address, so it goes last.
    let transports = OrTransport::new(relay, websocket)
        .map(|either, _| either.into_inner())
        .or_transport(with_dns(DialFilter(sockets)))
        .map(|either, _| either.into_inner());
    let transports = TransportTimeout::new(transports, CONNECT_TIMEOUT).boxed();
    Ok((transports, relay_behaviour))
}

/// TCP whose sockets are read ahead of rustls, which asks for 4 KiB at a time.
fn tcp_socket() -> impl Transport<
    Output = BufReader<tcp::tokio::TcpStream>,
    Error = io::Error,
    Dial: Send,
    ListenerUpgrade: Send,
> + Send
+ Unpin
+ 'static {
    tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .map(|socket, _| BufReader::with_capacity(READ_AHEAD, socket))
}

fn muxer() -> super::yamux::Config {
    super::yamux::Config::default()
}

/// Resolves names as the system does, or by the resolver's own defaults where the system has no
/// configuration that can be read.
fn with_dns<T>(inner: T) -> dns::tokio::Transport<T> {
    match dns::tokio::Transport::system(()) {
        Ok(_) => dns::tokio::Transport::system(inner).expect("it could be read just now"),
        Err(error) => {
            tracing::warn!(%error, "the system's DNS configuration cannot be read");
            dns::tokio::Transport::custom(
                inner,
                dns::ResolverConfig::default(),
                dns::ResolverOpts::default(),
            )
        }
    }
}
