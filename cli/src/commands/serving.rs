//! A node in the foreground: node, gateway and control socket, from open to the last connection.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use duka_config::{Config, GatewayConfig};
use duka_gateway::control::failure::{Code, Failure};
use duka_gateway::control::handover::{self, Predecessor, Successor, Successors};
use duka_gateway::control::server::ControlServer;
use duka_gateway::server::{Ending, Inherited, LentNode, Readiness, Server, ServerError};
use duka_node::net::Reachability;
use duka_node::node::{LockError, Node, OpenError};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
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
/// Time for another command to let go of the data directory, which may take it between two that serve.
const TURN: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const TURN_POLL: Duration = Duration::from_millis(50);
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
    /// The gateway, and before it those that finish their requests since this process took its place back.
    servers: JoinSet<()>,
    ending: Ending,
    commands: JoinSet<()>,
    stop_commands: CancellationToken,
    opening: Opening,
}

/// What it takes to begin.
struct Opening {
    data_dir: PathBuf,
    runtime_dir: Option<PathBuf>,
    config: Config,
    metrics: PrometheusHandle,
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
        let opening = Opening {
            data_dir: cx.data_dir.clone(),
            runtime_dir: cx.runtime_dir.clone(),
            config: config.clone(),
            metrics,
        };
        let (inherited, predecessor) = inherited(cx, take_over).await?;
        let turn = predecessor.as_ref().map_or(Duration::ZERO, |_| TURN);
        let serving = opening
            .begin(turn, inherited, JoinSet::new(), Ending::default())
            .await?;
        if let Some(predecessor) = predecessor {
            predecessor.dismiss().await;
        }
        Ok(serving)
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

    /// Serves until a signal, or until another process has taken over.
    ///
    /// # Errors
    /// When one that was to take over did not, and the data directory cannot be opened again.
    pub(crate) async fn run(mut self, ui: &mut Ui, signals: &mut Signals) -> Result<(), CliError> {
        loop {
            let successor = match self.wait(ui, signals).await {
                End::Succeeded(successor) => successor,
                End::Signal => {
                    unread(ui.note("stopping"));
                    self.stop().await;
                    return Ok(());
                }
            };
            match self.hand_over(ui, signals, successor).await? {
                Some(again) => self = again,
                None => return Ok(()),
            }
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

    /// Waits for a process that takes over, and has the sockets.
    async fn next_process(&self) -> Successor {
        loop {
            let mut successor = self.successors.next().await;
            match successor.offer(&self.sockets).await {
                Ok(()) => return successor,
                Err(error) => tracing::warn!(%error, "the next process went away"),
            }
        }
    }

    /// Gives the data directory to the next process, which has the sockets, and lets open requests end. If
    /// that does not come to serve, this one does so again.
    async fn hand_over(
        self,
        ui: &mut Ui,
        signals: &mut Signals,
        successor: Successor,
    ) -> Result<Option<Self>, CliError> {
        let Self {
            node,
            lent,
            sockets,
            successors,
            mut servers,
            ending,
            mut commands,
            stop_commands,
            opening,
            ..
        } = self;
        // Requests wait in the queues of the sockets from now on.
        drop(successors);
        ending.leave.cancel();
        stop_commands.cancel();
        tokio::join!(tokio::time::sleep(LEAVING), commands.join_next());
        lent.take_back();
        if let Err(error) = node.hand_over().await {
            // The directory is free when this process has ended, and not before.
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "open requests are cut for the next process");
            return Ok(None);
        }
        let released = tokio::select! {
            released = successor.release() => released,
            _ = signals.next() => {
                drop(sockets);
                ending.stop.cancel();
                while servers.join_next().await.is_some() {}
                return Ok(None);
            }
        };
        if let Err(error) = released {
            tracing::warn!(%error, "the next process does not serve: this one goes on");
            let ending = Ending {
                leave: CancellationToken::new(),
                ..ending
            };
            let inherited = Inherited::of_before(sockets);
            let again = opening.begin(TURN, inherited, servers, ending).await?;
            again.readiness.set_ready();
            unread(ui.warn("the next process did not come to serve; this one goes on"));
            return Ok(Some(again));
        }
        drop(sockets);
        unread(ui.note("another process took over; open requests go on here"));
        unread(ui.event(&json!({ "type": "handed-over" })));
        let ended = async { while servers.join_next().await.is_some() {} };
        tokio::select! {
            () = ended => return Ok(None),
            _ = signals.next() => {}
            () = tokio::time::sleep(LINGER_LIMIT) => {}
        }
        ending.stop.cancel();
        while servers.join_next().await.is_some() {}
        Ok(None)
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

impl Opening {
    /// Opens the data directory, for whose turn it waits so long, and begins to serve it beside `servers`,
    /// which end.
    async fn begin(
        self,
        turn: Duration,
        inherited: Inherited,
        servers: JoinSet<()>,
        ending: Ending,
    ) -> Result<Serving, CliError> {
        let node = self.open(turn).await?;
        let started = self.listen(node.clone(), inherited, servers, ending).await;
        if started.is_err() {
            node.shutdown().await;
        }
        started
    }

    async fn open(&self, turn: Duration) -> Result<Node, CliError> {
        let waiting = Instant::now();
        loop {
            match Node::open(&self.data_dir, &self.config).await {
                Err(OpenError::Lock(LockError::Held { .. })) if waiting.elapsed() < turn => {
                    tokio::time::sleep(TURN_POLL).await;
                }
                opened => return Ok(opened.map_err(Failure::from)?),
            }
        }
    }

    async fn listen(
        self,
        node: Node,
        inherited: Inherited,
        mut servers: JoinSet<()>,
        ending: Ending,
    ) -> Result<Serving, CliError> {
        let config = &self.config.gateway;
        let metrics = Some(self.metrics.clone());
        let (server, lent) = Server::bind(config, node.clone(), metrics, inherited)
            .await
            .map_err(|error| not_bound(&error, config))?;
        let control = ControlServer::bind(node.clone(), self.runtime_dir.as_deref())
            .map_err(|error| CliError::io("the control socket cannot be made", &error))?;
        let successors = control.successors().map_err(|error| {
            CliError::io("the socket for the next process cannot be made", &error)
        })?;
        let sockets = server
            .sockets()
            .map_err(|error| CliError::io("the gateway's sockets cannot be shared", &error))?;
        let (stop_commands, mut commands) = (CancellationToken::new(), JoinSet::new());
        let (scheme, address) = (server.scheme(), server.local_addr());
        let gateway = format!("{scheme}://{address}");
        let admin = server.admin_addr();
        let admin = admin.map_or(gateway.clone(), |address| format!("http://{address}"));
        let readiness = server.readiness();
        servers.spawn(server.run(ending.clone()));
        commands.spawn(control.run(stop_commands.clone()));
        Ok(Serving {
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
            opening: self,
        })
    }
}

/// The sockets of the process before this one, or of systemd.
async fn inherited(
    cx: &Context,
    take_over: bool,
) -> Result<(Inherited, Option<Predecessor>), CliError> {
    let passed = Inherited::of_systemd();
    if passed.is_some() || !take_over {
        return Ok((passed, None));
    }
    let mut before = handover::take_over(&cx.data_dir).await.map_err(|error| {
        CliError::io("the running node does not hand over its place", &error)
            .hint("stop it, then start this one")
    })?;
    let sockets = before.as_mut().map(Predecessor::take_sockets);
    let inherited = Inherited::of_predecessor(sockets.unwrap_or_default());
    Ok((inherited, before))
}

fn not_bound(error: &ServerError, config: &GatewayConfig) -> Failure {
    match error {
        ServerError::Dnslink { .. } => {
            Failure::of(Code::Usage, error).hint("write it like \"shop.example\" = \"/ipns/k51…\"")
        }
        ServerError::Mirror { .. } => Failure::of(Code::Usage, error)
            .hint("write it like \"https://mirror.example\", or leave it out"),
        ServerError::Listen { addr, .. } if config.admin == Some(*addr) => {
            Failure::of(Code::Other, error)
                .hint("give the setting gateway.admin another address, or port 0")
        }
        ServerError::Tls(_) => Failure::of(Code::Usage, error)
            .hint("set gateway.tls.cert and gateway.tls.key to the files of a certificate, or only gateway.tls.acme.domains"),
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
