//! The task that owns the swarm: waits for a command, an event or a timer, and applies it.

mod census;
pub(super) mod gossip;
mod queries;
mod trimming;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use duka_config::NetworkConfig;
use futures::{FutureExt, StreamExt};
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, FromSwarm, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, autonat, identify, mdns, ping, upnp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::PeerInfo;
use super::address::{self, Scope};
use super::behaviour::{Behaviour, BehaviourEvent};
use super::bootstrap::Backoff;
use super::census::{Asked, Question};
use super::dht::{Queries, Query};
use super::dial_error::DialFailure;
use super::gossip::{Inbox, Outgoing, Topics};
use super::reachability::Findings;
use super::records::files::RecordFiles;
use gossip::GossipCommand;
use trimming::Trimming;

/// How often the routing tables are refreshed (Kubo's `RoutingTable.RefreshInterval`).
const REFRESH: Duration = Duration::from_secs(10 * 60);
/// How long closing the connections may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Providers dialed for one query at a time.
const DIALS_PER_QUERY: usize = 32;
/// Addresses taken from one peer's identify message.
const ADDRESSES_PER_PEER: usize = 16;
/// Relays that this node asks for a reservation.
const RELAYS: usize = 2;
/// The protocol that a relay offers.
const RELAY_PROTOCOL: &str = "/libp2p/circuit/relay/0.2.0/hop";

/// What a handle asks for. Every reply channel that is dropped means "off".
#[derive(Debug)]
pub(super) enum Command {
    /// Connect to a peer, an address, or both.
    Connect {
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        done: oneshot::Sender<Result<PeerId, DialFailure>>,
    },
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Addresses(oneshot::Sender<Vec<Multiaddr>>),
    Query(Scope, Query),
    Gossip(GossipCommand),
    /// Ask a peer to prove that it has a block.
    Challenge {
        peer: PeerId,
        question: Question,
        done: oneshot::Sender<Option<Vec<u8>>>,
    },
}

/// What to do next.
enum Action {
    Stop,
    Command(Command),
    Swarm(Box<SwarmEvent<BehaviourEvent>>),
    Bootstrap,
    Refresh,
    Trim,
    Tell,
}

/// A connected peer.
#[derive(Debug)]
struct Peer {
    since: Instant,
    connections: Vec<(ConnectionId, Multiaddr)>,
    agent: Option<String>,
    round_trip: Option<Duration>,
    /// Where it takes reservations, if it is a relay.
    relays_at: Option<Multiaddr>,
}

/// The swarm and everything that is known about it.
pub(super) struct EventLoop {
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
    files: RecordFiles,
    bootstrap: Vec<Multiaddr>,
    backoff: Backoff,
    refresh: Instant,
    relay: bool,
    trimming: Trimming,
    peers: HashMap<PeerId, Peer>,
    /// The number of peers; also sent again when something else about them changes.
    peer_count: watch::Sender<usize>,
    dials: HashMap<ConnectionId, oneshot::Sender<Result<PeerId, DialFailure>>>,
    provider_dials: HashMap<PeerId, Vec<mpsc::Sender<PeerId>>>,
    queries: Queries,
    findings: Findings,
    relays: HashMap<ListenerId, PeerId>,
    topics: Topics,
    outgoing: Outgoing,
    challenges: HashMap<OutboundRequestId, oneshot::Sender<Option<Vec<u8>>>>,
    asked: Asked,
}

impl EventLoop {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        commands: mpsc::Receiver<Command>,
        files: RecordFiles,
        bootstrap: Vec<Multiaddr>,
        config: &NetworkConfig,
        findings: Findings,
        stop: CancellationToken,
    ) -> Self {
        Self {
            swarm,
            commands,
            stop,
            files,
            bootstrap,
            backoff: Backoff::new(),
            refresh: Instant::now() + REFRESH,
            relay: config.relay,
            trimming: Trimming::new(config.limits.connections),
            peers: HashMap::new(),
            peer_count: watch::Sender::new(0),
            dials: HashMap::new(),
            provider_dials: HashMap::new(),
            queries: Queries::default(),
            findings,
            relays: HashMap::new(),
            topics: Topics::new(Arc::default()),
            outgoing: Outgoing::new(),
            challenges: HashMap::new(),
            asked: Asked::new(),
        }
    }

    /// The number of connected peers; marked as changed also when more is known about one.
    pub(super) fn peer_count(&self) -> watch::Receiver<usize> {
        self.peer_count.subscribe()
    }

    /// Where newer records of names come to.
    pub(super) fn heard(&self) -> Arc<Inbox> {
        self.topics.inbox()
    }

    /// Waits until each of the listeners has an address; those that have are removed.
    ///
    /// # Errors
    /// The first listener that failed, and why.
    pub(super) async fn wait_for_listeners(
        &mut self,
        waiting: &mut HashSet<ListenerId>,
    ) -> Result<(), (ListenerId, String)> {
        while !waiting.is_empty() {
            let event = self.swarm.select_next_some().await;
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    waiting.remove(listener_id);
                }
                SwarmEvent::ListenerClosed {
                    listener_id,
                    reason: Err(error),
                    ..
                } => return Err((*listener_id, error.to_string())),
                SwarmEvent::ListenerError { listener_id, error } => {
                    return Err((*listener_id, error.to_string()));
                }
                _ => {}
            }
            self.apply(Action::Swarm(Box::new(event)));
        }
        // A listener on all interfaces has told of one; the others are known as well by now.
        while let Some(event) = self.swarm.select_next_some().now_or_never() {
            self.apply(Action::Swarm(Box::new(event)));
        }
        Ok(())
    }

    /// Runs until it is stopped, then closes all connections.
    pub(super) async fn run(mut self) {
        loop {
            match self.select().await {
                Action::Stop => break,
                action => self.apply(action),
            }
        }
        self.close().await;
    }

    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    async fn select(&mut self) -> Action {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Action::Stop,
            command = self.commands.recv() => command.map_or(Action::Stop, Action::Command),
            event = self.swarm.select_next_some() => Action::Swarm(Box::new(event)),
            () = tokio::time::sleep_until(self.backoff.next()), if !self.bootstrap.is_empty() => Action::Bootstrap,
            () = tokio::time::sleep_until(self.refresh) => Action::Refresh,
            Some(()) = at(self.outgoing.next()) => Action::Tell,
            () = tokio::time::sleep_until(self.trimming.next()), if self.trimming.is_due(self.connections()) => Action::Trim,
        }
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Stop => {}
            Action::Command(command) => self.command(command),
            Action::Swarm(event) => self.event(*event),
            Action::Bootstrap => {
                if self.backoff.due(self.peers.len(), Instant::now()) {
                    self.dial_bootstrap_peers();
                }
            }
            Action::Trim => self.trim(),
            Action::Tell => self.tell_next(),
            Action::Refresh => {
                self.refresh = Instant::now() + REFRESH;
                self.save_records();
                self.tell_again();
                for scope in Scope::ALL {
                    if let Some(dht) = self.dht(scope) {
                        // Without peers there is nothing to refresh.
                        dht.bootstrap().ok();
                    }
                }
            }
        }
    }

    /// Copies what has changed; the writing is done elsewhere.
    fn save_records(&mut self) {
        for scope in Scope::ALL {
            let Some(dht) = self.dht(scope) else { continue };
            dht.store_mut().expire();
            if let Some(entries) = dht.store_mut().take_changes() {
                self.files.save(scope, entries);
            }
        }
    }

    /// Drops the listeners and connections, and waits for the goodbyes to be sent.
    async fn close(mut self) {
        self.save_records();
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // Not connected any more: nothing to close.
            self.swarm.disconnect_peer_id(peer).ok();
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Connect {
                peer,
                addresses,
                done,
            } => self.connect(peer, addresses, done),
            Command::Peers(reply) => {
                reply.send(self.peer_infos()).ok();
            }
            Command::Addresses(reply) => {
                reply.send(self.addresses()).ok();
            }
            Command::Query(scope, query) => self.query(scope, query),
            Command::Gossip(command) => self.gossip(command),
            Command::Challenge {
                peer,
                question,
                done,
            } => self.challenge(peer, question, done),
        }
    }

    /// Whether that is this node. A socket can connect to itself, so dialing would not tell.
    fn is_own(&self, peer: Option<PeerId>, address: Option<&Multiaddr>) -> bool {
        match (peer, address) {
            (Some(peer), _) => peer == *self.swarm.local_peer_id(),
            (None, Some(address)) => self.swarm.listeners().any(|own| own == address),
            (None, None) => false,
        }
    }

    fn connect(
        &mut self,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        done: oneshot::Sender<Result<PeerId, DialFailure>>,
    ) {
        let options = match (peer, addresses.first()) {
            (Some(peer), _) if self.peers.contains_key(&peer) => {
                done.send(Ok(peer)).ok();
                return;
            }
            (peer, address) if self.is_own(peer, address) => {
                done.send(Err(DialFailure::itself())).ok();
                return;
            }
            (Some(peer), _) => DialOpts::peer_id(peer)
                .condition(PeerCondition::Always)
                .addresses(addresses)
                .extend_addresses_through_behaviour()
                .build(),
            (None, Some(address)) => DialOpts::unknown_peer_id().address(address.clone()).build(),
            (None, None) => {
                done.send(Err(DialFailure::no_address())).ok();
                return;
            }
        };
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(id, done);
            }
            Err(error) => {
                done.send(Err(DialFailure::of(&error))).ok();
            }
        }
    }

    fn event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.behaviour_event(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => self.connected(peer_id, connection_id, remote_address(&endpoint)),
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                ..
            } => self.disconnected(peer_id, connection_id),
            SwarmEvent::OutgoingConnectionError {
                peer_id,
                connection_id,
                error,
            } => self.dial_failed(peer_id, connection_id, &error),
            SwarmEvent::NewListenAddr { address, .. } => self.listening(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.findings.not_listening(&address);
                self.swarm.remove_external_address(&address);
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                reason,
                addresses,
            } => {
                self.relays.remove(&listener_id);
                for address in &addresses {
                    self.findings.not_listening(address);
                    self.swarm.remove_external_address(address);
                }
                tracing::debug!(?addresses, ?reason, "listener closed");
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::debug!(%error, "listener failed");
            }
            SwarmEvent::ExternalAddrExpired { address } => self.findings.expired(&address),
            _ => {}
        }
    }

    fn behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                peer_id,
                info,
            }) => self.identified(peer_id, connection_id, info),
            BehaviourEvent::Ping(ping::Event { peer, result, .. }) => {
                if let (Ok(time), Some(peer)) = (result, self.peers.get_mut(&peer)) {
                    peer.round_trip = Some(time);
                }
            }
            BehaviourEvent::Wan(event) => self.dht_event(Scope::Wan, event),
            BehaviourEvent::Lan(event) => self.dht_event(Scope::Lan, event),
            BehaviourEvent::Gossip(event) => self.gossip_event(event),
            BehaviourEvent::RecordFetch(event) => self.fetch_event(event),
            BehaviourEvent::Census(event) => self.census_event(event),
            BehaviourEvent::Reachability(autonat::v2::client::Event {
                tested_addr,
                result,
                ..
            }) => match result {
                Ok(()) => self.findings.confirmed(tested_addr),
                Err(_) => {
                    self.findings.failed(&tested_addr);
                    self.seek_relays();
                }
            },
            BehaviourEvent::Upnp(event) => match event {
                upnp::Event::NewExternalAddr { external_addr, .. } => {
                    self.findings.confirmed(external_addr);
                }
                upnp::Event::ExpiredExternalAddr { external_addr, .. } => {
                    self.findings.expired(&external_addr);
                }
                upnp::Event::GatewayNotFound | upnp::Event::NonRoutableGateway => {
                    tracing::debug!("no router here forwards ports by UPnP");
                }
            },
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.swarm.add_peer_address(peer, address.clone());
                    let options = DialOpts::peer_id(peer).addresses(vec![address]).build();
                    // Fails when a connection is there or under way.
                    self.swarm.dial(options).ok();
                }
            }
            _ => {}
        }
    }

    fn connected(&mut self, peer: PeerId, id: ConnectionId, address: Multiaddr) {
        self.peers
            .entry(peer)
            .or_insert_with(|| Peer {
                since: Instant::now(),
                connections: Vec::new(),
                agent: None,
                relays_at: None,
                round_trip: None,
            })
            .connections
            .push((id, address));
        if let Some(done) = self.dials.remove(&id) {
            done.send(Ok(peer)).ok();
        }
        for found in self.provider_dials.remove(&peer).unwrap_or_default() {
            found.try_send(peer).ok();
        }
        self.peers_changed();
    }

    fn disconnected(&mut self, peer: PeerId, id: ConnectionId) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.connections.retain(|(known, _)| *known != id);
            if known.connections.is_empty() {
                self.peers.remove(&peer);
            }
        }
        self.peers_changed();
    }

    fn peers_changed(&self) {
        self.peer_count.send_replace(self.peers.len());
        metrics::gauge!("duka_connections").set(f64::from(self.connections()));
    }

    fn connections(&self) -> u32 {
        let connections: usize = self.peers.values().map(|peer| peer.connections.len()).sum();
        u32::try_from(connections).unwrap_or(u32::MAX)
    }

    fn dial_failed(&mut self, peer: Option<PeerId>, id: ConnectionId, error: &DialError) {
        if let Some(done) = self.dials.remove(&id) {
            done.send(Err(DialFailure::of(error))).ok();
        }
        // Dropping the channels tells the queries that this provider is not coming.
        if let Some(peer) = peer
            && !self.peers.contains_key(&peer)
        {
            self.provider_dials.remove(&peer);
        }
    }

    /// Peers can only use addresses that are known as external. Those of the local network are
    /// good as they are; public ones wait for a peer's test.
    fn listening(&mut self, address: Multiaddr) {
        tracing::info!(%address, "listening");
        if Scope::Lan.admits(&address) {
            self.swarm.add_external_address(address.clone());
        } else if address::is_testable(&address) {
            self.swarm.behaviour_mut().reachability.on_swarm_event(
                FromSwarm::NewExternalAddrCandidate(libp2p::swarm::NewExternalAddrCandidate {
                    addr: &address,
                }),
            );
        }
        self.findings.listening(address);
    }

    fn identified(&mut self, peer: PeerId, id: ConnectionId, info: identify::Info) {
        let local = self
            .peers
            .get(&peer)
            .and_then(|known| known.connections.iter().find(|(known, _)| *known == id))
            .is_some_and(|(_, address)| Scope::Lan.admits(address));
        for scope in Scope::ALL {
            // A peer far away has the same private addresses as somebody here.
            if scope == Scope::Lan && !local {
                continue;
            }
            let Some(dht) = self.dht(scope) else { continue };
            let serves = dht
                .protocol_names()
                .iter()
                .any(|name| info.protocols.contains(name));
            if !serves {
                dht.remove_peer(&peer);
                continue;
            }
            let addresses = info.listen_addrs.iter().filter(|a| scope.admits(a));
            for address in addresses.take(ADDRESSES_PER_PEER) {
                dht.add_address(&peer, address.clone());
            }
        }
        let relays = info.protocols.iter().any(|name| *name == RELAY_PROTOCOL);
        if let Some(known) = self.peers.get_mut(&peer) {
            let public = info.listen_addrs.iter().find(|a| Scope::Wan.admits(a));
            known.relays_at = public.filter(|_| relays).cloned();
            known.agent = Some(info.agent_version);
            self.peers_changed();
        }
        self.seek_relays();
    }

    /// Asks relays among the peers to pass connections on to this node, if it needs that.
    fn seek_relays(&mut self) {
        if !self.relay || !self.findings.is_unreachable() {
            return;
        }
        for (id, peer) in &self.peers {
            if self.relays.len() >= RELAYS {
                return;
            }
            let Some(address) = &peer.relays_at else {
                continue;
            };
            if self.relays.values().any(|relay| relay == id) {
                continue;
            }
            let circuit = address::with_peer(address::without_peer(address), *id)
                .with(libp2p::multiaddr::Protocol::P2pCircuit);
            match self.swarm.listen_on(circuit) {
                Ok(listener) => {
                    self.relays.insert(listener, *id);
                }
                Err(error) => tracing::debug!(relay = %id, %error, "cannot use the relay"),
            }
        }
    }

    fn dial_bootstrap_peers(&mut self) {
        for address in self.bootstrap.clone() {
            let options = match address::peer_of(&address) {
                Some(peer) => DialOpts::peer_id(peer).addresses(vec![address]).build(),
                None => DialOpts::unknown_peer_id().address(address).build(),
            };
            // Fails when a connection is there or under way.
            self.swarm.dial(options).ok();
        }
    }

    fn peer_infos(&self) -> Vec<PeerInfo> {
        self.peers
            .iter()
            .filter_map(|(id, peer)| {
                let connections = || peer.connections.iter().map(|(_, address)| address);
                let address = connections()
                    .find(|address| !address::is_relayed(address))
                    .or_else(|| connections().next())?;
                Some(PeerInfo {
                    peer: *id,
                    address: address.clone(),
                    agent: peer.agent.clone(),
                    round_trip: peer.round_trip,
                })
            })
            .collect()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        let peer = *self.swarm.local_peer_id();
        let mut addresses: Vec<Multiaddr> = self
            .swarm
            .external_addresses()
            .chain(self.swarm.listeners())
            .map(|address| address::with_peer(address::without_peer(address), peer))
            .collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }
}

/// Waits until then, if there is such a time.
async fn at(time: Option<Instant>) -> Option<()> {
    tokio::time::sleep_until(time?).await;
    Some(())
}

/// Where the peer is. One that came over a relay has no address of its own.
fn remote_address(endpoint: &ConnectedPoint) -> Multiaddr {
    match endpoint {
        ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => local_addr.clone(),
        endpoint => endpoint.get_remote_address().clone(),
    }
}
