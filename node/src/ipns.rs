//! IPNS records: make, verify, compare (IPNS spec, specs.ipfs.tech/ipns/ipns-record).
//!
//! The V2 signature over the CBOR data is required; V1 fields, where present, must agree with it.

pub(crate) mod fuzz;

use std::time::Duration;

use jiff::Timestamp;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::block::IDENTITY;
use crate::keys::{Name, name_of};

/// Largest record, in bytes (IPNS spec, "record size limit").
pub const MAX_RECORD_LEN: usize = 10 << 10;
/// What the V2 signature covers before the CBOR data.
const SIGNATURE_PREFIX: &[u8] = b"ipns-signature:";
/// The only validity type there is: a time of expiry.
const EOL: i32 = 0;

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
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
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

/// The protobuf message. Fields 1 to 6 are V1's.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(bytes = "vec", optional, tag = "1")]
    value: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    signature_v1: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "3")]
    validity_type: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    validity: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "5")]
    sequence: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    ttl: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "7")]
    public_key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "8")]
    signature_v2: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "9")]
    data: Option<Vec<u8>>,
}

/// The signed DAG-CBOR map; keys in its canonical order. Further keys are allowed and ignored.
#[derive(Serialize, Deserialize)]
struct Data {
    /// Nanoseconds.
    #[serde(rename = "TTL")]
    ttl: Option<u64>,
    #[serde(rename = "Value", with = "serde_bytes")]
    value: Vec<u8>,
    #[serde(rename = "Sequence")]
    sequence: u64,
    #[serde(rename = "Validity", with = "serde_bytes")]
    validity: Vec<u8>,
    #[serde(rename = "ValidityType")]
    validity_type: i32,
}

/// Signs a record (V2 and V1 fields, as Kubo makes them). `key` is an Ed25519 key.
pub fn sign(
    key: &Keypair,
    value: &str,
    sequence: u64,
    validity: Timestamp,
    ttl: Duration,
) -> Record {
    let sign = |message: &[u8]| key.sign(message).expect("an Ed25519 key signs anything");
    let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
    let data = Data {
        ttl: Some(ttl),
        value: value.as_bytes().to_vec(),
        sequence,
        validity: validity.to_string().into_bytes(),
        validity_type: EOL,
    };
    let cbor = serde_ipld_dagcbor::to_vec(&data).expect("numbers and bytes have a CBOR form");
    let signature_v1 = sign(&[data.value.as_slice(), &data.validity, b"EOL"].concat());
    let signature_v2 = sign(&[SIGNATURE_PREFIX, &cbor].concat());
    // The name of a short key holds the key itself.
    let inlined = name_of(key).cid().hash().code() == IDENTITY;
    let entry = Entry {
        value: Some(data.value),
        signature_v1: Some(signature_v1),
        validity_type: Some(EOL),
        validity: Some(data.validity),
        sequence: Some(sequence),
        ttl: Some(ttl),
        public_key: (!inlined).then(|| key.public().encode_protobuf()),
        signature_v2: Some(signature_v2),
        data: Some(cbor),
    };
    Record {
        value: value.to_owned(),
        sequence,
        validity,
        ttl: Duration::from_nanos(ttl),
        bytes: entry.encode_to_vec(),
    }
}

/// Verifies `bytes` as a record of `name` at the time `now`.
pub fn verify(name: &Name, bytes: &[u8], now: Timestamp) -> Result<Record, RecordError> {
    use RecordError::Malformed;

    if bytes.len() > MAX_RECORD_LEN {
        return Err(Malformed("it is larger than 10 KiB"));
    }
    let entry = Entry::decode(bytes).map_err(|_| Malformed("it is not a protobuf message"))?;
    let filled = |field: &Option<Vec<u8>>| field.clone().filter(|f| !f.is_empty());
    let signature = filled(&entry.signature_v2).ok_or(Malformed("it has no V2 signature"))?;
    let cbor = filled(&entry.data).ok_or(Malformed("it has no signed data"))?;

    let key = public_key(name, entry.public_key.as_deref())?;
    if !key.verify(&[SIGNATURE_PREFIX, &cbor].concat(), &signature) {
        return Err(RecordError::Signature);
    }

    let data: Data = serde_ipld_dagcbor::from_slice(&cbor)
        .map_err(|_| Malformed("its data is not the CBOR of a record"))?;
    let has_v1 = filled(&entry.signature_v1).is_some() || filled(&entry.value).is_some();
    if has_v1 && !v1_agrees(&entry, &data) {
        return Err(Malformed("its V1 fields disagree with the signed data"));
    }
    if data.validity_type != EOL {
        return Err(Malformed("its validity type is unknown"));
    }
    let validity = std::str::from_utf8(&data.validity)
        .ok()
        .and_then(|time| time.parse::<Timestamp>().ok())
        .ok_or(Malformed("its validity is not a time"))?;
    if now > validity {
        return Err(RecordError::Expired(validity));
    }
    let value = String::from_utf8(data.value)
        .ok()
        .filter(|value| value.starts_with("/ipfs/") || value.starts_with("/ipns/"))
        .ok_or(Malformed("its value is not a path"))?;
    Ok(Record {
        value,
        sequence: data.sequence,
        validity,
        ttl: Duration::from_nanos(data.ttl.unwrap_or(0)),
        bytes: bytes.to_vec(),
    })
}

/// Whether record `a` of a name replaces `b`: higher sequence number, then later validity, then
/// larger bytes, so that all nodes choose the same.
pub fn newer(a: &Record, b: &Record) -> bool {
    let rank = |record: &Record| (record.sequence, record.validity);
    rank(a)
        .cmp(&rank(b))
        .then_with(|| a.bytes.cmp(&b.bytes))
        .is_gt()
}

/// The key in the record, which must hash to the name, or the one that the name itself holds.
fn public_key(name: &Name, embedded: Option<&[u8]>) -> Result<PublicKey, RecordError> {
    let hash = name.cid().hash();
    match embedded.filter(|key| !key.is_empty()) {
        Some(bytes) => {
            let key = PublicKey::try_decode_protobuf(bytes)
                .map_err(|_| RecordError::Malformed("its public key does not decode"))?;
            if PeerId::from(&key).to_bytes() != name.to_bytes() {
                return Err(RecordError::Signature);
            }
            Ok(key)
        }
        None if hash.code() == IDENTITY => PublicKey::try_decode_protobuf(hash.digest())
            .map_err(|_| RecordError::Malformed("its name holds no public key")),
        None => Err(RecordError::Malformed("its public key is missing")),
    }
}

fn v1_agrees(entry: &Entry, data: &Data) -> bool {
    entry.value.as_deref().unwrap_or_default() == data.value
        && entry.validity.as_deref().unwrap_or_default() == data.validity
        && entry.validity_type.unwrap_or(EOL) == data.validity_type
        && entry.sequence.unwrap_or(0) == data.sequence
        && entry.ttl.unwrap_or(0) == data.ttl.unwrap_or(0)
}

#[cfg(test)]
mod tests;
