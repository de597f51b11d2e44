//! Listener, limits and graceful stop of the gateway.
//!
//! One task per connection. What a client may cost is bounded here: connections in all, time for a
//! request's header, idle time, and time without progress while a response is being written (see
//! `connection`). [`Server::run`] returns once every connection has ended or the drain time is
//! over.

mod activity;
mod connection;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use duka_config::GatewayConfig;
use duka_node::dag::path::PathError;
use duka_node::node::Node;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ipfs::{Backend, Gateway, NodeBackend};
use crate::routes::Routes;
use connection::{ConnectionLimits, serve_connection};

pub(crate) use activity::OpenRequest;

/// Pause after the system refused to accept, so that a full descriptor table is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often histograms are folded, as the metrics exporter asks for.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A domain of the settings leads nowhere.
    #[error("the setting gateway.dnslink is wrong for {domain:?}")]
    Dnslink {
        /// The domain.
        domain: String,
        /// The cause.
        #[source]
        source: PathError,
    },
    /// A mirror is no URL of a gateway.
    #[error("gateway.mirrors has {url:?}, which is no http:// or https:// URL")]
    Mirror {
        /// What it is.
        url: String,
    },
}

/// Tells `/readyz` whether requests are welcome. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// What a [`Readiness`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not yet ready.
    Starting,
    /// Ready.
    Ready,
    /// Stopping: open requests finish, new ones should go elsewhere.
    Draining,
}

impl Readiness {
    /// The node is up: `/readyz` answers 200 from now on, unless the server is draining.
    pub fn set_ready(&self) {
        // A late start-up must not undo draining, so the result does not matter.
        let _already = self
            .0
            .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
    }

    /// What `/readyz` answers.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    fn set_draining(&self) {
        self.0.store(2, Ordering::Release);
    }
}

/// A bound gateway that is not serving yet.
#[derive(Debug)]
pub struct Server<B: Backend = NodeBackend> {
    listener: TcpListener,
    local_addr: SocketAddr,
    routes: Arc<Routes<B>>,
    readiness: Readiness,
    metrics: Option<PrometheusHandle>,
    limits: ConnectionLimits,
    connections: usize,
    drain_timeout: Duration,
}

impl Server {
    /// Listens on `config.listen`. Connections wait in the accept queue until [`Server::run`].
    ///
    /// # Errors
    /// [`ServerError::Listen`] when the address is taken or not this machine's;
    /// [`ServerError::Dnslink`], [`ServerError::Mirror`].
    pub async fn bind(
        config: &GatewayConfig,
        node: Node,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self, ServerError> {
        let backend = NodeBackend::new(node, config);
        Self::bind_backend(config, backend, metrics).await
    }
}

impl<B: Backend> Server<B> {
    pub(crate) async fn bind_backend(
        config: &GatewayConfig,
        backend: B,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self, ServerError> {
        let addr = config.listen;
        let failed = |source| ServerError::Listen { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let readiness = Readiness::default();
        let gateway = Gateway::new(backend, config)?;
        Ok(Self {
            listener,
            local_addr,
            routes: Arc::new(Routes::new(gateway, readiness.clone(), metrics.clone())),
            readiness,
            metrics,
            limits: ConnectionLimits {
                header: config.header_timeout,
                idle: config.idle_timeout,
                progress: config.progress_timeout,
            },
            connections: config.connections,
            drain_timeout: config.drain_timeout,
        })
    }

    /// Where it listens; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The handle that makes `/readyz` answer 200.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Serves until `stop` is cancelled, then finishes open requests for at most the drain time.
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting and closes nothing gracefully: connections go on until
    /// their clients leave. Cancel `stop` instead.
    pub async fn run(self, stop: CancellationToken) {
        let tracker = TaskTracker::new();
        let cut = CancellationToken::new();
        let slots = Arc::new(Semaphore::new(self.connections.min(Semaphore::MAX_PERMITS)));
        let mut upkeep = tokio::time::interval(METRICS_UPKEEP);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                _ = upkeep.tick() => {
                    if let Some(metrics) = &self.metrics {
                        metrics.run_upkeep();
                    }
                    continue;
                }
                accepted = accept(&self.listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, peer, slot)) => {
                    let serving = serve_connection(
                        stream,
                        peer,
                        Arc::clone(&self.routes),
                        self.limits,
                        stop.clone(),
                    );
                    let cut = cut.clone();
                    tracker.spawn(async move {
                        tokio::select! {
                            () = serving => {}
                            () = cut.cancelled() => {}
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        self.readiness.set_draining();
        drop(self.listener);
        tracker.close();
        if tokio::time::timeout(self.drain_timeout, tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                open = tracker.len(),
                "cutting the connections that did not finish"
            );
            cut.cancel();
            tracker.wait().await;
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer.ip().to_canonical(), slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_is_not_undone_by_a_late_start() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.set_ready();
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.set_draining();
        readiness.set_ready();
        assert_eq!(readiness.phase(), Phase::Draining);
    }
}
