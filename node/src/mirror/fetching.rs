//! The fetching of one head of a mirrored shop: the catalogue, then the releases that are chosen.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use futures::StreamExt;
use tokio::time::Instant;

use super::plan::{Plan, Wanted};
use super::{
    MirrorError, Progress, Shop, changed, check_quota, in_words, left_of_quota, plan, rarest,
    within_quota,
};
use crate::dag::DagError;
use crate::dag::unixfs::Link;
use crate::fetch::{FetchOptions, Fetcher, fetch_dag_up_to};
use crate::manifest::record::MirrorPolicy;
use crate::node::Node;
use crate::source::FetchError;
use crate::source::trustless::Given;

/// What was fetched is made durable this often.
const COMMIT: Duration = Duration::from_secs(30);
/// Sources whose bytes are counted.
const MAX_SOURCES: usize = 64;

/// What came of fetching a head.
pub(super) struct Fetched {
    pub(super) plan: Plan,
    pub(super) fits: Vec<Arc<Wanted>>,
    /// Something did not fit into the quota.
    pub(super) left_out: bool,
    /// As the shop says.
    pub(super) bytes: u64,
}

/// The fetching of one head.
pub(super) struct Fetching<'a> {
    pub(super) node: &'a Node,
    pub(super) shop: &'a Shop,
    pub(super) policy: &'a MirrorPolicy,
    pub(super) fetcher: &'a Fetcher,
    /// The head.
    pub(super) root: Cid,
    /// Releases that came in rounds before, and those that come now.
    pub(super) brought: &'a mut HashSet<Cid>,
    /// Why the first of the releases that cannot be had cannot.
    pub(super) failed: Option<MirrorError>,
    pub(super) committed: Instant,
    pub(super) started: Instant,
    /// Bytes that came from outside.
    pub(super) fetched: u64,
    /// What came of heads before.
    pub(super) before: Progress,
    /// Bytes of whole trees, as the shop says.
    pub(super) done: u64,
}

impl Fetching<'_> {
    /// Fetches what is missing of the head: nothing of the head `held`, nor of the releases that are `here`.
    /// Products are planned as `before` where they did not change. A release that cannot be had keeps no other
    /// one away, and is the error in the end.
    pub(super) async fn run(
        &mut self,
        held: Option<Cid>,
        before: Option<&Plan>,
        here: &HashSet<Cid>,
    ) -> Result<Fetched, MirrorError> {
        self.begin();
        self.catalogue(held).await?;
        let plan = self.plan(before).await?;
        let (fits, left_out) = within_quota(&plan, self.policy, self.done);
        self.expect(&fits, left_out);
        let (held, missing): (Vec<_>, Vec<_>) = fits.iter().cloned().partition(|release| {
            here.contains(&release.root) || self.brought.contains(&release.root)
        });
        for release in held {
            self.done = self.done.saturating_add(release.size);
            self.finished(&release);
        }
        self.releases(&missing).await?;
        if let Some(failed) = self.failed.take() {
            self.node.commit_blocks().await?;
            return Err(failed);
        }
        Ok(Fetched {
            plan,
            fits,
            left_out: left_out.0 > 0,
            bytes: self.done,
        })
    }

    /// Reads the directories above the releases.
    async fn plan(&self, before: Option<&Plan>) -> Result<Plan, MirrorError> {
        let reads = "it reads what releases there are".to_owned();
        let stall = self.shop.progress.lock().stall.replace(reads);
        let plan = plan::plan(self.fetcher, self.root, self.policy, before).await?;
        self.shop.progress.lock().stall = stall;
        Ok(plan)
    }

    fn begin(&self) {
        let mut progress = self.shop.progress.lock();
        *progress = Progress {
            fetched: self.before.fetched,
            sources: self.before.sources.clone(),
            // Until bytes come again.
            stall: self.before.stall.clone(),
            is_busy: true,
            ..Progress::default()
        };
    }

    /// Fetches what is new in the catalogue.
    async fn catalogue(&mut self, held: Option<Cid>) -> Result<(), MirrorError> {
        let here = self.node.fetcher(FetchOptions::offline());
        let before = match held {
            Some(held) => super::root_links(&here, held).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let links = super::root_links(self.fetcher, self.root).await?;
        let is_catalogue = |link: &&Link| link.name != plan::RELEASES;
        for link in links.iter().filter(is_catalogue) {
            let known = before.iter().find(|known| known.name == link.name);
            let trees = changed::trees(self.fetcher, &here, known, link).await?;
            let changed = trees.iter().map(|tree| tree.tsize);
            let changed = changed.fold(0, u64::saturating_add);
            let same = link.tsize.saturating_sub(changed);
            self.done = self.done.saturating_add(same);
            for tree in trees {
                self.tree(tree.cid, tree.tsize).await?;
            }
        }
        Ok(())
    }

    /// What there is to do is known.
    fn expect(&self, releases: &[Arc<Wanted>], left_out: (u64, u64)) {
        let mut progress = self.shop.progress.lock();
        progress.left_out = left_out;
        progress.bytes = self.done;
        progress.total = self.done;
        for release in releases {
            progress.total = progress.total.saturating_add(release.size);
            let product = progress.products.entry(release.product.clone());
            let total = &mut product.or_default().1;
            *total = total.saturating_add(release.size);
        }
    }

    /// Fetches releases, so many at a time the rarest first; those that nobody is known to have come last.
    async fn releases(&mut self, missing: &[Arc<Wanted>]) -> Result<(), MirrorError> {
        let (node, shop) = (self.node, self.shop);
        let shop = &shop.name;
        let network = node.network();
        let mut groups = missing.chunks(rarest::TOGETHER);
        let mut next = rarest::first(network, shop, groups.next().unwrap_or_default()).await;
        let mut last = Vec::new();
        while !next.first.is_empty() {
            let after = rarest::first(network, shop, groups.next().unwrap_or_default());
            let (fetched, after) = futures::join!(self.each(&next.first), after);
            fetched?;
            last.append(&mut next.last);
            next = after;
        }
        self.each(&last).await
    }

    /// Fetches one release after the other.
    async fn each(&mut self, releases: &[Arc<Wanted>]) -> Result<(), MirrorError> {
        for release in releases {
            match self.tree(release.root, release.size).await {
                Ok(()) => {
                    self.brought.insert(release.root);
                    self.finished(release);
                }
                Err(MirrorError::Dag(source)) if !is_of_store(&source) => {
                    let (product, version) = (release.product.clone(), release.version.clone());
                    let error = MirrorError::Release {
                        product,
                        version,
                        source,
                    };
                    self.missed(error)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Goes on without a release, unless there is a newer head, which may not have it any more.
    fn missed(&mut self, error: MirrorError) -> Result<(), MirrorError> {
        let error = self.failed.take().unwrap_or(error);
        let mirror = self.node.manifest().mirror(&self.shop.name)?;
        let known = mirror.and_then(|mirror| mirror.known);
        if known.is_some_and(|known| known.root != self.root) {
            return Err(error);
        }
        let mut progress = self.shop.progress.lock();
        progress.stall = Some(in_words(&error));
        progress.bytes = self.done;
        drop(progress);
        self.failed = Some(error);
        Ok(())
    }

    fn finished(&self, release: &Wanted) {
        let mut progress = self.shop.progress.lock();
        progress.bytes = self.done;
        progress.total = progress.total.max(self.done);
        if let Some(product) = progress.products.get_mut(&release.product) {
            product.0 = product.0.saturating_add(release.size);
        }
    }

    /// Fetches a whole tree, of so many bytes as the shop says.
    async fn tree(&mut self, root: Cid, size: u64) -> Result<(), MirrorError> {
        let window = self.window();
        let left = left_of_quota(self.policy, self.done);
        let tree = fetch_dag_up_to(self.fetcher.clone(), root, window, left);
        let mut tree = std::pin::pin!(tree);
        let (mut bytes, mut fetched) = (0, 0);
        while let Some(progress) = tree.next().await {
            let now = progress?;
            if now.fetched > fetched {
                self.fetched += now.fetched - fetched;
                self.shop.progress.lock().stall = None;
            }
            (bytes, fetched) = (now.bytes, now.fetched);
            check_quota(self.policy, self.done.saturating_add(bytes))?;
            self.report(bytes.min(size));
            if self.committed.elapsed() >= COMMIT {
                self.node.commit_blocks().await?;
                self.committed = Instant::now();
            }
        }
        self.done = self.done.saturating_add(size.max(bytes));
        Ok(())
    }

    fn report(&self, bytes: u64) {
        let mut progress = self.shop.progress.lock();
        progress.bytes = self.done.saturating_add(bytes);
        progress.total = progress.total.max(progress.bytes);
        progress.fetched = self.before.fetched + self.fetched;
        progress.sources = together(&self.before.sources, self.fetcher.given());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rate need not be exact"
        )]
        let rate = (self.fetched as f64 / self.started.elapsed().as_secs_f64().max(0.1)) as u64;
        progress.rate = rate;
    }

    /// Blocks in flight: few when the rate is limited, for what is under way cannot be held back.
    fn window(&self) -> usize {
        let most = self.node.config().network.limits.window;
        match self.policy.bytes_per_second {
            Some(rate) => usize::try_from(rate >> 20).unwrap_or(most).clamp(1, most),
            None => most,
        }
    }
}

/// Whether this node failed, and not those who were asked.
fn is_of_store(error: &DagError) -> bool {
    matches!(error, DagError::Fetch(FetchError::Store(_)))
}

/// What sources gave in all, those that gave most first.
fn together(before: &[Given], now: Vec<Given>) -> Vec<Given> {
    let mut all = before.to_vec();
    for given in now {
        match all.iter_mut().find(|known| known.source == given.source) {
            Some(known) => {
                known.blocks += given.blocks;
                known.bytes += given.bytes;
                known.errors += given.errors;
                known.lied |= given.lied;
            }
            None => all.push(given),
        }
    }
    all.sort_by(|a, b| (b.bytes, &a.source).cmp(&(a.bytes, &b.source)));
    all.truncate(MAX_SOURCES);
    all
}

#[cfg(test)]
mod tests;
