//! IPNS records: make, verify, compare (IPNS spec, specs.ipfs.tech/ipns/ipns-record).
//!
//! The V2 signature over the CBOR data is required; V1 fields, where present, must agree with it.

use std::time::Duration;

use jiff::Timestamp;
use libp2p::identity::Keypair;

use crate::keys::Name;

/// A verified record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `/ipfs/…` or `/ipns/…`.
    pub value: String,
    /// Grows with each change of the value.
    pub sequence: u64,
    /// Until when it is valid.
    pub validity: Timestamp,
    /// How long it may be cached.
    pub ttl: Duration,
    /// The signed protobuf, as it travels.
    pub bytes: Vec<u8>,
}

/// Why a record was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// Not a record at all, over the 10 KiB limit, or with fields that disagree.
    #[error("this is not a valid IPNS record: {0}")]
    Malformed(&'static str),
    /// The signature does not match the name.
    #[error("the record is not signed by the key of its name")]
    Signature,
    /// Its validity has passed.
    #[error("the record expired at {0}")]
    Expired(Timestamp),
}

/// Signs a record (V2 and V1 fields, as Kubo makes them).
pub fn sign(
    _key: &Keypair,
    _value: &str,
    _sequence: u64,
    _validity: Timestamp,
    _ttl: Duration,
) -> Record {
    todo!()
}

/// Verifies `bytes` as a record of `name` at the time `now`.
pub fn verify(_name: &Name, _bytes: &[u8], _now: Timestamp) -> Result<Record, RecordError> {
    todo!()
}

/// Whether `a` replaces `b`: higher sequence, then later validity (IPNS spec, "record selection").
pub fn newer(_a: &Record, _b: &Record) -> bool {
    todo!()
}
