//! A [`Network`] whose DHT is played by the test.

use std::sync::Arc;
use std::time::Duration;

use duka_config::ServePolicy;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::address::Scope;
use super::dht::Query;
use super::event_loop::Command;
use super::{COMMANDS, Network, QUERIES, Reachability, bitswap};
use crate::denylist::Denylists;
use crate::served::Served;
use crate::store::Store;

const DEADLINE: Duration = Duration::from_secs(20);

/// What a caller of the network asked to be stored, and where it waits for the answer.
pub(super) struct Stored {
    pub(super) key: Vec<u8>,
    pub(super) done: oneshot::Sender<Result<(), String>>,
}

/// The network's other end. There is a local DHT only.
pub(super) struct FakeDht {
    commands: mpsc::Receiver<Command>,
    _stop: DropGuard,
}

impl FakeDht {
    pub(super) fn new(store: Store) -> (Network, Self) {
        let limits = duka_config::Config::default().network.limits;
        let stop = CancellationToken::new();
        let served = Served::new(store, ServePolicy::Local, Denylists::default());
        let (_, bitswap) = bitswap::new(&limits, served, TaskTracker::new(), stop.clone());
        let (sender, commands) = mpsc::channel(COMMANDS);
        let network = Network {
            peer: libp2p::PeerId::random(),
            commands: sender,
            queries: Arc::new(Semaphore::new(QUERIES)),
            bitswap,
            peer_count: watch::Sender::new(0).subscribe(),
            seeks_peers: false,
            heard: Arc::default(),
            reachability: watch::Sender::new(Reachability::Unknown).subscribe(),
        };
        let _stop = stop.drop_guard();
        (network, Self { commands, _stop })
    }

    /// The next provider record or IPNS record.
    pub(super) async fn next(&mut self) -> Stored {
        loop {
            let command = tokio::time::timeout(DEADLINE, self.commands.recv()).await;
            let command = command.expect("a command in time").expect("a caller");
            if let Command::Query(
                Scope::Lan,
                Query::Provide { key, done } | Query::PutRecord { key, done, .. },
            ) = command
            {
                return Stored { key, done };
            }
        }
    }

    /// Takes the next record, and tells its key.
    pub(super) async fn take(&mut self) -> Vec<u8> {
        let Stored { key, done } = self.next().await;
        done.send(Ok(())).expect("the caller waits");
        key
    }
}
