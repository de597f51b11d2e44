//! MIRROR: follows shops of others, and keeps what a policy chooses of their newest heads.
//!
//! One worker a shop: records seen → [`follow`](crate::shop::follow) → remembered → what is missing
//! fetched → durable → one commit that puts the new head in the place of the old one → told on, without
//! the creator's key. What was checked is remembered before anything is fetched, so that nobody can lead
//! a mirror back; what is served is the newest head that is whole here.

pub(crate) mod census;
mod changed;
mod fetching;
pub(crate) mod kept;
mod places;
mod plan;
mod rarest;
mod records;
mod restart;
#[cfg(test)]
mod testing;
mod worker;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use cid::Cid;
use futures::StreamExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dag::DagError;
use crate::dag::unixfs::Link;
use crate::fetch::{FetchOptions, Fetcher, fetch_dag_up_to};
use crate::ids::{Channel, ProductId, Version};
use crate::ipns::Record;
use crate::keys::Name;
use crate::manifest::change::{Change, Op};
use crate::manifest::record::{Held, Mirror, MirrorPolicy};
use crate::manifest::{Manifest, ManifestError};
use crate::node::Node;
use crate::rate::Rate;
use crate::roots::Root;
use crate::shop::follow::{FollowError, Followed, Freshness, Refused, Step};
use crate::shop::json::{self, MAX_RELEASE_LEN};
use crate::shop::read::{self, ReadError, read_small};
use crate::source::BlockSource;
use crate::source::trustless::Given;
use crate::store::StoreError;

pub use census::{By, Census, Proved, Verdict, census};
use places::Places;
use plan::{Plan, Wanted};
use records::Offered;

/// Shops that one node mirrors.
const MAX_SHOPS: usize = 256;
/// Records of one shop that wait to be checked; the newest ones stay.
const MAX_HEARD: usize = 64;
/// Releases whose files are counted before a mirror is added.
const MAX_COUNTED: usize = 2_000;
/// Time for somebody to show a head of a shop that is to be mirrored.
const FIRST_HEAD: Duration = Duration::from_secs(60);
/// Between two looks for it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why a shop is not mirrored, or a mirror was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// There is no such mirror.
    #[error("{shop} is not mirrored here")]
    Unknown {
        /// The shop.
        shop: Name,
    },
    /// It is the shop of this node.
    #[error("{shop} is this node's own shop")]
    Own {
        /// The shop.
        shop: Name,
    },
    /// Nobody shows a head.
    #[error("nobody shows a head of {shop} ({tried})")]
    NoHead {
        /// The shop.
        shop: Name,
        /// Who was asked.
        tried: String,
    },
    /// The head that was found is refused, or cannot be read.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// A file of the shop cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A block of the shop could not be had.
    #[error(transparent)]
    Dag(#[from] DagError),
    /// A release of the shop could not be had. Others may be here.
    #[error("{product} {version} cannot be had")]
    Release {
        /// The product.
        product: ProductId,
        /// Its version.
        version: Version,
        /// What failed.
        #[source]
        source: DagError,
    },
    /// Not even one of the releases that are chosen fits on the disk.
    #[error("a release has {needed} bytes, and the disk has {free} to give")]
    NoRoom {
        /// Bytes of the largest release that is missing here.
        needed: u64,
        /// Free bytes above the reserve.
        free: u64,
    },
    /// There is more than the quota, whatever the shop says of its size.
    #[error("the shop needs more than the quota of {quota} bytes")]
    OverQuota {
        /// The quota.
        quota: u64,
    },
    /// There are as many mirrors as there may be.
    #[error("{MAX_SHOPS} shops are mirrored here, which is the most")]
    TooMany,
    /// The mirror was changed, or its hours are over: what was under way begins anew.
    #[error("the mirror was changed")]
    Changed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What is to be mirrored.
#[derive(Clone, Debug)]
pub struct MirrorRequest {
    /// The shop.
    pub shop: Name,
    /// Gateways that are known to have it.
    pub gateways: Vec<String>,
    /// What is kept of it. What it leaves open stays as it was, if the shop is mirrored already.
    pub policy: MirrorPolicy,
    /// Nothing stays as it was.
    pub anew: bool,
}

/// What a mirror will take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Title of the shop.
    pub title: String,
    /// What is kept, with what stays as it was.
    pub policy: MirrorPolicy,
    /// What was kept until now.
    pub before: Option<MirrorPolicy>,
    /// Products that the policy names and the shop does not have.
    pub absent_products: Vec<ProductId>,
    /// Channels that the policy names and no product has that is kept.
    pub absent_channels: Vec<Channel>,
    /// It is not in its hours: the catalogue was not read, and what is kept may be less.
    pub is_most: bool,
    /// Sequence number of the head.
    pub seq: u64,
    /// Products of the shop.
    pub products: u64,
    /// Releases that are kept.
    pub releases: u64,
    /// Their files; `None` when there are too many releases to count them.
    pub files: Option<u64>,
    /// Bytes of what is kept, as the shop says.
    pub bytes: u64,
    /// Bytes that are fetched first; what releases share counts for each.
    pub traffic: u64,
    /// Bytes of the largest release among them.
    pub largest: u64,
    /// Releases that do not fit into the quota.
    pub left_out: u64,
    /// Free bytes of the disk above the reserve.
    pub free: u64,
}

/// How far a mirror is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Bytes of the head that are here.
    pub bytes: u64,
    /// Bytes of what is kept of it, as the shop says.
    pub total: u64,
    /// Bytes that came over the network since the node started.
    pub fetched: u64,
    /// Bytes a second, lately.
    pub rate: u64,
    /// What each source gave since the node started, those that gave most first.
    pub sources: Vec<Given>,
    /// Products: bytes here and in all.
    pub products: BTreeMap<ProductId, (u64, u64)>,
    /// Releases that do not fit into the quota, and their bytes.
    pub left_out: (u64, u64),
    /// What it waits for.
    pub stall: Option<String>,
    /// It is fetching.
    pub is_busy: bool,
}

/// A mirror, as it is now.
#[derive(Clone, Debug)]
pub struct Status {
    /// The shop.
    pub shop: Name,
    /// What is stored of it.
    pub record: Mirror,
    /// How far it is; nothing while no node runs.
    pub progress: Progress,
    /// How old the newest head's signature is.
    pub freshness: Option<Freshness>,
}

/// The mirrors of a node.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    shops: Mutex<BTreeMap<Name, Arc<Shop>>>,
    /// The names of mirrored shops and of their publishing keys, and whose they are: several shops may lead to
    /// one key.
    names: Mutex<HashMap<Name, BTreeSet<Name>>>,
    /// Held by the one who reads and then changes a stored mirror.
    turn: tokio::sync::Mutex<()>,
    /// Held by the one census: two at once would ask peers more often than they answer.
    census: tokio::sync::Mutex<()>,
}

/// One mirrored shop.
#[derive(Debug)]
struct Shop {
    name: Name,
    progress: Mutex<Progress>,
    heard: Mutex<Vec<Offered>>,
    /// Heard of something, or changed.
    wake: Notify,
    /// An operator changed it: what is under way begins anew.
    changed: AtomicBool,
    /// What may be fetched in a second.
    rate: Mutex<Option<Rate>>,
    stop: CancellationToken,
}

impl Mirrors {
    /// Whether the records of this name are those that were checked, and nothing else.
    pub(crate) fn has(&self, name: &Name) -> bool {
        self.names.lock().contains_key(name)
    }

    /// Takes a record, to be checked, if it is of a mirrored shop.
    pub(crate) fn hear(&self, name: &Name, record: &Record, from: String) -> bool {
        let shops = self.names.lock().get(name).cloned().unwrap_or_default();
        let mut is_heard = false;
        for shop in shops.iter().filter_map(|shop| self.get(shop)) {
            shop.hear(Offered {
                name: name.clone(),
                record: record.clone(),
                from: from.clone(),
            });
            is_heard = true;
        }
        is_heard
    }

    fn learn(&self, name: Name, shop: &Name) {
        let mut names = self.names.lock();
        names.entry(name).or_default().insert(shop.clone());
    }

    /// The worker's shop, and the names that no other shop has.
    fn forget(&self, shop: &Name) -> (Option<Arc<Shop>>, Vec<Name>) {
        let mut names = self.names.lock();
        let gone = names.extract_if(|_, shops| shops.remove(shop) && shops.is_empty());
        let names = gone.map(|(name, _)| name).collect();
        (self.shops.lock().remove(shop), names)
    }

    fn get(&self, shop: &Name) -> Option<Arc<Shop>> {
        self.shops.lock().get(shop).cloned()
    }
}

impl Shop {
    fn new(node: &Node, name: &Name) -> Self {
        Self {
            name: name.clone(),
            progress: Mutex::default(),
            heard: Mutex::default(),
            wake: Notify::new(),
            changed: AtomicBool::new(false),
            rate: Mutex::default(),
            stop: node.stop_token().child_token(),
        }
    }

    /// Takes a record, to be checked.
    fn hear(&self, offered: Offered) {
        let mut heard = self.heard.lock();
        if heard.len() >= MAX_HEARD {
            heard.remove(0);
        }
        heard.push(offered);
        drop(heard);
        self.wake.notify_one();
    }

    /// The one limit of all that fetch for it.
    fn rate(&self, policy: &MirrorPolicy) -> Option<Rate> {
        let mut rate = self.rate.lock();
        if rate.as_ref().map(Rate::bytes_per_second) != policy.bytes_per_second {
            *rate = policy.bytes_per_second.map(Rate::new);
        }
        rate.clone()
    }

    /// An operator changed what is stored.
    fn change(&self) {
        self.changed.store(true, Relaxed);
        self.wake.notify_one();
    }
}

/// The names whose stored records are put into the DHT again: those of heads that are whole here.
pub(crate) fn names(manifest: &Manifest) -> Result<Vec<Name>, ManifestError> {
    let mut names = Vec::new();
    for row in manifest.mirrors() {
        let (shop, mirror) = row?;
        if let Some(held) = mirror.held {
            names.extend(Name::from_bytes(&held.head.publishing));
            names.push(shop);
        }
    }
    Ok(names)
}

/// Starts the workers of all mirrored shops.
pub(crate) fn start(node: &Node) -> Result<(), ManifestError> {
    for row in node.manifest().mirrors() {
        let (shop, _) = row?;
        start_one(node, &shop);
    }
    Ok(())
}

fn start_one(node: &Node, name: &Name) {
    let shop = Arc::new(Shop::new(node, name));
    let mirrors = node.mirrors();
    mirrors.learn(name.clone(), name);
    mirrors.shops.lock().insert(name.clone(), Arc::clone(&shop));
    let stop = shop.stop.clone();
    let running = node.clone();
    let working = shop.clone();
    let worker = async move {
        let work = || worker::run(running.clone(), working.clone());
        restart::for_ever(&working, restart::FIRST, work).await;
    };
    node.spawn(async move {
        stop.run_until_cancelled(worker).await;
    });
}

/// Finds the newest head of a shop and says what a mirror of it will take.
///
/// # Errors
/// [`MirrorError::NoHead`] when nobody shows one.
///
/// # Cancel safety
/// Leaves blocks that GC may take.
pub async fn estimate(node: &Node, request: MirrorRequest) -> Result<Estimate, MirrorError> {
    let (request, before) = with_known(node, request)?;
    let head = first_head(node, &request).await?;
    let (estimate, _) = estimate_of(node, &request, before, &head).await?;
    Ok(estimate)
}

/// Mirrors a shop from now on, or changes what is kept of one.
///
/// # Cancel safety
/// A dropped future leaves the mirror either there or not.
pub async fn add(node: &Node, request: MirrorRequest) -> Result<Estimate, MirrorError> {
    let (request, before) = with_known(node, request)?;
    if before.is_none() && node.mirrors().shops.lock().len() >= MAX_SHOPS {
        return Err(MirrorError::TooMany);
    }
    let head = first_head(node, &request).await?;
    let (estimate, _held) = estimate_of(node, &request, before, &head).await?;
    estimate.check_room()?;
    let MirrorRequest {
        shop,
        gateways,
        policy,
        ..
    } = request;
    let _turn = node.mirrors().turn.lock().await;
    let known = node.manifest().mirror(&shop)?;
    let mut mirror = known.unwrap_or_else(|| Mirror::new(Timestamp::now()));
    mirror.gateways = gateways;
    mirror.policy = policy;
    mirror.paused = false;
    // The worker may have seen a later one meanwhile.
    mirror.known.get_or_insert(head);
    let ops = vec![Op::PutMirror(shop.to_bytes(), mirror)];
    commit(node, ops).await?;
    match node.mirrors().get(&shop) {
        Some(running) => running.change(),
        None => start_one(node, &shop),
    }
    Ok(estimate)
}

/// The request with what stays of the mirror as it is, and what that keeps.
fn with_known(
    node: &Node,
    request: MirrorRequest,
) -> Result<(MirrorRequest, Option<MirrorPolicy>), MirrorError> {
    let Some(known) = node.manifest().mirror(&request.shop)? else {
        return Ok((request, None));
    };
    let policy = match request.anew {
        true => request.policy,
        false => request.policy.or(&known.policy),
    };
    let mut gateways = request.gateways;
    for gateway in known.gateways {
        if !gateways.contains(&gateway) {
            gateways.push(gateway);
        }
    }
    // Those that were named last are first.
    gateways.truncate(places::MAX_GATEWAYS);
    let request = MirrorRequest {
        gateways,
        policy,
        ..request
    };
    Ok((request, Some(known.policy)))
}

/// Stops fetching, or goes on with it.
pub async fn pause(node: &Node, shop: &Name, paused: bool) -> Result<(), MirrorError> {
    let _turn = node.mirrors().turn.lock().await;
    let mut mirror = stored(node, shop)?;
    mirror.paused = paused;
    commit(node, vec![Op::PutMirror(shop.to_bytes(), mirror)]).await?;
    if let Some(running) = node.mirrors().get(shop) {
        running.change();
    }
    Ok(())
}

/// Gives a mirror up. Its blocks stay until GC.
pub async fn remove(node: &Node, shop: &Name) -> Result<(), MirrorError> {
    let _turn = node.mirrors().turn.lock().await;
    stored(node, shop)?;
    commit(node, vec![Op::DeleteMirror(shop.to_bytes())]).await?;
    let (running, names) = node.mirrors().forget(shop);
    if let Some(running) = running {
        running.stop.cancel();
    }
    for name in names {
        if let Some(network) = node.network() {
            // Fails when the network is off.
            network.leave(&name).await.ok();
        }
    }
    Ok(())
}

/// All mirrors, by name.
pub async fn list(node: &Node) -> Result<Vec<Status>, MirrorError> {
    let now = Timestamp::now();
    let mut all = Vec::new();
    let rows: Vec<_> = node.manifest().mirrors().collect::<Result<_, _>>()?;
    for (shop, record) in rows {
        let running = node.mirrors().get(&shop);
        let running = running.map(|shop| shop.progress.lock().clone());
        let mut progress = running.unwrap_or_default();
        // After a restart, until the worker has come to it, and where no worker runs.
        if let (0, false, Some(held)) = (progress.total, progress.is_busy, &record.held) {
            progress = Progress {
                stall: progress.stall,
                ..progress_of(node, held).await?
            };
        }
        let known = record.known.as_ref();
        let freshness = known.map(|known| known.freshness(now));
        all.push(Status {
            shop,
            progress,
            freshness,
            record,
        });
    }
    Ok(all)
}

/// What is held, by what is stored alone.
async fn progress_of(node: &Node, held: &Held) -> Result<Progress, MirrorError> {
    let here = node.fetcher(FetchOptions::offline());
    match plan::plan(&here, held.head.root, &held.policy, None).await {
        Ok(plan) => held_progress(node, held, &plan).await,
        // Something is missing or damaged, which fsck tells.
        Err(_) => Ok(Progress {
            bytes: held.bytes,
            total: held.bytes,
            ..Progress::default()
        }),
    }
}

async fn held_progress(node: &Node, held: &Held, plan: &Plan) -> Result<Progress, MirrorError> {
    let here = held_releases(node, held, Some(plan)).await?;
    let mut progress = Progress {
        bytes: held.bytes,
        total: held.bytes,
        ..Progress::default()
    };
    for release in &plan.releases {
        if here.contains(&release.root) {
            let product = progress.products.entry(release.product.clone());
            let (bytes, total) = product.or_default();
            *bytes = bytes.saturating_add(release.size);
            *total = *bytes;
        } else {
            progress.left_out.0 += 1;
            progress.left_out.1 = release.size.saturating_add(progress.left_out.1);
        }
    }
    Ok(progress)
}

/// Roots of the releases that are held, which need no look. Those of a head that is held whole follow from
/// its plan.
async fn held_releases(
    node: &Node,
    held: &Held,
    plan: Option<&Plan>,
) -> Result<HashSet<Cid>, MirrorError> {
    let (store, list, root) = (node.store().clone(), held.kept, held.head.root);
    let kept = node.blocking(move || kept::read(&store, list)).await?;
    let is_whole = kept.contains(&Root::whole(root));
    let planned = plan.filter(|_| is_whole).into_iter();
    let planned = planned.flat_map(|plan| &plan.releases);
    let kept = kept.iter().filter(|root| root.recursive);
    Ok(kept
        .map(|root| root.cid)
        .chain(planned.map(|release| release.root))
        .collect())
}

fn stored(node: &Node, shop: &Name) -> Result<Mirror, MirrorError> {
    let shop = shop.clone();
    let mirror = node.manifest().mirror(&shop)?;
    mirror.ok_or(MirrorError::Unknown { shop })
}

async fn commit(node: &Node, ops: Vec<Op>) -> Result<(), ManifestError> {
    let expect = Vec::new();
    let change = Change { expect, ops };
    node.manifest().commit(change).await.map(drop)
}

/// The newest head that anybody shows, checked against the one that is known.
async fn first_head(node: &Node, request: &MirrorRequest) -> Result<Followed, MirrorError> {
    let shop = &request.shop;
    if *shop == node.shop_name() {
        let shop = shop.clone();
        return Err(MirrorError::Own { shop });
    }
    let mirror = node.manifest().mirror(shop)?;
    let mut known = mirror.and_then(|mirror| mirror.known);
    let until = Instant::now() + FIRST_HEAD;
    let places = Places::given(node, &request.gateways);
    loop {
        let shown = records::ask(node, shop, known.as_ref(), &places.gateways).await?;
        let fetcher = fetcher(node, request, &places).await;
        let mut failed = None;
        for offered in shown.heads() {
            match records::check(&fetcher, shop, known.as_ref(), &shown, offered).await {
                Ok(Step::New(head)) => known = Some(head.followed),
                Ok(Step::Renewed(followed)) => known = Some(*followed),
                Ok(Step::Known) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match (known, failed) {
            (Some(known), _) => return Ok(known),
            (None, Some(error)) => return Err(error.into()),
            (None, None) if Instant::now() >= until || node.network().is_none() => {
                let (shop, tried) = (shop.clone(), shown.tried());
                return Err(MirrorError::NoHead { shop, tried });
            }
            (None, None) => known = None,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A source for what is fetched before there is a worker.
async fn fetcher(node: &Node, request: &MirrorRequest, places: &Places) -> Fetcher {
    let rate = match node.mirrors().get(&request.shop) {
        Some(running) => running.rate(&request.policy),
        None => request.policy.bytes_per_second.map(Rate::new),
    };
    let options = places.options(node, &[]).await;
    node.fetcher(options).limited(rate)
}

/// What is shown of the own shop.
pub(crate) struct Found {
    /// The newest record of the shop's key.
    pub(crate) shop: Option<Record>,
    /// The newest head that is not refused.
    pub(crate) newest: Option<Followed>,
    /// Why others are.
    pub(crate) refused: Vec<Refused>,
    /// The newest record whose head cannot be read.
    pub(crate) unread: Option<Record>,
}

/// Asks once for the heads of the own shop, and checks what others show against the known one. Those with a
/// number above `most` are refused.
pub(crate) async fn find(
    node: &Node,
    shop: &Name,
    known: Option<&Followed>,
    most: u64,
) -> Result<Found, ManifestError> {
    let configured = Places::given(node, &node.config().gateway.upstreams);
    let shown = records::ask(node, shop, known, &configured.gateways).await?;
    // The configured gateways are asked anyway.
    let places = Places::given(node, &[]);
    let fetcher = node.fetcher(places.options(node, &[shop]).await);
    let mut found = Found {
        shop: shown.shop_record().cloned(),
        newest: None,
        refused: Vec::new(),
        unread: None,
    };
    for offered in shown.heads().filter(|offered| !offered.is_from_here()) {
        let number = offered.record.sequence;
        if number > most {
            found.refused.push(Refused::TooHigh { offered: number });
            continue;
        }
        match records::check(&fetcher, shop, known, &shown, offered).await {
            Ok(step) => {
                found.newest = match step {
                    Step::New(head) => Some(head.followed),
                    Step::Renewed(followed) => Some(*followed),
                    Step::Known => known.cloned(),
                };
                return Ok(found);
            }
            Err(FollowError::Refused(refused)) => found.refused.push(refused),
            Err(FollowError::Read(_)) => {
                found.unread.get_or_insert_with(|| offered.record.clone());
            }
        }
    }
    Ok(found)
}

/// Fetches the catalogue of the head and adds up what is chosen of it. What was fetched stays for as long
/// as the guard. Outside of its hours only what the head says is added up.
async fn estimate_of(
    node: &Node,
    request: &MirrorRequest,
    before: Option<MirrorPolicy>,
    head: &Followed,
) -> Result<(Estimate, crate::temp_pins::TempPin), MirrorError> {
    let temp_pin = node.temp_pin();
    let places = Places::given(node, &request.gateways);
    let fetcher = fetcher(node, request, &places).await;
    let head_json = read_small(&fetcher, head.shop_json, json::MAX_SHOP_LEN).await?;
    let shop = json::parse_shop(&head_json).map_err(|source| ReadError::Json {
        cid: head.shop_json,
        source,
    })?;
    let mut estimate = Estimate {
        title: shop.title,
        seq: shop.seq,
        products: shop.counts.products,
        policy: request.policy.clone(),
        before,
        free: free(node).await?,
        ..Estimate::default()
    };
    let links = root_links(&fetcher, head.root).await?;
    if request.policy.until_open().is_some() {
        let sizes = links.iter().map(|link| link.tsize);
        estimate.is_most = true;
        estimate.releases = shop.counts.releases;
        estimate.bytes = sizes.fold(0, u64::saturating_add);
        estimate.traffic = estimate.bytes;
        return Ok((estimate, temp_pin));
    }
    let window = node.config().network.limits.window;
    for link in links {
        if link.name != plan::RELEASES {
            let left = left_of_quota(&request.policy, estimate.bytes);
            let fetched = fetch_dag_up_to(fetcher.clone(), link.cid, window, left);
            let mut fetched = std::pin::pin!(fetched);
            let mut bytes = 0;
            while let Some(progress) = fetched.next().await {
                bytes = progress?.bytes;
                check_quota(&request.policy, estimate.bytes.saturating_add(bytes))?;
            }
            estimate.bytes = estimate.bytes.saturating_add(bytes);
        }
    }
    let plan = plan::plan(&fetcher, head.root, &request.policy, None).await?;
    let (fits, left_out) = within_quota(&plan, &request.policy, estimate.bytes);
    estimate.left_out = left_out.0;
    estimate.releases = fits.len() as u64;
    for release in &fits {
        estimate.bytes = estimate.bytes.saturating_add(release.size);
        let (store, root) = (node.store().clone(), release.root);
        if !node.blocking(move || store.has(&root)).await? {
            estimate.traffic = estimate.traffic.saturating_add(release.size);
            estimate.largest = estimate.largest.max(release.size);
        }
    }
    estimate.files = count_files(&fetcher, head.root, &fits).await?;
    (estimate.absent_products, estimate.absent_channels) = plan.absent(&request.policy);
    Ok((estimate, temp_pin))
}

/// Bytes of the disk that are free above the reserve.
async fn free(node: &Node) -> Result<u64, MirrorError> {
    let store = node.store().clone();
    let stats = node.blocking(move || store.stats()).await?;
    let reserve = node.config().store.reserve.as_u64();
    Ok(stats.free_bytes.saturating_sub(reserve))
}

/// The releases that fit, newest first, and the number and bytes of those that do not.
fn within_quota(
    plan: &Plan,
    policy: &MirrorPolicy,
    catalogue: u64,
) -> (Vec<Arc<Wanted>>, (u64, u64)) {
    let mut left = left_of_quota(policy, catalogue);
    let (mut fits, mut left_out) = (Vec::new(), (0, 0));
    for release in &plan.releases {
        if release.size <= left {
            left -= release.size;
            fits.push(Arc::clone(release));
        } else {
            left_out.0 += 1;
            left_out.1 = release.size.saturating_add(left_out.1);
        }
    }
    (fits, left_out)
}

fn left_of_quota(policy: &MirrorPolicy, bytes: u64) -> u64 {
    policy
        .quota
        .map_or(u64::MAX, |quota| quota.saturating_sub(bytes))
}

/// Sizes in links are what the shop says: these are the bytes that came.
fn check_quota(policy: &MirrorPolicy, bytes: u64) -> Result<(), MirrorError> {
    match policy.quota {
        Some(quota) if bytes > quota => Err(MirrorError::OverQuota { quota }),
        _ => Ok(()),
    }
}

async fn count_files<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    releases: &[Arc<Wanted>],
) -> Result<Option<u64>, MirrorError> {
    if releases.len() > MAX_COUNTED {
        return Ok(None);
    }
    let mut files = 0;
    for release in releases {
        let path = [
            "products".to_owned(),
            release.product.to_string(),
            json::release_file(&release.version),
        ];
        let cid = crate::dag::path::resolve(source, root, &path).await?.cid;
        let bytes = read_small(source, cid, MAX_RELEASE_LEN).await?;
        let release =
            json::parse_release(&bytes).map_err(|source| ReadError::Json { cid, source })?;
        files += release.files.len() as u64;
    }
    Ok(Some(files))
}

/// The entries of a head.
async fn root_links<S: BlockSource>(source: &S, root: Cid) -> Result<Vec<Link>, ReadError> {
    read::root_links(source, root).await
}

/// An error and its causes, in one sentence.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl Estimate {
    /// Releases may share most of their blocks, so that all need less than they have: the store's own reserve
    /// sees to the rest.
    fn check_room(&self) -> Result<(), MirrorError> {
        let (needed, free) = (self.largest, self.free);
        if needed > free {
            return Err(MirrorError::NoRoom { needed, free });
        }
        Ok(())
    }
}

impl MirrorPolicy {
    /// How long the hours in which may be fetched are away; `None` within them.
    fn until_open(&self) -> Option<Duration> {
        self.hours?.until_open(minute_of_day())
    }
}

/// Minutes since midnight, by this machine's clock.
fn minute_of_day() -> u16 {
    let now = jiff::Zoned::now();
    let minutes = u16::from(now.hour().unsigned_abs()) * 60;
    minutes + u16::from(now.minute().unsigned_abs())
}

#[cfg(test)]
mod tests;
