//! CENSUS: who really has the blocks of a shop, by challenges of random blocks and not by claims.
//!
//! Each challenge is one block, chosen at random just then, and a fresh nonce; the answer must come within
//! the round trip to that peer and an allowance for one read. A peer with nine of ten blocks passes fifty
//! challenges once in two hundred times.
//!
//! It proves that the peer could have the block in its hands that fast: held, or taken from somebody as near.
//! It does not prove that two peers have two copies, nor who runs them.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use cid::Cid;
use futures::stream::{FuturesUnordered, StreamExt};
use libp2p::PeerId;
use rand::RngExt;
use tokio::time::Instant;

use super::{MirrorError, places, plan};
use crate::block::RAW;
use crate::dag::links::links;
use crate::dag::walk::key;
use crate::fetch::FetchOptions;
use crate::ids::ProductId;
use crate::keys::Name;
use crate::manifest::record::MirrorPolicy;
use crate::net::Network;
use crate::net::census::{NONCE_LEN, Question, proof};
use crate::node::Node;
use crate::store::{Store, StoreError};

/// Blocks among which each peer's challenges are drawn.
const SAMPLE: usize = 4096;
/// Blocks of a shop that are counted: about 1 GiB of memory.
const MAX_BLOCKS: usize = 1 << 25;
/// Peers that are challenged.
const MAX_PEERS: usize = 64;
/// Questions about blocks that nobody can have, by which the round trip is measured.
const MEASURES: usize = 3;
/// What one answer may take besides two round trips: a read from a busy disk, and a hash.
const ALLOWANCE: Duration = Duration::from_millis(250);
/// The round trip counts as this at most, so that a peer gains nothing by being slow while it is measured.
const LONGEST_TRIP: Duration = Duration::from_secs(1);
/// Standard deviations that bound the share: 99 of 100 times it is within.
const SIGMAS: f64 = 2.576;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Blocks of the shop that are here, from which was drawn.
    pub blocks: u64,
    /// Peers, those who proved most first.
    pub peers: Vec<Proved>,
    /// Products of which blocks were asked for: how many, and how many of these somebody proved.
    pub products: BTreeMap<ProductId, (u64, u64)>,
}

/// What one peer proved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proved {
    /// Who.
    pub peer: String,
    /// Blocks it was asked for.
    pub asked: u64,
    /// Right answers in time.
    pub proved: u64,
    /// Right answers that came too late.
    pub late: u64,
    /// Wrong answers.
    pub wrong: u64,
    /// It said that it does not have the block, or nothing.
    pub absent: u64,
    /// The share of all blocks that it has is between these, 99 of 100 times.
    pub share: (f64, f64),
    /// The round trip.
    pub round_trip: Option<Duration>,
}

/// A block, and the product it belongs to.
type Sampled = (Cid, Option<ProductId>);

/// Challenges the peers that follow the shop, that its head names, and that provide it.
///
/// # Cancel safety
/// A dropped future ends it; nothing is stored.
pub async fn census(node: &Node, shop: &Name, challenges: usize) -> Result<Census, MirrorError> {
    let root = head_root(node, shop)?;
    let here = node.fetcher(FetchOptions::offline());
    let plan = plan::plan(&here, root, &MirrorPolicy::default()).await?;
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
    let mut waiting: FuturesUnordered<_> = peers(node, network, shop, root)
        .await
        .into_iter()
        .map(|peer| challenge_peer(node, network, peer, &sample, challenges))
        .collect();
    let mut proofs: BTreeMap<Cid, bool> = BTreeMap::new();
    while let Some(found) = waiting.next().await {
        let (proved, answers) = found?;
        for (cid, is_proved) in answers {
            *proofs.entry(cid).or_default() |= is_proved;
        }
        census.peers.push(proved);
    }
    ask_others(node, network, &census.peers, &mut proofs).await?;
    for (cid, product) in &sample {
        if let (Some(product), Some(is_proved)) = (product, proofs.get(cid)) {
            let counts = census.products.entry(product.clone()).or_default();
            counts.0 += 1;
            counts.1 += u64::from(*is_proved);
        }
    }
    census
        .peers
        .sort_by(|a, b| (b.proved, &a.peer).cmp(&(a.proved, &b.peer)));
    Ok(census)
}

fn head_root(node: &Node, shop: &Name) -> Result<Cid, MirrorError> {
    let own = node
        .manifest()
        .head()?
        .filter(|_| *shop == node.shop_name());
    let held = node.manifest().mirror(shop)?.and_then(|mirror| mirror.held);
    own.map(|head| head.root)
        .or(held.map(|held| held.head.root))
        .ok_or_else(|| MirrorError::Unknown { shop: shop.clone() })
}

/// Peers to be challenged, connected.
async fn peers(node: &Node, network: &Network, shop: &Name, root: Cid) -> Vec<PeerId> {
    if let Some(head) = places::head_of(node, root).await {
        places::connect(node, &head).await;
    }
    let mut peers = network.subscribers(shop).await.unwrap_or_default();
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

/// Asks all who proved something for the blocks that one of them did not prove.
async fn ask_others(
    node: &Node,
    network: &Network,
    peers: &[Proved],
    proofs: &mut BTreeMap<Cid, bool>,
) -> Result<(), MirrorError> {
    let able = peers.iter().filter(|peer| peer.proved > 0);
    let able: Vec<PeerId> = able.filter_map(|peer| peer.peer.parse().ok()).collect();
    for (cid, is_proved) in proofs.iter_mut().filter(|(_, is_proved)| !**is_proved) {
        let (store, cid) = (node.store().clone(), *cid);
        let Some(block) = node.blocking(move || store.get(&cid)).await? else {
            continue;
        };
        for peer in &able {
            let nonce: [u8; NONCE_LEN] = rand::random();
            let answer = network.challenge(*peer, Question::new(nonce, &cid)).await;
            if answer
                .flatten()
                .is_some_and(|digest| digest == proof(&nonce, block.data()))
            {
                *is_proved = true;
                break;
            }
        }
    }
    Ok(())
}

/// Challenges one peer, one block at a time.
async fn challenge_peer(
    node: &Node,
    network: &Network,
    peer: PeerId,
    sample: &[Sampled],
    challenges: usize,
) -> Result<(Proved, Vec<(Cid, bool)>), MirrorError> {
    let mut proved = Proved {
        peer: peer.to_string(),
        ..Proved::default()
    };
    let mut answers = Vec::new();
    proved.round_trip = round_trip(network, peer).await;
    let Some(round_trip) = proved.round_trip else {
        // It does not speak this protocol: nothing is known of it.
        proved.share = share(0, 0);
        return Ok((proved, answers));
    };
    let limit = round_trip.min(LONGEST_TRIP) * 2 + ALLOWANCE;
    for cid in draw(sample, challenges) {
        let store = node.store().clone();
        // What is not here any more cannot be checked.
        let Some(block) = node.blocking(move || store.get(&cid)).await? else {
            continue;
        };
        let nonce: [u8; NONCE_LEN] = rand::random();
        let asked = Instant::now();
        let answer = network
            .challenge(peer, Question::new(nonce, &cid))
            .await
            .flatten();
        let took = asked.elapsed();
        let right = proof(&nonce, block.data());
        proved.asked += 1;
        match &answer {
            Some(digest) if *digest != right => proved.wrong += 1,
            Some(_) if took > limit => proved.late += 1,
            Some(_) => proved.proved += 1,
            None => proved.absent += 1,
        }
        answers.push((
            cid,
            answer.is_some_and(|digest| digest == right) && took <= limit,
        ));
    }
    proved.share = share(proved.proved, proved.asked);
    Ok((proved, answers))
}

/// The fastest of a few answers about blocks that nobody has; `None` when the peer gives none.
async fn round_trip(network: &Network, peer: PeerId) -> Option<Duration> {
    let mut fastest: Option<Duration> = None;
    for _ in 0..MEASURES {
        let random: [u8; NONCE_LEN] = rand::random();
        let nobodys = crate::block::cid_of(RAW, &random);
        let asked = Instant::now();
        network
            .challenge(peer, Question::new(random, &nobodys))
            .await?;
        let took = asked.elapsed();
        fastest = Some(fastest.map_or(took, |fastest| fastest.min(took)));
    }
    fastest
}

/// So many blocks at random, each once.
fn draw(sample: &[Sampled], count: usize) -> Vec<Cid> {
    let mut left: Vec<Cid> = sample.iter().map(|(cid, _)| *cid).collect();
    let mut rng = rand::rng();
    let mut drawn = Vec::new();
    while drawn.len() < count && !left.is_empty() {
        let at = rng.random_range(0..left.len());
        drawn.push(left.swap_remove(at));
    }
    drawn
}

/// Bounds of the share of all blocks (Wilson's interval).
#[expect(clippy::cast_precision_loss, reason = "counts of challenges are small")]
fn share(proved: u64, asked: u64) -> (f64, f64) {
    if asked == 0 {
        return (0.0, 1.0);
    }
    let (count, square) = (asked as f64, SIGMAS * SIGMAS);
    let found = proved as f64 / count;
    let middle = (found + square / (2.0 * count)) / (1.0 + square / count);
    let spread = SIGMAS / (1.0 + square / count)
        * (found * (1.0 - found) / count + square / (4.0 * count * count)).sqrt();
    ((middle - spread).max(0.0), (middle + spread).min(1.0))
}

/// Random blocks of the trees that are here, each as likely, and how many there are. Blocking.
fn sample(store: &Store, trees: Vec<Sampled>) -> Result<(Vec<Sampled>, u64), StoreError> {
    let (mut sample, mut count) = (Vec::new(), 0_u64);
    let mut seen = HashSet::new();
    let mut rng = rand::rng();
    let mut waiting = trees;
    while let Some((cid, product)) = waiting.pop() {
        if seen.len() >= MAX_BLOCKS || !seen.insert(key(&cid)) {
            continue;
        }
        if cid.codec() == RAW {
            if store.block_len(&cid)?.is_none() {
                continue;
            }
        } else {
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
    Ok((sample, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::cid_of;

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
    fn bounds_hold_the_share() {
        let (low, high) = share(50, 50);
        assert!((0.87..0.90).contains(&low) && high > 0.999, "{low} {high}");
        let (low, high) = share(45, 50);
        assert!(low < 0.9 && high > 0.9 && high < 1.0);
        let (low, high) = share(0, 50);
        assert!(low < 0.001 && high < 0.13);
        assert_eq!(share(0, 0), (0.0, 1.0));
    }
}
