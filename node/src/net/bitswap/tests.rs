//! Two and three nodes over loopback TCP.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use duka_config::ServePolicy;
use futures::stream::FuturesUnordered;
use futures::{AsyncWriteExt, StreamExt};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, SwarmBuilder, noise, tcp};
use tokio::sync::oneshot;

use super::*;
use crate::block::{Block, MAX_BLOCK_LEN, RAW};
use crate::denylist::Denylists;
use crate::net::yamux;
use crate::served::Served;
use crate::source::BlockSource;
use crate::store::{PackKind, Store, StoreOptions};

/// Longest time that anything here may take.
const DEADLINE: Duration = Duration::from_secs(30);

enum Order {
    Dial(Multiaddr, oneshot::Sender<()>),
    Disconnect(PeerId, oneshot::Sender<()>),
}

struct TestNode {
    bitswap: Bitswap,
    store: Store,
    id: PeerId,
    address: Multiaddr,
    orders: mpsc::Sender<Order>,
    _stop: tokio_util::sync::DropGuard,
    _dir: tempfile::TempDir,
}

impl TestNode {
    async fn start() -> Self {
        Self::denying(Denylists::default()).await
    }

    async fn denying(denylists: Denylists) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            pack_size: 64 << 20,
            reserve: 0,
            ..StoreOptions::default()
        };
        let (store, _) = Store::open(dir.path(), options).unwrap();
        let limits = duka_config::Config::default().network.limits;
        let stop = CancellationToken::new();
        let served = Served::new(store.clone(), ServePolicy::Local, denylists);
        let (behaviour, bitswap) = new(&limits, served, TaskTracker::new(), stop.clone());
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::new().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )
            .unwrap()
            .with_behaviour(|_| behaviour)
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(DEADLINE))
            .build();
        swarm
            .listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap())
            .unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let (orders, mut inbox) = mpsc::channel(8);
        let id = *swarm.local_peer_id();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let mut waiting = Vec::new();
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    order = inbox.recv() => match order.unwrap() {
                        Order::Dial(address, done) => {
                            swarm.dial(address).unwrap();
                            waiting.push((true, done));
                        }
                        Order::Disconnect(peer, done) => {
                            swarm.disconnect_peer_id(peer).unwrap();
                            waiting.push((false, done));
                        }
                    },
                    event = swarm.select_next_some() => {
                        let connected = match event {
                            SwarmEvent::ConnectionEstablished { .. } => true,
                            SwarmEvent::ConnectionClosed { .. } => false,
                            _ => continue,
                        };
                        if let Some(at) = waiting.iter().position(|(for_what, _)| *for_what == connected) {
                            waiting.remove(at).1.send(()).unwrap();
                        }
                    }
                }
            }
        });
        Self {
            bitswap,
            store,
            id,
            address,
            orders,
            _stop: stop.drop_guard(),
            _dir: dir,
        }
    }

    async fn connect(&self, other: &Self) {
        let (done, connected) = oneshot::channel();
        let order = Order::Dial(other.address.clone(), done);
        self.orders.send(order).await.unwrap();
        connected.await.unwrap();
    }

    async fn disconnect(&self, other: &Self) {
        let (done, disconnected) = oneshot::channel();
        let order = Order::Disconnect(other.id, done);
        self.orders.send(order).await.unwrap();
        disconnected.await.unwrap();
    }

    fn put(&self, blocks: &[Block]) {
        self.store.put(PackKind::Kept, blocks).unwrap();
    }

    /// Writes bytes to a bitswap stream of its own, past the engine.
    async fn write_raw(&self, to: &Self, bytes: &[u8]) -> libp2p::Stream {
        let opening = async {
            loop {
                if let Some(peer) = self.bitswap.engine.peer(&to.id)
                    && let Some((stream, _)) = peer.open_stream().await
                {
                    return stream;
                }
                tokio::task::yield_now().await;
            }
        };
        let mut stream = in_time(opening).await;
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        stream
    }
}

/// Waits until `ready` yields something.
async fn wait_for<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(value) = ready() {
                return value;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap()
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

/// Blocks of `len` bytes, all different.
fn blocks(count: u32, len: usize) -> Vec<Block> {
    (0..count)
        .map(|n| {
            let mut data = vec![0; len];
            data[..4].copy_from_slice(&n.to_be_bytes());
            Block::of(RAW, Bytes::from(data))
        })
        .collect()
}

async fn fetch_all(session: &Session, blocks: &[Block]) {
    let mut fetches: FuturesUnordered<_> = blocks
        .iter()
        .map(|block| async move { (session.fetch(block.cid()).await.unwrap(), block) })
        .collect();
    while let Some((fetched, block)) = in_time(fetches.next()).await {
        assert_eq!(&fetched, block);
    }
}

/// One message as the engine writes it.
fn encoded(message: &message::OutgoingMessage) -> Vec<u8> {
    message.pieces().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_blocks_at_once_arrive_from_two_peers() {
    let (a, b, c) = (
        TestNode::start().await,
        TestNode::start().await,
        TestNode::start().await,
    );
    let all = blocks(1000, 20_000);
    a.put(&all);
    b.put(&all);
    c.connect(&a).await;
    c.connect(&b).await;
    let session = c.bitswap.session(vec![a.id, b.id]);
    fetch_all(&session, &all).await;
    let stats = session.stats();
    assert_eq!(stats.iter().map(|(_, _, blocks)| blocks).sum::<u64>(), 1000);
    assert_eq!(stats.len(), 2, "both peers were used: {stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block_of_exactly_2_mib_arrives_without_known_provider() {
    let (a, b) = (TestNode::start().await, TestNode::start().await);
    let large = blocks(3, MAX_BLOCK_LEN);
    a.put(&large);
    b.connect(&a).await;
    fetch_all(&b.bitswap.session(vec![]), &large).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block_that_comes_later_than_the_want_is_sent() {
    let (a, b) = (TestNode::start().await, TestNode::start().await);
    b.connect(&a).await;
    let late = blocks(2, 5000);
    let session = b.bitswap.session(vec![]);
    let fetching = fetch_all(&session, &late);
    let publishing = async {
        // Starved: the other side has said DONT_HAVE, so its ledger has the want.
        in_time(session.starved()).await;
        // From a thread of its own, as imports do.
        std::thread::scope(|scope| scope.spawn(|| a.put(&late)).join().unwrap());
    };
    tokio::join!(fetching, publishing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_without_the_block_is_passed_over() {
    let (empty, full, b) = (
        TestNode::start().await,
        TestNode::start().await,
        TestNode::start().await,
    );
    let all = blocks(50, 3000);
    full.put(&all);
    b.connect(&empty).await;
    b.connect(&full).await;
    // The empty one is said to have everything.
    fetch_all(&b.bitswap.session(vec![empty.id]), &all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wants_survive_a_disconnection() {
    let (a, b) = (TestNode::start().await, TestNode::start().await);
    b.connect(&a).await;
    let all = blocks(200, 100_000);
    a.put(&all);
    let session = b.bitswap.session(vec![a.id]);
    let fetching = fetch_all(&session, &all);
    let cutting = async {
        wait_for(|| (!session.stats().is_empty()).then_some(())).await;
        // The session dials its lost provider again by itself.
        a.disconnect(&b).await;
    };
    tokio::join!(fetching, cutting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_fetch_is_cancelled_at_the_peer() {
    let (a, b) = (TestNode::start().await, TestNode::start().await);
    b.connect(&a).await;
    let missing = blocks(1, 100).remove(0);
    let session = b.bitswap.session(vec![a.id]);
    {
        let fetching = session.fetch(missing.cid());
        tokio::pin!(fetching);
        tokio::select! {
            _ = &mut fetching => panic!("nobody has it"),
            () = in_time(session.starved()) => {}
        }
        assert!(a.bitswap.engine.server.is_anybody_waiting());
    }
    wait_for(|| (!a.bitswap.engine.server.is_anybody_waiting()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lying_peer_is_disconnected_and_the_block_comes_from_another() {
    let (liar, honest, b) = (
        TestNode::start().await,
        TestNode::start().await,
        TestNode::start().await,
    );
    b.connect(&liar).await;
    let wanted = blocks(1, 50_000);
    let session = b.bitswap.session(vec![liar.id]);
    let fetching = fetch_all(&session, &wanted);
    let lying = async {
        in_time(session.starved()).await;
        let mut message = message::OutgoingMessage::default();
        for wrong in blocks(10, 3000) {
            message.push_block(
                wanted[0].cid(),
                wrong.into_data(),
                message::ProtocolVersion::V1_2,
            );
        }
        let _stream = liar.write_raw(&b, &encoded(&message)).await;
        wait_for(|| b.bitswap.engine.peer(&liar.id).is_none().then_some(())).await;
        honest.put(&wanted);
        b.connect(&honest).await;
    };
    tokio::join!(fetching, lying);
    assert_eq!(session.stats(), [(honest.id, 50_000, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_oversized_lengths_end_the_stream_only() {
    let (rude, b) = (TestNode::start().await, TestNode::start().await);
    b.connect(&rude).await;
    // Five bytes that are no message; a length of 1 TiB; a length that never ends.
    for bytes in [
        &b"\x05\xff\xff\xff\xff\xff"[..],
        b"\x80\x80\x80\x80\x80\x20",
        &[0xff; 20],
    ] {
        let mut stream = rude.write_raw(&b, bytes).await;
        let mut byte = [0; 1];
        let read = futures::AsyncReadExt::read(&mut stream, &mut byte);
        assert!(!matches!(in_time(read).await, Ok(1)));
    }
    let all = blocks(10, 1000);
    rude.put(&all);
    fetch_all(&b.bitswap.session(vec![rude.id]), &all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_wants_is_bounded() {
    let (flooder, a) = (TestNode::start().await, TestNode::start().await);
    flooder.connect(&a).await;
    let limit = duka_config::Config::default()
        .network
        .limits
        .wantlist_per_peer;
    let entries: Vec<_> = blocks(u32::try_from(limit).unwrap() + 5000, 4)
        .iter()
        .map(|block| message::WantEntry::want(*block.cid(), message::WantKind::Block))
        .collect();
    // Kept open until the end: a stream that is dropped is reset, and what is on its way is lost.
    let mut streams = Vec::new();
    for chunk in entries.chunks(2000) {
        let message =
            message::OutgoingMessage::wantlist(chunk, false, message::ProtocolVersion::V1_2);
        streams.push(flooder.write_raw(&a, &encoded(&message)).await);
    }
    let held = || a.bitswap.engine.server.waiting_count();
    wait_for(|| (held() == limit).then_some(())).await;
    // The connection's end frees everything.
    flooder.disconnect(&a).await;
    wait_for(|| (held() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buffers_are_kept_for_peers_that_are_asked_while_a_block_is_waited_for() {
    const LEN: usize = 1 << 20;
    let (asked, b) = (TestNode::start().await, TestNode::start().await);
    b.connect(&asked).await;
    let engine = &b.bitswap.engine;
    let missing = blocks(1, 100).remove(0);
    let session = b.bitswap.session(vec![asked.id]);
    let asked = wait_for(|| engine.peer(&asked.id)).await;
    let stranger = peer::Peer::new(PeerId::random(), 100, CancellationToken::new());
    {
        let fetching = session.fetch(missing.cid());
        tokio::pin!(fetching);
        tokio::select! {
            _ = &mut fetching => panic!("nobody has it"),
            () = in_time(session.starved()) => {}
        }
        drop(engine.pool_for(&stranger).take(LEN));
        assert!(engine.pooled_bytes() < LEN);
        drop(engine.pool_for(&asked).take(LEN));
        assert!(engine.pooled_bytes() >= LEN);
    }
    wait_for(|| (engine.pooled_bytes() == 0).then_some(())).await;
    // What was still being read then comes too late.
    asked
        .expected
        .store(1, std::sync::atomic::Ordering::Relaxed);
    drop(engine.pool_for(&asked).take(LEN));
    assert_eq!(engine.pooled_bytes(), 0);
}

/// What a peer wants, all with WANT-BLOCK.
fn wantlist(blocks: &[Block]) -> Vec<message::WantEntry> {
    let want = |block: &Block| message::WantEntry::want(*block.cid(), message::WantKind::Block);
    blocks.iter().map(want).collect()
}

#[tokio::test]
async fn what_is_denied_or_cached_is_not_here_for_peers() {
    let all = blocks(3, 2000);
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list.deny");
    std::fs::write(&list, format!("/ipfs/{}", all[0].cid())).unwrap();
    let a = TestNode::denying(Denylists::load(&[list]).unwrap()).await;
    a.put(&all[..1]);
    a.store.put(PackKind::Cache, &all[1..2]).unwrap();
    a.put(&all[2..]);
    let peer = peer::Peer::new(PeerId::random(), 100, CancellationToken::new());
    let server = &a.bitswap.engine.server;
    for kind in [message::WantKind::Have, message::WantKind::Block] {
        let mut wants = wantlist(&all);
        for want in &mut wants {
            (want.kind, want.send_dont_have) = (kind, true);
        }
        server.on_wants(&peer, &wants, false);
        let mut said = HashMap::new();
        let mut sent = Vec::new();
        while peer.ledger.lock().has_answers() {
            let (message, blocks) = server.next_message(&peer, message::ProtocolVersion::V1_2);
            let bytes: Vec<u8> = message.pieces().flatten().collect();
            let start = bytes.len() - message.len();
            let read = message::Message::decode(&bytes[start..].to_vec().into()).unwrap();
            said.extend(read.presences.iter().map(|it| (it.cid, it.have)));
            sent.extend(blocks);
        }
        assert_eq!(said.get(all[0].cid()), Some(&false), "denied");
        assert_eq!(said.get(all[1].cid()), Some(&false), "cached");
        match kind {
            message::WantKind::Have => assert_eq!(said.get(all[2].cid()), Some(&true)),
            message::WantKind::Block => assert_eq!(sent, [*all[2].cid()]),
        }
    }
    // Who waits for them goes on waiting.
    assert_eq!(server.waiting_count(), 2);
    let cids = [*all[0].cid(), *all[1].cid()];
    let told = server.arrived(&cids, |_| Some(Arc::clone(&peer)));
    assert!(told.is_empty());
    assert_eq!(server.waiting_count(), 2);
}

#[tokio::test]
async fn what_was_taken_back_while_it_was_written_is_not_sent_again() {
    let a = TestNode::start().await;
    let all = blocks(4, 1000);
    a.put(&all);
    let peer = peer::Peer::new(PeerId::random(), 100, CancellationToken::new());
    let server = &a.bitswap.engine.server;
    let version = message::ProtocolVersion::V1_2;
    let next = || server.next_message(&peer, version).1;

    server.on_wants(&peer, &wantlist(&all), false);
    let cids = next();
    assert_eq!(cids.len(), 4);
    let mut cancel = wantlist(&all[..1]);
    cancel[0].cancel = true;
    server.on_wants(&peer, &cancel, false);
    server.resend(&peer, &cids);
    assert_eq!(next(), cids[1..]);
    // A full list takes back what it does not name.
    server.on_wants(&peer, &wantlist(&all[3..]), true);
    server.resend(&peer, &cids[1..]);
    assert_eq!(next(), cids[3..]);
    peer.ledger.lock().sent(&cids[3..]);
    server.resend(&peer, &cids);
    assert_eq!(next(), []);
}

/// A peer whose every stream breaks until `given_up` holds: as many as a writer tries, with pauses.
async fn assert_few_streams(
    mut requests: mpsc::Receiver<peer::StreamRequest>,
    mut broken: Vec<(libp2p::Stream, message::ProtocolVersion)>,
    given_up: impl Fn() -> bool,
) {
    let start = std::time::Instant::now();
    let mut opened = 0;
    wait_for(|| {
        if let Ok(request) = requests.try_recv() {
            opened += 1;
            // Without one the request fails.
            if let Some(stream) = broken.pop() {
                drop(request.send(stream));
            }
        }
        given_up().then_some(())
    })
    .await;
    assert_eq!(opened, writer::MAX_FAILURES);
    let pauses = 2_u32.pow(writer::MAX_FAILURES) - 1;
    assert!(start.elapsed() >= writer::FIRST_RETRY * pauses);
}

/// Streams whose connection has ended.
async fn broken_streams(from: &TestNode) -> Vec<(libp2p::Stream, message::ProtocolVersion)> {
    let other = TestNode::start().await;
    from.connect(&other).await;
    let peer = wait_for(|| from.bitswap.engine.peer(&other.id)).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(in_time(peer.open_stream()).await.unwrap());
    }
    from.disconnect(&other).await;
    streams
}

/// A peer that is connected by a channel for stream requests.
fn channel_peer(node: &TestNode) -> (Arc<peer::Peer>, mpsc::Receiver<peer::StreamRequest>) {
    let (sender, requests) = mpsc::channel(1);
    let engine = &node.bitswap.engine;
    let peer = engine.expect_connection(PeerId::random());
    let connection = libp2p::swarm::ConnectionId::new_unchecked(usize::MAX);
    engine.on_connection(Arc::clone(&peer), connection, sender);
    (peer, requests)
}

#[tokio::test]
async fn answers_for_a_peer_whose_streams_all_break_end_after_pauses() {
    let a = TestNode::start().await;
    let all = blocks(3, 1000);
    a.put(&all);
    let broken = broken_streams(&a).await;
    let (peer, requests) = channel_peer(&a);
    let server = &a.bitswap.engine.server;
    server.on_wants(&peer, &wantlist(&all), false);
    let writer = writer::write_answers(Arc::clone(&a.bitswap.engine), Arc::clone(&peer), true);
    tokio::spawn(writer);
    let ended = || peer.noting.try_lock().is_ok() && peer.ledger.lock().is_empty();
    assert_few_streams(requests, broken, ended).await;
}

#[tokio::test]
async fn wants_from_a_peer_whose_streams_all_break_go_elsewhere_after_pauses() {
    let a = TestNode::start().await;
    let broken = broken_streams(&a).await;
    let (peer, requests) = channel_peer(&a);
    let missing = blocks(1, 1000).remove(0);
    let session = a.bitswap.session(vec![peer.id]);
    let fetching = tokio::spawn(async move { session.fetch(missing.cid()).await });
    wait_for(|| peer.is_busy().then_some(())).await;
    let ended = || {
        !a.bitswap
            .engine
            .with_client(|client, _| client.knows(&peer.id))
    };
    assert_few_streams(requests, broken, ended).await;
    fetching.abort();
}
