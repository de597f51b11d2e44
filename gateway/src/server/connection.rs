//! One connection: HTTP/1.1 or HTTP/2 (prior knowledge), with a watchdog beside it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Verdict, WatchedStream};
use crate::ipfs::Backend;
use crate::routes::Routes;

/// Largest request header, and what is read ahead of it, in bytes.
const MAX_HEADER_LEN: usize = 32 << 10;
/// Requests that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 128;
/// Bytes of responses that one HTTP/2 stream may buffer.
const STREAM_SEND_BUFFER: usize = 256 << 10;

/// Times that a connection may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    /// To send a request's header.
    pub(super) header: Duration,
    /// Between requests.
    pub(super) idle: Duration,
    /// Without taking a byte of a response.
    pub(super) progress: Duration,
}

/// Serves requests of `peer` until the client leaves, a limit is reached, or `stop` is cancelled and the
/// open requests are answered.
pub(super) async fn serve_connection<B: Backend>(
    stream: TcpStream,
    peer: IpAddr,
    routes: Arc<Routes<B>>,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    let activity = Arc::new(Activity::new());
    let io = TokioIo::new(WatchedStream::new(stream, Arc::clone(&activity)));
    let service = {
        let activity = Arc::clone(&activity);
        service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let open = activity.request(request.version());
            let routes = Arc::clone(&routes);
            async move {
                Ok::<_, Infallible>(routes.answer(request, peer).await.map(|b| b.guarded(open)))
            }
        })
    };
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut watchdog = pin!(tokio::time::sleep(limits.header.min(limits.idle)));
    let mut closing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error = &*error, "connection ended early");
                }
                return;
            }
            () = stop.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = watchdog.as_mut() => match activity.verdict(&limits, Instant::now()) {
                Verdict::WaitUntil(deadline) => watchdog.as_mut().reset(deadline),
                Verdict::Idle if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
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

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The watchdog does it, and tells an idle connection from a slow header.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEADER_LEN);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(STREAM_SEND_BUFFER)
        .max_header_list_size(u32::try_from(MAX_HEADER_LEN).expect("32 KiB fit in u32"));
    builder
}
