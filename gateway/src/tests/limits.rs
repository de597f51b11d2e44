//! What a client may cost, and how the server stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::memory::MemoryBackend;
use super::{BIG, HELLO, TestServer, config};

/// Longest wait for something that must happen.
const DEADLINE: Duration = Duration::from_secs(20);

async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes))
        .await
        .unwrap();
    bytes
}

#[tokio::test]
async fn header_that_does_not_end_is_cut_off() {
    let config = duka_config::GatewayConfig {
        header_timeout: Duration::from_millis(200),
        ..config()
    };
    let server = TestServer::with(config, MemoryBackend::with_test_data()).await;
    let mut half = TcpStream::connect(server.addr).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        .await
        .unwrap();
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    let mut preface = TcpStream::connect(server.addr).await.unwrap();
    preface.write_all(b"PRI * HT").await.unwrap();
    for stream in [&mut half, &mut silent] {
        assert_eq!(read_all(stream).await, b"");
    }
    // A server of HTTP/2 need not wait for the client's settings to send its own.
    let frames = read_all(&mut preface).await;
    assert!(frames.starts_with(b"\0\0\x18\x04"), "{frames:?}");
}

#[tokio::test]
async fn header_over_the_limit_is_refused() {
    let server = TestServer::start().await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "a".repeat(40 << 10)
    );
    // The server may close before all is written.
    let _written = stream.write_all(request.as_bytes()).await;
    let answer = read_all(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"));
    if let Some(answer) = answer.strip_prefix(b"HTTP/1.1 431") {
        let answer = String::from_utf8_lossy(answer);
        assert!(
            answer.contains("access-control-allow-origin: *"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn idle_connection_is_closed_and_a_busy_one_is_kept_alive() {
    let config = duka_config::GatewayConfig {
        idle_timeout: Duration::from_millis(300),
        ..config()
    };
    let server = TestServer::with(config, MemoryBackend::with_test_data()).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let request = format!("GET /ipfs/{HELLO} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let answers = String::from_utf8(read_all(&mut stream).await).unwrap();
    assert_eq!(answers.matches("hello world").count(), 2);
}

#[tokio::test]
async fn broken_stream_never_ends_cleanly_for_http_1_0() {
    let missing = duka_node::block::cid_of(0x55, &super::big()[5000..6000]).to_string();
    let server = TestServer::with(config(), MemoryBackend::without(&[&missing])).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let request = format!("GET /ipfs/{BIG}?format=car HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut Vec::new()))
        .await
        .unwrap();
    assert_eq!(
        ended.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn retrievals_over_the_limit_are_429_and_local_hits_are_not_counted() {
    let config = duka_config::GatewayConfig {
        concurrent_retrievals: 1,
        ..config()
    };
    let answers = Arc::new(Semaphore::new(0));
    let server = TestServer::with(config, MemoryBackend::remote(Arc::clone(&answers))).await;
    let path = format!("/ipfs/{HELLO}");
    let waiting = server.get(&path);
    let refused = async {
        // The first one holds the permit once a second one is refused.
        loop {
            let reply = server.ask("HEAD", &path, &[("connection", "close")]).await;
            if reply.status == 429 {
                return reply;
            }
        }
    };
    let (first, refused) = tokio::join!(waiting, async {
        let refused = tokio::time::timeout(DEADLINE, refused).await.unwrap();
        assert_eq!(server.get("/ipfs/bafkqaaa").await.status, 200);
        answers.add_permits(10);
        refused
    });
    assert_eq!(refused.header("retry-after"), "60");
    assert_eq!(first.text(), "hello world");
}

#[tokio::test]
async fn network_that_does_not_answer_is_504() {
    let backend = MemoryBackend::remote(Arc::new(Semaphore::new(0)));
    let backend = backend.waits(Duration::from_millis(100));
    let server = TestServer::with(config(), backend).await;
    let path = format!("/ipfs/{HELLO}");
    let reply = server.get(&path).await;
    assert_eq!(reply.status, 504);
    assert_eq!(reply.header("retry-after"), "60");
    let page = server.get_with(&path, &[("accept", "text/html")]).await;
    assert_eq!(page.status, 504);
    for words in [
        "<h1>504 Gateway Timeout</h1>",
        "Try again in a minute.",
        "a network in memory was asked",
        HELLO,
    ] {
        assert!(page.text().contains(words), "{words}: {}", page.text());
    }
}

#[tokio::test]
async fn network_that_stops_half_way_cuts_the_stream() {
    let backend = MemoryBackend::remote(Arc::new(Semaphore::new(9)));
    let backend = backend.waits(Duration::from_millis(200));
    let server = TestServer::with(config(), backend).await;
    let reply = server.get(&format!("/ipfs/{BIG}?filename=big.bin")).await;
    assert_eq!((reply.status.as_u16(), reply.complete), (200, false));
}

#[tokio::test]
async fn request_fetches_no_more_than_one_may() {
    let plenty = || MemoryBackend::remote(Arc::new(Semaphore::new(1_000)));
    let (mut few, mut short) = (config(), config());
    few.retrieval_blocks = 9;
    short.retrieval_bytes = bytesize::ByteSize::b(5_000);
    let path = format!("/ipfs/{BIG}?filename=big.bin");
    for config in [few, short] {
        let server = TestServer::with(config, plenty()).await;
        let reply = server.get(&path).await;
        assert_eq!((reply.status.as_u16(), reply.complete), (200, false));
        assert!(reply.body.len() < 10_000);
        // Each request has a budget of its own.
        assert_eq!(server.get(&format!("/ipfs/{HELLO}")).await.status, 200);
    }
    let mut none = config();
    none.retrieval_blocks = 0;
    let server = TestServer::with(none, plenty()).await;
    let reply = server.get(&format!("/ipfs/{HELLO}")).await;
    assert_eq!(reply.status, 422);
    assert!(reply.text().contains("0 blocks"), "{}", reply.text());
}

#[tokio::test]
async fn ready_only_between_start_and_stop() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 503);
    server.readiness.set_ready();
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn open_request_is_finished_while_draining() {
    let answers = Arc::new(Semaphore::new(0));
    let backend = MemoryBackend::remote(Arc::clone(&answers));
    let server = TestServer::with(config(), backend).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let request = format!("GET /ipfs/{HELLO} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // A second answer on the same runtime shows that the first request was taken up.
    assert_eq!(server.get("/healthz").await.status, 200);
    server.stop.cancel();
    answers.add_permits(1);
    let answer = String::from_utf8(read_all(&mut stream).await).unwrap();
    assert!(answer.ends_with("hello world"), "{answer}");
    tokio::time::timeout(DEADLINE, server.running)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn request_that_does_not_end_is_cut_when_the_drain_time_is_over() {
    let config = duka_config::GatewayConfig {
        drain_timeout: Duration::from_millis(100),
        ..config()
    };
    let backend = MemoryBackend::remote(Arc::new(Semaphore::new(0)));
    let server = TestServer::with(config, backend).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let request = format!("GET /ipfs/{HELLO} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(server.get("/healthz").await.status, 200);
    server.stop.cancel();
    assert_eq!(read_all(&mut stream).await, b"");
    tokio::time::timeout(DEADLINE, server.running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn kept_connection_gets_one_more_answer_after_another_process_took_the_sockets() {
    let server = TestServer::start().await;
    let request = format!("GET /ipfs/{HELLO} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut kept = TcpStream::connect(server.addr).await.unwrap();
    kept.write_all(request.as_bytes()).await.unwrap();
    let mut first = Vec::new();
    while !first.ends_with(b"hello world") {
        kept.read_buf(&mut first).await.unwrap();
    }
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    idle.write_all(request.as_bytes()).await.unwrap();
    idle.read_exact(&mut first).await.unwrap();

    server.leave.cancel();
    // Nobody accepts any more.
    let refused = async { while TcpStream::connect(server.addr).await.is_ok() {} };
    tokio::time::timeout(DEADLINE, refused).await.unwrap();
    kept.write_all(request.as_bytes()).await.unwrap();
    let last = String::from_utf8(read_all(&mut kept).await).unwrap();
    assert!(last.contains("\r\nconnection: close\r\n"), "{last}");
    assert!(last.ends_with("hello world"), "{last}");
    assert_eq!(read_all(&mut idle).await, b"");
    tokio::time::timeout(DEADLINE, server.running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn open_request_ends_whole_after_another_process_took_the_sockets() {
    let config = duka_config::GatewayConfig {
        drain_timeout: Duration::ZERO,
        ..config()
    };
    let answers = Arc::new(Semaphore::new(0));
    let backend = MemoryBackend::remote(Arc::clone(&answers));
    let server = TestServer::with(config, backend).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let request = format!("GET /ipfs/{HELLO} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(server.get("/healthz").await.status, 200);
    server.leave.cancel();
    let refused = async { while TcpStream::connect(server.addr).await.is_ok() {} };
    tokio::time::timeout(DEADLINE, refused).await.unwrap();
    answers.add_permits(1);
    let answer = String::from_utf8(read_all(&mut stream).await).unwrap();
    assert!(answer.ends_with("hello world"), "{answer}");
}
