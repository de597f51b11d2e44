//! The gateway over a real listener, serving trees that Kubo 0.43 made (`testdata/`).
//!
//! `tree.car`: `ipfs add -r --cid-version=1 --raw-leaves --chunker=size-1000 --max-file-links=4`;
//! `hamt.car`: 40 files `entry-NN.txt` in a HAMT of fanout 8.

mod api;
mod caching;
mod content;
mod denied;
mod dns;
mod formats;
mod harmful_dags;
mod harmful_hosts;
mod hosts;
mod limits;
mod memory;
mod metalink;
mod redirects;
mod reimported;
mod tar;
mod threats;
mod truncated;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use duka_config::{Config, GatewayConfig, ServePolicy};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::memory::MemoryBackend;
use crate::server::{Ending, Inherited, Readiness, Server};

const TREE: &str = "bafybeigemott4dqtw4qti2hasieor6tdgbxt4tpnmty3ljs6ffurpzv5ti";
const BIG: &str = "bafybeie3tobx3busn6zcn2uc2hrxoye44pf6yjp2wkne3ygw7ui7oedluy";
const DOCS: &str = "bafybeicqwihsdrvr4vttljthnjpxtowzljzqpxlay6raqdlgtzw3byff2m";
const SITE: &str = "bafybeifsl22gz2atg4mkqq66qbvjuorc4n64t4jzcy4lchxshidctxid3i";
const PLAIN: &str = "bafybeie7hrrzt7em3542iyzxzlejwih2yxdgroz4vqamdfvfx6x3eckqzi";
const HELLO: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
const HAMT: &str = "bafybeieqbhuixr3xvaxh7jzizghhhzswn4zlcwd25sy4plpmsgi3tcavrq";

/// The bytes of `big.bin`.
fn big() -> Vec<u8> {
    (0..10_007u32)
        .map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap())
        .collect()
}

/// A server with its configuration, running until it is stopped.
struct TestServer {
    addr: SocketAddr,
    admin_addr: Option<SocketAddr>,
    readiness: Readiness,
    stop: CancellationToken,
    leave: CancellationToken,
    running: JoinHandle<()>,
}

/// A whole response, or one that broke off.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    complete: bool,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn config() -> GatewayConfig {
    GatewayConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        progress_timeout: Duration::from_secs(30),
        concurrent_retrievals: 16,
        drain_timeout: Duration::from_secs(5),
        upstreams: Vec::new(),
        mirrors: Vec::new(),
        serve: ServePolicy::Local,
        connections: 100,
        ..Config::default().gateway
    }
}

impl TestServer {
    async fn start() -> Self {
        Self::with(config(), MemoryBackend::with_test_data()).await
    }

    async fn with(config: GatewayConfig, backend: MemoryBackend) -> Self {
        let nowhere = Path::new("nowhere");
        let server = Server::bind_backend(&config, backend, None, Inherited::default(), nowhere)
            .await
            .unwrap();
        let (addr, readiness) = (server.local_addr(), server.readiness());
        let admin_addr = server.admin_addr();
        let ending = Ending::default();
        let running = tokio::spawn(server.run(ending.clone()));
        Self {
            addr,
            admin_addr,
            readiness,
            stop: ending.stop,
            leave: ending.leave,
            running,
        }
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[]).await
    }

    async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask("GET", path, headers).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        ask(self.addr, method, path, headers).await
    }
}

/// One request on a connection of its own.
async fn ask(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "127.0.0.1");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let (parts, mut body) = sender.send_request(request).await.unwrap().into_parts();
    let mut bytes = Vec::new();
    let complete = loop {
        match body.frame().await {
            Some(Ok(frame)) => bytes.extend_from_slice(frame.data_ref().unwrap()),
            Some(Err(_)) => break false,
            None => break true,
        }
    };
    connection.abort();
    Reply {
        status: parts.status,
        headers: parts.headers,
        body: bytes.into(),
        complete,
    }
}
