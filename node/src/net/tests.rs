//! Swarms of one process on loopback.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use bytesize::ByteSize;
use cid::Cid;
use duka_config::{DhtMode, LimitsConfig, NetworkConfig, ServePolicy};
use jiff::{Timestamp, ToSpan};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::dial_error::DialErrorKind::{Itself, NoAddress, NotSupported, Unreachable, WrongPeer};
use super::listen::Listen;
use super::{NetError, Network, PeerInfo, Reachability};
use crate::block::cid_of;
use crate::denylist::Denylists;
use crate::fetch::{Fetcher, Outside};
use crate::ipns::{self, Record};
use crate::keys::name_of;
use crate::served::Served;
use crate::source::{BlockSource, FetchError};
use crate::store::{PackKind, Store, StoreOptions};

const DEADLINE: Duration = Duration::from_secs(20);

struct TestNode {
    network: Network,
    run: JoinHandle<()>,
    stop: DropGuard,
    /// Removed with the node.
    records: Option<TempDir>,
}

impl TestNode {
    async fn start() -> Self {
        Self::with(config()).await
    }

    async fn with(config: NetworkConfig) -> Self {
        let records = tempfile::tempdir().unwrap();
        let key = Keypair::generate_ed25519();
        let mut node = Self::of(&key, config, records.path()).await;
        node.records = Some(records);
        node
    }

    async fn of(key: &Keypair, config: NetworkConfig, records: &Path) -> Self {
        let stop = CancellationToken::new();
        let (network, run) = start(&config, key, records, &stop).await.unwrap();
        Self {
            network,
            run: tokio::spawn(run),
            stop: stop.drop_guard(),
            records: None,
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
        self.until(|peers| {
            let mut peers = peers.iter();
            peers
                .find(|info| info.peer == other.network.peer_id() && info.agent.is_some())
                .cloned()
        })
        .await
    }

    /// Waits until the peers are as wanted.
    async fn until<T>(&self, find: impl Fn(&[PeerInfo]) -> Option<T>) -> T {
        let mut changes = self.network.peer_count.clone();
        let found = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = find(&self.network.peers().await.unwrap()) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(DEADLINE, found).await.unwrap()
    }
}

async fn start(
    config: &NetworkConfig,
    key: &Keypair,
    records: &Path,
    stop: &CancellationToken,
) -> Result<(Network, impl Future<Output = ()> + Send + use<>), NetError> {
    Network::start(config, key.clone(), served(records), records, stop.clone()).await
}

fn served(dir: &Path) -> Served {
    Served::new(store(dir), ServePolicy::Local, Denylists::default())
}

fn store(dir: &Path) -> Store {
    let options = StoreOptions {
        pack_size: 1024 * 1024,
        reserve: 0,
        ..StoreOptions::default()
    };
    Store::open(&dir.join("packs"), options).unwrap().0
}

/// Why a network with this configuration does not start.
async fn refused(config: &NetworkConfig) -> NetError {
    let records = tempfile::tempdir().unwrap();
    let key = Keypair::generate_ed25519();
    let stop = CancellationToken::new();
    match start(config, &key, records.path(), &stop).await {
        Err(error) => error,
        Ok(_) => panic!("it started"),
    }
}

fn config() -> NetworkConfig {
    NetworkConfig {
        offline: false,
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        listen_is_chosen: true,
        announce: Vec::new(),
        bootstrap: Vec::new(),
        mdns: false,
        upnp: false,
        relay: false,
        dht: DhtMode::Auto,
        gossip: true,
        reprovide_interval: Duration::from_secs(22 * 60 * 60),
        republish_interval: Duration::from_secs(4 * 60 * 60),
        record_lifetime: Duration::from_secs(48 * 60 * 60),
        serve_rate: ByteSize::b(0),
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
    let wrong = super::address::with_peer(super::address::without_peer(&wrong), PeerId::random());
    let there = format!("the peer there is {}", server.network.peer_id());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!(
        "/ip4/127.0.0.1/tcp/{}",
        listener.local_addr().unwrap().port()
    );
    drop(listener);
    let unsupported = "no transport dials such an address";
    let own = client.address("/tcp/").await;
    let bare = super::address::without_peer(&own).to_string();
    let nowhere = format!("/p2p/{}", PeerId::random());
    for (address, why, what) in [
        (wrong.to_string(), there.as_str(), WrongPeer),
        (gone, "connection refused", Unreachable),
        (
            "/ip4/0.0.0.0/tcp/4001".to_owned(),
            unsupported,
            NotSupported,
        ),
        ("/memory/1".to_owned(), unsupported, NotSupported),
        (own.to_string(), "that is this node itself", Itself),
        (bare, "that is this node itself", Itself),
        (nowhere, "no address of the peer is known", NoAddress),
    ] {
        let result = client.network.connect(address.parse().unwrap()).await;
        let Err(NetError::Dial { reason, kind, .. }) = result else {
            panic!("{address}: {result:?}");
        };
        assert_eq!((reason.as_str(), kind), (why, what), "{address}");
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
    assert_eq!(*node.network.reachability().borrow(), Reachability::Private);
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
    match refused(&config).await {
        NetError::Listen { address, .. } => assert_eq!(address, taken.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_address_of_a_transport_that_is_not_spoken_here_is_told_apart() {
    let sctp: Multiaddr = "/ip4/127.0.0.1/sctp/4101".parse().unwrap();
    let config = NetworkConfig {
        listen: vec![sctp.to_string()],
        listen_is_chosen: true,
        ..config()
    };
    match refused(&config).await {
        NetError::NoTransport { address } => assert_eq!(address, sctp),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_ipv6_addresses_that_nobody_chose_may_be_missing() {
    let required = |config: &NetworkConfig| -> Vec<bool> {
        let all = Listen::all(config).unwrap();
        all.iter().map(|listen| listen.required).collect()
    };
    let mut config = duka_config::Config::default().network;
    assert_eq!(required(&config), [true, true, false, false]);
    config.listen_is_chosen = true;
    assert_eq!(required(&config), [true; 4]);
}

#[tokio::test]
async fn a_node_starts_without_an_address_that_is_not_required() {
    let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", first.local_addr().unwrap().port())
        .parse()
        .unwrap();
    let free: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    // Addresses that documentation may use belong to no machine.
    let foreign = "/ip4/192.0.2.1/udp/0/quic-v1".parse().unwrap();
    let listen = [(taken, false), (free, true), (foreign, false)];
    let listen = listen.map(|(address, required)| Listen { address, required });
    let records = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let (network, run) = Network::start_swarm(
        &config(),
        listen.into(),
        &Keypair::generate_ed25519(),
        served(records.path()),
        records.path(),
        stop.clone(),
    )
    .await
    .unwrap();
    let _stop = stop.drop_guard();
    tokio::spawn(run);
    assert_eq!(network.addresses().await.unwrap().len(), 1);
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
    server
        .until(|peers| peers.iter().all(|info| info.peer != gone).then_some(()))
        .await;
}

#[tokio::test]
async fn offline_neither_listens_nor_dials() {
    let config = NetworkConfig {
        offline: true,
        ..config()
    };
    assert!(matches!(refused(&config).await, NetError::Off));
}

/// Three nodes of which the first and the last only know the one in the middle.
async fn chain() -> [TestNode; 3] {
    let nodes = [
        TestNode::start().await,
        TestNode::start().await,
        TestNode::start().await,
    ];
    nodes[0].meet(&nodes[1]).await;
    nodes[2].meet(&nodes[1]).await;
    nodes
}

/// Asks until somebody provides it: a peer does not answer that it has been told.
async fn providers(node: &TestNode, cid: &Cid) -> Vec<PeerId> {
    let found = async {
        loop {
            let found = node.network.find_providers(cid, 4).await.unwrap();
            if !found.is_empty() {
                return found;
            }
        }
    };
    tokio::time::timeout(DEADLINE, found).await.unwrap()
}

fn some_cid(seed: &str) -> Cid {
    cid_of(0x55, seed.as_bytes())
}

#[tokio::test]
async fn a_provider_is_found_and_connected_to_through_a_third_peer() {
    let [one, _middle, two] = chain().await;
    let (ours, theirs) = (some_cid("ours"), some_cid("theirs"));
    one.network.provide(&ours).await.unwrap();
    two.network.provide(&theirs).await.unwrap();

    assert_eq!(providers(&two, &ours).await, [one.network.peer_id()]);
    assert_eq!(providers(&one, &theirs).await, [two.network.peer_id()]);
    // Connected before it is returned.
    one.identified(&two).await;
}

#[tokio::test]
async fn nobody_provides_what_was_never_announced() {
    let [one, _middle, _two] = chain().await;
    let found = one.network.find_providers(&some_cid("never"), 4).await;
    assert_eq!(found.unwrap(), []);
}

#[tokio::test]
async fn a_peer_is_connected_to_by_its_id_alone() {
    let [one, _middle, two] = chain().await;
    let id = two.network.peer_id();
    let address = Multiaddr::empty().with(Protocol::P2p(id));
    assert_eq!(one.network.connect(address).await.unwrap(), id);
}

#[tokio::test]
async fn providing_without_peers_says_that_nobody_was_told() {
    let alone = TestNode::start().await;
    let result = alone.network.provide(&some_cid("alone")).await;
    assert!(
        matches!(result, Err(NetError::NotStored { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_block_is_not_found_at_once_while_there_is_nobody_to_ask() {
    let (one, two) = (TestNode::start().await, TestNode::start().await);
    let dir = tempfile::tempdir().unwrap();
    let fetcher = || {
        let outside = Outside {
            network: Some(one.network.clone()),
            gateways: None,
            providers: Vec::new(),
            timeout: DEADLINE * 2,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        Fetcher::new(store(dir.path()), PackKind::Cache, Some(outside))
    };
    let cid = some_cid("nowhere");
    let alone = tokio::time::timeout(DEADLINE, fetcher().fetch(&cid)).await;
    let error = alone.unwrap().unwrap_err();
    assert!(matches!(error, FetchError::NotFound { .. }), "{error}");

    one.meet(&two).await;
    let fetcher = fetcher();
    // Past the look into the store, which takes its time: the first poll finds that somebody is there.
    assert!(futures::poll!(pin!(fetcher.obtain_outside(&cid))).is_pending());
    // Who was there may come back: the request goes on.
    let gone = two.network.peer_id();
    drop(two);
    one.until(|peers| peers.iter().all(|info| info.peer != gone).then_some(()))
        .await;
    assert!(futures::poll!(pin!(fetcher.obtain_outside(&cid))).is_pending());
}

fn signed(key: &Keypair, value: &str, sequence: u64) -> Record {
    let validity = Timestamp::now() + 24.hours();
    ipns::sign(key, value, sequence, validity, Duration::from_secs(60))
}

#[tokio::test]
async fn the_newest_record_of_a_name_wins() {
    let [one, _middle, two] = chain().await;
    let key = Keypair::generate_ed25519();
    let name = name_of(&key);
    assert_eq!(two.network.get_record(&name).await.unwrap(), None);

    let old = signed(&key, "/ipfs/bafkqaaa", 1);
    let new = signed(&key, "/ipfs/bafkqaaa/new", 2);
    one.network.put_record(&name, &new).await.unwrap();
    // A peer that is behind cannot put the old one back.
    two.network.put_record(&name, &old).await.unwrap();
    for node in [&one, &two] {
        let best = node.network.get_record(&name).await.unwrap().unwrap();
        assert_eq!((best.sequence, best.bytes), (2, new.bytes.clone()));
    }
}

#[tokio::test]
async fn a_record_for_another_name_is_not_stored_by_anybody() {
    let [one, _middle, two] = chain().await;
    let (key, victim) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let forged = signed(&key, "/ipfs/bafkqaaa", 9);
    let name = name_of(&victim);
    one.network.put_record(&name, &forged).await.ok();
    assert_eq!(two.network.get_record(&name).await.unwrap(), None);
}

#[tokio::test]
async fn provider_records_of_others_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let key = Keypair::generate_ed25519();
    let cid = some_cid("kept");
    let provider = TestNode::start().await;
    let first = TestNode::of(&key, config(), dir.path()).await;
    provider.meet(&first).await;
    provider.network.provide(&cid).await.unwrap();
    let witness = TestNode::start().await;
    witness.meet(&first).await;
    providers(&witness, &cid).await;
    drop(witness);
    drop(first.stop);
    first.run.await.unwrap();

    let second = TestNode::of(&key, config(), dir.path()).await;
    let asking = TestNode::start().await;
    asking.meet(&second).await;
    let found = asking.network.find_providers(&cid, 1).await.unwrap();
    assert_eq!(found, [provider.network.peer_id()]);
}

/// The next record that a node hears of.
async fn next_heard(node: &TestNode) -> super::gossip::Heard {
    let heard = tokio::time::timeout(DEADLINE, node.network.heard().take());
    heard.await.unwrap().remove(0)
}

fn head(key: &Keypair, sequence: u64) -> Record {
    let validity = Timestamp::now() + 1.hour();
    ipns::sign(
        key,
        "/ipfs/bafkqaaa",
        sequence,
        validity,
        Duration::from_secs(60),
    )
}

#[tokio::test]
async fn a_record_reaches_those_who_follow_the_name_through_a_peer_in_between() {
    let (creator, between, mirror) = (
        TestNode::start().await,
        TestNode::start().await,
        TestNode::start().await,
    );
    let key = Keypair::generate_ed25519();
    let name = name_of(&key);
    for node in [&between, &mirror] {
        node.network.follow(&name, None).await.unwrap();
        assert!(node.network.ask_subscribers(&name).await.unwrap().is_none());
    }
    creator.meet(&between).await;
    between.meet(&mirror).await;

    creator.network.tell(&name, &head(&key, 1)).await.unwrap();
    let heard = next_heard(&mirror).await;
    assert_eq!((&heard.name, heard.record.sequence), (&name, 1));
    assert_eq!(heard.from, between.network.peer_id());

    creator.network.tell(&name, &head(&key, 2)).await.unwrap();
    assert_eq!(next_heard(&mirror).await.record.sequence, 2);
}

#[tokio::test]
async fn who_comes_later_gets_the_record_that_a_subscriber_has() {
    let (creator, late) = (TestNode::start().await, TestNode::start().await);
    let key = Keypair::generate_ed25519();
    let name = name_of(&key);
    creator.network.tell(&name, &head(&key, 7)).await.unwrap();
    // Asked for before they meet, and heard of when they do.
    late.network.follow(&name, None).await.unwrap();
    late.meet(&creator).await;
    assert_eq!(next_heard(&late).await.record.sequence, 7);
    let asked = late.network.ask_subscribers(&name).await.unwrap();
    assert_eq!(asked.unwrap().sequence, 7);
}

#[tokio::test]
async fn without_gossip_nothing_is_heard_and_nobody_is_asked() {
    let silent = NetworkConfig {
        gossip: false,
        ..config()
    };
    let (creator, silent) = (TestNode::start().await, TestNode::with(silent).await);
    silent.meet(&creator).await;
    let key = Keypair::generate_ed25519();
    let name = name_of(&key);
    silent.network.follow(&name, None).await.unwrap();
    creator.network.tell(&name, &head(&key, 1)).await.unwrap();
    assert!(
        silent
            .network
            .ask_subscribers(&name)
            .await
            .unwrap()
            .is_none()
    );
    assert!(creator.network.subscribers(&name).await.unwrap().is_empty());
}
