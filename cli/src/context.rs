//! What a command works with: settings, the data directory, and whoever runs its operations.

use std::path::{Path, PathBuf};
use std::time::Duration;

use duka_config::{Config, Environment, Flag, Loaded, LogFormat, Paths};
use duka_gateway::control::client::Client;
use duka_gateway::control::event::{Event, Item, Outcome};
use duka_gateway::control::failure::{Code, Failure};
use duka_gateway::control::request::Request;
use duka_gateway::control::{self, Events, Input};
use duka_node::dag::DagLimits;
use duka_node::keys::Origin;
use duka_node::node::{self, Node};
use duka_node::publish::Published;
use futures::{FutureExt, StreamExt};
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{Command, Global};
use crate::error::CliError;
use crate::state::State;
use crate::stdin::Stdin;
use crate::ui::Ui;

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// Settings from all layers.
    pub(crate) settings: Loaded,
    /// The file they come from, if there is one.
    pub(crate) settings_file: Option<PathBuf>,
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// Where sockets may be.
    pub(crate) runtime_dir: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    timeout: Option<Duration>,
    yes: bool,
}

/// What an operation needs that runs in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Needs {
    place: Place,
    network: bool,
}

/// Where an operation works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the shop, which must be there.
    Shop,
    /// In the shop, which is made if it is not there.
    NewShop,
    /// In the shop, or where there is none, in a data directory for the time of the command.
    Any,
}

/// A node for one command.
struct Opened {
    node: Node,
    /// Its data directory, if that goes with it.
    _scratch: Option<TempDir>,
}

impl Context {
    /// Finds the directories and loads the settings.
    pub(crate) fn load(
        global: &Global,
        env: &Environment,
        command: Option<&Command>,
    ) -> Result<Self, CliError> {
        let paths = Paths::of(env);
        let data_dir = match (&global.data_dir, &paths) {
            (Some(dir), _) => dir.clone(),
            (None, Ok(paths)) => paths.data.clone(),
            (None, Err(error)) => {
                return Err(CliError::usage(error.to_string()).hint("give --data-dir DIR"));
            }
        };
        let file = match (&global.config, &paths) {
            (Some(file), _) => Some(file.clone()),
            (None, Ok(paths)) if paths.settings.exists() => Some(paths.settings.clone()),
            _ => None,
        };
        let flags = flags(global, command);
        let settings = duka_config::load(file.as_deref(), env, &flags)
            .map_err(|error| CliError::Failed(Failure::of(Code::Usage, &error)))?;
        DagLimits::of(&settings.config.dag).choose();
        let data_dir = std::path::absolute(data_dir)
            .map_err(|error| CliError::io("the data directory cannot be found", &error))?;
        if data_dir.exists() && !data_dir.is_dir() {
            let message = format!("the data directory {} is a file", data_dir.display());
            return Err(CliError::usage(message).hint("give a folder with --data-dir"));
        }
        Ok(Self {
            settings,
            settings_file: file,
            data_dir,
            state_dir: paths.as_ref().ok().map(|paths| paths.state.clone()),
            runtime_dir: paths.ok().and_then(|paths| paths.runtime),
            timeout: global.timeout,
            yes: global.yes,
        })
    }

    /// The settings.
    pub(crate) fn config(&self) -> &Config {
        &self.settings.config
    }

    /// Whether every question is answered with yes.
    pub(crate) fn yes(&self) -> bool {
        self.yes
    }

    /// Whether a node runs on the data directory.
    pub(crate) async fn is_served(&self) -> Result<bool, CliError> {
        Ok(self.running_node().await?.is_some())
    }

    /// What a buyer remembers.
    pub(crate) fn state(&self) -> Result<State, CliError> {
        let dir = self.state_dir.clone().ok_or_else(|| {
            CliError::usage("the home directory is not known, because HOME is not set")
                .hint("set HOME or XDG_STATE_HOME")
        })?;
        Ok(State::new(dir))
    }

    /// The node that owns the data directory, if one runs.
    pub(crate) async fn running_node(&self) -> Result<Option<Client>, CliError> {
        Ok(Client::connect(&self.data_dir)
            .await
            .map_err(Failure::from)?)
    }

    /// Runs an operation, in the running node or in this process, and shows its progress. Entries of
    /// a list are printed by `line`.
    pub(crate) async fn run(
        &self,
        ui: &mut Ui,
        request: Request,
        stdin: Option<Stdin>,
        line: impl Fn(&Item) -> String,
    ) -> Result<Outcome, CliError> {
        self.run_for(self.timeout, ui, request, stdin, line).await
    }

    /// [`Context::run`] of an operation that ends at `--timeout` by itself, and gets this much longer to say
    /// how far it came.
    pub(crate) async fn run_longer(
        &self,
        grace: Duration,
        ui: &mut Ui,
        request: Request,
        stdin: Option<Stdin>,
    ) -> Result<Outcome, CliError> {
        let limit = self.timeout.map(|limit| limit.saturating_add(grace));
        self.run_for(limit, ui, request, stdin, crate::commands::row)
            .await
    }

    /// `--timeout`.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    async fn run_for(
        &self,
        limit: Option<Duration>,
        ui: &mut Ui,
        request: Request,
        stdin: Option<Stdin>,
        line: impl Fn(&Item) -> String,
    ) -> Result<Outcome, CliError> {
        let (input, end) = stdin.map(|stdin| (stdin.input, stdin.end)).unzip();
        let (events, opened) = self.start(ui, request, input).await?;
        let mut result = consume(limit, ui, events, line).await;
        drop(end);
        if let Some(opened) = opened {
            if let Ok(Outcome::Publish(published)) = &mut result
                && (published.released || published.updated)
                && let Err(error) = self.sign(ui, &opened.node, published).await
            {
                result = Err(error);
            }
            opened.node.shutdown().await;
        }
        result
    }

    /// Has the shop's head signed before the node goes.
    async fn sign(
        &self,
        ui: &mut Ui,
        node: &Node,
        published: &mut Published,
    ) -> Result<(), CliError> {
        wait_for_head(node, published).await?;
        if published.signed {
            return Ok(());
        }
        ui.note("the shop's head is not signed yet: run `duka serve`, which signs it and tells the network")
    }

    /// Starts an operation, in the running node or in one that is opened for it.
    async fn start(
        &self,
        ui: &mut Ui,
        request: Request,
        input: Option<Input>,
    ) -> Result<(Events, Option<Opened>), CliError> {
        if let Some(client) = self.running_node().await? {
            return Ok((client.send(&request, input).await, None));
        }
        let opened = self.open_for(ui, &request).await?;
        let events = control::run(opened.node.clone(), request, input);
        Ok((events, Some(opened)))
    }

    /// Shows events until the last one; a signal or `--timeout` cancels the operation.
    pub(crate) async fn consume(
        &self,
        ui: &mut Ui,
        events: Events,
        line: impl Fn(&Item) -> String,
    ) -> Result<Outcome, CliError> {
        consume(self.timeout, ui, events, line).await
    }

    async fn open_for(&self, ui: &mut Ui, request: &Request) -> Result<Opened, CliError> {
        let needs = needs(request);
        let mut config = self.config().clone();
        if needs.network {
            // For the time of one command nobody needs to be able to connect.
            config.network.listen = Vec::new();
            config.network.upnp = false;
        } else {
            config.network.offline = true;
        }
        let scratch = match needs.place {
            Place::Shop => None,
            Place::NewShop => {
                self.init(ui)?;
                None
            }
            Place::Any if node::is_initialised(&self.data_dir) => None,
            Place::Any => Some(scratch(request)?),
        };
        let data_dir = scratch
            .as_ref()
            .map_or(self.data_dir.as_path(), TempDir::path);
        let node = Node::open(data_dir, &config).await.map_err(Failure::from)?;
        Ok(Opened {
            node,
            _scratch: scratch,
        })
    }

    /// Makes the data directory and the keys if they are missing, and says so.
    pub(crate) fn init(&self, ui: &mut Ui) -> Result<(), CliError> {
        let made = node::init(&self.data_dir).map_err(Failure::from)?;
        let data_dir = self.data_dir.display();
        match made.origin {
            Origin::Made => ui.warn(format!(
                "made a new shop in {data_dir}. {}",
                back_up(&made.shop_key)
            )),
            Origin::Restored => {
                let name = made.keys.shop.name();
                ui.note(format!("restored shop {name} in {data_dir}"))
            }
            Origin::Found => Ok(()),
        }
    }
}

/// Shows events until the last one; a signal or the end of `limit` cancels the operation.
async fn consume(
    limit: Option<Duration>,
    ui: &mut Ui,
    mut events: Events,
    line: impl Fn(&Item) -> String,
) -> Result<Outcome, CliError> {
    let mut signals = Signals::new()?;
    let timeout = async {
        match limit {
            Some(limit) => {
                tokio::time::sleep(limit).await;
                CliError::TimedOut(limit)
            }
            None => std::future::pending().await,
        }
    };
    let mut timeout = std::pin::pin!(timeout);
    loop {
        let event = match events.next().now_or_never() {
            Some(event) => event,
            None => {
                ui.flush()?;
                tokio::select! {
                    event = events.next() => event,
                    error = signals.next() => return Err(error),
                    error = timeout.as_mut() => return Err(error),
                }
            }
        };
        match event {
            Some(Event::Progress(progress)) => ui.progress(progress)?,
            Some(Event::Warning { message }) => ui.warn(message)?,
            Some(Event::Item(item)) => ui.item(&item, &line)?,
            Some(Event::Data(data)) => ui.bytes(&data)?,
            Some(Event::Result(outcome)) => return Ok(outcome),
            Some(Event::Error(failure)) => return Err(failure.into()),
            Some(_) => {}
            None => return Err(no_result()),
        }
    }
}

/// Time for the shop's head to be built and signed.
const HEAD_LIMIT: Duration = Duration::from_secs(60);

/// Waits until the shop's name leads to what was published. Other heads that wait are not waited for.
pub(crate) async fn wait_for_head(node: &Node, published: &mut Published) -> Result<(), CliError> {
    if published.signed {
        return Ok(());
    }
    let mut signals = Signals::new()?;
    published.signed = tokio::select! {
        signed = published.wait_until_signed(node, HEAD_LIMIT) => {
            signed.map_err(Failure::from)?
        }
        error = signals.next() => return Err(error),
    };
    Ok(())
}

fn no_result() -> CliError {
    CliError::new(Code::Other, "the operation has no result")
}

/// The sentence about the shop key.
pub(crate) fn back_up(shop_key: &Path) -> String {
    let key = shop_key.display();
    format!(
        "Back up the shop key, outside this machine: cp '{key}' /path/to/a/safe/place. Without it the \
         shop's links cannot outlive this disk; whoever has it owns the shop's name"
    )
}

fn needs(request: &Request) -> Needs {
    let (place, network) = match request {
        Request::Publish(publish) if publish.dry_run => (Place::Any, false),
        Request::Add(add) if add.only_hash => (Place::Any, false),
        // Others fetch it from a node that runs: without one there is nothing to make a shop for.
        Request::Publish(publish) if !publish.wait.is_empty() => (Place::Shop, false),
        Request::Publish(_) | Request::Add(_) | Request::CarImport { .. } => {
            (Place::NewShop, false)
        }
        // Gateways need no peers.
        Request::Verify { .. } => (Place::Any, false),
        Request::MirrorCensus { .. } => (Place::Shop, true),
        Request::MirrorEstimate { .. }
        | Request::MirrorAdd { .. }
        | Request::PinAdd { .. }
        | Request::NamePublish { .. }
        | Request::NamePut { .. } => (Place::NewShop, true),
        Request::Cat { .. }
        | Request::Ls { .. }
        | Request::CarExport { .. }
        | Request::NameResolve { .. }
        | Request::ShopHead(_)
        | Request::Get(_) => (Place::Any, true),
        Request::SwarmPeers | Request::SwarmConnect { .. } | Request::Fsck { repair: true, .. } => {
            (Place::Shop, true)
        }
        _ => (Place::Shop, false),
    };
    Needs { place, network }
}

/// A data directory for the time of a command. A download has it beside its target: what comes over
/// the network needs room there anyway.
fn scratch(request: &Request) -> Result<TempDir, CliError> {
    let mut name = tempfile::Builder::new();
    name.prefix(".duka-");
    let made = match request {
        Request::Get(get) => match get.out.parent() {
            Some(folder) if folder.is_dir() => name.tempdir_in(folder),
            _ => name.tempdir(),
        },
        _ => name.tempdir(),
    };
    let made = made.map_err(|error| CliError::io("cannot make a temporary folder", &error))?;
    node::init(made.path()).map_err(Failure::from)?;
    Ok(made)
}

fn flags(global: &Global, command: Option<&Command>) -> Vec<Flag> {
    let mut flags = Vec::new();
    let mut set = |flag, key, value| flags.push(Flag { flag, key, value });
    if global.offline {
        set("--offline", "network.offline", true.into());
    }
    match global.verbose {
        0 => {}
        1 => set("-v", "log.level", "info".into()),
        2 => set("-vv", "log.level", "debug".into()),
        _ => set("-vvv", "log.level", "trace".into()),
    }
    if let Some(level) = &global.log_level {
        set("--log-level", "log.level", level.as_str().into());
    }
    if let Some(format) = global.log_format {
        let format = match LogFormat::from(format) {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        set("--log-format", "log.format", format.into());
    }
    let listen = match command {
        Some(Command::Serve(serve)) => &serve.listen,
        Some(Command::Up(up)) => &up.listen,
        _ => return flags,
    };
    flags.extend(listen.flags());
    flags
}

/// Ctrl-C and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, CliError> {
        let listen =
            |kind| signal(kind).map_err(|error| CliError::io("cannot wait for signals", &error));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> CliError {
        tokio::select! {
            _ = self.interrupt.recv() => CliError::Interrupted,
            _ = self.terminate.recv() => CliError::Terminated,
        }
    }
}
