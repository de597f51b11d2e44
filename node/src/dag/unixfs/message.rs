//! The protobuf message in the `Data` field of a UnixFS node (specs.ipfs.tech/unixfs).

use bytes::Bytes;

pub(super) const RAW: i32 = 0;
pub(super) const DIRECTORY: i32 = 1;
pub(super) const FILE: i32 = 2;
pub(super) const SYMLINK: i32 = 4;
pub(super) const HAMT_SHARD: i32 = 5;

/// `Data`. `kind` is required by the specification; optional here so that its absence is seen.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Data {
    #[prost(int32, optional, tag = "1")]
    pub(super) kind: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) data: Option<Bytes>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) filesize: Option<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    pub(super) blocksizes: Vec<u64>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) hash_type: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    pub(super) fanout: Option<u64>,
    #[prost(uint32, optional, tag = "7")]
    pub(super) mode: Option<u32>,
    #[prost(message, optional, tag = "8")]
    pub(super) mtime: Option<Timestamp>,
}

/// `IPFSTimestamp`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Timestamp {
    #[prost(int64, optional, tag = "1")]
    pub(super) seconds: Option<i64>,
    #[prost(fixed32, optional, tag = "2")]
    pub(super) nanos: Option<u32>,
}
