//! What fuzzing calls.

use std::time::Duration;

use jiff::Timestamp;
use libp2p::identity::Keypair;
use prost::Message;

use super::{Entry, Record, RecordError, SIGNATURE_PREFIX, sign, verify};
use crate::keys::name_of;

/// [`verify`] for the name whose records the functions here sign.
///
/// # Errors
/// As [`verify`].
pub fn verify_record(bytes: &[u8]) -> Result<Record, RecordError> {
    verify(&name_of(&key()), bytes, Timestamp::UNIX_EPOCH)
}

/// A record with any data.
pub fn sign_data(data: &[u8]) -> Vec<u8> {
    let signature = key().sign(&[SIGNATURE_PREFIX, data].concat());
    let entry = Entry {
        signature_v2: signature.ok(),
        data: Some(data.to_vec()),
        ..Entry::default()
    };
    entry.encode_to_vec()
}

/// A record, and its data.
pub fn example_record() -> (Vec<u8>, Vec<u8>) {
    let hour = Duration::from_secs(3600);
    let record = sign(
        &key(),
        "/ipfs/bafkqaaa",
        7,
        Timestamp::UNIX_EPOCH + hour,
        hour,
    );
    let entry = Entry::decode(&record.bytes[..]).unwrap_or_default();
    (record.bytes, entry.data.unwrap_or_default())
}

fn key() -> Keypair {
    Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes are a key")
}
