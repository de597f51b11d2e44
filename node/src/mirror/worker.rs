//! The worker of one mirrored shop: looks for heads, brings the newest one here, tells it on. It goes on
//! looking while it fetches.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cid::Cid;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::fetching::{Fetched, Fetching};
use super::places::Places;
use super::plan::Plan;
use super::records::{self, Shown};
use super::{
    MirrorError, Progress, Shop, held_progress, held_releases, in_words, kept, places, plan,
};
use crate::fetch::{FetchOptions, Fetcher};
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
/// Refused heads that are remembered.
const MAX_REFUSED: usize = 16;
/// How often it is seen whether the hours are over, or everybody is to be asked, while something is fetched.
const LOOK: Duration = Duration::from_secs(1);
/// Gateways and mirrors of a head are looked for when fewer subscribers are connected.
const ENOUGH_PEERS: usize = 6;

/// Follows the shop until its token is cancelled.
pub(super) async fn run(node: Node, shop: Arc<Shop>) {
    let mut work = Work {
        node,
        shop,
        temp_pin: None,
        asked: Mutex::default(),
        brought: Brought::default(),
        retry: RETRY,
        stall: None,
        last: None,
    };
    work.hold();
    loop {
        if work.shop.changed.swap(false, Relaxed) {
            *work.asked.lock() = None;
        }
        let pause = match work.round().await {
            Ok(pause) => pause,
            Err(MirrorError::Changed) => Duration::ZERO,
            Err(error) => {
                let stall = in_words(&error);
                tracing::debug!(shop = %work.shop.name, stall, "a mirror waits");
                work.stall = Some(stall.clone());
                work.shop.progress.lock().stall = Some(stall);
                work.retry = (work.retry * 2).min(LONGEST_RETRY);
                work.retry
            }
        };
        work.shop.progress.lock().is_busy = false;
        work.recall().await;
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
    brought: Brought,
    asked: Mutex<Option<Instant>>,
    retry: Duration,
    /// Why the round before did not come to its end.
    stall: Option<String>,
    /// What is held, as it was planned; not known after a restart.
    last: Option<Arc<Last>>,
}

/// Releases of a head that is not whole yet: those that are.
#[derive(Default)]
struct Brought {
    head: Option<Cid>,
    releases: HashSet<Cid>,
}

/// The plan of a head that is whole here.
struct Last {
    root: Cid,
    policy: MirrorPolicy,
    plan: Plan,
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
        let asks = self.is_due() || self.retry > RETRY;
        let unread = self.look(&mirror, asks).await?;
        let Some(mirror) = self.stored()? else {
            return Ok(ASK);
        };
        if let Some(wait) = mirror.policy.until_open() {
            let stall = "it waits for the hours in which it may fetch".to_owned();
            self.shop.progress.lock().stall = Some(stall);
            return Ok(wait.min(ASK));
        }
        if let Some(head) = mirror.known.clone()
            && needs(&mirror, &head)
        {
            self.bring(&mirror, head).await?;
        }
        // One that was heard of meanwhile is next.
        let is_behind = |mirror: &Mirror| {
            let known = mirror.known.as_ref();
            known.is_some_and(|known| needs(mirror, known))
        };
        if unread.is_none() && self.stored()?.as_ref().is_some_and(is_behind) {
            return Ok(Duration::ZERO);
        }
        if let Some(error) = unread {
            return Err(error);
        }
        self.retry = RETRY;
        self.stall = None;
        self.shop.progress.lock().stall = None;
        let since = (*self.asked.lock()).map_or(ASK, |asked| asked.elapsed());
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

    /// Checks what was heard and, if everybody is to be asked, what they show; a new publishing key is asked
    /// for at once. Returns why a newer head could not be had, if there is one.
    async fn look(&self, mirror: &Mirror, asks: bool) -> Result<Option<MirrorError>, MirrorError> {
        let heard = std::mem::take(&mut *self.shop.heard.lock());
        let known = mirror.known.as_ref();
        let shown = Shown::of(&self.shop.name, known, heard);
        let is_rekeyed = has_new_key(known, &shown);
        let unread = self.consider(mirror, shown).await?;
        if asks || is_rekeyed {
            let Some(mirror) = self.stored()? else {
                return Ok(None);
            };
            let head = self.head_json(&mirror).await;
            let places = Places::given(&self.node, &mirror.gateways).and(&self.node, head.as_ref());
            let known = mirror.known.as_ref();
            self.meet(known.map(|known| known.root), head, places.clone());
            let shown = records::ask(&self.node, &self.shop.name, known, &places.gateways).await?;
            *self.asked.lock() = Some(Instant::now());
            let is_awaited = has_new_key(known, &shown) && shown.heads().next().is_none();
            let (shop, tried) = (self.shop.name.clone(), shown.tried());
            let awaited = is_awaited.then_some(MirrorError::NoHead { shop, tried });
            return Ok(self.consider(&mirror, shown).await?.or(awaited));
        }
        Ok(unread)
    }

    fn is_due(&self) -> bool {
        (*self.asked.lock()).is_none_or(|asked| asked.elapsed() >= ASK)
    }

    /// Connects to others who have the shop, meanwhile.
    fn meet(&self, root: Option<Cid>, head: Option<ShopJson>, places: Places) {
        let Some(network) = self.node.network().cloned() else {
            return;
        };
        let name = self.shop.name.clone();
        self.node.spawn(async move {
            let subscribers = network.subscribers(&name).await;
            if subscribers.is_ok_and(|peers| peers.len() >= ENOUGH_PEERS) {
                return;
            }
            if let Some(head) = head {
                places.connect_mirrors(&network, &head).await;
            }
            if let Some(root) = root {
                places.connect_providers(&network, root).await;
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
        &self,
        mirror: &Mirror,
        shown: Shown,
    ) -> Result<Option<MirrorError>, MirrorError> {
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
                    renew(&mut mirror, head.followed);
                }
                Ok(Step::Renewed(followed)) => renew(&mut mirror, *followed),
                Ok(Step::Known) => {}
                Err(FollowError::Refused(refused)) => {
                    let seq = Some(offered.record.sequence);
                    refuse(&mut mirror, seq, &offered.from, in_words(&refused));
                }
                Err(error) => failed = Some(error.into()),
            }
        }
        let is_renewed = mirror.held != before.held;
        if mirror != before {
            self.save(mirror).await?;
        }
        if is_renewed {
            self.tell()?;
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
        let places = Places::given(&self.node, &mirror.gateways).and(&self.node, head.as_ref());
        let publishing = mirror.known.as_ref();
        let publishing = publishing.and_then(|known| Name::from_bytes(&known.publishing).ok());
        let names: Vec<&Name> = [Some(&self.shop.name), publishing.as_ref()]
            .into_iter()
            .flatten()
            .collect();
        let options = places.options(&self.node, &names).await;
        let rate = self.shop.rate(&mirror.policy);
        self.node.fetcher(options).limited(rate)
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
        let last = self.last(mirror).await?;
        let here = match (&mirror.held, &last) {
            (Some(held), last) => {
                let plan = last.as_ref().map(|last| &last.plan);
                held_releases(&self.node, held, plan).await?
            }
            (None, _) => HashSet::new(),
        };
        if self.brought.head != Some(head.root) {
            // The one before holds them no longer.
            self.brought = Brought {
                head: Some(head.root),
                releases: HashSet::new(),
            };
        }
        let mut brought = std::mem::take(&mut self.brought.releases);
        let before_it = Progress {
            stall: self.stall.clone(),
            ..self.shop.progress.lock().clone()
        };
        let mut fetching = Fetching {
            node: &self.node,
            shop: &self.shop,
            policy: &mirror.policy,
            fetcher: &fetcher,
            root: head.root,
            brought: &mut brought,
            failed: None,
            committed: Instant::now(),
            started: Instant::now(),
            fetched: 0,
            before: before_it,
            done: 0,
        };
        let held = mirror.held.as_ref().map(|held| held.head.root);
        let same = last.iter().find(|last| last.policy == mirror.policy);
        let same = same.map(|last| &last.plan);
        let fetched = tokio::select! {
            fetched = fetching.run(held, same, &here) => fetched,
            stop = self.watch(&mirror.policy) => Err(stop),
        };
        self.brought.releases = brought;
        let Fetched {
            plan,
            fits,
            left_out,
            bytes,
        } = fetched?;
        let mut roots = plan.catalogue.clone();
        roots.extend(fits.iter().map(|release| Root::whole(release.root)));
        if plan.is_whole && !left_out {
            roots = vec![Root::whole(head.root)];
        }
        let store = self.node.store().clone();
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
        let head = newest_of(head, now.known.as_ref());
        let policy = mirror.policy.clone();
        self.save(Mirror {
            held: Some(Held {
                head,
                kept: list,
                policy: policy.clone(),
                bytes,
            }),
            ..now
        })
        .await?;
        self.last = Some(Arc::new(Last { root, policy, plan }));
        self.brought = Brought::default();
        drop(before);
        self.temp_pin = None;
        tracing::info!(shop = %self.shop.name, %root, bytes, "a head of a mirrored shop is whole here");
        self.node.offer(root);
        self.tell()?;
        Ok(())
    }

    /// The plan of the head that is held.
    async fn last(&mut self, mirror: &Mirror) -> Result<Option<Arc<Last>>, MirrorError> {
        let Some(held) = &mirror.held else {
            return Ok(None);
        };
        let root = held.head.root;
        let is_of = |last: &&Arc<Last>| last.root == root && last.policy == held.policy;
        if let Some(last) = self.last.as_ref().filter(is_of) {
            return Ok(Some(Arc::clone(last)));
        }
        let here = self.node.fetcher(FetchOptions::offline());
        let policy = held.policy.clone();
        // Where something is missing here, everything is looked at.
        let plan = plan::plan(&here, root, &policy, None).await.ok();
        self.last = plan.map(|plan| Arc::new(Last { root, policy, plan }));
        Ok(self.last.clone())
    }

    /// What is held is shown again after a restart.
    async fn recall(&mut self) {
        if self.last.is_some() {
            return;
        }
        let Ok(Some(mirror)) = self.stored() else {
            return;
        };
        let (Some(held), Ok(Some(last))) = (&mirror.held, self.last(&mirror).await) else {
            return;
        };
        match held_progress(&self.node, held, &last.plan).await {
            Ok(recalled) => {
                let mut progress = self.shop.progress.lock();
                if progress.total == 0 {
                    progress.bytes = recalled.bytes;
                    progress.total = recalled.total;
                    progress.products = recalled.products;
                    progress.left_out = recalled.left_out;
                }
            }
            Err(error) => tracing::debug!(%error, "what is held of a mirror is not read"),
        }
    }

    /// Takes note of heads while one is fetched, until that is not to go on.
    async fn watch(&self, policy: &MirrorPolicy) -> MirrorError {
        loop {
            if self.shop.changed.load(Relaxed) || policy.until_open().is_some() {
                return MirrorError::Changed;
            }
            if (self.is_due() || !self.shop.heard.lock().is_empty())
                && let Err(error) = self.note().await
            {
                // The next round comes upon it, too.
                tracing::debug!(shop = %self.shop.name, %error, "a head is not taken note of");
            }
            tokio::select! {
                () = self.shop.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn note(&self) -> Result<(), MirrorError> {
        let Some(mirror) = self.stored()? else {
            return Ok(());
        };
        self.look(&mirror, self.is_due()).await?;
        let mirror = self.stored()?;
        let known = mirror.as_ref().and_then(|mirror| mirror.known.as_ref());
        self.follow_names(known).await;
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

/// Whether something of the head may be missing, or is kept by another policy.
fn needs(mirror: &Mirror, head: &Followed) -> bool {
    mirror
        .held
        .as_ref()
        .is_none_or(|held| held.head.root != head.root || held.policy != mirror.policy)
}

/// The head that was fetched, as it was signed anew meanwhile.
fn newest_of(fetched: Followed, known: Option<&Followed>) -> Followed {
    match known {
        Some(known) if known.root == fetched.root => known.clone(),
        _ => fetched,
    }
}

/// Whether the shop's key leads to another publishing key than the known head's.
fn has_new_key(known: Option<&Followed>, shown: &Shown) -> bool {
    let publishing = shown.publishing().map(|name| name.to_bytes());
    known.is_some_and(|known| publishing.is_some_and(|publishing| publishing != known.publishing))
}

/// The newest head is this one. Where it is whole here already it is also the one that is shown.
fn renew(mirror: &mut Mirror, followed: Followed) {
    if let Some(Held { head, .. }) = &mut mirror.held {
        if head.root == followed.root {
            *head = followed.clone();
        } else if head.publishing == followed.publishing {
            head.shop_record.clone_from(&followed.shop_record);
            head.shop_sequence = followed.shop_sequence;
            head.shop_validity = followed.shop_validity;
        }
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

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::block::{RAW, cid_of};

    #[test]
    fn a_head_that_was_signed_anew_while_it_was_fetched_is_shown_so() {
        let head = |root: &[u8], seq| testing::head(cid_of(RAW, root), seq);
        let (fetched, renewed, other) = (head(b"one", 1), head(b"one", 2), head(b"two", 2));
        assert_eq!(newest_of(fetched.clone(), Some(&renewed)), renewed);
        assert_eq!(newest_of(fetched.clone(), Some(&other)), fetched);
        assert_eq!(newest_of(fetched.clone(), None), fetched);
    }
}
