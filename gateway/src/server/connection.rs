//! One connection: HTTP/1.1 or HTTP/2 (by prior knowledge, or as TLS negotiated it), with a watchdog beside it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use duka_config::GatewayConfig;
use futures::future::Either;
use http::{HeaderValue, Method, Version, header};
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Transport, Verdict, WatchedStream};
use super::tls::{self, Tls};
use crate::ipfs::Backend;
use crate::routes::Routes;

/// After another process took over the listeners a connection without a request is closed after this: a
/// client that sends one after the other is told to connect anew, and none is cut off while it asks.
pub(super) const LEAVING_IDLE: Duration = Duration::from_millis(500);
/// Least that hyper reads of a header at once, in bytes.
const MIN_HEADER_SIZE: usize = 8 << 10;
/// How a client begins that knows that it speaks HTTP/2 (RFC 9113, section 3.4); no method of HTTP/1 does.
const HTTP_2_BEGINS: [u8; 3] = *b"PRI";
/// Requests that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 128;
/// Bytes of responses that one HTTP/2 stream may buffer.
const STREAM_SEND_BUFFER: usize = 256 << 10;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    /// Time to send a request's header.
    pub(super) header: Duration,
    /// Bytes of it, and what is read ahead.
    pub(super) header_size: usize,
    /// Time between requests.
    pub(super) idle: Duration,
    /// Time without taking a byte of a response.
    pub(super) progress: Duration,
}

impl ConnectionLimits {
    pub(super) fn of(config: &GatewayConfig) -> Self {
        let header_size = usize::try_from(config.header_size.as_u64()).unwrap_or(usize::MAX);
        Self {
            header: config.header_timeout,
            header_size: header_size.max(MIN_HEADER_SIZE),
            idle: config.idle_timeout,
            progress: config.progress_timeout,
        }
    }
}

/// How serving ends.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Cancelled when another process has the listening sockets: nothing more is accepted, requests
    /// of open connections are answered, and their clients told to connect anew.
    pub leave: CancellationToken,
    /// Cancelled when the process is to end: open requests are finished within the drain time.
    pub stop: CancellationToken,
}

impl Ending {
    /// Nothing is to be accepted any more.
    pub(super) async fn begins(&self) {
        tokio::select! {
            () = self.leave.cancelled() => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The address at the other end.
    pub(crate) address: IpAddr,
    /// The connection is encrypted.
    pub(crate) https: bool,
}

/// Serves requests of `address` until the client leaves, a limit is reached, or `ending` says
/// so and the open requests are answered. After a `CONNECT` the connection goes on as before, so that a client
/// that takes the gateway for its proxy reaches it and nothing else.
pub(super) async fn serve_connection<B: Backend>(
    stream: TcpStream,
    address: IpAddr,
    tls: Option<Tls>,
    routes: Arc<Routes<B>>,
    limits: ConnectionLimits,
    ending: Ending,
) {
    let activity = Arc::new(Activity::new());
    let peer = Peer {
        address,
        https: tls.is_some(),
    };
    let Some(transport) = transport(stream, tls, limits.header).await else {
        return;
    };
    let Some(version) = spoken(&transport, limits.header, &ending).await else {
        return;
    };
    let client = Client {
        activity: Arc::clone(&activity),
        peer,
        routes,
        limits,
        ending,
        version,
    };
    let tunnel = Tunnel::default();
    let io = TokioIo::new(WatchedStream::new(transport, activity));
    client.serve(io, Some(&tunnel)).await;
    let connected = tunnel.lock().take();
    if let Some(connected) = connected
        && let Ok(io) = connected.await
    {
        client.serve(io, None).await;
    }
}

/// What requests come over, after the handshake; `None` when that fails or takes too long.
async fn transport(stream: TcpStream, tls: Option<Tls>, limit: Duration) -> Option<Transport> {
    let Some(tls) = tls else {
        return Some(Transport::Plain(stream));
    };
    match tokio::time::timeout(limit, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Transport::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no TLS");
            None
        }
        Err(_) => None,
    }
}

/// What the client speaks, as TLS negotiated it or its first bytes say. They are only looked at: hyper then reads
/// a header at once, into a buffer that need not grow. `None` when nothing comes in time, or before the end.
async fn spoken(transport: &Transport, limit: Duration, ending: &Ending) -> Option<Version> {
    let stream = match transport {
        Transport::Plain(stream) => stream,
        Transport::Tls(stream) => {
            return Some(match stream.get_ref().1.alpn_protocol() {
                Some(tls::HTTP_2) => Version::HTTP_2,
                _ => Version::HTTP_11,
            });
        }
    };
    let mut first = [0; HTTP_2_BEGINS.len()];
    let left = async {
        ending.leave.cancelled().await;
        tokio::time::sleep(LEAVING_IDLE).await;
    };
    tokio::select! {
        seen = stream.peek(&mut first) => match seen {
            Ok(0) | Err(_) => None,
            Ok(_) if first == HTTP_2_BEGINS => Some(Version::HTTP_2),
            Ok(_) => Some(Version::HTTP_11),
        },
        () = tokio::time::sleep(limit) => None,
        () = ending.stop.cancelled() => None,
        () = left => None,
    }
}

/// What a `CONNECT` leaves for the requests after it.
type Tunnel = Arc<Mutex<Option<OnUpgrade>>>;

/// Who is served, and how.
struct Client<B: Backend> {
    activity: Arc<Activity>,
    peer: Peer,
    routes: Arc<Routes<B>>,
    limits: ConnectionLimits,
    ending: Ending,
    version: Version,
}

impl<B: Backend> Client<B> {
    /// Serves requests until the end, or until one is a `CONNECT` that `tunnel` takes.
    async fn serve<I>(&self, io: I, tunnel: Option<&Tunnel>)
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let service = service_fn(|mut request: http::Request<Incoming>| {
            let open = self.activity.request(request.version());
            let tunnel = tunnel.filter(|_| is_connect(&request));
            if let Some(tunnel) = tunnel {
                *tunnel.lock() = Some(hyper::upgrade::on(&mut request));
            }
            let (routes, peer, connected) = (Arc::clone(&self.routes), self.peer, tunnel.is_some());
            // hyper has room for more than it is told, and takes what comes at once.
            let too_large = header_len(&request) > self.limits.header_size;
            let ends = request.version() <= Version::HTTP_11 && !connected;
            // On the heap, because hyper keeps room for it as long as the connection is open.
            Box::pin(async move {
                let mut response = match connected {
                    _ if too_large => routes.too_large(request),
                    true => routes.connect(),
                    false => routes.answer(request, peer).await,
                };
                if ends && (too_large || open.is_last()) {
                    let headers = response.headers_mut();
                    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response.map(|body| body.guarded(open)))
            })
        });
        let header_size = self.limits.header_size;
        let mut connection = pin!(match self.version {
            Version::HTTP_2 => Either::Right(http2(header_size).serve_connection(io, service)),
            _ => {
                let connection = http1(header_size).serve_connection(io, service);
                Either::Left(connection.with_upgrades())
            }
        });
        let (mut limits, Ending { leave, stop }) = (self.limits, &self.ending);
        let mut watchdog = pin!(tokio::time::sleep(limits.header.min(limits.idle)));
        let (mut leaving, mut closing) = (false, false);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended early");
                    }
                    return;
                }
                () = stop.cancelled(), if !closing => {
                    closing = true;
                    finish(connection.as_mut());
                }
                () = leave.cancelled(), if !leaving => {
                    leaving = true;
                    self.activity.leave();
                    limits.idle = limits.idle.min(LEAVING_IDLE);
                    watchdog.as_mut().reset(Instant::now() + limits.idle);
                }
                () = watchdog.as_mut() => match self.activity.verdict(&limits, Instant::now()) {
                    // HTTP/2 can say that no more is taken, and loses nothing by it.
                    _ if leaving && !closing && self.activity.is_multiplexed() => {
                        closing = true;
                        finish(connection.as_mut());
                        watchdog.as_mut().reset(Instant::now() + limits.header);
                    }
                    Verdict::WaitUntil(deadline) => watchdog.as_mut().reset(deadline),
                    Verdict::Idle if !closing => {
                        closing = true;
                        finish(connection.as_mut());
                        watchdog.as_mut().reset(Instant::now() + limits.header);
                    }
                    verdict => {
                        tracing::debug!(?verdict, "closing a connection");
                        return;
                    }
                },
            }
        }
    }
}

/// Bytes of what a request's header says, whatever else is around it.
fn header_len<T>(request: &http::Request<T>) -> usize {
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len());
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    target + fields.sum::<usize>()
}

/// HTTP/2 needs no `CONNECT` to speak of any host.
fn is_connect<T>(request: &http::Request<T>) -> bool {
    request.method() == Method::CONNECT && request.version() == Version::HTTP_11
}

/// A connection of either version.
type Connection<I, S> =
    Either<http1::UpgradeableConnection<I, S>, http2::Connection<I, S, TokioExecutor>>;

/// Lets open requests finish, and takes no more.
fn finish<I, S, R>(connection: Pin<&mut Connection<I, S>>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = R>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    R: hyper::body::Body + 'static,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    TokioExecutor: Http2ServerConnExec<S::Future, R>,
{
    match connection.as_pin_mut() {
        Either::Left(connection) => connection.graceful_shutdown(),
        Either::Right(connection) => connection.graceful_shutdown(),
    }
}

fn http1(header_size: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The watchdog does it, and tells an idle connection from a slow header.
        .header_read_timeout(None)
        .max_buf_size(header_size);
    builder
}

fn http2(header_size: usize) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(STREAM_SEND_BUFFER)
        .max_header_list_size(u32::try_from(header_size).unwrap_or(u32::MAX));
    builder
}
