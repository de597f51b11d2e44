//! Bitswap's part in the swarm: negotiates streams and hands them to tasks.
//!
//! No I/O happens here. An inbound stream goes to a reader task at once; outbound streams are asked
//! for over a bounded channel of each connection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use libp2p::core::Endpoint;
use libp2p::core::multiaddr::Protocol;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
    ProtocolsChange,
};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId,
    FromSwarm, NetworkBehaviour, StreamUpgradeError, SubstreamProtocol, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};
use lru::LruCache;
use tokio::sync::mpsc;

use super::engine::Engine;
use super::message::{PROTOCOLS, ProtocolVersion};
use super::peer::{MAX_STREAM_REQUESTS, Peer, StreamRequest};

/// Addresses of peers that were dialled before, kept to dial them again.
const KNOWN_ADDRESSES: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// What the engine asks of the swarm.
#[derive(Clone, Copy, Debug)]
pub(super) enum SwarmCommand {
    /// Connect to a peer that is not connected.
    Dial(PeerId),
    /// Close all connections with a peer that misbehaves.
    Disconnect(PeerId),
}

/// Negotiates bitswap streams. Emits no events.
///
/// Connections over a relay carry no bitswap, as in Kubo: relays cut them off after 128 KiB.
#[derive(Debug)]
pub struct Behaviour {
    engine: Arc<Engine>,
    commands: mpsc::Receiver<SwarmCommand>,
    /// Connections that another behaviour may still refuse.
    pending: HashMap<ConnectionId, (Arc<Peer>, mpsc::Sender<StreamRequest>)>,
    addresses: LruCache<PeerId, Multiaddr>,
}

impl Behaviour {
    pub(super) fn new(engine: Arc<Engine>, commands: mpsc::Receiver<SwarmCommand>) -> Self {
        Self {
            engine,
            commands,
            pending: HashMap::new(),
            addresses: LruCache::new(KNOWN_ADDRESSES),
        }
    }

    /// Whether blocks from or for the peer are under way.
    pub fn is_busy(&self, peer: &PeerId) -> bool {
        self.engine.peer(peer).is_some_and(|peer| peer.is_busy())
    }

    /// When the peer last sent something, wants included; `None` for one without bitswap.
    pub fn last_received(&self, peer: &PeerId) -> Option<Instant> {
        self.engine.peer(peer).map(|peer| peer.last_received())
    }

    fn refused(&mut self, connection: ConnectionId) {
        if let Some((peer, _)) = self.pending.remove(&connection) {
            self.engine.on_connection_refused(&peer);
        }
    }

    fn handler(&mut self, connection: ConnectionId, peer: PeerId, remote: &Multiaddr) -> Handler {
        let relayed = remote.iter().any(|part| part == Protocol::P2pCircuit);
        let (sender, requests) = mpsc::channel(MAX_STREAM_REQUESTS);
        let peer = (!relayed).then(|| self.engine.expect_connection(peer));
        if let Some(peer) = &peer {
            self.pending.insert(connection, (Arc::clone(peer), sender));
        }
        Handler {
            engine: Arc::clone(&self.engine),
            peer,
            requests,
            spoken: None,
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let known = peer.and_then(|peer| self.addresses.get(&peer));
        Ok(known.into_iter().cloned().collect())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        // The peer behind a relay has no address of its own; ours ends in the relay's circuit.
        Ok(self.handler(connection, peer, local))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let handler = self.handler(connection, peer, address);
        if handler.peer.is_some() {
            self.addresses.put(peer, address.clone());
        }
        Ok(handler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                if let Some((peer, requests)) = self.pending.remove(&established.connection_id) {
                    self.engine
                        .on_connection(peer, established.connection_id, requests);
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.engine
                    .on_connection_closed(closed.peer_id, closed.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.refused(failure.connection_id);
            }
            FromSwarm::ListenFailure(failure) => {
                self.refused(failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        match self.commands.poll_recv(cx) {
            Poll::Ready(Some(SwarmCommand::Dial(peer))) => Poll::Ready(ToSwarm::Dial {
                opts: DialOpts::peer_id(peer)
                    .condition(PeerCondition::DisconnectedAndNotDialing)
                    .build(),
            }),
            Poll::Ready(Some(SwarmCommand::Disconnect(peer_id))) => {
                Poll::Ready(ToSwarm::CloseConnection {
                    peer_id,
                    connection: CloseConnection::All,
                })
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Negotiates the bitswap streams of one connection.
#[derive(Debug)]
pub struct Handler {
    engine: Arc<Engine>,
    /// `None` over a relay.
    peer: Option<Arc<Peer>>,
    requests: mpsc::Receiver<StreamRequest>,
    /// The best protocol that the peer is known to speak, as an index into [`PROTOCOLS`]. A stream
    /// that offers nothing else need not wait for the peer's answer before it carries data.
    spoken: Option<usize>,
}

impl Handler {
    /// What our streams offer.
    fn offered(&self) -> &'static [(StreamProtocol, ProtocolVersion)] {
        match self.spoken {
            Some(best) => &PROTOCOLS[best..=best],
            None => &PROTOCOLS,
        }
    }

    fn on_protocols_change(&mut self, change: ProtocolsChange<'_>) {
        match change {
            ProtocolsChange::Added(added) => {
                let best =
                    added.filter_map(|id| PROTOCOLS.iter().position(|(known, _)| known == id));
                self.spoken = best.chain(self.spoken).min();
            }
            ProtocolsChange::Removed(mut removed) => {
                if removed.any(|id| self.spoken.is_some_and(|best| PROTOCOLS[best].0 == *id)) {
                    self.spoken = None;
                }
            }
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = PendingStream;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade, ()> {
        let offered = match self.peer {
            Some(_) => &PROTOCOLS[..],
            None => &[],
        };
        SubstreamProtocol::new(Upgrade { offered }, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.is_busy())
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Upgrade, PendingStream, Infallible>> {
        match self.requests.poll_recv(cx) {
            Poll::Ready(Some(request)) => {
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(
                        Upgrade {
                            offered: self.offered(),
                        },
                        PendingStream(request),
                    ),
                })
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Upgrade, Upgrade, (), PendingStream>,
    ) {
        let Some(peer) = self.peer.clone() else {
            return;
        };
        match event {
            ConnectionEvent::RemoteProtocolsChange(change) => self.on_protocols_change(change),
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (mut stream, _),
                ..
            }) => {
                stream.ignore_for_keep_alive();
                self.engine.read_stream(&peer, stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info: PendingStream(reply),
            }) => {
                // Fails when the writer has gone: the stream closes.
                drop(reply.send(protocol));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                tracing::debug!(peer = %peer.id, %error, "no bitswap stream");
                if matches!(error, StreamUpgradeError::NegotiationFailed) {
                    self.engine.on_unreachable(&peer.id);
                }
            }
            _ => {}
        }
    }
}

/// Who waits for an outbound stream.
#[derive(Debug)]
pub struct PendingStream(StreamRequest);

/// Offers bitswap protocols; the result is the bare stream.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade {
    offered: &'static [(StreamProtocol, ProtocolVersion)],
}

impl UpgradeInfo for Upgrade {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        let protocols = self.offered.iter().map(|(protocol, _)| protocol.clone());
        protocols.collect::<Vec<_>>().into_iter()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, ProtocolVersion);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, version_of(&protocol))))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, ProtocolVersion);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, version_of(&protocol))))
    }
}

fn version_of(protocol: &StreamProtocol) -> ProtocolVersion {
    PROTOCOLS
        .iter()
        .find(|(known, _)| known == protocol)
        .map_or(ProtocolVersion::V1_0, |(_, version)| *version)
}
