use proptest::prelude::*;

use super::*;

fn block(bytes: Vec<u8>) -> Block {
    Block::of(DAG_PB, bytes.into())
}

fn node(links: &[Link], message: &Data) -> Block {
    block(dagpb::encode(links, &message.encode_to_vec()))
}

fn link() -> Link {
    Link {
        cid: crate::block::cid_of(RAW, b"chunk"),
        name: Vec::new(),
        tsize: 5,
    }
}

fn file_message(blocksizes: Vec<u64>) -> Data {
    Data {
        blocksizes,
        ..message_of(message::FILE, Metadata::default())
    }
}

fn reason(block: &Block) -> String {
    decode(block).unwrap_err().to_string()
}

#[test]
fn block_sizes_that_do_not_match_the_links_are_refused() {
    assert!(reason(&node(&[link()], &file_message(vec![]))).contains("number of block sizes"));
    assert!(reason(&node(&[], &file_message(vec![5]))).contains("number of block sizes"));
}

#[test]
fn sizes_that_overflow_are_refused() {
    let message = file_message(vec![u64::MAX, 1]);
    assert!(reason(&node(&[link(), link()], &message)).contains("2^64"));
}

#[test]
fn false_file_size_is_refused() {
    let mut message = file_message(vec![5]);
    message.filesize = Some(6);
    assert!(reason(&node(&[link()], &message)).contains("file size"));
}

#[test]
fn missing_type_is_refused() {
    let message = Data::default();
    assert!(reason(&node(&[], &message)).contains("no type"));
    assert!(reason(&block(vec![])).contains("no data"));
}

#[test]
fn shard_limits_hold() {
    let shard = |fanout, bitfield: usize| {
        let message = Data {
            data: Some(vec![255; bitfield].into()),
            hash_type: Some(MURMUR3_X64_64),
            fanout: Some(fanout),
            ..message_of(message::HAMT_SHARD, Metadata::default())
        };
        decode(&node(&[], &message))
    };
    assert!(shard(256, 32).is_ok());
    assert!(shard(1024, 128).is_ok());
    assert!(matches!(shard(2048, 32), Err(DagError::Limit { .. })));
    assert!(matches!(shard(1 << 62, 32), Err(DagError::Limit { .. })));
    assert!(matches!(shard(0, 0), Err(DagError::Malformed { .. })));
    assert!(matches!(shard(255, 1), Err(DagError::Malformed { .. })));
    assert!(matches!(shard(256, 33), Err(DagError::Malformed { .. })));
}

#[test]
fn metadata_of_kubo_is_read_back() {
    let metadata = Metadata {
        mode: Some(0o644),
        mtime: Some((-1, 999_999_999)),
    };
    let leaf = block(encode_leaf(Bytes::from_static(b"hi"), metadata));
    let UnixFs::File(file) = decode(&leaf).unwrap() else {
        panic!("not a file")
    };
    assert_eq!((file.metadata, file.size), (metadata, 2));
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail_without_panic(bytes: Vec<u8>) {
        let _ignored = decode(&block(bytes.clone()));
        let _ignored = decode(&block(dagpb::encode(&[link()], &bytes)));
    }
}
