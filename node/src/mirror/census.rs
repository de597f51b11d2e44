//! CENSUS: who really has the blocks of a shop, by challenges of random blocks and not by claims.
//!
//! Each challenge is one block, chosen at random just then; the answer must come within the round trip to
//! that peer or gateway and an allowance for one read, and for the transfer where the whole block is sent. Who has
//! nine of ten blocks passes fifty challenges once in two hundred times. Questions to one come with
//! pauses, as it answers only so many.
//!
//! It proves that the block could be had from there that fast: held, or taken from somebody as near.
//! It does not prove that two have two copies, nor who runs them.

mod asker;
mod interview;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use cid::Cid;
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use libp2p::PeerId;
use rand::RngExt;
use rand::seq::SliceRandom;
use tokio::time::Instant;

use super::places::Places;
use super::{MirrorError, places, plan};
use crate::block::RAW;
use crate::dag::links::links;
use crate::dag::walk::key;
use crate::fetch::FetchOptions;
use crate::ids::ProductId;
use crate::keys::Name;
use crate::manifest::record::MirrorPolicy;
use crate::net::Network;
use crate::node::Node;
use crate::shop::json::ShopJson;
use crate::store::{Store, StoreError};

use asker::{Asker, Found};
use interview::{Counts, Interview};

pub use asker::By;

/// Blocks among which each peer's challenges are drawn.
const SAMPLE: usize = 4096;
/// Blocks of a shop that are counted, and among which is drawn.
const MAX_BLOCKS: u64 = 1 << 25;
/// Blocks with links that are remembered while they are counted: about 64 MiB of memory.
const MAX_LINKING: usize = 1 << 21;
/// Peers that are challenged.
const MAX_PEERS: usize = 64;
/// Who is asked for what others did not prove, and says nothing so often, is asked no more.
const GIVE_UP: usize = 3;
/// For one interview, and this long for each question besides: the pause before it, and its answer.
const LONGEST: Duration = Duration::from_secs(60);
const LONGEST_QUESTION: Duration = Duration::from_secs(2);
/// For what one did not prove to be proved by others.
const LONGEST_OTHERS: Duration = Duration::from_secs(120);
/// Standard deviations that bound the share: 99 of 100 times it is within.
const SIGMAS: f64 = 2.576;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Blocks of the shop that are here, from which was drawn.
    pub blocks: u64,
    /// Peers and gateways, those who proved most first.
    pub asked: Vec<Proved>,
    /// Products of which blocks were asked for: how many, and how many of these somebody proved.
    pub products: BTreeMap<ProductId, (u64, u64)>,
}

/// What one peer or gateway proved.
#[derive(Clone, Debug, PartialEq)]
pub struct Proved {
    /// Who: a peer's id, or the URL of a gateway.
    pub who: String,
    /// How it was asked.
    pub by: By,
    /// Blocks it was asked for.
    pub asked: u64,
    /// Right answers in time.
    pub proved: u64,
    /// Right answers that came too late, or none: busy ones are late, too.
    pub late: u64,
    /// Blocks that came late each time, while others came in time: it fetches them elsewhere.
    pub slow: u64,
    /// Wrong answers.
    pub wrong: u64,
    /// It said that it does not have the block.
    pub absent: u64,
    /// The share of all blocks that it has is between these, 99 of 100 times; it may have the late ones or
    /// not.
    pub share: (f64, f64),
    /// The round trip.
    pub round_trip: Option<Duration>,
}

/// What the answers of one peer or gateway come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All were right and in time.
    Has,
    /// Some were late: it is busy, or fetches elsewhere what it then keeps. Another census tells more.
    Busy,
    /// It lacks blocks.
    Lacks,
    /// It does not answer.
    Unheard,
}

impl Verdict {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Has => "has",
            Self::Busy => "busy",
            Self::Lacks => "lacks",
            Self::Unheard => "unheard",
        }
    }
}

impl Proved {
    /// What the answers come to.
    pub fn verdict(&self) -> Verdict {
        if self.slow + self.wrong + self.absent > 0 {
            Verdict::Lacks
        } else if self.late > 0 {
            Verdict::Busy
        } else if self.proved > 0 {
            Verdict::Has
        } else {
            Verdict::Unheard
        }
    }
}

/// A block, and the product it belongs to.
pub(crate) type Sampled = (Cid, Option<ProductId>);

/// Challenges the peers that follow the shop, that its head names, and that provide it, and the gateways that
/// its head and the operator name.
///
/// # Cancel safety
/// A dropped future ends it; nothing is stored.
pub async fn census(node: &Node, shop: &Name, challenges: usize) -> Result<Census, MirrorError> {
    let _turn = node.mirrors().census.lock().await;
    let (root, policy) = head_of(node, shop)?;
    let here = node.fetcher(FetchOptions::offline());
    let plan = plan::plan(&here, root, &policy, None).await?;
    let mut trees: Vec<Sampled> = plan
        .releases
        .iter()
        .map(|release| (release.root, Some(release.product.clone())))
        .collect();
    trees.extend(
        plan.catalogue
            .iter()
            .filter(|tree| tree.recursive)
            .map(|tree| (tree.cid, None)),
    );
    let store = node.store().clone();
    let (sample, blocks) = node.blocking(move || sample(&store, trees)).await?;
    let mut census = Census {
        blocks,
        ..Census::default()
    };
    let Some(network) = node.network() else {
        return Ok(census);
    };
    let head = places::head_of(node, root).await;
    let places = places(node, shop, head.as_ref())?;
    let mut challenged = FuturesUnordered::new();
    let sampled = sample.as_slice();
    for peer in peers(network, shop, root, head.as_ref(), &places).await {
        let asked = async move {
            let asker = Asker::peer(network, peer).await;
            challenge(node, asker, sampled, challenges).await
        };
        challenged.push(asked.boxed());
    }
    for gateway in &places.gateways {
        let asked = async move {
            let asker = Asker::gateway(gateway).await;
            challenge(node, asker, sampled, challenges).await
        };
        challenged.push(asked.boxed());
    }
    let mut proofs: BTreeMap<Cid, bool> = BTreeMap::new();
    let mut able = Vec::new();
    while let Some(found) = challenged.next().await {
        let (proved, answers, asker) = found?;
        for (cid, is_proved) in answers {
            *proofs.entry(cid).or_default() |= is_proved;
        }
        if proved.proved > 0 {
            able.push(asker);
        }
        census.asked.push(proved);
    }
    let others = ask_others(node, able, &mut proofs);
    // What was not proved until then is not proved.
    if let Ok(asked) = tokio::time::timeout(LONGEST_OTHERS, others).await {
        asked?;
    }
    for (cid, product) in &sample {
        if let (Some(product), Some(is_proved)) = (product, proofs.get(cid)) {
            let counts = census.products.entry(product.clone()).or_default();
            counts.0 += 1;
            counts.1 += u64::from(*is_proved);
        }
    }
    census
        .asked
        .sort_by(|a, b| (b.proved, &a.who).cmp(&(a.proved, &b.who)));
    Ok(census)
}

/// The head that is here, and by which policy: what it left out is not looked into.
fn head_of(node: &Node, shop: &Name) -> Result<(Cid, MirrorPolicy), MirrorError> {
    let own = node
        .manifest()
        .head()?
        .filter(|_| *shop == node.shop_name());
    let own = own.map(|head| (head.root, MirrorPolicy::default()));
    let held = node.manifest().mirror(shop)?.and_then(|mirror| mirror.held);
    own.or(held.map(|held| (held.head.root, held.policy)))
        .ok_or_else(|| MirrorError::Unknown { shop: shop.clone() })
}

/// Peers to be challenged, connected.
async fn peers(
    network: &Network,
    shop: &Name,
    root: Cid,
    head: Option<&ShopJson>,
    places: &Places,
) -> Vec<PeerId> {
    let mut peers = network.subscribers(shop).await.unwrap_or_default();
    if let Some(head) = head {
        places.connect_mirrors(network, head).await;
        let named = head
            .mirrors
            .iter()
            .filter_map(|text| text.rsplit_once("/p2p/"));
        peers.extend(named.filter_map(|(_, id)| id.parse::<PeerId>().ok()));
    }
    peers.extend(
        network
            .find_providers(&root, MAX_PEERS)
            .await
            .unwrap_or_default(),
    );
    peers.sort();
    peers.dedup();
    peers.retain(|peer| *peer != network.peer_id());
    peers.truncate(MAX_PEERS);
    peers
}

/// Where the shop may be had: as its head and the operator name it.
fn places(node: &Node, shop: &Name, head: Option<&ShopJson>) -> Result<Places, MirrorError> {
    Ok(match node.manifest().mirror(shop)? {
        Some(mirror) => Places::given(node, &mirror.gateways).and(node, head),
        None => Places::own(node, head),
    })
}

/// Asks all who proved something for the blocks that one of them did not prove.
async fn ask_others(
    node: &Node,
    able: Vec<Asker<'_>>,
    proofs: &mut BTreeMap<Cid, bool>,
) -> Result<(), MirrorError> {
    let mut able: Vec<_> = able.into_iter().map(|asker| (asker, 0)).collect();
    for (cid, is_proved) in proofs.iter_mut().filter(|(_, is_proved)| !**is_proved) {
        let (store, cid) = (node.store().clone(), *cid);
        let Some(block) = node.blocking(move || store.get(&cid)).await? else {
            continue;
        };
        for (asker, silent) in &mut able {
            match asker.ask(&block).await {
                Found::Right | Found::Late => {
                    *is_proved = true;
                    break;
                }
                Found::Silent => *silent += 1,
                Found::Wrong | Found::Absent => {}
            }
        }
        able.retain(|(_, silent)| *silent < GIVE_UP);
    }
    Ok(())
}

/// Challenges one peer for proofs: what it proved, and which of the blocks.
pub(crate) async fn challenge_peer(
    node: &Node,
    network: &Network,
    peer: PeerId,
    sample: &[Sampled],
    challenges: usize,
) -> Result<(Proved, Vec<(Cid, bool)>), StoreError> {
    let asker = Asker::by_proof(network, peer).await;
    let (proved, answers, _) = challenge(node, asker, sample, challenges).await?;
    Ok((proved, answers))
}

/// Challenges one peer or gateway, one block at a time.
async fn challenge<'a>(
    node: &Node,
    mut asker: Asker<'a>,
    sample: &[Sampled],
    challenges: usize,
) -> Result<(Proved, Vec<(Cid, bool)>, Asker<'a>), StoreError> {
    let questions = if asker.round_trip.is_some() {
        challenges
    } else {
        0
    };
    let mut interview = Interview::new(sample, questions);
    let count = u32::try_from(questions).unwrap_or(u32::MAX);
    let until = Instant::now() + LONGEST + LONGEST_QUESTION.saturating_mul(count);
    while let Some(cid) = interview.next() {
        if Instant::now() >= until {
            interview.end();
            break;
        }
        let store = node.store().clone();
        // What is not here any more cannot be checked.
        match node.blocking(move || store.get(&cid)).await? {
            Some(block) => interview.heard(cid, asker.ask(&block).await),
            None => interview.gone(),
        }
    }
    let Interview {
        counts, answers, ..
    } = interview;
    let proved = Proved {
        who: asker.name.clone(),
        by: asker.by(),
        asked: counts.asked(),
        proved: counts.proved,
        late: counts.late,
        slow: counts.slow,
        wrong: counts.wrong,
        absent: counts.absent,
        share: share(counts),
        round_trip: asker.round_trip,
    };
    Ok((proved, answers, asker))
}

/// So many blocks at random, each once.
pub(crate) fn draw(sample: &[Sampled], count: usize) -> Vec<Cid> {
    let mut left: Vec<Cid> = sample.iter().map(|(cid, _)| *cid).collect();
    let mut rng = rand::rng();
    let mut drawn = Vec::new();
    while drawn.len() < count && !left.is_empty() {
        let at = rng.random_range(0..left.len());
        drawn.push(left.swap_remove(at));
    }
    drawn
}

/// Bounds of the share of all blocks: low as if all late ones lacked, high as if none did.
fn share(counts: Counts) -> (f64, f64) {
    let asked = counts.asked();
    let (low, _) = wilson(counts.proved, asked);
    let (_, high) = wilson(counts.proved + counts.late, asked);
    (low, high)
}

/// Wilson's interval.
#[expect(clippy::cast_precision_loss, reason = "counts of challenges are small")]
fn wilson(found: u64, asked: u64) -> (f64, f64) {
    if asked == 0 {
        return (0.0, 1.0);
    }
    let (count, square) = (asked as f64, SIGMAS * SIGMAS);
    let found = found as f64 / count;
    let middle = (found + square / (2.0 * count)) / (1.0 + square / count);
    let spread = SIGMAS / (1.0 + square / count)
        * (found * (1.0 - found) / count + square / (4.0 * count * count)).sqrt();
    ((middle - spread).max(0.0), (middle + spread).min(1.0))
}

/// Random blocks of the trees that are here, and how many there are: a block without links counts as often as
/// it is linked to, all others once. Of more than can be counted some trees are left out, others each time.
/// Blocking.
pub(crate) fn sample(
    store: &Store,
    trees: Vec<Sampled>,
) -> Result<(Vec<Sampled>, u64), StoreError> {
    let (mut sample, mut count) = (Vec::new(), 0_u64);
    let mut linking = HashSet::new();
    let mut rng = rand::rng();
    let mut waiting = trees;
    waiting.shuffle(&mut rng);
    while count < MAX_BLOCKS
        && let Some((cid, product)) = waiting.pop()
    {
        if cid.codec() == RAW {
            if store.block_len(&cid)?.is_none() {
                continue;
            }
        } else {
            if linking.len() >= MAX_LINKING || !linking.insert(key(&cid)) {
                continue;
            }
            let Some(block) = store.get_whole(&cid)? else {
                continue;
            };
            let below = links(&block).unwrap_or_default();
            waiting.extend(below.into_iter().map(|cid| (cid, product.clone())));
        }
        count += 1;
        if sample.len() < SAMPLE {
            sample.push((cid, product));
        } else {
            // Each block stays with the same chance (reservoir sampling).
            let at = rng.random_range(0..count);
            if let Some(place) = usize::try_from(at).ok().and_then(|at| sample.get_mut(at)) {
                *place = (cid, product);
            }
        }
    }
    sample.sort_by_key(|(cid, _)| *cid);
    sample.dedup_by_key(|(cid, _)| *cid);
    Ok((sample, count))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::block::{Block, cid_of};
    use crate::source::test_gateway;
    use crate::store::PackKind;

    fn blocks(count: u32) -> Vec<Sampled> {
        let block = |number: u32| (cid_of(RAW, &number.to_be_bytes()), None);
        (0..count).map(block).collect()
    }

    #[test]
    fn who_lacks_a_tenth_of_the_blocks_is_caught() {
        let sample = blocks(4096);
        let missing: HashSet<Cid> = sample.iter().take(410).map(|(cid, _)| *cid).collect();
        let rounds = 4000;
        let caught = (0..rounds)
            .filter(|_| draw(&sample, 50).iter().any(|cid| missing.contains(cid)))
            .count();
        // 1 - 0.9^50 = 0.9949, less four standard deviations.
        assert!(caught * 1000 >= rounds * 990, "{caught}");
    }

    #[test]
    fn draws_have_each_block_once_and_differ() {
        let sample = blocks(100);
        let mut all = draw(&sample, 1000);
        assert_eq!(all.len(), 100);
        assert_ne!(all, draw(&sample, 1000));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn bounds_hold_the_share_and_late_ones_widen_it() {
        let share = |proved, late, absent| {
            super::share(Counts {
                proved,
                late,
                absent,
                ..Counts::default()
            })
        };
        let (low, high) = share(50, 0, 0);
        assert!((0.87..0.90).contains(&low) && high > 0.999, "{low} {high}");
        let (low, high) = share(45, 0, 5);
        assert!(low < 0.9 && high > 0.9 && high < 1.0);
        let (low, high) = share(0, 0, 50);
        assert!(low < 0.001 && high < 0.13);
        let (low, high) = share(46, 2, 0);
        assert!(low < 0.87 && high > 0.999, "{low} {high}");
        assert_eq!(share(0, 0, 0), (0.0, 1.0));
    }
    #[tokio::test]
    async fn who_says_nothing_proves_nothing() {
        let (node, _dir) = testing::node().await;
        let block = Block::of(RAW, b"block".to_vec().into());
        let blocks = std::slice::from_ref(&block);
        node.store().put(PackKind::Kept, blocks).unwrap();
        let is_proved = async |answers: usize| {
            let gateway = test_gateway::serve_until(blocks, answers).await;
            let asker = Asker::gateway(&gateway.parse().unwrap()).await;
            assert!(asker.round_trip.is_some());
            let mut proofs = BTreeMap::from([(*block.cid(), false)]);
            ask_others(&node, vec![asker], &mut proofs).await.unwrap();
            proofs[block.cid()]
        };
        assert!(is_proved(usize::MAX).await);
        assert!(!is_proved(asker::MEASURES).await);
    }

    #[tokio::test]
    async fn a_census_looks_only_into_what_the_mirror_chose() {
        let (node, _dir) = testing::node().await;
        let root = cid_of(RAW, b"head");
        let policy = MirrorPolicy {
            products: ["album".parse().unwrap()].into(),
            ..MirrorPolicy::default()
        };
        testing::hold(&node, root, root, policy.clone()).await;
        let found = head_of(&node, &node.shop_name()).unwrap();
        assert_eq!(found, (root, policy));
    }
}
