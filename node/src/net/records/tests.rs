//! Bounds and order of the record store.

use jiff::ToSpan;
use libp2p::identity::Keypair;

use super::*;
use crate::keys::name_of;

const SMALL: Limits = Limits {
    values: 4,
    providers: 50,
    bytes: 1024 * 1024,
};

fn provider(key: Vec<u8>) -> ProviderRecord {
    ProviderRecord::new(key, PeerId::random(), Vec::new())
}

fn signed(key: &Keypair, sequence: u64) -> Record {
    let validity = Timestamp::now() + 24.hours();
    let record = ipns::sign(
        key,
        "/ipfs/bafkqaaa",
        sequence,
        validity,
        Duration::from_secs(60),
    );
    Record::new(key_of_name(&name_of(key)), record.bytes)
}

#[test]
fn a_full_store_keeps_the_provider_records_closest_to_its_own_id() {
    let mut records = Records::new(PeerId::random(), SMALL);
    let keys: Vec<Vec<u8>> = (0..200u8).map(|n| vec![n; 34]).collect();
    for key in &keys {
        records.add_provider(provider(key.clone())).ok();
    }
    assert_eq!(records.provider_count, SMALL.providers);
    let mut closest = keys.clone();
    closest.sort_by_key(|key| records.distance(key));
    for (rank, key) in closest.into_iter().enumerate() {
        let kept = !records.providers(&RecordKey::from(key)).is_empty();
        assert_eq!(kept, rank < SMALL.providers, "{rank}");
    }
}

#[test]
fn bytes_are_bounded_too() {
    let limits = Limits {
        bytes: 4096,
        ..Limits::default()
    };
    let mut records = Records::new(PeerId::random(), limits);
    for n in 0..=255u8 {
        records.add_provider(provider(vec![n; 34])).ok();
        assert!(records.provider_bytes <= limits.bytes);
    }
    assert!(records.provider_count > 0);
}

#[test]
fn one_key_has_at_most_twenty_providers() {
    let mut records = Records::new(PeerId::random(), Limits::default());
    for _ in 0..30 {
        records.add_provider(provider(vec![1; 34])).unwrap();
    }
    assert_eq!(records.providers(&RecordKey::from(vec![1; 34])).len(), 20);
    assert_eq!(records.provider_count, 20);
}

#[test]
fn a_provider_that_announces_again_is_kept_once() {
    let mut records = Records::new(PeerId::random(), Limits::default());
    let record = provider(vec![1; 34]);
    records.add_provider(record.clone()).unwrap();
    let bytes = records.provider_bytes;
    records.add_provider(record.clone()).unwrap();
    assert_eq!(records.provider_count, 1);
    assert_eq!(records.provider_bytes, bytes);
    records.remove_provider(&record.key, &record.provider);
    assert_eq!((records.provider_count, records.provider_bytes), (0, 0));
}

#[test]
fn own_provider_records_are_never_refused_and_stay_bounded() {
    let local = PeerId::random();
    let mut records = Records::new(local, SMALL);
    for n in 0..200u8 {
        let record = ProviderRecord::new(vec![n; 34], local, Vec::new());
        records.add_provider(record).unwrap();
    }
    assert_eq!(records.provided().count(), SMALL.providers);
    let newest = records.providers(&RecordKey::from(vec![199; 34]));
    assert_eq!(newest[0].provider, local);
}

#[test]
fn the_newer_ipns_record_wins_whatever_the_order() {
    let key = Keypair::generate_ed25519();
    let (old, new) = (signed(&key, 1), signed(&key, 2));
    let mut records = Records::new(PeerId::random(), SMALL);
    assert!(records.accept(&old));
    assert!(records.accept(&new));
    assert!(!records.accept(&old));
    assert_eq!(records.get(&new.key).unwrap().value, new.value);
}

#[test]
fn a_record_for_another_name_or_of_another_kind_is_refused() {
    let mut records = Records::new(PeerId::random(), SMALL);
    let (mine, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let mut record = signed(&mine, 1);
    record.key = key_of_name(&name_of(&other));
    assert!(!records.accept(&record));
    record.key = RecordKey::from(b"/pk/abc".to_vec());
    assert!(!records.accept(&record));
    let mut damaged = signed(&mine, 1);
    damaged.value.truncate(damaged.value.len() - 1);
    assert!(!records.accept(&damaged));
    assert_eq!(records.records().count(), 0);
}

#[test]
fn ipns_records_are_bounded_in_number() {
    let mut records = Records::new(PeerId::random(), SMALL);
    for _ in 0..12 {
        records.accept(&signed(&Keypair::generate_ed25519(), 1));
    }
    assert_eq!(records.records().count(), SMALL.values);
}
