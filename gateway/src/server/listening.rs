//! One address that is listened on: accepts connections within limits, and drains them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter, describe_counter};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ServerError;
use super::clients::{Admitted, Clients};
use super::connection::{ConnectionLimits, Ending, serve_connection};
use super::tls::Tls;
use crate::ipfs::Backend;
use crate::routes::Routes;

/// Pause after the system refused to accept, so that a full descriptor table is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that the system takes before they are accepted, where it allows so many
/// (`net.core.somaxconn`): a client that finds no room tries again after a second.
const BACKLOG: u32 = 4096;

/// A bound address that is not served yet.
#[derive(Debug)]
pub(super) struct Listening<B: Backend> {
    listener: TcpListener,
    local_addr: SocketAddr,
    routes: Arc<Routes<B>>,
    slots: Arc<Semaphore>,
    clients: Clients,
    limits: ConnectionLimits,
    tls: Option<Tls>,
    /// Connections that were closed at once.
    refused: Counter,
}

/// A connection that may be served, with what it holds of the limits.
struct Accepted {
    stream: TcpStream,
    peer: IpAddr,
    held: (OwnedSemaphorePermit, Admitted),
}

impl<B: Backend> Listening<B> {
    /// Listens on `addr`, or goes on with the socket that was inherited, for at most `connections` at once, over TLS where it is given.
    pub(super) fn bind(
        addr: SocketAddr,
        inherited: Option<std::net::TcpListener>,
        routes: Routes<B>,
        connections: usize,
        clients: Clients,
        limits: ConnectionLimits,
        tls: Option<Tls>,
    ) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Listen { addr, source };
        let listener = match inherited {
            Some(listener) => listener
                .set_nonblocking(true)
                .and_then(|()| TcpListener::from_std(listener)),
            None => listen(addr),
        };
        let listener = listener.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        describe_counter!(
            "duka_gateway_connections_refused_total",
            "Connections closed at once, because their client had too many"
        );
        Ok(Self {
            listener,
            local_addr,
            routes: Arc::new(routes),
            slots: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            clients,
            limits,
            tls,
            refused: counter!("duka_gateway_connections_refused_total"),
        })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The socket, to be given to another process.
    pub(super) fn socket(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    /// Serves until the ending begins, then lets open requests finish: all of them, or once it is to
    /// stop those that end within `drain`.
    pub(super) async fn serve(self, ending: &Ending, drain: Duration) {
        let tracker = TaskTracker::new();
        let cut = CancellationToken::new();
        loop {
            let accepted = tokio::select! {
                () = ending.begins() => break,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok(Some(Accepted { stream, peer, held })) => {
                    let (routes, tls) = (Arc::clone(&self.routes), self.tls.clone());
                    let limits = self.limits;
                    let (ending, cut) = (ending.clone(), cut.clone());
                    tracker.spawn(async move {
                        tokio::select! {
                            () = serve_connection(stream, peer, tls, routes, limits, ending) => {}
                            () = cut.cancelled() => {}
                        }
                        drop(held);
                    });
                }
                Ok(None) => self.refused.increment(1),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        tracker.close();
        tokio::select! {
            () = tracker.wait() => return,
            () = ending.stop.cancelled() => {}
        }
        if tokio::time::timeout(drain, tracker.wait()).await.is_err() {
            tracing::warn!(
                open = tracker.len(),
                "cutting the connections that did not finish"
            );
            cut.cancel();
            tracker.wait().await;
        }
    }

    /// The next connection; `None` when its client has as many as it may.
    async fn accept(&self) -> io::Result<Option<Accepted>> {
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (stream, peer) = self.listener.accept().await?;
        let peer = peer.ip().to_canonical();
        let Some(admitted) = self.clients.admit(peer) else {
            return Ok(None);
        };
        stream.set_nodelay(true)?;
        Ok(Some(Accepted {
            stream,
            peer,
            held: (slot, admitted),
        }))
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}
