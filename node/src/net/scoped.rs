//! Keeps a behaviour to the addresses that it is for.
//!
//! Kademlia puts every external address of this node into its provider records, and dials every
//! address that it is told. Inside this wrapper it only ever sees those of its scope, so the public
//! DHT never hears of a private address and cannot make this node probe its local network. The
//! client of AutoNAT would ask peers every five seconds, without end, about addresses that they
//! refuse to dial.

use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

/// A behaviour that knows only some addresses.
pub(super) struct Scoped<B> {
    admits: fn(&Multiaddr) -> bool,
    inner: B,
}

impl<B> Scoped<B> {
    pub(super) fn new(admits: fn(&Multiaddr) -> bool, inner: B) -> Self {
        Self { admits, inner }
    }

    pub(super) fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Scoped<B> {
    type ConnectionHandler = B::ConnectionHandler;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner
            .handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let mut found = self
            .inner
            .handle_pending_outbound_connection(id, peer, addresses, role)?;
        found.retain(self.admits);
        Ok(found)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let address = match &event {
            FromSwarm::NewListenAddr(event) => Some(event.addr),
            FromSwarm::ExpiredListenAddr(event) => Some(event.addr),
            FromSwarm::NewExternalAddrCandidate(event) => Some(event.addr),
            FromSwarm::ExternalAddrConfirmed(event) => Some(event.addr),
            FromSwarm::ExternalAddrExpired(event) => Some(event.addr),
            FromSwarm::NewExternalAddrOfPeer(event) => Some(event.addr),
            _ => None,
        };
        if address.is_none_or(self.admits) {
            self.inner.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
