use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::block::RAW;
use crate::net::bitswap::message::Presence;

/// A client with a clock of its own.
struct World {
    client: Client,
    now: Instant,
    session: SessionId,
}

impl World {
    fn new() -> Self {
        let mut client = Client::default();
        let session = client.open_session(Arc::new(Notify::new()));
        Self {
            client,
            now: Instant::now(),
            session,
        }
    }

    fn connect(&mut self) -> PeerId {
        let id = PeerId::random();
        self.reconnect(id);
        id
    }

    fn reconnect(&mut self, id: PeerId) {
        let peer = Peer::new(id, 1024, CancellationToken::new());
        self.client.on_connected(peer, self.now);
    }

    fn hold(&mut self, id: PeerId) {
        self.client.add_holders(self.session, &[id], self.now);
    }

    fn want(&mut self, n: u32) -> (WaiterId, oneshot::Receiver<Block>) {
        self.client.want(self.session, *block(n).cid(), self.now)
    }

    /// Entries to be sent to a peer now, as (n, kind, cancel).
    fn sent(&mut self, id: PeerId) -> Vec<(u32, WantKind, bool)> {
        self.client
            .take_entries(&id, usize::MAX, false)
            .into_iter()
            .map(|entry| (number(&entry.cid), entry.kind, entry.cancel))
            .collect()
    }

    fn receive(&mut self, from: PeerId, n: u32) -> Received {
        let block = block(n);
        let blocks = vec![(*block.cid().hash(), block.into_data())];
        self.client.on_blocks(from, blocks, self.now)
    }

    fn presence(&mut self, from: PeerId, n: u32, have: bool) {
        let cid = *block(n).cid();
        self.client
            .on_presences(from, &[Presence { cid, have }], self.now);
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            let step = Duration::from_millis(250);
            self.now += step;
            self.client.on_tick(step, self.now);
        }
    }
}

fn block(n: u32) -> Block {
    Block::of(RAW, Bytes::copy_from_slice(&n.to_be_bytes()))
}

fn number(cid: &Cid) -> u32 {
    (0..2000).find(|n| block(*n).cid() == cid).unwrap()
}

const BLOCK: WantKind = WantKind::Block;
const HAVE: WantKind = WantKind::Have;

#[test]
fn unknown_peers_are_asked_have_and_then_for_the_block() {
    let mut world = World::new();
    let (a, b) = (world.connect(), world.connect());
    let (_, mut reply) = world.want(1);
    assert_eq!(world.sent(a), [(1, HAVE, false)]);
    assert_eq!(world.sent(b), [(1, HAVE, false)]);
    world.presence(b, 1, false);
    world.presence(a, 1, true);
    assert_eq!(world.sent(a), [(1, BLOCK, false)]);
    assert_eq!(world.sent(b), []);
    assert_eq!(world.receive(a, 1).useful, 1);
    assert_eq!(reply.try_recv().unwrap(), block(1));
    // The peer that did not have it is told to forget the want; the sender knows.
    assert_eq!(world.sent(a), []);
    assert_eq!(world.sent(b), [(1, HAVE, true)]);
}

#[test]
fn holder_is_asked_for_the_block_at_once() {
    let mut world = World::new();
    let a = world.connect();
    world.hold(a);
    let _replies: Vec<_> = (0..100).map(|n| world.want(n)).collect();
    let sent = world.sent(a);
    assert_eq!(sent.len(), 100);
    assert!(
        sent.iter()
            .all(|(_, kind, cancel)| *kind == BLOCK && !cancel)
    );
}

#[test]
fn wants_are_spread_over_holders() {
    let mut world = World::new();
    let peers = [world.connect(), world.connect()];
    for peer in peers {
        world.hold(peer);
    }
    let _replies: Vec<_> = (0..100).map(|n| world.want(n)).collect();
    for peer in peers {
        let sent = world.sent(peer);
        let blocks = sent.iter().filter(|(_, kind, _)| *kind == BLOCK).count();
        assert_eq!(blocks, 50);
    }
}

#[test]
fn dont_have_moves_the_want_to_another_holder() {
    let mut world = World::new();
    let (a, b) = (world.connect(), world.connect());
    world.hold(a);
    let _reply = world.want(1);
    assert_eq!(world.sent(a), [(1, BLOCK, false)]);
    world.hold(b);
    world.sent(b);
    world.presence(a, 1, false);
    assert!(world.sent(b).contains(&(1, BLOCK, false)));
}

#[test]
fn lost_connection_moves_the_wants_and_reconnecting_brings_them_back() {
    let mut world = World::new();
    let a = world.connect();
    world.hold(a);
    let _replies: Vec<_> = (0..10).map(|n| world.want(n)).collect();
    world.sent(a);
    world.client.take_effects();
    world.client.on_disconnected(&a, world.now);
    assert!(world.client.is_starved(world.session));
    let commands = world.client.take_effects().commands;
    assert!(matches!(commands[..], [SwarmCommand::Dial(peer)] if peer == a));
    world.reconnect(a);
    let sent = world.sent(a);
    assert_eq!(sent.len(), 10);
    assert!(sent.iter().all(|(_, kind, _)| *kind == BLOCK));
    assert!(!world.client.is_starved(world.session));
}

#[test]
fn new_stream_repeats_every_open_want() {
    let mut world = World::new();
    let a = world.connect();
    world.hold(a);
    let _replies: Vec<_> = (0..10).map(|n| world.want(n)).collect();
    world.sent(a);
    world.receive(a, 3);
    let entries = world.client.take_entries(&a, usize::MAX, true);
    assert_eq!(entries.len(), 9);
}

#[test]
fn silent_peer_is_replaced_and_its_late_block_still_counts() {
    let mut world = World::new();
    let a = world.connect();
    world.hold(a);
    let (_, mut reply) = world.want(1);
    world.sent(a);
    let b = world.connect();
    world.hold(b);
    world.sent(b);
    world.pass(6);
    assert!(world.sent(b).contains(&(1, BLOCK, false)));
    assert_eq!(world.receive(a, 1).useful, 1);
    assert_eq!(reply.try_recv().unwrap(), block(1));
    assert_eq!(world.sent(b), [(1, BLOCK, true)]);
}

#[test]
fn only_holder_that_is_silent_is_asked_again() {
    let mut world = World::new();
    let a = world.connect();
    world.hold(a);
    let _reply = world.want(1);
    assert_eq!(world.sent(a).len(), 1);
    world.pass(8);
    assert_eq!(world.sent(a), [(1, BLOCK, false)]);
}

#[test]
fn want_that_a_busy_peer_dropped_is_asked_again() {
    let mut world = World::new();
    let a = world.connect();
    world.hold(a);
    let _lost = world.want(0);
    for n in 1..200 {
        let _reply = world.want(n);
        world.receive(a, n);
    }
    world.sent(a);
    world.pass(3);
    let asked: Vec<_> = world.sent(a);
    assert!(asked.contains(&(0, BLOCK, false)), "{asked:?}");
}

#[test]
fn everybody_says_dont_have_is_starved_and_asked_again_later() {
    let mut world = World::new();
    let (a, b) = (world.connect(), world.connect());
    let _reply = world.want(1);
    assert!(!world.client.is_starved(world.session));
    world.presence(a, 1, false);
    assert!(!world.client.is_starved(world.session));
    world.presence(b, 1, false);
    assert!(world.client.is_starved(world.session));
    world.sent(a);
    world.pass(2);
    assert_eq!(world.sent(a), [(1, HAVE, false)]);
}

#[test]
fn late_have_after_dont_have_is_followed() {
    let mut world = World::new();
    let a = world.connect();
    let _reply = world.want(1);
    world.presence(a, 1, false);
    world.sent(a);
    world.presence(a, 1, true);
    assert_eq!(world.sent(a), [(1, BLOCK, false)]);
}

#[test]
fn two_sessions_share_one_want() {
    let mut world = World::new();
    let a = world.connect();
    world.hold(a);
    let (first, mut reply) = world.want(1);
    let other = world.client.open_session(Arc::new(Notify::new()));
    // The same bytes under the older CID version.
    let v0 = Cid::new_v0(*block(1).cid().hash()).unwrap();
    let (_, mut other_reply) = world.client.want(other, v0, world.now);
    assert_eq!(world.sent(a).len(), 1);
    world.client.unwant(block(1).cid(), first);
    assert_eq!(world.sent(a), [], "the other session still waits");
    world.receive(a, 1);
    assert!(reply.try_recv().is_err());
    assert_eq!(*other_reply.try_recv().unwrap().cid(), v0);
}

#[test]
fn want_given_up_is_cancelled_and_its_block_is_no_offence() {
    let mut world = World::new();
    let a = world.connect();
    world.hold(a);
    let (waiter, _reply) = world.want(1);
    world.sent(a);
    world.client.unwant(block(1).cid(), waiter);
    assert_eq!(world.sent(a), [(1, BLOCK, true)]);
    let received = world.receive(a, 1);
    assert_eq!((received.duplicate, received.unwanted), (1, 0));
}

#[test]
fn peer_that_sends_wrong_blocks_is_disconnected_and_not_asked_again() {
    let mut world = World::new();
    let a = world.connect();
    world.hold(a);
    let _reply = world.want(0);
    world.sent(a);
    for n in 100..108 {
        let received = world.receive(a, n);
        assert_eq!(received.unwanted, 1);
        world.client.strike(&a, 1, world.now);
    }
    let commands = world.client.take_effects().commands;
    assert!(matches!(commands[..], [SwarmCommand::Disconnect(peer)] if peer == a));
    world.client.on_disconnected(&a, world.now);
    world.reconnect(a);
    world.pass(5);
    assert_eq!(world.sent(a), []);
}

#[test]
fn more_wants_than_a_peer_takes_wait_and_all_arrive() {
    let mut world = World::new();
    let a = world.connect();
    world.hold(a);
    let mut replies: Vec<_> = (0..1500).map(|n| world.want(n)).collect();
    let mut asked = world.client.take_entries(&a, usize::MAX, false);
    assert_eq!(asked.len(), peers::MAX_OUTSTANDING);
    let mut arrived = 0;
    while let Some(entry) = asked.pop() {
        arrived += 1;
        let hash = *entry.cid.hash();
        // The data does not matter: hashes are computed before.
        world
            .client
            .on_blocks(a, vec![(hash, Bytes::new())], world.now);
        asked.extend(world.client.take_entries(&a, usize::MAX, false));
    }
    assert_eq!(arrived, 1500);
    assert!(
        replies
            .iter_mut()
            .all(|(_, reply)| reply.try_recv().is_ok())
    );
    assert!(world.client.is_idle());
    assert!(world.client.backlog.is_empty());
}

#[test]
fn slow_end_is_asked_of_an_idle_holder_too() {
    let mut world = World::new();
    let (a, b) = (world.connect(), world.connect());
    world.hold(a);
    let _reply = world.want(1);
    world.hold(b);
    world.sent(b);
    // Bytes keep trickling in from the first.
    for _ in 0..4 {
        world.pass(1);
        world.client.peers[&a].handle.note_received();
    }
    assert!(world.sent(b).contains(&(1, BLOCK, false)));
}

#[test]
fn what_a_session_received_last_is_told_of_its_own_blocks_and_holders() {
    let mut world = World::new();
    let a = world.connect();
    let _reply = world.want(1);
    let received = |world: &World| world.client.last_received(world.session);
    assert!(received(&world).bytes.is_none() && received(&world).block.is_none());
    world.hold(a);
    let bytes = world.client.peers[&a].handle.last_received();
    assert_eq!(received(&world).bytes, Some(bytes));
    world.pass(1);
    world.receive(a, 1);
    assert_eq!(received(&world).block, Some(world.now));
    let other = world.client.open_session(Arc::new(Notify::new()));
    assert!(world.client.last_received(other).block.is_none());
}

#[test]
fn a_question_goes_to_one_peer_and_its_answer_to_who_asked() {
    let mut world = World::new();
    let (a, b) = (world.connect(), world.connect());
    let ask = |world: &mut World, n, kind| {
        let asked = world.client.question(a, *block(n).cid(), kind);
        asked.unwrap()
    };
    let mut has = ask(&mut world, 1, HAVE);
    let mut lacks = ask(&mut world, 2, BLOCK);
    let mut sends = ask(&mut world, 3, BLOCK);
    let mut entries = world.sent(a);
    entries.sort_by_key(|(n, ..)| *n);
    assert_eq!(
        entries,
        [(1, HAVE, false), (2, BLOCK, false), (3, BLOCK, false)]
    );
    assert_eq!(world.sent(b), []);
    // Another peer's word is no answer.
    world.presence(b, 1, false);
    assert!(has.try_recv().is_err());
    world.presence(a, 1, true);
    world.presence(a, 2, false);
    assert_eq!(world.receive(a, 3).useful, 1);
    assert_eq!(has.try_recv(), Ok(Said::Have));
    assert_eq!(lacks.try_recv(), Ok(Said::DontHave));
    assert_eq!(sends.try_recv(), Ok(Said::Block(block(3).into_data())));
    assert_eq!(world.sent(a), []);
}

#[test]
fn a_question_given_up_is_cancelled_and_ends_with_the_connection() {
    let mut world = World::new();
    let a = world.connect();
    let ask = |world: &mut World, n| world.client.question(a, *block(n).cid(), BLOCK);
    let _given_up = ask(&mut world, 1).unwrap();
    assert!(ask(&mut world, 1).is_none(), "asked already");
    world.sent(a);
    // A new stream tells the peer again.
    let again = world.client.take_entries(&a, usize::MAX, true);
    assert_eq!(again.len(), 1);
    world.client.end_question(a, block(1).cid());
    assert_eq!(world.sent(a), [(1, BLOCK, true)]);
    assert_eq!(world.receive(a, 1).duplicate, 1, "late is no offence");
    let mut lost = ask(&mut world, 2).unwrap();
    world.client.on_disconnected(&a, world.now);
    assert!(matches!(
        lost.try_recv(),
        Err(oneshot::error::TryRecvError::Closed)
    ));
    assert!(ask(&mut world, 3).is_none(), "not connected");
}

#[test]
fn a_want_goes_on_when_a_question_about_its_block_ends() {
    let mut world = World::new();
    let a = world.connect();
    world.hold(a);
    let asked = world.client.question(a, *block(1).cid(), HAVE).unwrap();
    let (_, mut reply) = world.want(1);
    drop(asked);
    world.client.end_question(a, block(1).cid());
    assert_eq!(world.sent(a), [(1, BLOCK, false)]);
    assert_eq!(world.receive(a, 1).useful, 1);
    assert_eq!(reply.try_recv().unwrap(), block(1));
    let _want = world.want(2);
    assert!(world.client.question(a, *block(2).cid(), HAVE).is_none());
}
