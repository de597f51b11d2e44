//! What a connection has been doing, as its watchdog sees it.
//!
//! Times are milliseconds since the connection was accepted, plus one, so that 0 means "not".

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::connection::ConnectionLimits;

/// Shared by the socket, the requests on it and the watchdog.
#[derive(Debug)]
pub(crate) struct Activity {
    accepted: Instant,
    /// When the connection became idle: accepted, or the last response ended.
    idle_since: AtomicU64,
    /// When the first bytes of a header arrived that is not complete yet. HTTP/1 only.
    header_since: AtomicU64,
    /// Since when the client has taken no bytes that are ready for it.
    blocked_since: AtomicU64,
    /// Requests whose response has not ended.
    open: AtomicUsize,
    seen_request: AtomicBool,
    multiplexed: AtomicBool,
    reset: AtomicBool,
    leaving: AtomicBool,
}

/// What the watchdog decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is overdue before this moment.
    WaitUntil(Instant),
    /// Idle for too long: close politely.
    Idle,
    /// A header is overdue.
    SlowHeader,
    /// The client takes no bytes.
    SlowReader,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            accepted: Instant::now(),
            idle_since: AtomicU64::new(1),
            header_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            seen_request: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        let elapsed = self.accepted.elapsed().as_millis();
        u64::try_from(elapsed).unwrap_or(u64::MAX - 1) + 1
    }

    fn at(&self, mark: u64, later: Duration) -> Instant {
        self.accepted + Duration::from_millis(mark) + later
    }

    /// A request's header is complete. The guard lives as long as the response.
    pub(super) fn request(self: &Arc<Self>, version: Version) -> OpenRequest {
        self.seen_request.store(true, Ordering::Relaxed);
        self.multiplexed
            .store(version == Version::HTTP_2, Ordering::Relaxed);
        self.header_since.store(0, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenRequest {
            activity: Arc::clone(self),
            ends_with_connection: version < Version::HTTP_11,
        }
    }

    /// The next answer is the last one. Idle time counts from now.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.idle_since.store(self.now(), Ordering::Relaxed);
    }

    /// Whether the last request came over HTTP/2.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed)
    }

    fn received(&self) {
        let waiting = self.open.load(Ordering::Relaxed) == 0;
        if waiting
            && !self.multiplexed.load(Ordering::Relaxed)
            && self.header_since.load(Ordering::Relaxed) == 0
        {
            self.header_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn blocked(&self) {
        if self.blocked_since.load(Ordering::Relaxed) == 0 {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn written(&self) {
        self.blocked_since.store(0, Ordering::Relaxed);
    }

    pub(super) fn verdict(&self, limits: &ConnectionLimits, now: Instant) -> Verdict {
        let overdue = |deadline: Instant, verdict| {
            if deadline <= now {
                verdict
            } else {
                Verdict::WaitUntil(deadline)
            }
        };
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        if blocked != 0 {
            return overdue(self.at(blocked, limits.progress), Verdict::SlowReader);
        }
        if self.open.load(Ordering::Relaxed) > 0 {
            return Verdict::WaitUntil(now + limits.progress.min(limits.idle));
        }
        let header = self.header_since.load(Ordering::Relaxed);
        if header != 0 {
            return overdue(self.at(header, limits.header), Verdict::SlowHeader);
        }
        if !self.seen_request.load(Ordering::Relaxed) {
            return overdue(self.at(0, limits.header), Verdict::SlowHeader);
        }
        let idle = self.idle_since.load(Ordering::Relaxed);
        match overdue(self.at(idle, limits.idle), Verdict::Idle) {
            // A header may begin at any moment, so look as often as its limit asks for.
            Verdict::WaitUntil(deadline) => {
                Verdict::WaitUntil(deadline.min(now + limits.header / 2))
            }
            verdict => verdict,
        }
    }
}

/// A request whose response has not ended.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    activity: Arc<Activity>,
    ends_with_connection: bool,
}

impl OpenRequest {
    /// The client is to connect anew for its next request.
    pub(super) fn is_last(&self) -> bool {
        self.activity.leaving.load(Ordering::Relaxed)
    }

    /// The response broke off. Where the end of the connection is the end of the content (HTTP/1.0),
    /// the connection is reset, so that the client sees an error.
    pub(crate) fn broke_off(&self) {
        if self.ends_with_connection {
            self.activity.reset.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.activity
            .idle_since
            .store(self.activity.now(), Ordering::Relaxed);
        self.activity.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What requests come over.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// A stream that reports to its [`Activity`].
#[derive(Debug)]
pub(super) struct WatchedStream {
    stream: Transport,
    activity: Arc<Activity>,
}

impl WatchedStream {
    pub(super) fn new(stream: Transport, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        match written {
            Poll::Pending => self.activity.blocked(),
            Poll::Ready(_) => self.activity.written(),
        }
        written
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        if self.activity.reset.load(Ordering::Relaxed) {
            // A socket that cannot be told is closing anyway.
            let _told = self.stream.socket().set_zero_linger();
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        if buf.filled().len() > before {
            self.activity.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS holds bytes back until then; a plain socket has none.
        let flushed = match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.reset.load(Ordering::Relaxed) {
            // A FIN before the reset would be the clean end that must not be seen.
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        header: Duration::from_secs(10),
        header_size: 32 << 10,
        idle: Duration::from_secs(60),
        progress: Duration::from_secs(30),
    };

    fn after(activity: &Activity, seconds: u64) -> Verdict {
        activity.verdict(&LIMITS, activity.accepted + Duration::from_secs(seconds))
    }

    #[test]
    fn silent_new_connection_is_closed_after_the_header_time() {
        let activity = Activity::new();
        assert!(matches!(after(&activity, 9), Verdict::WaitUntil(_)));
        assert_eq!(after(&activity, 11), Verdict::SlowHeader);
    }

    #[test]
    fn kept_alive_connection_may_be_idle_longer_than_a_header_may_take() {
        let activity = Arc::new(Activity::new());
        drop(activity.request(Version::HTTP_11));
        assert!(matches!(after(&activity, 30), Verdict::WaitUntil(_)));
        assert_eq!(after(&activity, 61), Verdict::Idle);
    }

    #[test]
    fn half_a_header_on_a_kept_alive_connection_is_overdue_after_the_header_time() {
        let activity = Arc::new(Activity::new());
        drop(activity.request(Version::HTTP_11));
        activity.received();
        assert_eq!(after(&activity, 11), Verdict::SlowHeader);
    }

    #[test]
    fn client_that_takes_no_bytes_is_cut_and_one_that_takes_some_is_not() {
        let activity = Arc::new(Activity::new());
        let _open = activity.request(Version::HTTP_11);
        activity.blocked();
        assert_eq!(after(&activity, 31), Verdict::SlowReader);
        activity.written();
        assert!(matches!(after(&activity, 31), Verdict::WaitUntil(_)));
    }
}
