//! What this node keeps for a DHT: IPNS records and provider records of others, and which keys it
//! provides itself.
//!
//! All of it is in memory and bounded, in number and in bytes; `records/snapshot.rs` writes it to
//! disk in the background. A full store keeps what is closest to this node's own id: that is what
//! others will look for here, and an attacker cannot fill it with arbitrary keys.

pub(super) mod files;
mod snapshot;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use libp2p::kad::store::{Error, RecordStore};
use libp2p::kad::{ProviderRecord, Record, RecordKey};
use libp2p::{Multiaddr, PeerId};
use lru::LruCache;
use sha2::{Digest, Sha256};

use crate::ipns;
use crate::keys::Name;

/// Providers kept of one key: what an answer carries.
const PROVIDERS_PER_KEY: usize = 20;
/// Addresses kept of one provider.
const ADDRESSES_PER_PROVIDER: usize = 8;
/// Longest address kept, in bytes.
const ADDRESS_LIMIT: usize = 256;
/// Longest key: `/ipns/` and a multihash.
const KEY_LIMIT: usize = 128;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// IPNS records.
    pub(super) values: usize,
    /// Provider records, over all keys.
    pub(super) providers: usize,
    /// Bytes of either kind.
    pub(super) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            values: 65_536,
            providers: 65_536,
            bytes: 16 * 1024 * 1024,
        }
    }
}

/// SHA-256 of the key, XORed with that of the own id: entries sorted by how close they are.
type Distance = [u8; 32];

/// A verified IPNS record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    key: Box<[u8]>,
    bytes: Box<[u8]>,
    sequence: u64,
    validity: i64,
    /// Unix seconds.
    expires: u64,
}

/// Who provides one key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Providers {
    key: Box<[u8]>,
    peers: Vec<Provider>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Provider {
    peer: PeerId,
    /// Unix seconds.
    expires: u64,
    addresses: Vec<Multiaddr>,
}

/// The records of one DHT.
#[derive(Debug)]
pub(super) struct Records {
    local: PeerId,
    local_hash: Distance,
    limits: Limits,
    values: BTreeMap<Distance, Value>,
    value_bytes: usize,
    providers: BTreeMap<Distance, Providers>,
    provider_count: usize,
    provider_bytes: usize,
    /// Keys that this node provides; the least recently announced go first.
    own: LruCache<Box<[u8]>, ()>,
    changed: bool,
}

impl Records {
    /// An empty store of the node `local`.
    pub(super) fn new(local: PeerId, limits: Limits) -> Self {
        Self {
            local,
            local_hash: Sha256::digest(local.to_bytes()).into(),
            limits,
            values: BTreeMap::new(),
            value_bytes: 0,
            providers: BTreeMap::new(),
            provider_count: 0,
            provider_bytes: 0,
            own: LruCache::unbounded(),
            changed: false,
        }
    }

    /// Keeps a record that someone put here, when it is valid and better than the one known.
    /// Returns whether it is now the one that is kept.
    pub(super) fn accept(&mut self, record: &Record) -> bool {
        let now = Timestamp::now();
        let key = record.key.as_ref();
        let Some(name) = name_of_key(key) else {
            return false;
        };
        let Ok(verified) = ipns::verify(&name, &record.value, now) else {
            return false;
        };
        let validity = verified.validity.as_second();
        let value = Value {
            key: key.into(),
            bytes: record.value.as_slice().into(),
            sequence: verified.sequence,
            validity,
            expires: record
                .expires
                .map_or(u64::MAX, unix_time)
                .min(u64::try_from(validity).unwrap_or(0)),
        };
        self.insert_value(value)
    }

    fn insert_value(&mut self, value: Value) -> bool {
        let distance = self.distance(&value.key);
        if let Some(known) = self.values.get(&distance) {
            if (known.sequence, known.validity) > (value.sequence, value.validity) {
                return false;
            }
            self.remove_value(&distance);
        }
        while self.values.len() >= self.limits.values
            || self.value_bytes + value.size() > self.limits.bytes
        {
            let Some(farthest) = self.values.last_key_value().map(|(key, _)| *key) else {
                return false;
            };
            if farthest <= distance {
                return false;
            }
            self.remove_value(&farthest);
        }
        self.value_bytes += value.size();
        self.values.insert(distance, value);
        self.changed = true;
        true
    }

    fn remove_value(&mut self, distance: &Distance) {
        if let Some(value) = self.values.remove(distance) {
            self.value_bytes -= value.size();
            self.changed = true;
        }
    }

    fn insert_provider(&mut self, key: &[u8], provider: Provider) -> bool {
        if key.len() > KEY_LIMIT {
            return false;
        }
        let distance = self.distance(key);
        self.remove_provider_at(&distance, &provider.peer);
        let size = provider.size(key);
        while self.provider_count >= self.limits.providers
            || self.provider_bytes + size > self.limits.bytes
        {
            let Some(farthest) = self.providers.last_key_value().map(|(key, _)| *key) else {
                return false;
            };
            if farthest <= distance {
                return false;
            }
            self.remove_providers(&farthest);
        }
        let entry = self.providers.entry(distance).or_insert_with(|| Providers {
            key: key.into(),
            peers: Vec::new(),
        });
        if entry.peers.len() >= PROVIDERS_PER_KEY {
            let oldest = entry
                .peers
                .iter()
                .enumerate()
                .min_by_key(|(_, known)| known.expires)
                .map(|(index, _)| index);
            if let Some(index) = oldest {
                let gone = entry.peers.swap_remove(index);
                self.provider_bytes -= gone.size(key);
                self.provider_count -= 1;
            }
        }
        entry.peers.push(provider);
        self.provider_bytes += size;
        self.provider_count += 1;
        self.changed = true;
        true
    }

    fn remove_provider_at(&mut self, distance: &Distance, peer: &PeerId) {
        let Some(entry) = self.providers.get_mut(distance) else {
            return;
        };
        if let Some(index) = entry.peers.iter().position(|known| known.peer == *peer) {
            let gone = entry.peers.swap_remove(index);
            self.provider_bytes -= gone.size(&entry.key);
            self.provider_count -= 1;
            self.changed = true;
        }
        if entry.peers.is_empty() {
            self.providers.remove(distance);
        }
    }

    fn remove_providers(&mut self, distance: &Distance) {
        if let Some(entry) = self.providers.remove(distance) {
            self.provider_count -= entry.peers.len();
            self.provider_bytes -= entry
                .peers
                .iter()
                .map(|p| p.size(&entry.key))
                .sum::<usize>();
            self.changed = true;
        }
    }

    /// Drops what has expired.
    pub(super) fn expire(&mut self) {
        let now = unix_now();
        let values: Vec<Distance> = self
            .values
            .iter()
            .filter(|(_, value)| value.expires <= now)
            .map(|(distance, _)| *distance)
            .collect();
        for distance in &values {
            self.remove_value(distance);
        }
        let providers: Vec<(Distance, PeerId)> = self
            .providers
            .iter()
            .flat_map(|(distance, entry)| entry.peers.iter().map(move |peer| (*distance, peer)))
            .filter(|(_, provider)| provider.expires <= now)
            .map(|(distance, provider)| (distance, provider.peer))
            .collect();
        for (distance, peer) in &providers {
            self.remove_provider_at(distance, peer);
        }
    }

    fn distance(&self, key: &[u8]) -> Distance {
        let mut hash: Distance = Sha256::digest(key).into();
        for (byte, own) in hash.iter_mut().zip(self.local_hash) {
            *byte ^= own;
        }
        hash
    }
}

impl Value {
    fn size(&self) -> usize {
        self.key.len() + self.bytes.len() + size_of::<Self>()
    }

    fn to_record(&self) -> Record {
        Record {
            key: RecordKey::new(&self.key),
            value: self.bytes.to_vec(),
            publisher: None,
            expires: Some(instant(self.expires)),
        }
    }
}

impl Provider {
    fn size(&self, key: &[u8]) -> usize {
        let addresses: usize = self.addresses.iter().map(Multiaddr::len).sum();
        key.len() + addresses + size_of::<Self>()
    }

    fn to_record(&self, key: &[u8]) -> ProviderRecord {
        ProviderRecord {
            key: RecordKey::new(&key),
            provider: self.peer,
            expires: Some(instant(self.expires)),
            addresses: self.addresses.clone(),
        }
    }
}

impl RecordStore for Records {
    type RecordsIter<'a> = Box<dyn Iterator<Item = Cow<'a, Record>> + 'a>;
    type ProvidedIter<'a> = Box<dyn Iterator<Item = Cow<'a, ProviderRecord>> + 'a>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let value = self.values.get(&self.distance(key.as_ref()))?;
        Some(Cow::Owned(value.to_record()))
    }

    fn put(&mut self, record: Record) -> Result<(), Error> {
        // An own record goes out to the closest peers even when there is no room for it here.
        if self.accept(&record) || record.publisher == Some(self.local) {
            Ok(())
        } else {
            Err(Error::MaxRecords)
        }
    }

    fn remove(&mut self, key: &RecordKey) {
        let distance = self.distance(key.as_ref());
        self.remove_value(&distance);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        Box::new(
            self.values
                .values()
                .map(|value| Cow::Owned(value.to_record())),
        )
    }

    /// The own provider records never fail for want of room: the oldest is forgotten here, and is
    /// still announced.
    fn add_provider(&mut self, record: ProviderRecord) -> Result<(), Error> {
        let key = record.key.as_ref();
        if record.provider == self.local {
            self.own.put(key.into(), ());
            if self.own.len() > self.limits.providers {
                self.own.pop_lru();
            }
            return Ok(());
        }
        let provider = Provider {
            peer: record.provider,
            expires: record.expires.map_or(u64::MAX, unix_time),
            addresses: record
                .addresses
                .into_iter()
                .filter(|address| address.len() <= ADDRESS_LIMIT)
                .take(ADDRESSES_PER_PROVIDER)
                .collect(),
        };
        if self.insert_provider(key, provider) {
            Ok(())
        } else {
            Err(Error::MaxProvidedKeys)
        }
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let key = key.as_ref();
        let others = self.providers.get(&self.distance(key));
        let own = self
            .own
            .contains(key)
            .then(|| ProviderRecord::new(RecordKey::new(&key), self.local, Vec::new()));
        own.into_iter()
            .chain(
                others
                    .into_iter()
                    .flat_map(|entry| entry.peers.iter().map(|peer| peer.to_record(key))),
            )
            .collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        Box::new(self.own.iter().map(|(key, ())| {
            Cow::Owned(ProviderRecord::new(
                RecordKey::new(key),
                self.local,
                Vec::new(),
            ))
        }))
    }

    fn remove_provider(&mut self, key: &RecordKey, peer: &PeerId) {
        if *peer == self.local {
            self.own.pop(key.as_ref());
        } else {
            let distance = self.distance(key.as_ref());
            self.remove_provider_at(&distance, peer);
        }
    }
}

/// The DHT key of a name: `/ipns/` and the binary multihash.
pub(super) fn key_of_name(name: &Name) -> RecordKey {
    let mut key = b"/ipns/".to_vec();
    key.extend(name.to_bytes());
    RecordKey::from(key)
}

/// The name that a DHT key is for; `None` for every other kind of key.
pub(super) fn name_of_key(key: &[u8]) -> Option<Name> {
    Name::from_bytes(key.strip_prefix(b"/ipns/")?).ok()
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn unix_time(at: Instant) -> u64 {
    let now = Instant::now();
    match at.checked_duration_since(now) {
        Some(ahead) => unix_now().saturating_add(ahead.as_secs()),
        None => unix_now().saturating_sub(now.saturating_duration_since(at).as_secs()),
    }
}

/// The instant of a time in Unix seconds; at most a year ahead.
fn instant(unix: u64) -> Instant {
    const YEAR: u64 = 365 * 24 * 60 * 60;
    let now = Instant::now();
    let ahead = unix.saturating_sub(unix_now()).min(YEAR);
    now.checked_add(Duration::from_secs(ahead)).unwrap_or(now)
}
