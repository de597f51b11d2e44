use jiff::Timestamp;

use super::super::testing;
use super::*;
use crate::block::{Block, RAW, cid_of};
use crate::store::PackKind;

fn release(product: &str, root: Cid) -> Arc<Wanted> {
    Arc::new(Wanted {
        product: product.parse().unwrap(),
        version: "1".parse().unwrap(),
        root,
        size: 4,
        issued: Timestamp::UNIX_EPOCH,
        rank: 0,
    })
}

#[tokio::test]
async fn a_release_that_nobody_has_keeps_no_other_one_away() {
    let (node, _dir) = testing::node().await;
    let album = Block::of(RAW, b"here".to_vec().into());
    let blocks = std::slice::from_ref(&album);
    node.store().put(PackKind::Kept, blocks).unwrap();
    let nobodys = cid_of(RAW, b"song");
    let releases = [release("song", nobodys), release("album", *album.cid())];
    let shop = testing::shop(&node);
    let fetcher = node.fetcher(FetchOptions::offline());
    let mut brought = HashSet::new();
    let mut fetching = Fetching {
        node: &node,
        shop: &shop,
        policy: &MirrorPolicy::default(),
        fetcher: &fetcher,
        root: nobodys,
        brought: &mut brought,
        failed: None,
        committed: Instant::now(),
        started: Instant::now(),
        fetched: 0,
        before: Progress::default(),
        done: 0,
    };
    fetching.expect(&releases, (0, 0));
    fetching.releases(&releases).await.unwrap();
    let failed = fetching.failed.take().unwrap();
    assert!(in_words(&failed).starts_with("song 1 cannot be had: block "));
    let progress = shop.progress.lock().clone();
    assert_eq!(progress.products[&releases[1].product], (4, 4));
    assert_eq!(progress.products[&releases[0].product], (0, 4));
    assert_eq!(progress.stall, Some(in_words(&failed)));
    assert_eq!(brought, HashSet::from([*album.cid()]));
}
