//! What of a head a mirror keeps: the catalogue whole, and the releases that its policy chooses.

use std::collections::BTreeSet;

use cid::Cid;
use futures::TryStreamExt;
use jiff::Timestamp;

use crate::dag::path;
use crate::dag::read::{list, load};
use crate::dag::unixfs::{Link, UnixFs};
use crate::ids::{ProductId, Version};
use crate::manifest::record::{Keep, MirrorPolicy};
use crate::roots::Root;
use crate::shop::json::{self, MAX_PRODUCT_LEN, ProductJson};
use crate::shop::read::{ReadError, read_small};
use crate::source::BlockSource;

/// The entry of a head under which the releases' trees are.
const RELEASES: &[u8] = b"p";
/// Products of a head: each costs two small files.
const MAX_PRODUCTS: usize = 1 << 20;

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
    pub(super) releases: Vec<Wanted>,
    /// Every release of the head is among them.
    pub(super) is_whole: bool,
}

/// Reads the head at `root`; the catalogue must be near, the releases need not.
pub(super) async fn plan<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    policy: &MirrorPolicy,
) -> Result<Plan, ReadError> {
    let mut plan = Plan {
        catalogue: vec![direct(root)],
        is_whole: true,
        ..Plan::default()
    };
    let mut products = None;
    let mut trees = None;
    for link in super::root_links(source, root).await? {
        match link.name.as_slice() {
            RELEASES => trees = Some(link.cid),
            b"products" => products = Some(link.cid),
            _ => {}
        }
        if link.name != RELEASES {
            plan.catalogue.push(Root::whole(link.cid));
        }
    }
    let (Some(products), Some(trees)) = (products, trees) else {
        return Ok(plan);
    };
    nodes(source, trees, &mut plan.catalogue).await?;
    let mut entries = std::pin::pin!(list(source, trees));
    let mut count = 0;
    while let Some(entry) = entries.try_next().await? {
        count += 1;
        let Some(id) = product_of(&entry).filter(|_| count <= MAX_PRODUCTS) else {
            continue;
        };
        if !policy.products.is_empty() && !policy.products.contains(&id) {
            plan.is_whole = false;
            continue;
        }
        nodes(source, entry.cid, &mut plan.catalogue).await?;
        let page = product_page(source, products, &id).await?;
        let chosen = choose(&page, policy);
        let mut versions = std::pin::pin!(list(source, entry.cid));
        while let Some(link) = versions.try_next().await? {
            let name = String::from_utf8_lossy(&link.name).into_owned();
            let Ok(version) = name.parse::<Version>() else {
                continue;
            };
            let ranked = chosen.iter().zip(0..);
            match ranked
                .into_iter()
                .find(|((chosen, _), _)| *chosen == version)
            {
                Some(((_, issued), rank)) => plan.releases.push(Wanted {
                    product: id.clone(),
                    version,
                    root: link.cid,
                    size: link.tsize,
                    issued: *issued,
                    rank,
                }),
                None => plan.is_whole = false,
            }
        }
    }
    plan.releases.sort_by(|a, b| {
        let newest_first = b.issued.cmp(&a.issued);
        newest_first.then_with(|| (&a.product, a.rank).cmp(&(&b.product, b.rank)))
    });
    Ok(plan)
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

/// The node of a directory, or all of its shards.
async fn nodes<S: BlockSource>(
    source: &S,
    dir: Cid,
    found: &mut Vec<Root>,
) -> Result<(), ReadError> {
    let mut waiting = vec![dir];
    while let Some(cid) = waiting.pop() {
        found.push(direct(cid));
        if let UnixFs::Shard(shard) = load(source, &cid).await? {
            let prefix = crate::dag::hamt::prefix_len(shard.fanout);
            let shards = shard.links.iter().filter(|link| link.name.len() == prefix);
            waiting.extend(shards.map(|link| link.cid));
        }
    }
    Ok(())
}

async fn product_page<S: BlockSource + Clone>(
    source: &S,
    products: Cid,
    id: &ProductId,
) -> Result<ProductJson, ReadError> {
    let segments = [id.to_string(), "product.json".to_owned()];
    let cid = path::resolve(source, products, &segments).await?.cid;
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
    use super::*;
    use crate::shop::json::VersionJson;

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
}
