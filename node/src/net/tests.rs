//! Swarms of one process on loopback.

use std::time::Duration;

use bytesize::ByteSize;
use duka_config::{DhtMode, LimitsConfig, NetworkConfig};
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{NetError, Network, PeerInfo, Reachability};
use crate::store::{Store, StoreOptions};

const DEADLINE: Duration = Duration::from_secs(20);

struct TestNode {
    network: Network,
    run: JoinHandle<()>,
    stop: DropGuard,
}

impl TestNode {
    async fn start() -> Self {
        Self::with(config()).await
    }

    async fn with(config: NetworkConfig) -> Self {
        let stop = CancellationToken::new();
        let (network, run) = start(&config, &stop).await.unwrap();
        Self {
            network,
            run: tokio::spawn(run),
            stop: stop.drop_guard(),
        }
    }

    async fn address(&self, protocol: &str) -> Multiaddr {
        let addresses = self.network.addresses().await.unwrap();
        addresses
            .into_iter()
            .find(|address| address.to_string().contains(protocol))
            .unwrap()
    }

    /// Connects, and waits until both ends know what the other one speaks.
    async fn meet(&self, other: &Self) {
        let address = other.address("/tcp/").await;
        self.network.connect(address).await.unwrap();
        self.identified(other).await;
        other.identified(self).await;
    }

    async fn identified(&self, other: &Self) -> PeerInfo {
        let known = async {
            loop {
                let peers = self.network.peers().await.unwrap();
                let peer = peers
                    .into_iter()
                    .find(|info| info.peer == other.network.peer_id() && info.agent.is_some());
                if let Some(peer) = peer {
                    return peer;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, known).await.unwrap()
    }
}

async fn start(
    config: &NetworkConfig,
    stop: &CancellationToken,
) -> Result<(Network, impl Future<Output = ()> + Send + use<>), NetError> {
    let dir = tempfile::tempdir().unwrap();
    // An empty store needs its directory only while it is opened.
    let (store, _) = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let key = Keypair::generate_ed25519();
    let tasks = TaskTracker::new();
    let bitswap = super::bitswap::new(&config.limits, store, tasks.clone(), stop.clone());
    Network::start_swarm(config, &key, bitswap, tasks, stop.clone()).await
}

fn config() -> NetworkConfig {
    NetworkConfig {
        offline: false,
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        announce: Vec::new(),
        bootstrap: Vec::new(),
        mdns: false,
        upnp: false,
        relay: false,
        dht: DhtMode::Auto,
        reprovide_interval: Duration::from_secs(22 * 60 * 60),
        limits: LimitsConfig {
            connections: 100,
            connections_per_peer: 4,
            memory: ByteSize::gib(8),
            wantlist_per_peer: 1024,
            outbox_per_peer: ByteSize::mib(4),
            window: 128,
            block_timeout: Duration::from_secs(30),
        },
    }
}

#[tokio::test]
async fn peers_connect_over_tcp_quic_and_websocket() {
    for (listen, protocol) in [
        ("/ip4/127.0.0.1/tcp/0", "/tcp/"),
        ("/ip4/127.0.0.1/udp/0/quic-v1", "/quic-v1/"),
        ("/ip4/127.0.0.1/tcp/0/ws", "/ws/"),
    ] {
        let server = TestNode::with(NetworkConfig {
            listen: vec![listen.to_owned()],
            ..config()
        })
        .await;
        let client = TestNode::start().await;
        let address = server.address(protocol).await;
        let peer = client.network.connect(address.clone()).await.unwrap();
        assert_eq!(peer, server.network.peer_id());
        let info = client.identified(&server).await;
        assert_eq!(info.address, address, "{listen}");
        assert!(info.agent.unwrap().starts_with("duka/"));
    }
}

#[tokio::test]
async fn connecting_to_a_wildcard_or_to_another_peers_address_fails() {
    let server = TestNode::start().await;
    let client = TestNode::start().await;
    let wrong: Multiaddr = server.address("/tcp/").await;
    let wrong = super::address::with_peer(
        super::address::without_peer(&wrong),
        libp2p::PeerId::random(),
    );
    for address in [wrong, "/ip4/0.0.0.0/tcp/4001".parse().unwrap()] {
        let result = client.network.connect(address).await;
        assert!(matches!(result, Err(NetError::Dial { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn connections_over_the_limit_are_refused() {
    let mut limited = config();
    limited.limits.connections = 4;
    let server = TestNode::with(limited).await;
    let address = server.address("/tcp/").await;
    let clients = [
        TestNode::start().await,
        TestNode::start().await,
        TestNode::start().await,
        TestNode::start().await,
    ];
    for client in &clients {
        // The last one may see the connection opened before it is closed again.
        client.network.connect(address.clone()).await.ok();
    }
    for client in &clients[..3] {
        server.identified(client).await;
    }
    assert_eq!(server.network.peers().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_node_on_loopback_knows_that_nobody_outside_reaches_it() {
    let node = TestNode::start().await;
    assert_eq!(
        node.network.reachability().await.unwrap(),
        Reachability::Private
    );
}

#[tokio::test]
async fn a_port_that_is_taken_names_the_address() {
    let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let taken: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let config = NetworkConfig {
        listen: vec![taken.to_string()],
        ..config()
    };
    let result = start(&config, &CancellationToken::new()).await;
    match result.map(|(network, _)| network) {
        Err(NetError::Listen { address, .. }) => assert_eq!(address, taken.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stopped_network_says_off_and_closes_its_connections() {
    let server = TestNode::start().await;
    let client = TestNode::start().await;
    client.meet(&server).await;
    let gone = client.network.peer_id();
    drop(client.stop);
    tokio::time::timeout(Duration::from_secs(2), client.run)
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(client.network.peers().await, Err(NetError::Off)));
    let closed = async {
        while server
            .network
            .peers()
            .await
            .unwrap()
            .iter()
            .any(|info| info.peer == gone)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, closed).await.unwrap();
}

#[tokio::test]
async fn offline_neither_listens_nor_dials() {
    let config = NetworkConfig {
        offline: true,
        ..config()
    };
    let result = start(&config, &CancellationToken::new()).await;
    assert!(matches!(result.map(|_| ()), Err(NetError::Off)));
}
