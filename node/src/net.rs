//! The network: libp2p swarm, bitswap, DHT, IPNS. The only files that name libp2p's network types.
//!
//! [`Network`] is a cheap handle; one task owns the swarm and takes commands over a bounded channel.

mod address;
mod behaviour;
pub mod bitswap;
mod bootstrap;
pub(crate) mod census;
mod dht;
mod dial_error;
mod dial_filter;
mod event_loop;
#[cfg(test)]
mod fake;
pub(crate) mod gossip;
mod joined;
mod listen;
pub mod provide;
mod reachability;
mod records;
pub mod republish;
mod scoped;
mod security;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
pub mod yamux;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use duka_config::NetworkConfig;
use jiff::Timestamp;
use libp2p::core::upgrade;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, Swarm, swarm};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use dial_error::DialErrorKind;
pub use reachability::Reachability;

use self::address::Scope;
use self::behaviour::{Behaviour, QUERY_TIMEOUT};
use self::bitswap::Bitswap;
use self::census::Question;
use self::dht::Query;
use self::dial_error::DialFailure;
use self::event_loop::gossip::GossipCommand;
use self::event_loop::{Command, EventLoop};
use self::gossip::Inbox;
use self::listen::Listen;
use self::reachability::Findings;
use self::records::Records;
use self::records::files::RecordFiles;
use crate::ipns::{self, Record};
use crate::keys::Name;
use crate::served::Served;

/// Whether everybody can reach the address, and not only this machine or its network.
pub(crate) fn is_public_ip(ip: IpAddr) -> bool {
    address::is_public(ip)
}

/// Commands that wait for the swarm.
const COMMANDS: usize = 64;
/// DHT queries at once; more wait.
const QUERIES: usize = 32;
/// Results of a query that wait for the caller.
const RESULTS: usize = 64;
/// How long more results are waited for once there is one.
const GRACE: Duration = Duration::from_secs(2);
/// Valid records that are compared before the best is taken (Kubo's quorum).
const RECORD_QUORUM: usize = 16;
/// How long the record that a connected peer has is waited for.
const SUBSCRIBERS_TIMEOUT: Duration = Duration::from_secs(3);
/// Streams that are open at the end may take this long to finish.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that no protocol uses is closed after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Handle to the network. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Network {
    peer: PeerId,
    commands: mpsc::Sender<Command>,
    queries: Arc<Semaphore>,
    bitswap: Bitswap,
    peer_count: watch::Receiver<usize>,
    /// It looks for peers by itself.
    seeks_peers: bool,
    reachability: watch::Receiver<Reachability>,
    heard: Arc<Inbox>,
}

/// Why a network operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// `--offline`, or the node is shutting down.
    #[error("the network is off")]
    Off,
    /// The transports could not be set up.
    #[error("the network cannot be set up")]
    Setup(#[source] Arc<std::io::Error>),
    /// An address to listen on could not be had.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
    /// An address to listen on is of a kind that this node does not speak.
    #[error("cannot listen on {address}: there is no such transport here")]
    NoTransport {
        /// The address.
        address: Multiaddr,
    },
    /// Not a multiaddr, or one this node cannot dial.
    #[error("{address:?} is not a peer address: {reason}")]
    Address {
        /// What was given.
        address: String,
        /// Why.
        reason: String,
    },
    /// The peer could not be reached.
    #[error("cannot connect to {address}: {reason}")]
    Dial {
        /// The address.
        address: Multiaddr,
        /// Why, by kind.
        kind: DialErrorKind,
        /// Why.
        reason: String,
    },
    /// Nobody answered in time.
    #[error("the DHT gave no answer within {}s", after.as_secs())]
    TimedOut {
        /// How long it took.
        after: Duration,
    },
    /// No peer of the DHT could store the record.
    #[error("no peer of the DHT took the record: {reason}")]
    NotStored {
        /// Why.
        reason: String,
    },
}

/// A connected peer.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// Over which address.
    pub address: Multiaddr,
    /// What it calls itself (identify).
    pub agent: Option<String>,
    /// Last ping.
    pub round_trip: Option<Duration>,
}

impl Network {
    /// Starts the swarm and listens. Returns the handle and the future that runs the swarm until
    /// `stop` is cancelled; the caller spawns it. What is kept for the DHTs is in `records_dir`.
    ///
    /// # Errors
    /// [`NetError::Off`] when the configuration says offline, [`NetError::Address`] for an address
    /// in it that is none, [`NetError::Listen`] when an address cannot be had,
    /// [`NetError::NoTransport`] when nothing could ever listen on it.
    pub async fn start(
        config: &NetworkConfig,
        peer_key: Keypair,
        served: Served,
        records_dir: &Path,
        stop: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), NetError> {
        if config.offline {
            return Err(NetError::Off);
        }
        let listen = Listen::all(config)?;
        Self::start_swarm(config, listen, &peer_key, served, records_dir, stop).await
    }

    async fn start_swarm(
        config: &NetworkConfig,
        listen: Vec<Listen>,
        peer_key: &Keypair,
        served: Served,
        records_dir: &Path,
        stop: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), NetError> {
        let announce = parse_all(&config.announce)?;
        let bootstrap = parse_all(&config.bootstrap)?;

        let tasks = TaskTracker::new();
        let (bitswap_behaviour, bitswap) =
            bitswap::new(&config.limits, served.clone(), tasks.clone(), stop.clone());
        let peer = peer_key.public().to_peer_id();
        let files = RecordFiles::new(records_dir, tasks.clone());
        let (wan, lan) = (files.load(Scope::Wan, peer), files.load(Scope::Lan, peer));
        let mut swarm = swarm(
            config,
            peer_key,
            bitswap_behaviour,
            served,
            wan.await,
            lan.await,
        )
        .map_err(|error| NetError::Setup(Arc::new(error)))?;
        for address in &announce {
            swarm.add_external_address(address::without_peer(address));
        }
        let listeners = listen::open(&mut swarm, listen)?;

        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (verdict, reachability) = watch::channel(Reachability::Unknown);
        let findings = Findings::new(verdict);
        let mut event_loop =
            EventLoop::new(swarm, receiver, files, bootstrap, config, findings, stop);
        listen::wait(&mut event_loop, &listeners).await?;
        let network = Self {
            peer,
            commands,
            queries: Arc::new(Semaphore::new(QUERIES)),
            bitswap,
            peer_count: event_loop.peer_count(),
            seeks_peers: config.mdns || !config.bootstrap.is_empty(),
            reachability,
            heard: event_loop.heard(),
        };
        let run = async move {
            event_loop.run().await;
            tasks.close();
            if tokio::time::timeout(CLOSE_TIMEOUT, tasks.wait())
                .await
                .is_err()
            {
                tracing::debug!("some streams did not end in time");
            }
        };
        Ok((network, run))
    }

    /// This node.
    pub fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// Whether anybody can be asked: a peer is connected, or may soon be without being told to.
    pub fn has_somebody(&self) -> bool {
        self.seeks_peers || *self.peer_count.borrow() > 0
    }

    /// Addresses peers can dial, each with `/p2p/<peer id>`: listeners and confirmed external ones.
    ///
    /// # Errors
    /// [`NetError::Off`].
    pub async fn addresses(&self) -> Result<Vec<Multiaddr>, NetError> {
        self.ask(Command::Addresses).await
    }

    /// Whether others can reach this node, and every change of that.
    pub fn reachability(&self) -> watch::Receiver<Reachability> {
        self.reachability.clone()
    }

    /// Connects to a peer and remembers its address. An address of the form `/p2p/<peer id>` is
    /// looked up in the DHT.
    ///
    /// # Errors
    /// [`NetError::Dial`] when the peer cannot be reached, [`NetError::Off`].
    pub async fn connect(&self, address: Multiaddr) -> Result<PeerId, NetError> {
        let peer = address::peer_of(&address);
        let known = match &peer {
            Some(_) if address.iter().count() == 1 => Vec::new(),
            _ => vec![address.clone()],
        };
        let failure = match (self.dial(peer, known.clone()).await?, peer) {
            (Ok(peer), _) => return Ok(peer),
            (Err(failure), Some(peer))
                if failure.kind == DialErrorKind::NoAddress && known.is_empty() =>
            {
                let found = self.find_peer(peer).await?;
                if found.is_empty() {
                    failure
                } else {
                    match self.dial(Some(peer), found).await? {
                        Ok(peer) => return Ok(peer),
                        Err(failure) => failure,
                    }
                }
            }
            (Err(failure), _) => failure,
        };
        Err(NetError::Dial {
            address,
            kind: failure.kind,
            reason: failure.reason,
        })
    }

    /// Connected peers.
    ///
    /// # Errors
    /// [`NetError::Off`].
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, NetError> {
        self.ask(Command::Peers).await
    }

    /// Bitswap.
    pub fn bitswap(&self) -> &Bitswap {
        &self.bitswap
    }

    /// Peers that the DHT says have the block; up to `limit`, connected to before they are
    /// returned. Both DHTs are asked. Once one is found, others have two seconds more.
    ///
    /// # Errors
    /// [`NetError::Off`]. Nobody found is an empty list.
    pub async fn find_providers(&self, cid: &Cid, limit: usize) -> Result<Vec<PeerId>, NetError> {
        let _permit = self.permit().await?;
        let (found, mut results) = mpsc::channel(RESULTS);
        for scope in Scope::ALL {
            let query = Query::Providers {
                key: cid.hash().to_bytes(),
                found: found.clone(),
            };
            self.send(Command::Query(scope, query)).await?;
        }
        drop(found);
        let mut providers = Vec::new();
        let mut deadline = Instant::now() + QUERY_TIMEOUT;
        while providers.len() < limit {
            let Ok(Some(peer)) = tokio::time::timeout_at(deadline, results.recv()).await else {
                break;
            };
            if !providers.contains(&peer) {
                providers.push(peer);
                deadline = deadline.min(Instant::now() + GRACE);
            }
        }
        Ok(providers)
    }

    /// Tells the DHT that this node has the block. Returns when at least one peer has the record.
    ///
    /// # Errors
    /// [`NetError::NotStored`] when no peer could be told, [`NetError::Off`].
    pub async fn provide(&self, cid: &Cid) -> Result<(), NetError> {
        let key = cid.hash().to_bytes();
        self.store(|done| Query::Provide {
            key: key.clone(),
            done,
        })
        .await
    }

    /// Puts a signed record into the DHT. Returns when the closest peers that answer have it.
    ///
    /// # Errors
    /// [`NetError::NotStored`] when no peer took it, [`NetError::Off`].
    pub async fn put_record(&self, name: &Name, record: &Record) -> Result<(), NetError> {
        let key = records::key_of_name(name).to_vec();
        self.store(|done| Query::PutRecord {
            key: key.clone(),
            value: record.bytes.clone(),
            done,
        })
        .await
    }

    /// The best valid record that the DHT has: highest sequence, then latest validity. Once one
    /// is found, others have two seconds more.
    ///
    /// # Errors
    /// [`NetError::Off`]. No valid record is `None`.
    pub async fn get_record(&self, name: &Name) -> Result<Option<Record>, NetError> {
        let _permit = self.permit().await?;
        let (found, mut results) = mpsc::channel(RESULTS);
        for scope in Scope::ALL {
            let query = Query::GetRecord {
                key: records::key_of_name(name).to_vec(),
                found: found.clone(),
            };
            self.send(Command::Query(scope, query)).await?;
        }
        drop(found);
        let mut best: Option<Record> = None;
        let mut valid = 0;
        let mut deadline = Instant::now() + QUERY_TIMEOUT;
        while valid < RECORD_QUORUM {
            let Ok(Some(bytes)) = tokio::time::timeout_at(deadline, results.recv()).await else {
                break;
            };
            let record = match ipns::verify(name, &bytes, Timestamp::now()) {
                Ok(record) => record,
                Err(error) => {
                    tracing::debug!(%name, %error, "a peer has a record that is not valid");
                    continue;
                }
            };
            valid += 1;
            deadline = deadline.min(Instant::now() + GRACE);
            let better = best.as_ref().is_none_or(|best| {
                (record.sequence, record.validity) > (best.sequence, best.validity)
            });
            if better {
                best = Some(record);
            }
        }
        Ok(best)
    }

    /// Hears of a name from now on, over gossip; `known` is the record that is kept of it. What is heard
    /// comes out of [`Network::heard`].
    ///
    /// # Errors
    /// [`NetError::Off`].
    pub(crate) async fn follow(&self, name: &Name, known: Option<Record>) -> Result<(), NetError> {
        let command = GossipCommand::Follow(name.clone(), known);
        self.send(Command::Gossip(command)).await
    }

    /// Ends [`Network::follow`].
    ///
    /// # Errors
    /// [`NetError::Off`].
    pub(crate) async fn leave(&self, name: &Name) -> Result<(), NetError> {
        self.send(Command::Gossip(GossipCommand::Leave(name.clone())))
            .await
    }

    /// Tells all who follow the name at once, over gossip.
    ///
    /// # Errors
    /// [`NetError::Off`].
    pub(crate) async fn tell(&self, name: &Name, record: &Record) -> Result<(), NetError> {
        let command = GossipCommand::Tell(name.clone(), record.clone());
        self.send(Command::Gossip(command)).await
    }

    /// The record that connected peers who follow the name have. `None` when there are none.
    ///
    /// # Errors
    /// [`NetError::Off`].
    pub(crate) async fn ask_subscribers(&self, name: &Name) -> Result<Option<Record>, NetError> {
        let (reply, answer) = oneshot::channel();
        let command = GossipCommand::Ask(name.clone(), reply);
        self.send(Command::Gossip(command)).await?;
        Ok(answer_of_subscribers(answer).await)
    }

    /// The newest record that connected peers who follow the name have now, also where one is known.
    ///
    /// # Errors
    /// [`NetError::Off`].
    pub(crate) async fn ask_all_subscribers(
        &self,
        name: &Name,
    ) -> Result<Option<Record>, NetError> {
        let (reply, answer) = oneshot::channel();
        let command = GossipCommand::AskAll(name.clone(), reply);
        self.send(Command::Gossip(command)).await?;
        match answer_of_subscribers(answer).await {
            // Not all have answered.
            None => self.ask_subscribers(name).await,
            found => Ok(found),
        }
    }

    /// Connected peers that follow the name.
    ///
    /// # Errors
    /// [`NetError::Off`].
    pub(crate) async fn subscribers(&self, name: &Name) -> Result<Vec<PeerId>, NetError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Gossip(GossipCommand::Subscribers(
            name.clone(),
            reply,
        )))
        .await?;
        Ok(answer.await.unwrap_or_default())
    }

    /// Asks a peer to prove that it has a block: what it says, if anything; `None` when it does not answer.
    pub(crate) async fn challenge(
        &self,
        peer: PeerId,
        question: Question,
    ) -> Option<Option<Vec<u8>>> {
        let (done, answer) = oneshot::channel();
        let command = Command::Challenge {
            peer,
            question,
            done,
        };
        self.send(command).await.ok()?;
        answer.await.ok()
    }

    /// Newer records of names that are followed, as they come.
    pub(crate) fn heard(&self) -> &Inbox {
        &self.heard
    }

    /// Sends one query to each DHT; either that takes it is enough.
    async fn store(
        &self,
        query: impl Fn(oneshot::Sender<Result<(), String>>) -> Query,
    ) -> Result<(), NetError> {
        let _permit = self.permit().await?;
        let mut answers = Vec::new();
        for scope in Scope::ALL {
            let (done, answer) = oneshot::channel();
            self.send(Command::Query(scope, query(done))).await?;
            answers.push(answer);
        }
        let mut reason = None;
        let mut stored = false;
        for answer in answers {
            match answer.await {
                Ok(Ok(())) => stored = true,
                Ok(Err(failure)) => reason = Some(failure),
                // This DHT is off.
                Err(_) => {}
            }
        }
        if stored {
            Ok(())
        } else {
            Err(NetError::NotStored {
                reason: reason.unwrap_or_else(|| "the DHT is off".to_owned()),
            })
        }
    }

    /// Addresses that the DHTs know of a peer.
    async fn find_peer(&self, peer: PeerId) -> Result<Vec<Multiaddr>, NetError> {
        let _permit = self.permit().await?;
        let (found, mut results) = mpsc::channel(RESULTS);
        for scope in Scope::ALL {
            let query = Query::FindPeer {
                peer,
                found: found.clone(),
            };
            self.send(Command::Query(scope, query)).await?;
        }
        drop(found);
        let mut addresses = Vec::new();
        let mut deadline = Instant::now() + QUERY_TIMEOUT;
        while let Ok(Some(address)) = tokio::time::timeout_at(deadline, results.recv()).await {
            addresses.push(address);
            deadline = deadline.min(Instant::now() + GRACE);
        }
        Ok(addresses)
    }

    async fn dial(
        &self,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
    ) -> Result<Result<PeerId, DialFailure>, NetError> {
        self.ask(|done| Command::Connect {
            peer,
            addresses,
            done,
        })
        .await
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, NetError> {
        self.queries.acquire().await.map_err(|_| NetError::Off)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, NetError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| NetError::Off)
    }

    async fn send(&self, command: Command) -> Result<(), NetError> {
        self.commands.send(command).await.map_err(|_| NetError::Off)
    }
}

fn swarm(
    config: &NetworkConfig,
    key: &Keypair,
    bitswap: bitswap::Behaviour,
    served: Served,
    wan: Records,
    lan: Records,
) -> std::io::Result<Swarm<Behaviour>> {
    let (transports, relay) = transport::build(key)?;
    let behaviour = behaviour::build(config, key, relay, bitswap, served, wan, lan)?;
    let settings = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        // Data follows the name of a stream's only protocol without waiting for the answer.
        .with_substream_upgrade_protocol_override(upgrade::Version::V1Lazy);
    let peer = key.public().to_peer_id();
    Ok(Swarm::new(transports, behaviour, peer, settings))
}

async fn answer_of_subscribers(answer: oneshot::Receiver<Option<Record>>) -> Option<Record> {
    let answer = tokio::time::timeout(SUBSCRIBERS_TIMEOUT, answer).await;
    answer.ok().and_then(Result::ok).flatten()
}

/// Looks at all addresses in the settings, be the network used or not.
///
/// # Errors
/// [`NetError::Address`] for the first one that is none.
pub fn check_addresses(config: &NetworkConfig) -> Result<(), NetError> {
    for addresses in [&config.listen, &config.announce, &config.bootstrap] {
        parse_all(addresses)?;
    }
    Ok(())
}

fn parse_all(addresses: &[String]) -> Result<Vec<Multiaddr>, NetError> {
    addresses
        .iter()
        .map(|address| {
            address
                .parse()
                .map_err(|error: libp2p::multiaddr::Error| NetError::Address {
                    address: address.clone(),
                    reason: error.to_string(),
                })
        })
        .collect()
}
