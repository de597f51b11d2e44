//! Listeners, limits and graceful stop of the gateway.
//!
//! One task per connection. What a client may cost is bounded here: connections in all and of each
//! client, time and bytes of a request's header, idle time, and time without progress while a response
//! is being written (see `connection`). [`Server::run`] returns once every connection has ended or the
//! drain time is over. Health and metrics may have a listener of their own, which answers until then.

mod acme;
mod activity;
mod clients;
mod connection;
mod inherited;
mod listening;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use duka_config::GatewayConfig;
use duka_node::dag::path::PathError;
use duka_node::node::Node;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

pub use crate::ipfs::LentNode;
use crate::ipfs::{Backend, Gateway, NodeBackend};
use crate::routes::{Admin, Routes};
use clients::Clients;
use connection::ConnectionLimits;
use listening::Listening;
use tls::{Tls, Upkeep};

pub(crate) use activity::OpenRequest;
pub use connection::Ending;
pub(crate) use connection::Peer;
pub use inherited::Inherited;
pub use tls::TlsError;

/// Connections that the listener of health and metrics has at once.
const ADMIN_CONNECTIONS: usize = 64;
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
    /// There is no certificate to show.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A domain of the settings leads nowhere.
    #[error("the setting gateway.dnslink is wrong for {domain:?}")]
    Dnslink {
        /// The domain.
        domain: String,
        /// The cause.
        #[source]
        source: PathError,
    },
    /// A mirror is no URL of a gateway, or none to tell everybody.
    #[error("gateway.mirrors has {url:?}: {reason}")]
    Mirror {
        /// What it is.
        url: String,
        /// Why not.
        reason: &'static str,
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
    public: Listening<B>,
    admin: Option<Listening<B>>,
    upkeep: Option<Upkeep>,
    readiness: Readiness,
    metrics: Option<PrometheusHandle>,
    drain_timeout: Duration,
}

impl Server {
    /// Listens on `config.listen`, and on `config.admin` where it is set, or goes on with the sockets that
    /// were inherited. Connections wait in the accept queue until [`Server::run`]. The node can be taken
    /// back while requests go on.
    ///
    /// # Errors
    /// [`ServerError::Listen`] when an address is taken or not this machine's;
    /// [`ServerError::Dnslink`], [`ServerError::Mirror`], [`ServerError::Tls`].
    pub async fn bind(
        config: &GatewayConfig,
        node: Node,
        metrics: Option<PrometheusHandle>,
        inherited: Inherited,
    ) -> Result<(Self, LentNode), ServerError> {
        let data_dir = node.data_dir().to_owned();
        let backend = NodeBackend::new(node, config);
        let lent = backend.lent();
        let server = Self::bind_backend(config, backend, metrics, inherited, &data_dir).await?;
        Ok((server, lent))
    }
}

impl<B: Backend> Server<B> {
    pub(crate) async fn bind_backend(
        config: &GatewayConfig,
        backend: B,
        metrics: Option<PrometheusHandle>,
        mut inherited: Inherited,
        data_dir: &Path,
    ) -> Result<Self, ServerError> {
        let readiness = Readiness::default();
        let gateway = Gateway::new(backend, config)?;
        let limits = ConnectionLimits::of(config);
        let pages = Admin {
            readiness: readiness.clone(),
            metrics: metrics.clone(),
        };
        let (pages, admin) = match config.admin {
            None => (Some(pages), None),
            Some(addr) => {
                let (routes, anyone) = (Routes::admin(pages), Clients::new(0, &[]));
                let had = inherited.admin(addr);
                let bound =
                    Listening::bind(addr, had, routes, ADMIN_CONNECTIONS, anyone, limits, None);
                (None, Some(bound?))
            }
        };
        let (tls, upkeep) = Tls::load(&config.tls, data_dir).await?.unzip();
        let public = Listening::bind(
            config.listen,
            inherited.public(config.listen),
            Routes::public(gateway, pages),
            config.connections,
            Clients::new(config.connections_per_client, &config.trusted_proxies),
            limits,
            tls,
        );
        Ok(Self {
            public: public?,
            admin,
            upkeep,
            readiness,
            metrics,
            drain_timeout: config.drain_timeout,
        })
    }

    /// Where it listens; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.public.local_addr()
    }

    /// `https`, or `http`.
    pub fn scheme(&self) -> &'static str {
        self.upkeep.as_ref().map_or("http", |_| "https")
    }

    /// Where health and metrics are answered, if they have an address of their own.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Listening::local_addr)
    }

    /// The listening sockets, to be given to the next process ([`Inherited::of_predecessor`]).
    ///
    /// # Errors
    /// When the process has too many files open.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let admin = self.admin.iter().map(Listening::socket);
        std::iter::once(self.public.socket()).chain(admin).collect()
    }

    /// The handle that makes `/readyz` answer 200.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Serves until the ending begins, then finishes open requests.
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting and closes nothing gracefully: connections go on until
    /// their clients leave. Use `ending` instead.
    pub async fn run(self, ending: Ending) {
        let drain = self.drain_timeout;
        let after = Ending {
            leave: ending.leave.clone(),
            stop: CancellationToken::new(),
        };
        let public = async {
            self.public.serve(&ending, drain).await;
            after.stop.cancel();
        };
        let admin = async {
            if let Some(admin) = self.admin {
                admin.serve(&after, drain).await;
            }
        };
        let mark = async {
            ending.begins().await;
            self.readiness.set_draining();
        };
        tokio::select! {
            _ = async { tokio::join!(public, admin, mark) } => {}
            () = keep_up(self.metrics) => {}
            () = keep_certificate(self.upkeep, &ending) => {}
        }
    }
}

/// Keeps the certificate new until the ending begins, from when on the next process may do so. For ever.
async fn keep_certificate(upkeep: Option<Upkeep>, ending: &Ending) {
    if let Some(upkeep) = upkeep {
        tokio::select! {
            () = upkeep.run() => {}
            () = ending.begins() => {}
        }
    }
    std::future::pending::<()>().await;
}

/// Folds histograms, for ever.
async fn keep_up(metrics: Option<PrometheusHandle>) {
    let Some(metrics) = metrics else {
        return std::future::pending().await;
    };
    let mut turns = tokio::time::interval(METRICS_UPKEEP);
    loop {
        turns.tick().await;
        metrics.run_upkeep();
    }
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
