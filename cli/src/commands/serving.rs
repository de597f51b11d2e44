//! A node in the foreground: node, gateway and control socket, from open to the last connection.

use std::os::fd::OwnedFd;
use std::time::Duration;

use duka_config::{Config, GatewayConfig};
use duka_gateway::control::failure::{Code, Failure};
use duka_gateway::control::handover::{self, Successor, Successors};
use duka_gateway::control::server::ControlServer;
use duka_gateway::server::{Ending, Inherited, LentNode, Readiness, Server, ServerError};
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

/// Time that clients of kept connections get to send their next request, before the data directory is
/// handed over: the answer has them connect to the next process.
const LEAVING: Duration = Duration::from_millis(500);
/// Time for downloads to end after the data directory was handed over.
const LINGER_LIMIT: Duration = Duration::from_secs(3600);

/// A node that serves.
pub(crate) struct Serving {
    pub(crate) node: Node,
    /// `http://127.0.0.1:8899`
    pub(crate) gateway: String,
    /// Where health and metrics are: the gateway's, or a URL of their own.
    admin: String,
    readiness: Readiness,
    lent: LentNode,
    /// The gateway's listening sockets.
    sockets: Vec<OwnedFd>,
    successors: Successors,
    servers: JoinSet<()>,
    ending: Ending,
    commands: JoinSet<()>,
    stop_commands: CancellationToken,
}

/// Why serving ends.
enum End {
    Signal,
    Succeeded(Successor),
}

impl Serving {
    /// Opens the data directory and starts to serve it, in place of the node that does so now if
    /// `take_over` is set.
    pub(crate) async fn start(
        cx: &Context,
        config: &Config,
        take_over: bool,
    ) -> Result<Self, CliError> {
        let metrics = PrometheusBuilder::new()
            .install_recorder()
            .map_err(|error| {
                CliError::new(Code::Other, format!("metrics cannot be collected: {error}"))
            })?;
        let inherited = inherited(cx, take_over).await?;
        let node = cx.open(config).await?;
        let started = Self::listen(cx, config, node.clone(), metrics, inherited).await;
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
        inherited: Inherited,
    ) -> Result<Self, CliError> {
        let (server, lent) = Server::bind(&config.gateway, node.clone(), Some(metrics), inherited)
            .await
            .map_err(|error| not_bound(&error, &config.gateway))?;
        let control = ControlServer::bind(node.clone(), cx.runtime_dir.as_deref())
            .map_err(|error| CliError::io("the control socket cannot be made", &error))?;
        let successors = control.successors().map_err(|error| {
            CliError::io("the socket for the next process cannot be made", &error)
        })?;
        let sockets = server
            .sockets()
            .map_err(|error| CliError::io("the gateway's sockets cannot be shared", &error))?;
        let (ending, mut servers) = (Ending::default(), JoinSet::new());
        let (stop_commands, mut commands) = (CancellationToken::new(), JoinSet::new());
        let (scheme, address) = (server.scheme(), server.local_addr());
        let gateway = format!("{scheme}://{address}");
        let admin = server.admin_addr();
        let admin = admin.map_or(gateway.clone(), |address| format!("http://{address}"));
        let readiness = server.readiness();
        servers.spawn(server.run(ending.clone()));
        commands.spawn(control.run(stop_commands.clone()));
        Ok(Self {
            node,
            gateway,
            admin,
            readiness,
            lent,
            sockets,
            successors,
            servers,
            ending,
            commands,
            stop_commands,
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

    /// Serves until a signal, or until another process takes over.
    pub(crate) async fn run(self, ui: &mut Ui, signals: &mut Signals) {
        match self.wait(ui, signals).await {
            End::Signal => {
                unread(ui.note("stopping"));
                self.stop().await;
            }
            End::Succeeded(successor) => self.hand_over(ui, signals, successor).await,
        }
    }

    /// Waits for the end. Says meanwhile whether anyone outside can reach the node, each time that
    /// this changes; that nobody reads it any more does not end a node.
    async fn wait(&self, ui: &mut Ui, signals: &mut Signals) -> End {
        let mut end = std::pin::pin!(async {
            tokio::select! {
                _ = signals.next() => End::Signal,
                successor = self.next_process() => End::Succeeded(successor),
            }
        });
        let Some(network) = self.node.network() else {
            let sentence = "Nobody outside this machine can get the files: the network is off.";
            unread(ui.note(sentence));
            return end.await;
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
                end = end.as_mut() => return end,
                Ok(()) = reachability.changed() => {}
            }
        }
    }

    /// Waits for a process that takes over, and gives it the sockets.
    async fn next_process(&self) -> Successor {
        loop {
            let successor = self.successors.next().await;
            match successor.send(&self.sockets).await {
                Ok(()) => return successor,
                Err(error) => tracing::warn!(%error, "the next process went away"),
            }
        }
    }

    /// Gives the data directory to the next process, which has the sockets, and lets open requests end.
    async fn hand_over(self, ui: &mut Ui, signals: &mut Signals, successor: Successor) {
        let Self {
            node,
            lent,
            sockets,
            successors,
            mut servers,
            ending,
            mut commands,
            stop_commands,
            ..
        } = self;
        // Requests wait in the queues of the sockets from now on.
        drop((sockets, successors));
        ending.leave.cancel();
        stop_commands.cancel();
        tokio::join!(tokio::time::sleep(LEAVING), commands.join_next());
        lent.take_back();
        if let Err(error) = node.hand_over().await {
            // The directory is free when this process has ended, and not before.
            let error: &dyn std::error::Error = &error;
            return tracing::warn!(error, "open requests are cut for the next process");
        }
        successor.release().await;
        unread(ui.note("another process took over; open requests go on here"));
        unread(ui.event(&json!({ "type": "handed-over" })));
        tokio::select! {
            _ = servers.join_next() => return,
            _ = signals.next() => {}
            () = tokio::time::sleep(LINGER_LIMIT) => {}
        }
        ending.stop.cancel();
        servers.join_next().await;
    }

    /// Finishes what is under way and stops, within ten seconds.
    pub(crate) async fn stop(mut self) {
        // Nobody is to wait in the queue of a process that ends.
        self.sockets.clear();
        self.ending.stop.cancel();
        self.stop_commands.cancel();
        let stopped = async {
            while self.servers.join_next().await.is_some() {}
            while self.commands.join_next().await.is_some() {}
            self.node.shutdown().await;
        };
        if tokio::time::timeout(STOP_LIMIT, stopped).await.is_err() {
            tracing::warn!("not everything stopped in time");
        }
    }
}

/// The sockets of the process before this one, or of systemd.
async fn inherited(cx: &Context, take_over: bool) -> Result<Inherited, CliError> {
    let passed = Inherited::of_systemd();
    if passed.is_some() || !take_over {
        return Ok(passed);
    }
    let sockets = handover::take_over(&cx.data_dir).await.map_err(|error| {
        CliError::io("the running node does not hand over its place", &error)
            .hint("stop it, then start this one")
    })?;
    Ok(Inherited::of_predecessor(sockets.unwrap_or_default()))
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
