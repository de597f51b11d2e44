//! What of a head a mirror keeps: the catalogue whole, and the releases that its policy chooses.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cid::Cid;
use futures::TryStreamExt;
use futures::stream::FuturesOrdered;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::dag::read::{list, load};
use crate::dag::unixfs::{Link, UnixFs};
use crate::dag::walk::key;
use crate::dag::{DagError, path};
use crate::ids::{Channel, ProductId, Version};
use crate::manifest::record::{Keep, MirrorPolicy};
use crate::roots::Root;
use crate::shop::json::{self, MAX_PRODUCT_LEN, ProductJson};
use crate::shop::read::{ReadError, read_small};
use crate::source::BlockSource;

/// The entry of a head under which the releases' trees are.
pub(super) const RELEASES: &[u8] = b"p";
/// Products of a head: each costs two small files.
const MAX_PRODUCTS: usize = 1 << 20;
/// Nodes of directories above the releases, and releases, of one plan: about 100 bytes each.
const MAX_ENTRIES: usize = 1 << 21;
/// Products that are read at a time: each may cost a few MiB and some round trips.
const AT_ONCE: usize = 24;

/// A release that is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) product: ProductId,
    pub(super) version: Version,
    pub(super) root: Cid,
    /// Bytes, as the shop says.
    pub(super) size: u64,
    pub(super) issued: Timestamp,
    /// Releases of the product that are newer; times are in whole seconds.
    pub(super) rank: usize,
}

/// What is kept of a head.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// The whole catalogue, and nodes of directories above the releases.
    pub(super) catalogue: Vec<Root>,
    /// Newest first.
    pub(super) releases: Vec<Arc<Wanted>>,
    /// Every release of the head is among them.
    pub(super) is_whole: bool,
    parts: HashMap<ProductId, Arc<Part>>,
}

/// What is kept of one product.
#[derive(Debug)]
struct Part {
    /// The product's two directories, of which all of this follows.
    dirs: Dirs,
    nodes: Vec<Root>,
    releases: Vec<Arc<Wanted>>,
    is_whole: bool,
    /// Channels of the policy that it has.
    channels: BTreeSet<Channel>,
}

/// The directories of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dirs {
    /// Its texts.
    page: Cid,
    /// Its releases.
    trees: Cid,
}

impl Plan {
    /// Products and channels that the policy names and that the head does not have.
    pub(super) fn absent(&self, policy: &MirrorPolicy) -> (Vec<ProductId>, Vec<Channel>) {
        let products = policy.products.iter();
        let products = products.filter(|id| !self.parts.contains_key(*id));
        let has = |channel: &Channel| {
            let mut parts = self.parts.values();
            parts.any(|part| part.channels.contains(channel))
        };
        let channels = policy.channels.iter().filter(|channel| !has(channel));
        (products.cloned().collect(), channels.cloned().collect())
    }
}

/// Reads the head at `root`; the catalogue must be near, the releases need not. Products that are as they
/// were in the plan `before`, by the same policy, are not read again.
pub(super) async fn plan<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    policy: &MirrorPolicy,
    before: Option<&Plan>,
) -> Result<Plan, ReadError> {
    let mut plan = Plan {
        catalogue: vec![direct(root)],
        is_whole: true,
        ..Plan::default()
    };
    let mut products = None;
    let mut trees = None;
    for link in super::root_links(source, root).await? {
        if link.name != RELEASES {
            plan.catalogue.push(Root::whole(link.cid));
        }
        match link.name.as_slice() {
            // Of two entries of one name only the last is looked into.
            RELEASES => plan.is_whole &= trees.replace(link.cid).is_none(),
            b"products" => products = Some(link.cid),
            _ => {}
        }
    }
    let (Some(products), Some(trees)) = (products, trees) else {
        plan.is_whole &= trees.is_none();
        return Ok(plan);
    };
    let pages = by_product(source, products).await?.products;
    let room = Room::of(MAX_ENTRIES);
    plan.catalogue.extend(nodes(source, trees, &room).await?);
    let trees = by_product(source, trees).await?;
    plan.is_whole &= !trees.has_others;
    let mut chosen = Vec::new();
    for (id, trees) in trees.products {
        let is_chosen = policy.products.is_empty() || policy.products.contains(&id);
        match pages.get(&id).copied().filter(|_| is_chosen) {
            Some(page) => chosen.push((id, Dirs { page, trees })),
            None => plan.is_whole = false,
        }
    }
    let mut chosen = chosen.into_iter();
    let mut reading = FuturesOrdered::new();
    loop {
        while reading.len() < AT_ONCE
            && let Some((id, dirs)) = chosen.next()
        {
            let known = before.and_then(|before| before.parts.get(&id));
            let known = known.filter(|part| part.dirs == dirs);
            let room = &room;
            reading.push_back(async move {
                let Some(part) = known else {
                    let part = part(source, &id, dirs, policy, room).await?;
                    return Ok((id, Arc::new(part)));
                };
                room.take(dirs.trees, part.nodes.len() + part.releases.len())?;
                Ok::<_, ReadError>((id, Arc::clone(part)))
            });
        }
        let Some((id, part)) = reading.try_next().await? else {
            break;
        };
        plan.catalogue.extend(&part.nodes);
        plan.releases.extend(part.releases.iter().map(Arc::clone));
        plan.is_whole &= part.is_whole;
        plan.parts.insert(id, part);
    }
    plan.releases.sort_by(|a, b| {
        let newest_first = b.issued.cmp(&a.issued);
        newest_first.then_with(|| (&a.product, a.rank).cmp(&(&b.product, b.rank)))
    });
    Ok(plan)
}

/// The entries of a directory of products.
#[derive(Default)]
struct ByProduct {
    products: BTreeMap<ProductId, Cid>,
    /// There are entries that are none of these.
    has_others: bool,
}

async fn by_product<S: BlockSource + Clone>(source: &S, dir: Cid) -> Result<ByProduct, ReadError> {
    let mut found = ByProduct::default();
    let mut entries = std::pin::pin!(list(source, dir));
    while let Some(entry) = entries.try_next().await? {
        let id = product_of(&entry).filter(|_| found.products.len() < MAX_PRODUCTS);
        let Some(id) = id else {
            found.has_others = true;
            // No more than so many are looked at, whatever they are called.
            if found.products.len() == MAX_PRODUCTS {
                break;
            }
            continue;
        };
        found.has_others |= found.products.insert(id, entry.cid).is_some();
    }
    Ok(found)
}

/// Reads one product.
async fn part<S: BlockSource + Clone>(
    source: &S,
    id: &ProductId,
    dirs: Dirs,
    policy: &MirrorPolicy,
    room: &Room,
) -> Result<Part, ReadError> {
    let nodes = nodes(source, dirs.trees, room).await?;
    let page = product_page(source, dirs.page).await?;
    let named = policy.channels.iter();
    let named = named.filter(|channel| page.channels.contains_key(*channel));
    let mut part = Part {
        dirs,
        nodes,
        releases: Vec::new(),
        is_whole: true,
        channels: named.cloned().collect(),
    };
    let mut chosen: HashMap<Version, (usize, Timestamp)> = choose(&page, policy)
        .into_iter()
        .enumerate()
        .map(|(rank, (version, issued))| (version, (rank, issued)))
        .collect();
    let most = chosen.len();
    let mut others = HashSet::new();
    let mut versions = std::pin::pin!(list(source, dirs.trees));
    while let Some(link) = versions.try_next().await? {
        let name = String::from_utf8_lossy(&link.name).into_owned();
        let Ok(version) = name.parse::<Version>() else {
            // More than there are releases cannot all be releases.
            if others.len() <= most {
                others.insert(link.cid);
            }
            continue;
        };
        match chosen.remove(&version) {
            Some((rank, issued)) => {
                room.take(dirs.trees, 1)?;
                part.releases.push(Arc::new(Wanted {
                    product: id.clone(),
                    version,
                    root: link.cid,
                    size: link.tsize,
                    issued,
                    rank,
                }));
            }
            None => part.is_whole = false,
        }
    }
    // A channel is one of the releases under another name. What else there is is not fetched.
    for release in &part.releases {
        others.remove(&release.root);
    }
    part.is_whole &= others.is_empty();
    Ok(part)
}

fn direct(cid: Cid) -> Root {
    Root {
        cid,
        recursive: false,
    }
}

fn product_of(link: &Link) -> Option<ProductId> {
    std::str::from_utf8(&link.name).ok()?.parse().ok()
}

/// The node of a directory, or all of its shards, if there is room for so many. What is in a shard depends
/// on its place: one that is at two places was made to be walked without end.
async fn nodes<S: BlockSource>(source: &S, dir: Cid, room: &Room) -> Result<Vec<Root>, ReadError> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    room.take(dir, 1)?;
    let mut waiting = vec![dir];
    while let Some(cid) = waiting.pop() {
        if !seen.insert(key(&cid)) {
            return Err(ReadError::Dag(DagError::Malformed {
                cid,
                what: "HAMT shard",
                reason: "it is in the same directory twice".to_owned(),
            }));
        }
        found.push(direct(cid));
        if let UnixFs::Shard(shard) = load(source, &cid).await? {
            let prefix = crate::dag::hamt::prefix_len(shard.fanout);
            let shards = shard.links.iter().filter(|link| link.name.len() == prefix);
            let before = waiting.len();
            waiting.extend(shards.map(|link| link.cid));
            room.take(dir, waiting.len() - before)?;
        }
    }
    Ok(found)
}

/// Entries that one plan may still have.
struct Room(Mutex<usize>);

impl Room {
    fn of(entries: usize) -> Self {
        Self(Mutex::new(entries))
    }

    /// Takes so many; an error when there are not as many.
    fn take(&self, dir: Cid, entries: usize) -> Result<(), ReadError> {
        let mut left = self.0.lock();
        *left = left.checked_sub(entries).ok_or_else(|| {
            let limit = format!("{MAX_ENTRIES} nodes of directories and releases of one shop");
            ReadError::Dag(DagError::Limit { cid: dir, limit })
        })?;
        Ok(())
    }
}

async fn product_page<S: BlockSource + Clone>(
    source: &S,
    dir: Cid,
) -> Result<ProductJson, ReadError> {
    let segments = ["product.json".to_owned()];
    let cid = path::resolve(source, dir, &segments).await?.cid;
    let bytes = read_small(source, cid, MAX_PRODUCT_LEN).await?;
    json::parse_product(&bytes).map_err(|source| ReadError::Json { cid, source })
}

/// The versions that the policy chooses of a product, with their dates.
fn choose(page: &ProductJson, policy: &MirrorPolicy) -> Vec<(Version, Timestamp)> {
    // Newest first. With channels: what each names, and those before it.
    let all: Vec<_> = page.versions.iter().collect();
    let keep = match (policy.keep, policy.channels.is_empty()) {
        (Some(keep), _) => keep,
        (None, true) => Keep::All,
        (None, false) => Keep::Latest(1),
    };
    let mut starts: BTreeSet<usize> = BTreeSet::new();
    if policy.channels.is_empty() {
        starts.insert(0);
    }
    for (channel, version) in &page.channels {
        let at = all.iter().position(|line| line.version == *version);
        if let Some(at) = at.filter(|_| policy.channels.contains(channel)) {
            starts.insert(at);
        }
    }
    let mut chosen = BTreeSet::new();
    for start in starts {
        let mut left = match keep {
            Keep::All => usize::MAX,
            Keep::Latest(count) => usize::try_from(count).unwrap_or(usize::MAX),
        };
        for (at, line) in all.iter().enumerate().skip(start) {
            // Who keeps all keeps what is not offered any more: it can still be had by its version.
            if left == 0 || keep != Keep::All && line.yanked.is_some() {
                continue;
            }
            left -= 1;
            chosen.insert(at);
        }
    }
    // What channels name is what buyers ask for.
    if policy.channels.is_empty() {
        for version in page.channels.values() {
            chosen.extend(all.iter().position(|line| line.version == *version));
        }
    }
    let line = |at: usize| all.get(at).map(|line| (line.version.clone(), line.issued));
    chosen.into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::block::{Block, DAG_PB, RAW};
    use crate::dag::hamt::{Entry, build_directory};
    use crate::dag::import::Profile;
    use crate::dag::unixfs::{Metadata, encode_directory, encode_shard};
    use crate::shop::json::VersionJson;
    use crate::source::FetchError;
    use crate::source::memory::MemorySource;

    /// Versions 1 to 5, of which the fourth is yanked; stable names the third, beta the fifth.
    fn page() -> ProductJson {
        let version = |number: i64| VersionJson {
            issued: Timestamp::from_second(number).unwrap(),
            version: number.to_string().parse().unwrap(),
            yanked: (number == 4).then_some(Timestamp::UNIX_EPOCH),
        };
        let channel = |name: &str, version: &str| (name.parse().unwrap(), version.parse().unwrap());
        ProductJson {
            channels: [channel("stable", "3"), channel("beta", "5")].into(),
            cover: None,
            created: Timestamp::UNIX_EPOCH,
            description: None,
            description_path: None,
            format: 1,
            id: "album".parse().unwrap(),
            price: None,
            title: String::new(),
            versions: (1..=5).rev().map(version).collect(),
        }
    }

    #[test]
    fn policies_choose_versions() {
        let chosen = |keep, channels: &[&str]| {
            let policy = MirrorPolicy {
                keep,
                channels: channels.iter().map(|name| name.parse().unwrap()).collect(),
                ..MirrorPolicy::default()
            };
            let mut chosen: Vec<String> = choose(&page(), &policy)
                .iter()
                .map(|(version, _)| version.to_string())
                .collect();
            chosen.sort();
            chosen.join(" ")
        };
        assert_eq!(chosen(None, &[]), "1 2 3 4 5");
        assert_eq!(chosen(Some(Keep::All), &[]), "1 2 3 4 5");
        // What a channel names stays, and what is yanked does not count.
        assert_eq!(chosen(Some(Keep::Latest(1)), &[]), "3 5");
        assert_eq!(chosen(Some(Keep::Latest(3)), &[]), "2 3 5");
        assert_eq!(chosen(None, &["stable"]), "3");
        assert_eq!(chosen(Some(Keep::Latest(2)), &["stable"]), "2 3");
        assert_eq!(chosen(Some(Keep::All), &["stable"]), "1 2 3");
        assert_eq!(chosen(None, &["stable", "beta"]), "3 5");
        assert_eq!(chosen(None, &["nightly"]), "");
    }

    fn directory(source: &MemorySource, entries: Vec<(String, Cid)>) -> Cid {
        let entry = |(name, cid)| Entry {
            name,
            cid,
            tsize: 1000,
        };
        let entries = entries.into_iter().map(entry).collect();
        let built = build_directory(entries, Metadata::default(), Profile::default()).unwrap();
        source.extend(built.blocks);
        built.root
    }

    /// A shop of so many products, each with so many releases.
    fn shop(source: &MemorySource, releases: &[usize]) -> Cid {
        let (mut pages, mut trees) = (Vec::new(), Vec::new());
        for (number, count) in releases.iter().enumerate() {
            let id = format!("product-{number}");
            let versions = (1..=*count).rev().map(|version| VersionJson {
                issued: Timestamp::from_second(i64::try_from(version).unwrap()).unwrap(),
                version: version.to_string().parse().unwrap(),
                yanked: None,
            });
            let page = ProductJson {
                channels: [].into(),
                id: id.parse().unwrap(),
                versions: versions.collect(),
                ..page()
            };
            let page = source.put(Block::of(RAW, serde_json::to_vec(&page).unwrap().into()));
            let page = directory(source, vec![("product.json".to_owned(), page)]);
            let release = |version: usize| {
                let bytes = format!("{id} {version}");
                (
                    version.to_string(),
                    source.put(Block::of(RAW, bytes.into())),
                )
            };
            let tree = directory(source, (1..=*count).map(release).collect());
            pages.push((id.clone(), page));
            trees.push((id, tree));
        }
        let shop = [("p", trees), ("products", pages)];
        let shop = shop.map(|(name, entries)| (name.to_owned(), directory(source, entries)));
        directory(source, shop.into())
    }

    /// A shard of which each of the entries is the shard below, `levels` times.
    fn shards(source: &MemorySource, levels: usize, below: Cid) -> Cid {
        (0..levels).fold(below, |below, _| {
            let link = |slot: usize| Link {
                cid: below,
                name: format!("{slot:02X}").into_bytes(),
                tsize: u64::MAX,
            };
            let links: Vec<Link> = (0..256).map(link).collect();
            let shard = encode_shard(&links, vec![0xff; 32], 256, Metadata::default());
            source.put(Block::of(DAG_PB, shard.into()))
        })
    }

    /// The entries of the head of a shop with one release.
    async fn entries_of_a_shop(source: &MemorySource) -> impl Fn(&str) -> Cid + use<> {
        let head = shop(source, &[1]);
        let links = crate::shop::read::root_links(source, head).await.unwrap();
        move |name| {
            let link = links.iter().find(|link| link.name == name.as_bytes());
            link.unwrap().cid
        }
    }

    #[tokio::test]
    async fn shards_that_lead_to_one_shard_again_and_again_are_refused() {
        let source = MemorySource::default();
        let policy = MirrorPolicy::default();
        let of = entries_of_a_shop(&source).await;
        let bad = shards(&source, 8, of("p"));
        let inside = directory(&source, vec![("product-0".to_owned(), bad)]);
        for trees in [bad, inside] {
            let entries = [("p", trees), ("products", of("products"))];
            let entries = entries.map(|(name, cid)| (name.to_owned(), cid));
            let head = directory(&source, entries.into());
            source.take_asked();
            let refused = plan(&source, head, &policy, None).await.unwrap_err();
            assert!(refused.to_string().contains("twice"), "{refused}");
            assert!(source.take_asked().len() < 20);
        }
    }

    #[tokio::test]
    async fn more_nodes_than_there_is_room_for_are_refused() {
        let source = MemorySource::default();
        let entry = |number: usize| (format!("entry {number:0>50}"), direct_cid(number));
        let dir = directory(&source, (0..20_000).map(entry).collect());
        let within = |room: usize| {
            let source = source.clone();
            async move { nodes(&source, dir, &Room::of(room)).await }
        };
        let all = within(MAX_ENTRIES).await.unwrap().len();
        assert!(all > 20, "{all}");
        assert!(within(all).await.is_ok());
        let refused = within(all - 1).await.unwrap_err();
        assert!(refused.to_string().contains("limit"), "{refused}");
    }

    fn direct_cid(number: usize) -> Cid {
        crate::block::cid_of(RAW, &number.to_be_bytes())
    }

    #[tokio::test]
    async fn a_new_release_costs_no_look_at_other_products() {
        let source = MemorySource::default();
        let policy = MirrorPolicy {
            keep: Some(Keep::Latest(2)),
            ..MirrorPolicy::default()
        };
        let mut releases = [3; 300];
        let before = shop(&source, &releases);
        releases[77] += 1;
        let after = shop(&source, &releases);
        source.take_asked();
        let before = plan(&source, before, &policy, None).await.unwrap();
        assert!(source.take_asked().len() > 600);
        let next = plan(&source, after, &policy, Some(&before)).await.unwrap();
        let asked = source.take_asked().len();
        assert!(asked < 12, "{asked} blocks were read");
        let anew = plan(&source, after, &policy, None).await.unwrap();
        assert_eq!(next.releases, anew.releases);
        assert_eq!(next.is_whole, anew.is_whole);
        let sorted = |plan: &Plan| {
            let mut cids: Vec<Cid> = plan.catalogue.iter().map(|root| root.cid).collect();
            cids.sort();
            cids
        };
        assert_eq!(sorted(&next), sorted(&anew));
        assert_eq!(next.releases.len(), 600);
    }

    /// A directory as it is written, whatever its names are.
    fn raw_directory(source: &MemorySource, entries: &[(&str, Cid)]) -> Cid {
        let link = |(name, cid): &(&str, Cid)| Link {
            name: name.as_bytes().to_vec(),
            cid: *cid,
            tsize: 1000,
        };
        let links: Vec<Link> = entries.iter().map(link).collect();
        let bytes = encode_directory(&links, Metadata::default());
        source.put(Block::of(DAG_PB, bytes.into()))
    }

    #[tokio::test]
    async fn a_head_with_entries_that_are_not_fetched_is_not_kept_as_one_tree() {
        let source = MemorySource::default();
        let policy = MirrorPolicy::default();
        let of = entries_of_a_shop(&source).await;
        let (trees, pages) = (of("p"), of("products"));
        let found = list(&source, trees).try_collect::<Vec<_>>().await.unwrap();
        let product = found[0].cid;
        let found = list(&source, product)
            .try_collect::<Vec<_>>()
            .await
            .unwrap();
        let release = found[0].cid;
        let nobodys = crate::block::cid_of(DAG_PB, b"nowhere");
        let with_product = |entries: &[(&str, Cid)]| {
            let product = raw_directory(&source, entries);
            let trees = raw_directory(&source, &[("product-0", product)]);
            [("p", trees), ("products", pages)]
        };
        let with_trees = |entries: &[(&str, Cid)]| {
            let trees = raw_directory(&source, entries);
            [("p", trees), ("products", pages)]
        };
        let is_whole = async |entries: &[(&str, Cid)]| {
            let head = raw_directory(&source, entries);
            plan(&source, head, &policy, None).await.unwrap().is_whole
        };
        assert!(is_whole(&[("p", trees), ("products", pages)]).await);
        assert!(is_whole(&with_product(&[("1", release), ("stable", release)])).await);
        for bad in [
            with_product(&[("1", release), ("beta", nobodys)]),
            with_product(&[("1", release), ("1", nobodys)]),
            with_trees(&[("product-0", product), ("Not an id", nobodys)]),
            with_trees(&[("product-0", nobodys), ("product-0", product)]),
            with_trees(&[("product-0", product), ("other", nobodys)]),
        ] {
            assert!(!is_whole(&bad).await, "{bad:?}");
        }
        assert!(!is_whole(&[("p", nobodys), ("p", trees), ("products", pages)]).await);
        assert!(!is_whole(&[("p", nobodys)]).await);
    }

    /// Says how many were asked at a time.
    #[derive(Clone, Default)]
    struct Slow {
        source: MemorySource,
        now: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    impl BlockSource for Slow {
        async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
            let now = self.now.fetch_add(1, Relaxed) + 1;
            self.most.fetch_max(now, Relaxed);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            self.now.fetch_sub(1, Relaxed);
            self.source.fetch(cid).await
        }
    }

    #[tokio::test]
    async fn products_are_read_side_by_side_with_the_same_result() {
        let slow = Slow::default();
        let policy = MirrorPolicy::default();
        let head = shop(&slow.source, &[2; 100]);
        let one = plan(&slow, head, &policy, None).await.unwrap();
        assert_eq!(slow.most.load(Relaxed), AT_ONCE);
        let other = plan(&slow.source, head, &policy, None).await.unwrap();
        assert_eq!(one.catalogue, other.catalogue);
        assert_eq!(one.releases, other.releases);
    }
}
