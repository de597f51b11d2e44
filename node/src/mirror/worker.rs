//! The worker of one mirrored shop: looks for heads, brings the newest one here, tells it on.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cid::Cid;
use futures::StreamExt;
use jiff::Timestamp;
use tokio::time::Instant;
use url::Url;

use super::records::{self, Shown};
use super::{MirrorError, Progress, Shop, in_words, kept, places, plan, within_quota};
use crate::fetch::{Fetcher, fetch_dag};
use crate::keys::Name;
use crate::manifest::ManifestError;
use crate::manifest::change::Op;
use crate::manifest::record::{Held, Mirror, MirrorPolicy, NameRecord, RefusedHead};
use crate::net::gossip::rendezvous;
use crate::node::Node;
use crate::roots::Root;
use crate::shop::follow::{FollowError, Followed, Step};
use crate::shop::json::ShopJson;
use crate::temp_pins::TempPin;

/// How often everybody is asked, besides what is heard.
const ASK: Duration = Duration::from_secs(10 * 60);
/// First pause after a stall; doubles up to [`LONGEST_RETRY`].
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// What was fetched is made durable this often.
const COMMIT: Duration = Duration::from_secs(30);
/// Refused heads that are remembered.
const MAX_REFUSED: usize = 16;
/// Gateways and mirrors of a head are looked for when fewer subscribers are connected.
const ENOUGH_PEERS: usize = 6;

/// Follows the shop until its token is cancelled.
pub(super) async fn run(node: Node, shop: Arc<Shop>) {
    let mut work = Work {
        node,
        shop,
        temp_pin: None,
        asked: None,
        retry: RETRY,
    };
    work.hold();
    loop {
        if work.shop.changed.swap(false, Relaxed) {
            work.asked = None;
        }
        let pause = match work.round().await {
            Ok(pause) => pause,
            Err(MirrorError::Changed) => Duration::ZERO,
            Err(error) => {
                let stall = in_words(&error);
                tracing::debug!(shop = %work.shop.name, stall, "a mirror waits");
                work.shop.progress.lock().stall = Some(stall);
                work.retry = (work.retry * 2).min(LONGEST_RETRY);
                work.retry
            }
        };
        work.shop.progress.lock().is_busy = false;
        tokio::select! {
            () = work.shop.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Work {
    node: Node,
    shop: Arc<Shop>,
    /// Keeps what was fetched of a head that is not whole yet.
    temp_pin: Option<TempPin>,
    asked: Option<Instant>,
    retry: Duration,
}

impl Work {
    /// Keeps what was fetched before a restart.
    fn hold(&mut self) {
        let Ok(Some(mirror)) = self.stored() else {
            return;
        };
        if let Some(head) = mirror.known.as_ref().filter(|head| needs(&mirror, head)) {
            let mut temp_pin = self.node.temp_pin();
            temp_pin.hold(head.root);
            self.temp_pin = Some(temp_pin);
        }
    }

    /// Looks once, and brings what is new. Returns how long to wait.
    async fn round(&mut self) -> Result<Duration, MirrorError> {
        let Some(mirror) = self.stored()? else {
            return Ok(ASK);
        };
        if mirror.paused {
            self.shop.progress.lock().stall = Some("it is paused".to_owned());
            return Ok(ASK);
        }
        self.follow_names(mirror.known.as_ref()).await;
        // A head that cannot be had keeps nobody from the one that is known.
        let unread = self.look(&mirror).await?;
        let Some(mirror) = self.stored()? else {
            return Ok(ASK);
        };
        if let Some(wait) = until_open(&mirror.policy) {
            let stall = "it waits for the hours in which it may fetch".to_owned();
            self.shop.progress.lock().stall = Some(stall);
            return Ok(wait.min(ASK));
        }
        if let Some(head) = mirror.known.clone()
            && needs(&mirror, &head)
        {
            self.bring(&mirror, head).await?;
        }
        if let Some(error) = unread {
            return Err(error.into());
        }
        self.retry = RETRY;
        let mut progress = self.shop.progress.lock();
        progress.stall = None;
        drop(progress);
        let since = self.asked.map_or(ASK, |asked| asked.elapsed());
        Ok(ASK.saturating_sub(since).max(RETRY))
    }

    fn stored(&self) -> Result<Option<Mirror>, ManifestError> {
        self.node.manifest().mirror(&self.shop.name)
    }

    /// Hears of the shop's names, and answers others with what is whole here.
    async fn follow_names(&self, known: Option<&Followed>) {
        let mut names = vec![self.shop.name.clone()];
        names.extend(known.and_then(|known| Name::from_bytes(&known.publishing).ok()));
        for name in names {
            self.node.mirrors().learn(name.clone(), &self.shop.name);
            let record = crate::name::kept(&self.node, &name).ok().flatten();
            if let Some(network) = self.node.network() {
                // Fails when the network is off.
                network.follow(&name, record).await.ok();
            }
        }
    }

    /// Checks what was heard and, from time to time, what everybody shows. Returns why a newer head could
    /// not be read, if there is one.
    async fn look(&mut self, mirror: &Mirror) -> Result<Option<FollowError>, MirrorError> {
        let heard = std::mem::take(&mut *self.shop.heard.lock());
        let known = mirror.known.as_ref();
        let shown = Shown::of(&self.shop.name, known, heard);
        let unread = self.consider(mirror, shown).await?;
        let is_due = self.asked.is_none_or(|asked| asked.elapsed() >= ASK);
        if is_due || self.is_stalled() {
            let Some(mirror) = self.stored()? else {
                return Ok(None);
            };
            let head = self.head_json(&mirror).await;
            let gateways = places::gateways(&mirror.gateways, head.as_ref());
            let known = mirror.known.as_ref();
            self.meet(known.map(|known| known.root), head, &gateways);
            let shown = records::ask(&self.node, &self.shop.name, known, &gateways).await?;
            self.asked = Some(Instant::now());
            return self.consider(&mirror, shown).await;
        }
        Ok(unread)
    }

    fn is_stalled(&self) -> bool {
        self.retry > RETRY
    }

    /// Connects to others who have the shop, meanwhile.
    fn meet(&self, root: Option<Cid>, head: Option<ShopJson>, gateways: &[Url]) {
        let Some(network) = self.node.network().cloned() else {
            return;
        };
        let (node, name, gateways) = (self.node.clone(), self.shop.name.clone(), gateways.to_vec());
        self.node.spawn(async move {
            let subscribers = network.subscribers(&name).await;
            if subscribers.is_ok_and(|peers| peers.len() >= ENOUGH_PEERS) {
                return;
            }
            if let Some(head) = head {
                places::connect(&node, &head).await;
            }
            if let Some(root) = root {
                places::connect_gateways(&node, &gateways, root).await;
            }
            for point in root.into_iter().chain([rendezvous(&name)]) {
                // Connects to those it finds. The worker asks again when there are none.
                network.find_providers(&point, ENOUGH_PEERS).await.ok();
            }
            network.provide(&rendezvous(&name)).await.ok();
        });
    }

    /// Checks heads against the one that is known, newest first, and remembers what came of it.
    async fn consider(
        &mut self,
        mirror: &Mirror,
        shown: Shown,
    ) -> Result<Option<FollowError>, MirrorError> {
        let mut mirror = mirror.clone();
        let before = mirror.clone();
        let mut failed = None;
        let fetcher = self.fetcher(&mirror).await;
        for (from, error) in shown.invalid() {
            refuse(&mut mirror, None, from, error.to_string());
        }
        for offered in shown.heads() {
            let known = mirror.known.as_ref();
            match records::check(&fetcher, &self.shop.name, known, &shown, offered).await {
                Ok(Step::New(head)) => {
                    tracing::info!(shop = %self.shop.name, seq = head.followed.seq, from = %offered.from, "a new head of a mirrored shop");
                    mirror.known = Some(head.followed);
                }
                Ok(Step::Renewed(followed)) => renew(&mut mirror, *followed),
                Ok(Step::Known) => {}
                Err(FollowError::Refused(refused)) => {
                    let seq = Some(offered.record.sequence);
                    refuse(&mut mirror, seq, &offered.from, in_words(&refused));
                }
                Err(error) => failed = Some(error),
            }
        }
        if mirror != before {
            self.save(mirror).await?;
        }
        Ok(failed)
    }

    /// Stores the record; names lead to the head that is whole here. What an operator changed meanwhile
    /// stays.
    async fn save(&self, mirror: Mirror) -> Result<(), MirrorError> {
        let _turn = self.node.mirrors().turn.lock().await;
        let Some(now) = self.stored()? else {
            return Ok(());
        };
        let mirror = Mirror {
            policy: now.policy,
            gateways: now.gateways,
            paused: now.paused,
            ..mirror
        };
        let mut ops = Vec::new();
        let held = mirror.held.as_ref().map(|held| held.head.clone());
        if let Some(head) = &held {
            let seen = Timestamp::now();
            let records = [
                (
                    self.shop.name.to_bytes(),
                    &head.shop_record,
                    head.shop_sequence,
                ),
                (head.publishing.clone(), &head.head_record, head.seq),
            ];
            for (name, bytes, sequence) in records {
                let record = NameRecord {
                    bytes: bytes.clone(),
                    sequence,
                    seen,
                };
                ops.push(Op::PutName(name, record));
            }
        }
        ops.push(Op::PutMirror(self.shop.name.to_bytes(), mirror));
        super::commit(&self.node, ops).await?;
        self.follow_names(held.as_ref()).await;
        Ok(())
    }

    async fn fetcher(&self, mirror: &Mirror) -> Fetcher {
        let head = self.head_json(mirror).await;
        let gateways = places::gateways(&mirror.gateways, head.as_ref());
        let publishing = mirror.known.as_ref();
        let publishing = publishing.and_then(|known| Name::from_bytes(&known.publishing).ok());
        let names: Vec<&Name> = [Some(&self.shop.name), publishing.as_ref()]
            .into_iter()
            .flatten()
            .collect();
        let options = places::options(&self.node, &gateways, &names).await;
        self.node.fetcher(options)
    }

    /// The newest head that is here.
    async fn head_json(&self, mirror: &Mirror) -> Option<ShopJson> {
        let known = mirror.known.as_ref();
        let held = mirror.held.as_ref().map(|held| &held.head);
        for head in known.into_iter().chain(held) {
            let found = places::head_of(&self.node, head.root).await;
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Fetches what is missing of the head, and puts it in the place of the one before.
    async fn bring(&mut self, mirror: &Mirror, head: Followed) -> Result<(), MirrorError> {
        let mut temp_pin = self.node.temp_pin();
        temp_pin.hold(head.root);
        // The one before holds what was fetched until now.
        let before = self.temp_pin.replace(temp_pin);
        self.shop.progress.lock().is_busy = true;
        let fetcher = self.fetcher(mirror).await;
        let mut fetching = Fetching {
            node: &self.node,
            shop: &self.shop,
            policy: &mirror.policy,
            committed: Instant::now(),
            started: Instant::now(),
            fetched: 0,
            before: self.shop.progress.lock().fetched,
            done: 0,
        };
        fetching.begin();
        for link in super::root_links(&fetcher, head.root).await? {
            if link.name != b"p" {
                fetching.tree(&fetcher, link.cid).await?;
            }
        }
        let plan = plan::plan(&fetcher, head.root, &mirror.policy).await?;
        let (fits, left_out) = within_quota(&plan, &mirror.policy, fetching.done);
        fetching.expect(&fits, left_out);
        for release in &fits {
            fetching.tree(&fetcher, release.root).await?;
            fetching.finished(release);
        }
        let mut roots = plan.catalogue.clone();
        roots.extend(fits.iter().map(|release| Root::whole(release.root)));
        if plan.is_whole && left_out.0 == 0 {
            roots = vec![Root::whole(head.root)];
        }
        let (bytes, store) = (fetching.done, self.node.store().clone());
        let list = self
            .node
            .blocking(move || {
                let list = kept::write(&store, &roots)?;
                store.commit()?;
                Ok::<Cid, crate::store::StoreError>(list)
            })
            .await?;
        let root = head.root;
        let Some(now) = self.stored()? else {
            return Ok(());
        };
        let policy = mirror.policy.clone();
        self.save(Mirror {
            held: Some(Held {
                head,
                kept: list,
                policy,
                bytes,
            }),
            ..now
        })
        .await?;
        drop(before);
        self.temp_pin = None;
        tracing::info!(shop = %self.shop.name, %root, bytes, "a head of a mirrored shop is whole here");
        self.node.offer(root);
        self.tell()?;
        Ok(())
    }

    /// Puts the two records into the DHT, which needs no key.
    fn tell(&self) -> Result<(), MirrorError> {
        let (Some(network), Some(mirror)) = (self.node.network().cloned(), self.stored()?) else {
            return Ok(());
        };
        let Some(head) = mirror.held.map(|held| held.head) else {
            return Ok(());
        };
        let names = [
            Some(self.shop.name.clone()),
            Name::from_bytes(&head.publishing).ok(),
        ];
        let mut records = Vec::new();
        for name in names.into_iter().flatten() {
            if let Some(record) = crate::name::kept(&self.node, &name)? {
                records.push((name, record));
            }
        }
        self.node.spawn(async move {
            for (name, record) in records {
                // What nobody takes now is put again with all other names.
                network.put_record(&name, &record).await.ok();
            }
        });
        Ok(())
    }
}

/// The fetching of one head.
struct Fetching<'a> {
    node: &'a Node,
    shop: &'a Shop,
    policy: &'a MirrorPolicy,
    committed: Instant,
    started: Instant,
    /// Bytes that came from outside.
    fetched: u64,
    /// The same of heads before.
    before: u64,
    /// Bytes of whole trees.
    done: u64,
}

impl Fetching<'_> {
    fn begin(&self) {
        let mut progress = self.shop.progress.lock();
        *progress = Progress {
            fetched: progress.fetched,
            is_busy: true,
            ..Progress::default()
        };
    }

    /// What there is to do is known.
    fn expect(&self, releases: &[&plan::Wanted], left_out: (u64, u64)) {
        let mut progress = self.shop.progress.lock();
        progress.left_out = left_out;
        progress.total = self.done;
        for release in releases {
            progress.total += release.size;
            let product = progress.products.entry(release.product.clone());
            product.or_default().1 += release.size;
        }
    }

    fn finished(&self, release: &plan::Wanted) {
        let mut progress = self.shop.progress.lock();
        if let Some(product) = progress.products.get_mut(&release.product) {
            product.0 += release.size;
        }
    }

    /// Fetches a whole tree.
    async fn tree(&mut self, fetcher: &Fetcher, root: Cid) -> Result<(), MirrorError> {
        let window = self.window();
        let mut tree = std::pin::pin!(fetch_dag(fetcher.clone(), root, window));
        let (mut bytes, mut fetched) = (0, 0);
        while let Some(progress) = tree.next().await {
            let now = progress?;
            self.fetched += now.fetched - fetched;
            (bytes, fetched) = (now.bytes, now.fetched);
            self.report(bytes);
            if self.shop.changed.load(Relaxed) || until_open(self.policy).is_some() {
                return Err(MirrorError::Changed);
            }
            if self.committed.elapsed() >= COMMIT {
                self.node.commit_blocks().await?;
                self.committed = Instant::now();
            }
            self.pace().await;
        }
        self.done += bytes;
        Ok(())
    }

    fn report(&self, bytes: u64) {
        let mut progress = self.shop.progress.lock();
        progress.bytes = self.done + bytes;
        progress.total = progress.total.max(progress.bytes);
        progress.fetched = self.before + self.fetched;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rate need not be exact"
        )]
        let rate = (self.fetched as f64 / self.started.elapsed().as_secs_f64().max(0.1)) as u64;
        progress.rate = rate;
        progress.stall = None;
    }

    /// Blocks in flight: few when the rate is limited, for what is under way cannot be held back.
    fn window(&self) -> usize {
        let most = self.node.config().network.limits.window;
        match self.policy.bytes_per_second {
            Some(rate) => usize::try_from(rate >> 20).unwrap_or(most).clamp(1, most),
            None => most,
        }
    }

    /// Waits until what came is within the rate.
    async fn pace(&self) {
        let Some(rate) = self.policy.bytes_per_second.filter(|rate| *rate > 0) else {
            return;
        };
        #[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
        let due = Duration::from_secs_f64(self.fetched as f64 / rate as f64);
        tokio::time::sleep_until(self.started + due).await;
    }
}

/// Whether something of the head may be missing, or is kept by another policy.
fn needs(mirror: &Mirror, head: &Followed) -> bool {
    mirror
        .held
        .as_ref()
        .is_none_or(|held| held.head.root != head.root || held.policy != mirror.policy)
}

fn renew(mirror: &mut Mirror, followed: Followed) {
    if let Some(held) = mirror
        .held
        .as_mut()
        .filter(|held| held.head.root == followed.root)
    {
        held.head = followed.clone();
    }
    mirror.known = Some(followed);
}

fn refuse(mirror: &mut Mirror, seq: Option<u64>, from: &str, why: String) {
    let from = from.to_owned();
    let is_same =
        |known: &&mut RefusedHead| (known.seq, &known.why, &known.from) == (seq, &why, &from);
    if let Some(known) = mirror.refused.iter_mut().find(is_same) {
        known.times += 1;
        return;
    }
    tracing::warn!(?seq, from, why, "a head of a mirrored shop is refused");
    mirror.refused.insert(
        0,
        RefusedHead {
            seq,
            why,
            from,
            when: Timestamp::now(),
            times: 1,
        },
    );
    mirror.refused.truncate(MAX_REFUSED);
}

/// How long the hours in which may be fetched are away; `None` within them.
fn until_open(policy: &MirrorPolicy) -> Option<Duration> {
    let hours = policy.hours?;
    hours.until_open(crate::mirror::minute_of_day())
}
