//! Records on disk: one file per DHT, replaced as a whole.
//!
//! A magic of eight bytes, then entries: length (u32 LE), CRC32 of the body (u32 LE), body
//! (protobuf [`Entry`]). Reading ends at the first entry that is not whole: these are copies of
//! what other peers have too, so the file is neither synced nor repaired.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use libp2p::{Multiaddr, PeerId};
use prost::Message;

use super::{Limits, Provider, Records, Value};

/// Name and format version.
const MAGIC: &[u8; 8] = b"DUKADHT1";
/// Longest entry: a record of 10 KiB and its fields.
const ENTRY_LIMIT: u32 = 64 * 1024;

/// One IPNS record, or one provider record when `peer` is there.
#[derive(Clone, PartialEq, Message)]
pub(in crate::net) struct Entry {
    /// The DHT key.
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    /// The signed IPNS record.
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    /// Its sequence number.
    #[prost(uint64, tag = "3")]
    sequence: u64,
    /// Until when it is valid, Unix seconds.
    #[prost(int64, tag = "4")]
    validity: i64,
    /// When this node drops the entry, Unix seconds.
    #[prost(uint64, tag = "5")]
    expires: u64,
    /// The provider's peer id.
    #[prost(bytes = "vec", tag = "6")]
    peer: Vec<u8>,
    /// The provider's addresses, binary.
    #[prost(bytes = "vec", repeated, tag = "7")]
    addresses: Vec<Vec<u8>>,
}

impl Records {
    /// All entries, when there was a change since the last call.
    pub(in crate::net) fn take_changes(&mut self) -> Option<Vec<Entry>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let values = self.values.values().map(|value| Entry {
            key: value.key.to_vec(),
            value: value.bytes.to_vec(),
            sequence: value.sequence,
            validity: value.validity,
            expires: value.expires,
            ..Entry::default()
        });
        let providers = self.providers.values().flat_map(|entry| {
            entry.peers.iter().map(|provider| Entry {
                key: entry.key.to_vec(),
                expires: provider.expires,
                peer: provider.peer.to_bytes(),
                addresses: provider.addresses.iter().map(Multiaddr::to_vec).collect(),
                ..Entry::default()
            })
        });
        Some(values.chain(providers).collect())
    }

    /// A store of the node `local` with the entries that are still good. The signatures were
    /// verified before the entries were written.
    pub(in crate::net) fn restore(local: PeerId, limits: Limits, entries: Vec<Entry>) -> Self {
        let mut records = Self::new(local, limits);
        for entry in entries {
            if entry.peer.is_empty() {
                records.insert_value(Value {
                    key: entry.key.into(),
                    bytes: entry.value.into(),
                    sequence: entry.sequence,
                    validity: entry.validity,
                    expires: entry.expires,
                });
            } else if let Ok(peer) = PeerId::from_bytes(&entry.peer) {
                let provider = Provider {
                    peer,
                    expires: entry.expires,
                    addresses: entry
                        .addresses
                        .into_iter()
                        .filter_map(|address| Multiaddr::try_from(address).ok())
                        .collect(),
                };
                records.insert_provider(&entry.key, provider);
            }
        }
        records.expire();
        records.changed = false;
        records
    }
}

/// Replaces the file. Blocking.
///
/// # Errors
/// When it cannot be written; the old one is then still there.
pub(in crate::net) fn save(path: &Path, entries: &[Entry]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let temporary = path.with_extension("new");
    let mut file = BufWriter::new(File::create(&temporary)?);
    file.write_all(MAGIC)?;
    for entry in entries {
        let body = entry.encode_to_vec();
        let Ok(length) = u32::try_from(body.len()) else {
            continue;
        };
        file.write_all(&length.to_le_bytes())?;
        file.write_all(&crc32fast::hash(&body).to_le_bytes())?;
        file.write_all(&body)?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?;
    std::fs::rename(temporary, path)
}

/// The entries of the file, as far as they are whole. Blocking.
///
/// # Errors
/// When there is a file that cannot be opened.
pub(in crate::net) fn load(path: &Path) -> io::Result<Vec<Entry>> {
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut magic = [0; MAGIC.len()];
    let mut entries = Vec::new();
    if file.read_exact(&mut magic).is_err() || magic != *MAGIC {
        return Ok(entries);
    }
    while let Some(entry) = read_entry(&mut file) {
        entries.push(entry);
    }
    Ok(entries)
}

fn read_entry(file: &mut impl Read) -> Option<Entry> {
    let (mut length, mut crc) = ([0; 4], [0; 4]);
    file.read_exact(&mut length).ok()?;
    file.read_exact(&mut crc).ok()?;
    let length = u32::from_le_bytes(length);
    if length > ENTRY_LIMIT {
        return None;
    }
    let mut body = vec![0; usize::try_from(length).ok()?];
    file.read_exact(&mut body).ok()?;
    if crc32fast::hash(&body) != u32::from_le_bytes(crc) {
        return None;
    }
    Entry::decode(body.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use libp2p::kad::store::RecordStore;
    use libp2p::kad::{ProviderRecord, RecordKey};

    use super::*;

    fn provider(key: u8) -> ProviderRecord {
        let address = "/ip4/1.2.3.4/tcp/4001".parse().unwrap();
        ProviderRecord::new(vec![key; 34], PeerId::random(), vec![address])
    }

    #[test]
    fn provider_records_survive_a_restart_and_a_cut_file_keeps_its_whole_entries() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dht").join("lan");
        let local = PeerId::random();
        let mut records = Records::new(local, Limits::default());
        records.add_provider(provider(1)).unwrap();
        records.add_provider(provider(2)).unwrap();
        let entries = records.take_changes().unwrap();
        assert!(records.take_changes().is_none());
        save(&path, &entries).unwrap();

        let restored = Records::restore(local, Limits::default(), load(&path).unwrap());
        assert_eq!(restored.providers, records.providers);
        assert_eq!(restored.provider_bytes, records.provider_bytes);

        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(load(&path).unwrap(), entries[..1]);
        std::fs::write(&path, &whole[..4]).unwrap();
        assert_eq!(load(&path).unwrap(), []);
    }

    #[test]
    fn a_provider_record_that_has_expired_is_not_restored() {
        let local = PeerId::random();
        let mut records = Records::new(local, Limits::default());
        records.add_provider(provider(1)).unwrap();
        let mut entries = records.take_changes().unwrap();
        entries[0].expires = 1;
        let restored = Records::restore(local, Limits::default(), entries);
        assert!(restored.providers(&RecordKey::from(vec![1; 34])).is_empty());
        assert_eq!(restored.provider_count, 0);
    }
}
