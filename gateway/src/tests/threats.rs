//! Clients that mean harm: slow ones, and floods.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duka_config::GatewayConfig;
use futures::future::join_all;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::memory::MemoryBackend;
use super::{HELLO, TestServer, ask, config};

/// Longest wait for something that must happen.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn of_500_half_sent_requests_none_is_alive_after_the_header_time() {
    let config = GatewayConfig {
        header_timeout: Duration::from_millis(500),
        connections: 600,
        ..config()
    };
    let server = TestServer::with(config, MemoryBackend::with_test_data()).await;
    let half_sent = join_all((0..500).map(|_| async {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            .await
            .unwrap();
        stream
    }))
    .await;
    assert_eq!(server.get("/healthz").await.status, 200);
    let ended = join_all(half_sent.into_iter().map(|mut stream| async move {
        let mut received = Vec::new();
        // A reset is an end as well.
        let _ended = stream.read_to_end(&mut received).await;
        received.len()
    }));
    let received = tokio::time::timeout(DEADLINE, ended).await.unwrap();
    assert_eq!(received, [0; 500]);
}

#[tokio::test]
async fn client_that_takes_no_bytes_is_cut() {
    let config = GatewayConfig {
        progress_timeout: Duration::from_millis(300),
        connections: 1,
        ..config()
    };
    let mut backend = MemoryBackend::with_test_data();
    let large = backend.add(0x55, vec![7; 2 << 20]);
    let server = TestServer::with(config, backend).await;
    let mut stalled = TcpStream::connect(server.addr).await.unwrap();
    // More than sockets hold on both sides.
    let requests = format!("GET /ipfs/{large} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(40);
    stalled.write_all(requests.as_bytes()).await.unwrap();
    // The only connection there may be is free when the first has been cut.
    let other = tokio::time::timeout(DEADLINE, server.get("/healthz")).await;
    assert_eq!(other.unwrap().status, 200);
    drop(stalled);
}

#[tokio::test]
async fn header_may_be_as_large_as_the_setting_says() {
    let small = GatewayConfig {
        header_size: bytesize::ByteSize::kib(8),
        ..config()
    };
    let small = TestServer::with(small, MemoryBackend::with_test_data()).await;
    let default = TestServer::start().await;
    let long = "a".repeat(20 << 10);
    assert_eq!(status_of(small.addr, &long).await, "431");
    assert_eq!(status_of(default.addr, &long).await, "200");
}

/// The status of an answer to a request with a long header.
async fn status_of(addr: SocketAddr, long: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.unwrap();
    String::from_utf8_lossy(&line[9..]).into_owned()
}

#[tokio::test]
async fn flood_over_one_connection_is_429_beyond_the_retrievals() {
    const FLOOD: usize = 300;
    let answers = Arc::new(Semaphore::new(0));
    let backend = MemoryBackend::remote(Arc::clone(&answers));
    let server = TestServer::with(config(), backend).await;
    let may_wait = config().concurrent_retrievals;
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let refused = Semaphore::new(0);
    let requests = join_all((0..FLOOD).map(|_| async {
        let uri = format!("http://127.0.0.1/ipfs/{HELLO}");
        let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
        let response = sender.clone().send_request(request).await.unwrap();
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            refused.add_permits(1);
        }
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status.as_u16(), body)
    }));
    let release = async {
        let all_others = u32::try_from(FLOOD - may_wait).unwrap();
        let _refused = refused.acquire_many(all_others).await.unwrap();
        answers.add_permits(FLOOD);
    };
    let both = async { tokio::join!(requests, release).0 };
    let replies = tokio::time::timeout(DEADLINE, both).await.unwrap();
    let served = replies.iter().filter(|(status, _)| *status == 200);
    assert_eq!(served.count(), may_wait);
    let whole = |(status, body): &(u16, Bytes)| *status == 429 || body == "hello world";
    assert!(replies.iter().all(whole), "{replies:?}");
    connection.abort();
}

#[tokio::test]
async fn flood_over_many_connections_waits_its_turn() {
    // Whoever is served at the same time as five others gets 429.
    let config = GatewayConfig {
        connections: 5,
        concurrent_retrievals: 5,
        ..config()
    };
    let answers = Arc::new(Semaphore::new(0));
    let server = TestServer::with(config, MemoryBackend::remote(Arc::clone(&answers))).await;
    let path = format!("/ipfs/{HELLO}");
    let flood = join_all((0..100).map(|_| server.get(&path)));
    let (replies, ()) = tokio::join!(flood, async { answers.add_permits(1_000) });
    let statuses: Vec<_> = replies.iter().map(|reply| reply.status.as_u16()).collect();
    assert_eq!(statuses, [200; 100]);
}

#[tokio::test]
async fn health_on_its_own_listener_answers_when_the_gateway_is_full() {
    let config = GatewayConfig {
        admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        connections: 1,
        ..config()
    };
    let server = TestServer::with(config, MemoryBackend::with_test_data()).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    let holder = TcpStream::connect(server.addr).await.unwrap();
    let admin = server.admin_addr.unwrap();
    let content = format!("/ipfs/{HELLO}");
    for (path, status) in [("/healthz", 200), ("/readyz", 503), (&content, 404)] {
        assert_eq!(ask(admin, "GET", path, &[]).await.status, status, "{path}");
    }
    drop(holder);
}
