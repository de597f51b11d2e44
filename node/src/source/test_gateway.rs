//! A trustless gateway for tests.

use std::collections::HashMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::block::Block;

/// A trustless gateway that has these blocks. Its URL.
pub(crate) async fn serve(blocks: &[Block]) -> String {
    serve_until(blocks, usize::MAX).await
}

/// One that after so many answers says only that it cannot answer.
pub(crate) async fn serve_until(blocks: &[Block], answers: usize) -> String {
    let blocks: HashMap<String, Block> = blocks
        .iter()
        .map(|block| (block.cid().to_string(), block.clone()))
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut answered = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            let wanted = request.strip_prefix("GET /ipfs/").unwrap();
            let cid = wanted.split(['?', ' ']).next().unwrap();
            let (status, body) = match blocks.get(cid) {
                _ if answered >= answers => ("503 Service Unavailable", &[][..]),
                Some(block) => ("200 OK", &block.data()[..]),
                None => ("404 Not Found", &[][..]),
            };
            answered += 1;
            let len = body.len();
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body).await.unwrap();
        }
    });
    url
}
