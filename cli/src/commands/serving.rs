//! A node in the foreground: node, gateway and control socket, from open to the last connection.

use std::time::Duration;

use duka_config::{Config, GatewayConfig};
use duka_gateway::control::failure::{Code, Failure};
use duka_gateway::control::server::ControlServer;
use duka_gateway::server::{Readiness, Server, ServerError};
use duka_node::net::Reachability;
use duka_node::node::Node;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, Signals};
use crate::error::CliError;
use crate::ui::Ui;

/// Time to finish what is under way, before the process ends anyway.
const STOP_LIMIT: Duration = Duration::from_secs(9);

/// A node that serves.
pub(crate) struct Serving {
    pub(crate) node: Node,
    /// `http://127.0.0.1:8899`
    pub(crate) gateway: String,
    /// Where health and metrics are: the gateway's, or a URL of their own.
    admin: String,
    readiness: Readiness,
    servers: JoinSet<()>,
    stop: CancellationToken,
}

impl Serving {
    /// Opens the data directory and starts to serve it.
    pub(crate) async fn start(cx: &Context, config: &Config) -> Result<Self, CliError> {
        let metrics = PrometheusBuilder::new()
            .install_recorder()
            .map_err(|error| {
                CliError::new(Code::Other, format!("metrics cannot be collected: {error}"))
            })?;
        let node = cx.open(config).await?;
        let started = Self::listen(cx, config, node.clone(), metrics).await;
        if started.is_err() {
            node.shutdown().await;
        }
        started
    }

    async fn listen(
        cx: &Context,
        config: &Config,
        node: Node,
        metrics: metrics_exporter_prometheus::PrometheusHandle,
    ) -> Result<Self, CliError> {
        let server = Server::bind(&config.gateway, node.clone(), Some(metrics))
            .await
            .map_err(|error| not_bound(&error, &config.gateway))?;
        let control = ControlServer::bind(node.clone(), cx.runtime_dir.as_deref())
            .map_err(|error| CliError::io("the control socket cannot be made", &error))?;
        let (stop, mut servers) = (CancellationToken::new(), JoinSet::new());
        let (scheme, address) = (server.scheme(), server.local_addr());
        let gateway = format!("{scheme}://{address}");
        let admin = server.admin_addr();
        let admin = admin.map_or(gateway.clone(), |address| format!("http://{address}"));
        let readiness = server.readiness();
        servers.spawn(server.run(stop.clone()));
        servers.spawn(control.run(stop.clone()));
        Ok(Self {
            node,
            gateway,
            admin,
            readiness,
            servers,
            stop,
        })
    }

    /// Says that everything answers. With `--json` the event has `more` beside the addresses.
    pub(crate) async fn ready(&self, ui: &mut Ui, more: Value) -> Result<(), CliError> {
        self.readiness.set_ready();
        let mut event = json!({
            "type": "ready",
            "peer_id": self.node.keys().peer.public().to_peer_id().to_string(),
            "name": self.node.shop_name().to_string(),
            "gateway": self.gateway,
            "admin": self.admin,
            "addresses": self.addresses().await?,
        });
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        ui.event(&event)
    }

    /// Addresses that peers can dial; none without a network.
    pub(crate) async fn addresses(&self) -> Result<Vec<String>, CliError> {
        let Some(network) = self.node.network() else {
            return Ok(Vec::new());
        };
        let addresses = network.addresses().await.map_err(Failure::from)?;
        Ok(addresses.iter().map(ToString::to_string).collect())
    }

    /// Waits for a signal. Says meanwhile whether anyone outside can reach the node, each time that
    /// this changes; that nobody reads it any more does not end a node.
    pub(crate) async fn wait(&self, ui: &mut Ui, signals: &mut Signals) {
        let Some(network) = self.node.network() else {
            let sentence = "Nobody outside this machine can get the files: the network is off.";
            unread(ui.note(sentence));
            signals.next().await;
            return unread(ui.note("stopping"));
        };
        let mut reachability = network.reachability();
        let mut told = None;
        loop {
            let (word, sentence) = describe(&reachability.borrow_and_update());
            if told != Some(word) {
                told = Some(word);
                unread(ui.note(sentence));
                let event =
                    json!({ "type": "reachability", "reachability": word, "message": sentence });
                unread(ui.event(&event));
            }
            tokio::select! {
                _ = signals.next() => return unread(ui.note("stopping")),
                Ok(()) = reachability.changed() => {}
            }
        }
    }

    /// Finishes what is under way and stops, within ten seconds.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let stopped = async {
            while self.servers.join_next().await.is_some() {}
            self.node.shutdown().await;
        };
        if tokio::time::timeout(STOP_LIMIT, stopped).await.is_err() {
            tracing::warn!("not everything stopped in time");
        }
    }
}

fn not_bound(error: &ServerError, config: &GatewayConfig) -> Failure {
    match error {
        ServerError::Dnslink { .. } => {
            Failure::of(Code::Usage, error).hint("write it like \"shop.example\" = \"/ipns/k51…\"")
        }
        ServerError::Listen { addr, .. } if config.admin == Some(*addr) => {
            Failure::of(Code::Other, error)
                .hint("give the setting gateway.admin another address, or port 0")
        }
        ServerError::Tls(_) => Failure::of(Code::Usage, error)
            .hint("set gateway.tls.cert and gateway.tls.key to the files of a certificate"),
        _ => Failure::of(Code::Other, error).hint("give --gateway another address, or port 0"),
    }
}

/// A line that could not be printed.
fn unread(printed: Result<(), CliError>) {
    if printed.is_err() {
        tracing::debug!("nobody reads what is printed");
    }
}

/// Whether anyone outside can reach the node, in a word and in a sentence.
fn describe(reachability: &Reachability) -> (&'static str, &'static str) {
    match reachability {
        Reachability::Public(_) => ("public", "Peers outside can reach this node."),
        Reachability::Relayed(_) => (
            "relayed",
            "Peers outside reach this node over a relay, if their routers let them: forward the \
             port in your router to be reached by all.",
        ),
        Reachability::Private => (
            "private",
            "Peers outside cannot reach this node: forward the port in your router, or let \
             someone pin the CID.",
        ),
        Reachability::Unknown => (
            "unknown",
            "Whether peers outside can reach this node is not known yet; it is said here when it is.",
        ),
    }
}
