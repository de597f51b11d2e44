//! [`Node`]: opens store, manifest, keys and network, runs the workers, shuts them down. The only
//! place that spawns tasks.

mod lock;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use duka_config::Config;
use parking_lot::RwLock;
use tokio::sync::{Mutex, MutexGuard, Notify, OwnedMutexGuard, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use url::Url;

use crate::announce;
use crate::blocking::{blocking, joined};
use crate::denylist::{self, DenylistError, Denylists};
use crate::disk::{self, Disk, FileSystem};
use crate::fetch::{FetchOptions, Fetcher, Flights, Outside};
use crate::gc;
use crate::ipns::Record;
use crate::keyring;
use crate::keys::{self, KeyError, Keys, Kind, Name, Origin};
use crate::layout::{self, LayoutError};
use crate::manifest::record::Head;
use crate::manifest::{self, Manifest, ManifestError, ManifestOptions};
use crate::mirror::{self, Mirrors};
use crate::name::{self, Heard, Lookups, NameError, ResolvedName};
use crate::net::provide::{self, Provider};
use crate::net::{NetError, Network, republish};
use crate::restore;
use crate::room;
use crate::scrub;
use crate::search::{Found, Search, SearchError};
use crate::served::Served;
use crate::shop::settings::{self, SettingError};
use crate::source::trustless::{Effort, Listen, Memory, TrustlessSource, gateway_url};
use crate::store::{self, PackKind, Store, StoreError, StoreOptions};
use crate::temp_pins::{TempPin, TempPins};

pub use lock::{DirectoryLock, LockError};

/// Time the workers and the network get to stop.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(8);

/// Time for the last users of a node that was handed over to let go of it. New requests wait meanwhile,
/// downloads go on.
const RELEASE_LIMIT: Duration = Duration::from_secs(20);

/// The keys as they are now; the key files change with it.
type KeysCell = Arc<RwLock<Arc<Keys>>>;

/// A running node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    data_dir: PathBuf,
    config: Config,
    keys: KeysCell,
    signing_turn: Mutex<()>,
    store: Store,
    served: Served,
    manifest: Manifest,
    network: Option<Network>,
    provider: Option<Provider>,
    gateway_urls: Vec<Url>,
    gateways: Option<TrustlessSource>,
    /// How gateways did, also those that only some requests name.
    seen_gateways: Memory,
    flights: Flights,
    recovery: Recovery,
    lookups: Lookups,
    mirrors: Mirrors,
    search: Search,
    publish_turn: Mutex<()>,
    gc_turn: Arc<Mutex<()>>,
    recent_turn: Mutex<()>,
    jobs_changed: Notify,
    announced: watch::Sender<Option<Head>>,
    tasks: TaskTracker,
    temp_pins: TempPins,
    released: CancellationToken,
    stop: CancellationToken,
    _lock: DirectoryLock,
    /// Cancels `released` when all of the above, the lock too, are gone.
    _released: DropGuard,
}

/// What opening found and repaired.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// In the packs.
    pub store: store::Recovery,
    /// In the manifest.
    pub manifest: manifest::Recovery,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the data directory, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// `init` has not been run here.
    #[error("there is no shop in {} yet", data_dir.display())]
    NotInitialised {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// A restore did not come to its end here.
    #[error("the restore into {} was not finished", data_dir.display())]
    HalfRestored {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The data directory could not be made.
    #[error("cannot make the data directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It has a layout that cannot be used.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The keys could not be loaded.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The packs could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are packs, and no manifest that says what is in them.
    #[error(
        "the manifest {} is gone, and with it which products, releases and pins the blocks in {} belong to",
        manifest.display(),
        blocks.display()
    )]
    ManifestGone {
        /// Where it was.
        manifest: PathBuf,
        /// The store.
        blocks: PathBuf,
    },
    /// The manifest could not be opened.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The network could not start.
    #[error(transparent)]
    Network(#[from] NetError),
    /// A denylist could not be used.
    #[error(transparent)]
    Denylist(#[from] DenylistError),
    /// A configured gateway is not an `http` or `https` URL.
    #[error("the gateway {url:?} is not an http or https URL")]
    Gateway {
        /// What was configured.
        url: String,
    },
    /// A setting of the shop cannot be used.
    #[error(transparent)]
    Shop(#[from] SettingError),
}

/// Why a node may still be using its data directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandOverError {
    /// A task or a request goes on.
    #[error("something still uses the data directory")]
    Busy,
    /// The blocks could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest could not be closed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What [`init`] made.
#[derive(Clone, Debug)]
pub struct Initialised {
    /// The keys, new or found.
    pub keys: Keys,
    /// Where they come from.
    pub origin: Origin,
    /// The shop key's file, to back up.
    pub shop_key: PathBuf,
}

/// Makes the data directory and its keys where they are missing. A shop key that was put back into
/// a new data directory gets the keys beside it.
///
/// # Errors
/// [`OpenError::Lock`] while another process makes them; [`OpenError::Keys`] when there is a
/// manifest already and a key is missing.
pub fn init(data_dir: &Path) -> Result<Initialised, OpenError> {
    restored_whole(data_dir)?;
    layout::check(data_dir)?;
    let keys_dir = keys_dir(data_dir);
    // Key files change by rename only, so that they may be read beside a running node.
    let _lock = match keys::are_complete(&keys_dir) {
        true => None,
        false => Some(DirectoryLock::take(data_dir)?),
    };
    let has_publishing_key = keys::file(&keys_dir, Kind::Publishing).exists();
    let (keys, origin) = if has_manifest(data_dir) {
        (keys::load_all(&keys_dir)?, Origin::Found)
    } else {
        keys::load_or_make(&keys_dir)?
    };
    let mark = match (origin, keys.publishing.name()) {
        (Origin::Made, _) => Some((new_shop_file(data_dir), keys.shop.name())),
        (Origin::Restored, Some(made)) if !has_publishing_key && keys.shop.key().is_some() => {
            Some((new_key_file(data_dir), made))
        }
        _ => None,
    };
    if let Some((file, name)) = mark {
        std::fs::write(&file, name.to_string())
            .map_err(|source| OpenError::Directory { path: file, source })?;
    }
    Ok(Initialised {
        keys,
        origin,
        shop_key: keys::shop_key_file(&keys_dir),
    })
}

/// Whether the data directory has a shop: [`init`] was run on it.
pub fn is_initialised(data_dir: &Path) -> bool {
    has_manifest(data_dir) || keys::are_complete(&keys_dir(data_dir))
}

/// Whether there is a shop to be opened.
pub(crate) fn check_initialised(data_dir: &Path) -> Result<(), OpenError> {
    restored_whole(data_dir)?;
    if !is_initialised(data_dir) {
        let data_dir = data_dir.to_owned();
        return Err(OpenError::NotInitialised { data_dir });
    }
    Ok(())
}

fn restored_whole(data_dir: &Path) -> Result<(), OpenError> {
    if restore::is_unfinished(data_dir) {
        let data_dir = data_dir.to_owned();
        return Err(OpenError::HalfRestored { data_dir });
    }
    Ok(())
}

fn has_manifest(data_dir: &Path) -> bool {
    manifest_dir(data_dir).exists()
}

/// Holds the name of a shop whose key was made here and that has no head yet. Lost, it only makes the
/// first head wait for the network.
fn new_shop_file(data_dir: &Path) -> PathBuf {
    data_dir.join("new-shop")
}

/// Holds the name of a publishing key that was made here for a shop whose key was put back, and is to take
/// the place of the one before. Lost, it only makes the owner run `duka key rotate`.
fn new_key_file(data_dir: &Path) -> PathBuf {
    data_dir.join("new-key")
}

fn has_name(file: &Path, name: &Name) -> bool {
    std::fs::read_to_string(file).is_ok_and(|found| found == name.to_string())
}

pub(crate) fn blocks_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("blocks")
}

pub(crate) fn manifest_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("manifest")
}

/// Where the keys of a data directory are.
pub fn keys_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("keys")
}

impl Node {
    /// Takes the lock of the data directory, opens it, and starts the network and the workers. With
    /// `network.offline` no network is started.
    ///
    /// # Errors
    /// [`OpenError::NotInitialised`] before [`init`]; [`OpenError::Lock`] names who has it.
    pub async fn open(data_dir: &Path, config: &Config) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(FileSystem), data_dir, config).await
    }

    /// [`Node::open`] on another file system.
    #[doc(hidden)]
    pub async fn open_on(
        disk: Arc<dyn Disk>,
        data_dir: &Path,
        config: &Config,
    ) -> Result<Self, OpenError> {
        let gateway_urls = if config.network.offline {
            Vec::new()
        } else {
            gateway_urls(&config.gateway.upstreams)?
        };
        settings::check_file(&config.shop)?;
        let timeout = config.network.limits.block_timeout;
        let seen_gateways = Memory::default();
        let gateways = (!gateway_urls.is_empty()).then(|| {
            let (urls, memory) = (gateway_urls.clone(), seen_gateways.clone());
            TrustlessSource::with(urls, timeout, Effort::default(), memory)
        });
        let parts = open_parts(disk, data_dir.to_owned(), config.clone()).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let denylists = parts.denylists;
        tasks.spawn(denylists.clone().run(denylist::POLL, stop.clone()));
        let served = Served::new(parts.store.clone(), config.gateway.serve, denylists)
            .with_memory(config.gateway.memory_cache.as_u64())
            .with_rate(config.network.serve_rate.as_u64());
        let network = if config.network.offline {
            None
        } else {
            let peer_key = parts.keys.read().peer.clone();
            let (network, run) = Network::start(
                &config.network,
                peer_key,
                served.clone(),
                &data_dir.join("dht"),
                stop.clone(),
            )
            .await?;
            tasks.spawn(run);
            Some(network)
        };
        let provider = network.as_ref().map(|network| {
            let (provider, worker) = provide::new(
                network.clone(),
                parts.store.clone(),
                parts.manifest.clone(),
                config.network.reprovide_interval,
            );
            let keys = Arc::clone(&parts.keys);
            let (network, manifest) = (network.clone(), parts.manifest.clone());
            tasks.spawn(worker.run(stop.clone()));
            tasks.spawn(republish::run(
                network,
                manifest,
                move || keys.read().names(),
                config.network.republish_interval,
                stop.clone(),
            ));
            provider
        });
        let released = CancellationToken::new();
        let node = Self {
            inner: Arc::new(Inner {
                released: released.clone(),
                data_dir: data_dir.to_owned(),
                config: config.clone(),
                announced: watch::Sender::new(parts.manifest.head()?),
                keys: parts.keys,
                signing_turn: Mutex::new(()),
                store: parts.store,
                served,
                manifest: parts.manifest,
                network,
                provider,
                gateway_urls,
                gateways,
                seen_gateways,
                flights: Flights::default(),
                recovery: parts.recovery,
                lookups: Lookups::new(),
                mirrors: Mirrors::default(),
                search: Search::new(data_dir.join("search")),
                publish_turn: Mutex::new(()),
                gc_turn: Arc::default(),
                recent_turn: Mutex::new(()),
                jobs_changed: Notify::new(),
                tasks,
                temp_pins: TempPins::default(),
                stop,
                _lock: parts.lock,
                _released: released.drop_guard(),
            }),
        };
        node.inner
            .tasks
            .spawn(announce::run(node.clone(), node.inner.stop.clone()));
        mirror::start(&node)?;
        node.inner
            .tasks
            .spawn(name::hear::run(node.clone(), node.inner.stop.clone()));
        node.inner
            .tasks
            .spawn(gc::run(node.clone(), node.inner.stop.clone()));
        node.inner
            .tasks
            .spawn(scrub::run(node.clone(), node.inner.stop.clone()));
        node.inner
            .tasks
            .spawn(room::run(node.clone(), node.inner.stop.clone()));
        Ok(node)
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.inner.data_dir
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The keys, as they are now.
    pub fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.inner.keys.read())
    }

    /// Has the node use other keys, under [`Node::signing_turn`].
    pub(crate) fn set_keys(&self, keys: Keys) {
        *self.inner.keys.write() = Arc::new(keys);
    }

    /// Held by whoever signs for the shop and then commits, or changes the keys.
    pub(crate) async fn signing_turn(&self) -> MutexGuard<'_, ()> {
        self.inner.signing_turn.lock().await
    }

    /// The shop's name.
    pub fn shop_name(&self) -> Name {
        self.inner.keys.read().shop.name()
    }

    /// The block store.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// What of it is given to others.
    pub fn served(&self) -> &Served {
        &self.inner.served
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// The network, unless offline.
    pub fn network(&self) -> Option<&Network> {
        self.inner.network.as_ref()
    }

    /// What opening found and repaired.
    pub fn recovery(&self) -> &Recovery {
        &self.inner.recovery
    }

    /// A source for one request.
    pub fn fetcher(&self, options: FetchOptions) -> Fetcher {
        let gateways = self.gateways_and(options.gateways, options.effort);
        // With nobody to ask a block is not found, now and not after a timeout.
        let somebody = self.inner.network.is_some() || gateways.is_some();
        let outside = (!options.offline && somebody).then(|| Outside {
            network: self.inner.network.clone(),
            gateways,
            providers: options.providers,
            timeout: options
                .timeout
                .unwrap_or(self.inner.config.network.limits.block_timeout),
            tasks: self.inner.tasks.clone(),
            stop: self.inner.stop.clone(),
        });
        Fetcher::new(self.inner.store.clone(), options.kind, outside)
    }

    /// A source for one HTTP request, into cache packs: it shares what it fetches with all others.
    pub fn shared_fetcher(&self, timeout: Duration) -> Fetcher {
        let options = FetchOptions {
            timeout: Some(timeout),
            ..FetchOptions::cached()
        };
        self.fetcher(options).sharing(self.inner.flights.clone())
    }

    /// A source for HTTP requests that outlive this node: what is stored, and the configured gateways.
    pub fn late_fetcher(&self, timeout: Duration) -> Fetcher {
        let outside = self.inner.gateways.clone().map(|gateways| Outside {
            network: None,
            gateways: Some(gateways),
            providers: Vec::new(),
            timeout,
            tasks: self.inner.tasks.clone(),
            stop: self.inner.stop.clone(),
        });
        Fetcher::new(self.inner.store.clone(), PackKind::Cache, outside)
    }

    /// Resolves a name to the path it leads to. The gateways in `further` are asked besides the
    /// configured ones.
    ///
    /// # Errors
    /// [`NameError::NotFound`] when nobody has a valid record, [`NameError::Silent`] when none is
    /// found and not everyone answered.
    pub async fn resolve_name(
        &self,
        name: &Name,
        further: &[Url],
    ) -> Result<ResolvedName, NameError> {
        let timeout = self.inner.config.network.limits.block_timeout;
        let further =
            (!further.is_empty()).then(|| TrustlessSource::new(further.to_vec(), timeout));
        name::resolve(self, name, further.as_ref()).await
    }

    /// The newest valid record of a name. The gateways in `further` are asked besides the configured ones.
    ///
    /// # Errors
    /// As [`Node::resolve_name`].
    pub async fn resolve_record(
        &self,
        name: &Name,
        further: &[Url],
        listen: Listen,
    ) -> Result<Heard, NameError> {
        let timeout = self.inner.config.network.limits.block_timeout;
        let further =
            (!further.is_empty()).then(|| TrustlessSource::new(further.to_vec(), timeout));
        name::resolve_record(self, name, further.as_ref(), listen).await
    }

    /// Resolves a name by the records that are kept; nobody is asked.
    ///
    /// # Errors
    /// [`NameError::NotFound`] when no valid record is kept.
    pub async fn resolve_kept_name(&self, name: &Name) -> Result<ResolvedName, NameError> {
        name::resolve_kept(self, name).await
    }

    /// Verifies and keeps a record that someone else signed; tells the network when there is one.
    ///
    /// # Errors
    /// [`NameError::Record`] when it is not valid, [`NameError::Rollback`] when a newer is known.
    pub async fn put_name(&self, name: &Name, bytes: &[u8]) -> Result<Record, NameError> {
        name::put(self, name, bytes).await
    }

    /// The newest head, and each one after it as it is announced.
    pub fn heads(&self) -> watch::Receiver<Option<Head>> {
        self.inner.announced.subscribe()
    }

    /// The configured trustless gateways, unless offline.
    pub(crate) fn gateways(&self) -> Option<&TrustlessSource> {
        self.inner.gateways.as_ref()
    }

    /// The configured gateways share one source for all requests, so that connections are reused
    /// and one that lied is not asked again; further ones get a source of their own.
    fn gateways_and(&self, further: Vec<Url>, effort: Effort) -> Option<TrustlessSource> {
        if further.is_empty() && effort == Effort::default() {
            return self.inner.gateways.clone();
        }
        let mut urls = self.inner.gateway_urls.clone();
        urls.extend(further);
        let timeout = self.inner.config.network.limits.block_timeout;
        (!urls.is_empty())
            .then(|| TrustlessSource::with(urls, timeout, effort, self.inner.seen_gateways.clone()))
    }

    /// Mirrored shops.
    pub(crate) fn mirrors(&self) -> &Mirrors {
        &self.inner.mirrors
    }

    /// Lookups of names.
    pub(crate) fn lookups(&self) -> &Lookups {
        &self.inner.lookups
    }

    /// Held by the one publish, yank or channel change that reads and then commits.
    pub(crate) async fn publish_turn(&self) -> MutexGuard<'_, ()> {
        self.inner.publish_turn.lock().await
    }

    /// A guard that keeps from garbage collection what is stored from now on, until it is pinned.
    pub fn temp_pin(&self) -> TempPin {
        self.inner.temp_pins.begin(&self.inner.store)
    }

    /// What garbage collection must leave alone besides what the manifest promises.
    pub fn temp_pins(&self) -> &TempPins {
        &self.inner.temp_pins
    }

    /// Held by the one garbage collection.
    pub(crate) async fn gc_turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.inner.gc_turn).lock_owned().await
    }

    /// Held by the one who reads and then changes which trees are [recent](crate::recent).
    pub(crate) async fn recent_turn(&self) -> MutexGuard<'_, ()> {
        self.inner.recent_turn.lock().await
    }

    /// Cancelled when the node stops.
    pub(crate) fn stop_token(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// Wakes the announce worker.
    pub(crate) fn jobs_changed(&self) {
        self.inner.jobs_changed.notify_one();
    }

    /// Waits until [`Node::jobs_changed`] is called.
    pub(crate) async fn wait_for_jobs(&self) {
        self.inner.jobs_changed.notified().await;
    }

    /// Announces a new tree in the DHT before what is announced in turn.
    pub fn offer(&self, root: Cid) {
        if let Some(provider) = &self.inner.provider {
            provider.soon(root);
        }
    }

    /// Whether the shop key was made here and has no head yet.
    pub(crate) fn is_new_shop(&self) -> bool {
        has_name(&new_shop_file(&self.inner.data_dir), &self.shop_name())
    }

    /// Whether this publishing key was made here for a shop whose key was put back, and has not taken the
    /// place of the one before.
    pub(crate) fn is_new_key(&self, publishing: &Name) -> bool {
        has_name(&new_key_file(&self.inner.data_dir), publishing)
    }

    /// Whether the data directory was restored from a backup and no head was signed since.
    pub(crate) fn is_from_backup(&self) -> bool {
        restore::mark_file(&self.inner.data_dir).exists()
    }

    /// The shop has a head, and others may know it.
    pub(crate) fn shop_is_known(&self) {
        let data_dir = &self.inner.data_dir;
        for file in [new_shop_file(data_dir), restore::mark_file(data_dir)] {
            remove_mark(&file);
        }
    }

    /// The publishing key has taken the place of the one before.
    pub(crate) fn key_is_known(&self) {
        remove_mark(&new_key_file(&self.inner.data_dir));
    }

    /// Publishes a new head to those who watch [`Node::heads`].
    pub(crate) fn head_changed(&self, head: Head) {
        self.inner.announced.send_replace(Some(head));
    }

    /// Makes all blocks put so far durable, off the runtime.
    pub async fn commit_blocks(&self) -> Result<(), StoreError> {
        let store = self.inner.store.clone();
        self.blocking(move || store.commit()).await
    }

    /// Runs what goes on without the request that began it, until the node stops.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    }

    /// Runs blocking work off the runtime; a panic in it goes on here.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        joined(self.inner.tasks.spawn_blocking(work)).await
    }

    /// Searches the products of the shop: see [`Search::search`].
    ///
    /// # Errors
    /// [`SearchError`] when manifest, store or index fail, or when too many others search.
    pub async fn search(&self, terms: String, limit: usize) -> Result<Found, SearchError> {
        let search = self.inner.search.clone();
        let turn = search.turn().await?;
        let (store, manifest) = (self.inner.store.clone(), self.inner.manifest.clone());
        self.blocking(move || {
            let _turn = turn;
            search.search(&store, &manifest, &terms, limit)
        })
        .await
    }

    /// Stops the workers and the network and commits the blocks. Takes at most ten seconds.
    pub async fn shutdown(&self) {
        if !self.stop_tasks().await {
            tracing::warn!("some tasks did not stop in time and are abandoned");
        }
        if let Err(error) = self.commit_blocks().await {
            tracing::error!(%error, "committing the store on shutdown failed");
        }
        if let Err(error) = self.inner.manifest.close().await {
            tracing::error!(%error, "closing the manifest failed");
        }
    }

    /// Stops, makes everything durable and gives the data directory up, so that another process may open
    /// it while fetchers of this one read on what is stored.
    ///
    /// # Errors
    /// When the directory may still be in use: this process must end before another can have it.
    ///
    /// # Cancel safety
    /// The node has stopped then, and nobody knows whether the directory is free.
    pub async fn hand_over(self) -> Result<(), HandOverError> {
        let stopped = self.stop_tasks().await;
        let store = self.inner.store.clone();
        blocking(move || store.hand_over()).await?;
        self.inner.manifest.close().await?;
        if !stopped {
            return Err(HandOverError::Busy);
        }
        let released = self.inner.released.clone();
        drop(self);
        tokio::time::timeout(RELEASE_LIMIT, released.cancelled())
            .await
            .map_err(|_| HandOverError::Busy)
    }

    /// Whether all tasks ended in time.
    async fn stop_tasks(&self) -> bool {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        tokio::time::timeout(SHUTDOWN_LIMIT, self.inner.tasks.wait())
            .await
            .is_ok()
    }
}

fn remove_mark(file: &Path) {
    if let Err(error) = disk::gone(std::fs::remove_file(file)) {
        tracing::warn!(%error, "cannot remove {}", file.display());
    }
}

struct Parts {
    denylists: Denylists,
    lock: DirectoryLock,
    keys: KeysCell,
    store: Store,
    manifest: Manifest,
    recovery: Recovery,
}

pub(crate) fn store_options(config: &Config) -> StoreOptions {
    StoreOptions {
        pack_size: config.store.pack_size.as_u64(),
        reserve: config.store.reserve.as_u64(),
        max_size: config.store.max_size.as_u64(),
        cache_size: config.store.cache_size.as_u64(),
    }
}

/// Refuses packs without a manifest: with an empty one nothing would keep them from collection. A node
/// makes its manifest before its first pack.
fn check_manifest(data_dir: &Path) -> Result<(), OpenError> {
    let (manifest, blocks) = (manifest_dir(data_dir), blocks_dir(data_dir));
    if Store::has_files(&blocks)? && Manifest::is_absent(&manifest)? {
        return Err(OpenError::ManifestGone { manifest, blocks });
    }
    Ok(())
}

async fn open_parts(
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    config: Config,
) -> Result<Parts, OpenError> {
    blocking(move || {
        check_initialised(&data_dir)?;
        let denylists = Denylists::load(&config.gateway.denylists)?;
        let lock = DirectoryLock::take_on(disk.as_ref(), &data_dir)?;
        check_manifest(&data_dir)?;
        layout::bring_up_to_date(disk.as_ref(), &data_dir)?;
        // Before anything else is touched: without its keys it is no shop.
        keys::load_all(&keys_dir(&data_dir))?;
        let (store, store_recovery) = Store::open_on(
            Arc::clone(&disk),
            &blocks_dir(&data_dir),
            store_options(&config),
        )?;
        let (manifest, manifest_recovery) =
            Manifest::open_on(disk, &manifest_dir(&data_dir), ManifestOptions::default())?;
        keyring::settle(&keys_dir(&data_dir), &manifest)?;
        let keys = keys::load_all(&keys_dir(&data_dir))?;
        let keys = Arc::new(RwLock::new(Arc::new(keys)));
        let recovery = Recovery {
            store: store_recovery,
            manifest: manifest_recovery,
        };
        Ok(Parts {
            denylists,
            lock,
            keys,
            store,
            manifest,
            recovery,
        })
    })
    .await
}

fn gateway_urls(configured: &[String]) -> Result<Vec<Url>, OpenError> {
    let parse =
        |url: &String| gateway_url(url).ok_or_else(|| OpenError::Gateway { url: url.clone() });
    configured.iter().map(parse).collect()
}
