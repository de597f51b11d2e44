//! DHT queries: what the handle asks for, and what runs in the swarm until it is answered.
//!
//! The caller holds the receiving end of a bounded channel. A query whose receiver is gone is
//! ended at its next progress; results that do not fit into the channel are dropped.

use std::collections::HashMap;

use libp2p::kad::{
    AddProviderError, GetProvidersOk, GetRecordOk, PutRecordError, QueryId, QueryResult, QueryStats,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

use super::address::Scope;

/// A query, and where its results go.
#[derive(Debug)]
pub(super) enum Query {
    /// Peers that provide the key; each is connected to before it is sent.
    Providers {
        key: Vec<u8>,
        found: mpsc::Sender<PeerId>,
    },
    /// Announces this node as a provider.
    Provide {
        key: Vec<u8>,
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Stores a signed record at the peers closest to its key.
    PutRecord {
        key: Vec<u8>,
        value: Vec<u8>,
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Records as peers have them: not verified.
    GetRecord {
        key: Vec<u8>,
        found: mpsc::Sender<Vec<u8>>,
    },
    /// Addresses of a peer.
    FindPeer {
        peer: PeerId,
        found: mpsc::Sender<Multiaddr>,
    },
}

/// A query that runs.
pub(super) enum Pending {
    Providers(mpsc::Sender<PeerId>),
    Provide(oneshot::Sender<Result<(), String>>),
    PutRecord(oneshot::Sender<Result<(), String>>),
    GetRecord(mpsc::Sender<Vec<u8>>),
    FindPeer(PeerId, mpsc::Sender<Multiaddr>),
}

/// Queries that run, in both DHTs.
#[derive(Default)]
pub(super) struct Queries {
    pending: HashMap<(Scope, QueryId), Pending>,
}

/// What the event loop does after a query progressed.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing.
    Wait,
    /// The caller is gone or has enough: end the query.
    Finish,
    /// Connect to these, and tell the caller of each that answers.
    Connect(Vec<PeerId>, mpsc::Sender<PeerId>),
}

impl Queries {
    pub(super) fn insert(&mut self, scope: Scope, id: QueryId, pending: Pending) {
        self.pending.insert((scope, id), pending);
    }

    /// Passes the results on. `last` ends the query: its channel closes.
    pub(super) fn progress(
        &mut self,
        scope: Scope,
        id: QueryId,
        result: QueryResult,
        stats: &QueryStats,
        last: bool,
    ) -> Next {
        if let QueryResult::StartProviding(_) | QueryResult::PutRecord(_) = result {
            if let Some(pending) = self.pending.remove(&(scope, id)) {
                finish(scope, pending, result, stats);
            }
            return Next::Wait;
        }
        let Some(pending) = self.pending.get(&(scope, id)) else {
            return Next::Wait;
        };
        let ok = is_ok(&result);
        let next = pass_on(pending, result);
        if last {
            count(scope, pending.kind(), ok);
            self.pending.remove(&(scope, id));
        }
        next
    }
}

impl Pending {
    fn kind(&self) -> &'static str {
        match self {
            Self::Providers(_) => "find_providers",
            Self::Provide(_) => "provide",
            Self::PutRecord(_) => "put_record",
            Self::GetRecord(_) => "get_record",
            Self::FindPeer(..) => "find_peer",
        }
    }
}

fn is_ok(result: &QueryResult) -> bool {
    match result {
        QueryResult::GetProviders(result) => result.is_ok(),
        QueryResult::GetRecord(result) => result.is_ok(),
        QueryResult::GetClosestPeers(result) => result.is_ok(),
        _ => false,
    }
}

fn pass_on(pending: &Pending, result: QueryResult) -> Next {
    match (pending, result) {
        (Pending::Providers(found), QueryResult::GetProviders(Ok(result))) => {
            if found.is_closed() {
                return Next::Finish;
            }
            match result {
                GetProvidersOk::FoundProviders { providers, .. } => {
                    Next::Connect(providers.into_iter().collect(), found.clone())
                }
                GetProvidersOk::FinishedWithNoAdditionalRecord { .. } => Next::Wait,
            }
        }
        (
            Pending::GetRecord(found),
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(record))),
        ) => match found.try_send(record.record.value) {
            Ok(()) => Next::Wait,
            Err(_) => Next::Finish,
        },
        (Pending::FindPeer(peer, found), QueryResult::GetClosestPeers(Ok(result))) => {
            let addresses = result
                .peers
                .into_iter()
                .filter(|info| info.peer_id == *peer)
                .flat_map(|info| info.addrs);
            for address in addresses {
                // A full channel holds more addresses than one dial tries.
                if found.try_send(address).is_err() {
                    break;
                }
            }
            Next::Wait
        }
        _ => Next::Wait,
    }
}

/// Answers a query that has one result only.
fn finish(scope: Scope, pending: Pending, result: QueryResult, stats: &QueryStats) {
    let kind = pending.kind();
    let outcome = match result {
        // Telling a peer that this node provides something has no answer; the peers that answered
        // the search for the closest ones have been told.
        QueryResult::StartProviding(Ok(_)) if stats.num_successes() > 0 => Ok(()),
        QueryResult::StartProviding(Ok(_)) => Err("no peer answered".to_owned()),
        QueryResult::StartProviding(Err(AddProviderError::Timeout { .. })) => {
            Err("the query timed out".to_owned())
        }
        QueryResult::PutRecord(Ok(_)) => Ok(()),
        QueryResult::PutRecord(Err(
            PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. },
        )) => {
            if success.is_empty() {
                Err("no peer answered".to_owned())
            } else {
                Ok(())
            }
        }
        _ => return,
    };
    count(scope, kind, outcome.is_ok());
    if let Pending::Provide(done) | Pending::PutRecord(done) = pending {
        // The caller may have given up; there is nobody else to tell.
        done.send(outcome).ok();
    }
}

fn count(scope: Scope, kind: &'static str, ok: bool) {
    let result = if ok { "ok" } else { "failed" };
    metrics::counter!("duka_dht_queries_total", "dht" => scope.as_str(), "query" => kind, "result" => result)
        .increment(1);
    if ok && kind == "provide" {
        metrics::counter!("duka_dht_provided_records_total", "dht" => scope.as_str()).increment(1);
    }
}
