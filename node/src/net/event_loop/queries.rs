//! The event loop's part in the DHTs: starts queries, passes results on, judges what peers store.

use libp2p::kad::store::RecordStore;
use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{PeerId, kad};
use tokio::sync::mpsc;

use super::{DIALS_PER_QUERY, EventLoop};
use crate::net::address::Scope;
use crate::net::dht::{Next, Pending, Query};
use crate::net::records::Records;
use crate::net::scoped::Scoped;

impl EventLoop {
    pub(super) fn query(&mut self, scope: Scope, query: Query) {
        let Some(dht) = self.dht(scope) else {
            // Dropping the query closes its channel: no result.
            return;
        };
        let (id, pending) = match query {
            Query::Providers { key, found } => {
                (dht.get_providers(key.into()), Pending::Providers(found))
            }
            Query::Provide { key, done } => match dht.start_providing(key.into()) {
                Ok(id) => (id, Pending::Provide(done)),
                Err(error) => {
                    done.send(Err(error.to_string())).ok();
                    return;
                }
            },
            Query::PutRecord { key, value, done } => {
                let record = kad::Record::new(key, value);
                match dht.put_record(record, kad::Quorum::All) {
                    Ok(id) => (id, Pending::PutRecord(done)),
                    Err(error) => {
                        done.send(Err(error.to_string())).ok();
                        return;
                    }
                }
            }
            Query::GetRecord { key, found } => {
                (dht.get_record(key.into()), Pending::GetRecord(found))
            }
            Query::FindPeer { peer, found } => {
                (dht.get_closest_peers(peer), Pending::FindPeer(peer, found))
            }
        };
        self.queries.insert(scope, id, pending);
    }

    pub(super) fn dht_event(&mut self, scope: Scope, event: kad::Event) {
        match event {
            kad::Event::OutboundQueryProgressed {
                id,
                result,
                stats,
                step,
            } => match self.queries.progress(scope, id, result, &stats, step.last) {
                Next::Wait => {}
                Next::Finish => {
                    if let Some(mut query) = self.dht(scope).and_then(|dht| dht.query_mut(&id)) {
                        query.finish();
                    }
                }
                Next::Connect(providers, found) => {
                    for peer in providers.into_iter().take(DIALS_PER_QUERY) {
                        self.connect_to_provider(peer, &found);
                    }
                }
            },
            kad::Event::InboundRequest { request } => self.dht_request(scope, request),
            _ => {}
        }
    }

    fn dht_request(&mut self, scope: Scope, request: kad::InboundRequest) {
        let Some(dht) = self.dht(scope) else { return };
        match request {
            kad::InboundRequest::PutRecord {
                record: Some(record),
                source,
                ..
            } => {
                let kept = dht.store_mut().accept(&record);
                tracing::debug!(%source, kept, "a peer put a record");
            }
            kad::InboundRequest::AddProvider {
                record: Some(mut record),
            } => {
                record.addresses.retain(|address| scope.admits(address));
                if let Err(error) = dht.store_mut().add_provider(record) {
                    tracing::debug!(%error, "refused a provider record");
                }
            }
            _ => {}
        }
    }

    /// Addresses from a query are only known while it runs, so the dial starts at once.
    fn connect_to_provider(&mut self, peer: PeerId, found: &mpsc::Sender<PeerId>) {
        if peer == *self.swarm.local_peer_id() {
            return;
        }
        if self.peers.contains_key(&peer) {
            found.try_send(peer).ok();
            return;
        }
        match self.swarm.dial(DialOpts::peer_id(peer).build()) {
            // A dial that is under way tells as well.
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {
                self.provider_dials
                    .entry(peer)
                    .or_default()
                    .push(found.clone());
            }
            Err(error) => tracing::debug!(%peer, %error, "cannot dial a provider"),
        }
    }

    pub(super) fn dht(&mut self, scope: Scope) -> Option<&mut kad::Behaviour<Records>> {
        let behaviour = self.swarm.behaviour_mut();
        let dht = match scope {
            Scope::Wan => behaviour.wan.as_mut(),
            Scope::Lan => behaviour.lan.as_mut(),
        };
        dht.map(Scoped::inner_mut)
    }
}
