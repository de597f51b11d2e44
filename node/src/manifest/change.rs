//! A change of the manifest: conditions and operations that commit together.

use cid::Cid;
use serde::{Deserialize, Serialize};

use super::record::{
    Head, Job, JobId, Mirror, NameRecord, Pin, Product, Release, Shop, ShopEntry, versioned,
};
use crate::ids::{ProductId, Version};
use crate::ipns;
use crate::keys::Name;

/// Conditions and operations that commit together.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// What must hold, or nothing is done.
    pub expect: Vec<Expect>,
    /// What is done, in order.
    pub ops: Vec<Op>,
}

/// A condition.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Expect {
    /// The product has no release of this version.
    ReleaseAbsent(ProductId, Version),
    /// The product has this release.
    ReleasePresent(ProductId, Version),
    /// The newest head has this sequence number (0: no head yet).
    HeadSeq(u64),
    /// The stored IPNS record of this name has a lower sequence number than the new one.
    NameSeqBelow(Vec<u8>, u64),
    /// The stored IPNS record of this name, if it is valid, is not newer than this one.
    NoNewerRecord(Name, ipns::Record),
    /// The CID is pinned.
    Pinned(Cid),
    /// The next release of the product gets this number (1: it has none yet).
    NextRelease(ProductId, u64),
}

/// Which condition did not hold.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conflict {
    /// The version is already published.
    #[error("{product} {version} is already published")]
    ReleaseExists {
        /// The product.
        product: ProductId,
        /// The version.
        version: Version,
    },
    /// There is no such product.
    #[error("there is no product {product}")]
    NoProduct {
        /// Its id.
        product: ProductId,
    },
    /// The product has no such release.
    #[error("{product} has no version {version}")]
    NoRelease {
        /// The product.
        product: ProductId,
        /// The version.
        version: Version,
    },
    /// Another head was committed first.
    #[error("the head has moved on to {found}")]
    HeadMoved {
        /// Its sequence number.
        found: u64,
    },
    /// A newer record is stored, or one with the same sequence number where that must grow.
    #[error("a newer record, with sequence {found}, is already stored for this name")]
    NameOlder {
        /// Its sequence number.
        found: u64,
    },
    /// Not pinned.
    #[error("{cid} is not pinned")]
    NotPinned {
        /// The CID.
        cid: Cid,
    },
    /// Another release of the product was committed first.
    #[error("{product} got another release; the next one has number {next}")]
    ReleaseMoved {
        /// The product.
        product: ProductId,
        /// The number that the next release gets now.
        next: u64,
    },
}

/// An operation. Serialized into the journal as DAG-CBOR: variants are only added, never changed.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "changes are few, and gone soon")]
pub enum Op {
    /// Stores a product.
    PutProduct(ProductId, #[serde(with = "versioned")] Product),
    /// Stores a release.
    PutRelease(ProductId, Version, #[serde(with = "versioned")] Release),
    /// Stores a pin.
    PutPin(Cid, #[serde(with = "versioned")] Pin),
    /// Removes a pin.
    DeletePin(Cid),
    /// Stores a job.
    PutJob(JobId, #[serde(with = "versioned")] Job),
    /// Removes a job that is done.
    DeleteJob(JobId),
    /// Stores the newest head.
    PutHead(#[serde(with = "versioned")] Head),
    /// Stores an IPNS record under the binary multihash of its key.
    PutName(
        #[serde(with = "serde_bytes")] Vec<u8>,
        #[serde(with = "versioned")] NameRecord,
    ),
    /// Stores a small value of a worker, such as a cursor: key and value.
    PutState(String, #[serde(with = "serde_bytes")] Vec<u8>),
    /// Removes such a value.
    DeleteState(String),
    /// Stores what the newest head holds of a product.
    PutShopEntry(ProductId, #[serde(with = "versioned")] ShopEntry),
    /// Stores what the own shop says of itself.
    PutShop(#[serde(with = "versioned")] Shop),
    /// Stores a mirrored shop under the binary multihash of its key.
    PutMirror(
        #[serde(with = "serde_bytes")] Vec<u8>,
        #[serde(with = "versioned")] Mirror,
    ),
    /// Removes one.
    DeleteMirror(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// The payload of a journal or checkpoint entry, under its version.
#[derive(Serialize, Deserialize)]
pub(super) enum Payload {
    /// Operations, in order.
    V1(Vec<Op>),
}
