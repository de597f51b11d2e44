//! Answers that lack a block: whatever the format and the protocol, the client notices.

use std::collections::HashSet;
use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::memory::{MemoryBackend, sections};
use super::{BIG, TREE, TestServer, ask, config};

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http10,
    Http11,
    Http2,
}

/// Status of the answer to a request, and whether it ended as if it were whole.
async fn answer(
    addr: SocketAddr,
    protocol: Protocol,
    path: &str,
    range: Option<&str>,
) -> (u16, bool) {
    match protocol {
        Protocol::Http10 => http_1_0(addr, path, range).await,
        Protocol::Http11 => {
            let headers = range.map(|range| ("range", range));
            let reply = ask(addr, "GET", path, headers.as_slice()).await;
            (reply.status.as_u16(), reply.complete)
        }
        Protocol::Http2 => http_2(addr, path, range).await,
    }
}

async fn http_1_0(addr: SocketAddr, path: &str, range: Option<&str>) -> (u16, bool) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let range = range.map_or(String::new(), |range| format!("Range: {range}\r\n"));
    let request = format!("GET {path} HTTP/1.0\r\n{range}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes).await.is_ok();
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head[9..12].parse().unwrap();
    let announced = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let announced: Option<usize> = announced.map(|len| len.parse().unwrap());
    (
        status,
        ended && announced.is_none_or(|len| len == bytes.len() - end - 4),
    )
}

async fn http_2(addr: SocketAddr, path: &str, range: Option<&str>) -> (u16, bool) {
    let stream = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::get(format!("http://127.0.0.1{path}"));
    if let Some(range) = range {
        request = request.header("range", range);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let whole = response.into_body().collect().await.is_ok();
    connection.abort();
    (status, whole)
}

#[tokio::test]
async fn answer_that_lacks_any_block_never_ends_cleanly() {
    let whole = TestServer::start().await;
    let blocks = async |root: &str| {
        let car = whole.get(&format!("/ipfs/{root}?format=car")).await.body;
        sections(&car)
            .into_iter()
            .map(|(cid, _)| cid)
            .collect::<HashSet<_>>()
    };
    let (file, tree) = (blocks(BIG).await, blocks(TREE).await);
    let asked = [
        (format!("/ipfs/{BIG}?filename=big.bin"), None, &file),
        (
            format!("/ipfs/{BIG}?filename=big.bin"),
            Some("bytes=1-"),
            &file,
        ),
        (format!("/ipfs/{BIG}"), Some("bytes=-10006"), &file),
        (format!("/ipfs/{TREE}?format=car"), None, &tree),
        (format!("/ipfs/{TREE}?format=car&car-dups=y"), None, &tree),
        (
            format!("/ipfs/{BIG}?format=car&dag-scope=entity"),
            None,
            &file,
        ),
        (format!("/ipfs/{TREE}?format=tar"), None, &tree),
    ];
    let protocols = [Protocol::Http10, Protocol::Http11, Protocol::Http2];
    for missing in &tree {
        let backend = MemoryBackend::without(&[&missing.to_string()]);
        let lacking = TestServer::with(config(), backend).await;
        for (path, range, needed) in &asked {
            for protocol in protocols {
                let (status, ended) = answer(lacking.addr, protocol, path, *range).await;
                let seems_whole = ended && matches!(status, 200 | 206);
                let what =
                    format!("{path} {range:?} over {protocol:?} without {missing}: {status}");
                assert_eq!(seems_whole, !needed.contains(missing), "{what}");
            }
        }
    }
}
