//! DAGs that are made to cost.

use std::time::Duration;

use cid::Cid;
use cid::multihash::Multihash;
use duka_config::GatewayConfig;
use duka_node::block::{Block, DAG_CBOR, DAG_PB, RAW};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::memory::{MemoryBackend, document, file, folder, sections};
use super::{Reply, TestServer, config};

/// Longest wait for something that must happen.
const DEADLINE: Duration = Duration::from_secs(20);
/// Levels of a DAG that a walk goes down.
const MAX_DEPTH: usize = 1024;

async fn get(server: &TestServer, path: &str) -> Reply {
    let reply = tokio::time::timeout(DEADLINE, server.get(path)).await;
    reply.expect("the answer ends")
}

/// A chain of `levels`, of which the backend has the first 3,000.
fn chain(backend: &mut MemoryBackend, levels: usize, codec: u64, node: fn(&Cid) -> Vec<u8>) -> Cid {
    let mut at = backend.add(RAW, "the bottom");
    for level in (0..levels).rev() {
        let data = node(&at);
        at = match level {
            0..3_000 => backend.add(codec, data),
            _ => *Block::of(codec, data.into()).cid(),
        };
    }
    at
}

#[tokio::test]
async fn dag_of_a_million_levels_ends_at_the_limit() {
    let mut backend = MemoryBackend::with_test_data();
    let documents = chain(&mut backend, 1_000_000, DAG_CBOR, |child| {
        document(&[*child])
    });
    let folders = chain(&mut backend, 5_000, DAG_PB, |child| folder(&[("a", child)]));
    let files = chain(&mut backend, 5_000, DAG_PB, |child| file(&[(*child, 1)]));
    let server = TestServer::with(config(), backend).await;
    for (root, query) in [
        (documents, "format=car"),
        (documents, "format=car&car-dups=y"),
        (folders, "format=car"),
        (files, "format=car&dag-scope=entity"),
    ] {
        let car = get(&server, &format!("/ipfs/{root}?{query}")).await;
        assert_eq!((car.status.as_u16(), car.complete), (200, false), "{query}");
        let blocks = sections(&car.body).len();
        assert!(
            (MAX_DEPTH..=MAX_DEPTH + 1).contains(&blocks),
            "{query}: {blocks}"
        );
    }
    let tar = get(&server, &format!("/ipfs/{folders}?format=tar")).await;
    assert_eq!((tar.status.as_u16(), tar.complete), (200, false));
    let file = get(&server, &format!("/ipfs/{files}?filename=a.bin")).await;
    assert_eq!(file.status, 422, "{file:?}");
    assert_eq!(
        get(&server, &format!("/ipfs/{documents}?format=raw"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn file_of_which_too_many_parts_wait_ends_at_the_limit() {
    let mut backend = MemoryBackend::with_test_data();
    let part = backend.add(RAW, "part");
    let mut at = (part, 4);
    for _ in 0..1_000 {
        let mut parts = vec![at];
        parts.extend([(part, 4); 300]);
        let len = parts.iter().map(|(_, len)| len).sum();
        at = (backend.add(DAG_PB, file(&parts)), len);
    }
    let server = TestServer::with(config(), backend).await;
    let car = format!("/ipfs/{}?format=car&dag-scope=entity", at.0);
    let reply = get(&server, &car).await;
    assert_eq!((reply.status.as_u16(), reply.complete), (200, false));
    assert!(sections(&reply.body).len() < 1_000);
}

#[tokio::test]
async fn dag_of_2_to_the_64_visits_goes_at_the_pace_of_its_client_and_ends_with_it() {
    let mut backend = MemoryBackend::with_test_data();
    let mut at = backend.add(RAW, "leaf");
    for _ in 0..64 {
        at = backend.add(DAG_PB, folder(&[("a", &at), ("b", &at)]));
    }
    let config = GatewayConfig {
        concurrent_retrievals: 1,
        ..config()
    };
    let server = TestServer::with(config, backend).await;
    let once = get(&server, &format!("/ipfs/{at}?format=car")).await;
    assert!(once.complete);
    assert_eq!(sections(&once.body).len(), 65);
    for query in ["format=car&car-dups=y", "format=tar"] {
        let mut client = TcpStream::connect(server.addr).await.unwrap();
        let request = format!("GET /ipfs/{at}?{query} HTTP/1.1\r\nHost: x\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut taken = vec![0; 1 << 20];
        let read = tokio::time::timeout(DEADLINE, client.read_exact(&mut taken)).await;
        read.expect("it goes on").unwrap();
        assert!(taken.starts_with(b"HTTP/1.1 200"), "{query}");
        // Whoever walks holds the only permit, until the client is gone.
        let other = format!("/ipfs/{at}?format=car");
        assert_eq!(server.get(&other).await.status, 429, "{query}");
        drop(client);
        let served = async {
            while server.get(&other).await.status != 200 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, served).await.expect(query);
    }
}

#[tokio::test]
async fn hamt_of_an_absurd_width_is_refused() {
    let mut backend = MemoryBackend::with_test_data();
    // Type, hash function, and a fanout of 2^62, of 2^20, of 0, of 7; then a bitfield of 4 KiB for 256.
    let shard = |bitfield: &[u8], fanout: &[u8]| {
        let mut data = vec![0x08, 0x05, 0x12];
        let mut buffer = unsigned_varint::encode::usize_buffer();
        data.extend(unsigned_varint::encode::usize(bitfield.len(), &mut buffer));
        data.extend(bitfield);
        data.extend(b"\x28\x22\x30");
        data.extend(fanout);
        let mut node = vec![0x0a];
        node.extend(unsigned_varint::encode::usize(data.len(), &mut buffer));
        [node, data].concat()
    };
    let shards = [
        shard(
            &[1],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40],
        ),
        shard(&[1], &[0x80, 0x80, 0x40]),
        shard(&[1], &[0]),
        shard(&[1], &[7]),
        shard(&[0xff; 4096], &[0x80, 0x02]),
    ];
    let shards = shards.map(|shard| backend.add(DAG_PB, shard));
    let server = TestServer::with(config(), backend).await;
    for shard in shards {
        for path in ["/", "/name", "?format=tar"] {
            let reply = get(&server, &format!("/ipfs/{shard}{path}")).await;
            let is_refused = matches!(reply.status.as_u16(), 422 | 500);
            assert!(is_refused, "{shard}{path}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn identity_cid_that_is_too_long_is_refused() {
    let server = TestServer::start().await;
    let cid = |len: usize| {
        let digest = vec![b'x'; len];
        let hash = Multihash::<64>::wrap(0, digest.get(..len.min(64)).unwrap()).unwrap();
        if len <= 64 {
            return Cid::new_v1(RAW, hash).to_string();
        }
        let mut bytes = vec![1, 0x55, 0];
        let mut buffer = unsigned_varint::encode::usize_buffer();
        bytes.extend(unsigned_varint::encode::usize(len, &mut buffer));
        bytes.extend(digest);
        multibase::encode(multibase::Base::Base32Lower, bytes)
    };
    assert_eq!(
        get(&server, &format!("/ipfs/{}", cid(64))).await.status,
        200
    );
    for len in [129, 1_000, 4_000] {
        for query in ["", "?format=raw", "?format=car"] {
            let reply = get(&server, &format!("/ipfs/{}{query}", cid(len))).await;
            assert_eq!(reply.status, 400, "{len}{query}");
        }
    }
}
