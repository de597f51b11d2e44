//! Channels, rollback, yank and what products say.

use duka_node::announce;
use duka_node::channel::{self, ChannelError};
use duka_node::ids::Channel;
use duka_node::manifest::record::{JobId, Price};
use duka_node::product::{self, ProductError, Setting};

use super::*;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn named(text: &str) -> Channel {
    text.parse().unwrap()
}

/// A shop with `releases` of one product, and the sequence number of its head.
async fn with_releases(dir: &Path, releases: u64) -> (Node, u64) {
    let folder = dir.join("album");
    let node = open(&dir.join("data")).await;
    for number in 1..=releases {
        write_album(&folder, &format!("song {number}"));
        publish(&node, &folder, PublishOptions::new(album())).await;
    }
    shop_file(&node, releases, "shop.json").await;
    let seq = node.manifest().head().unwrap().unwrap().seq;
    (node, seq)
}

/// Waits for the head that shows a change, and reads a file of it.
async fn after(node: &Node, job: Option<JobId>, path: &str) -> Vec<u8> {
    let job = job.expect("something changed");
    assert!(announce::wait_for_job(node, job, DEADLINE).await.unwrap());
    read(node, head(node).1, path).await
}

fn head(node: &Node) -> (u64, cid::Cid) {
    let head = node.manifest().head().unwrap().unwrap();
    (head.seq, head.root)
}

const STABLE_SONG: &str = "p/album/stable/lyrics/one.txt";

#[tokio::test]
async fn rollback_names_the_release_before_in_a_higher_head_until_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (node, seq) = with_releases(dir.path(), 4).await;
    yank::yank(&node, &album(), &version("2")).await.unwrap();
    let (id, stable) = (album(), named("stable"));
    let (moved, job) = channel::roll_back(&node, &id, &stable, None).await.unwrap();
    assert_eq!(moved.version, Some(version("3")));
    assert_eq!(moved.before, Some(version("4")));
    assert_eq!(after(&node, job, STABLE_SONG).await, b"song 3");
    assert!(head(&node).0 > seq);
    assert_eq!(
        read(&node, head(&node).1, "p/album/4/lyrics/one.txt").await,
        b"song 4"
    );

    let (moved, job) = channel::roll_back(&node, &id, &stable, None).await.unwrap();
    assert_eq!(moved.version, Some(version("1")), "2 is withdrawn");
    assert_eq!(after(&node, job, STABLE_SONG).await, b"song 1");
    let refused = channel::roll_back(&node, &id, &stable, None).await;
    assert!(matches!(refused, Err(ChannelError::NothingBefore { .. })));
    node.shutdown().await;
}

#[tokio::test]
async fn rollback_goes_back_only_to_what_is_older_and_offered() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = with_releases(dir.path(), 3).await;
    let (id, stable) = (album(), named("stable"));
    let roll_back =
        async |to: &str| channel::roll_back(&node, &id, &stable, Some(&version(to))).await;
    let (_, job) = roll_back("2").await.unwrap();
    assert_eq!(after(&node, job, STABLE_SONG).await, b"song 2");
    for newer in ["2", "3"] {
        let refused = roll_back(newer).await;
        assert!(
            matches!(refused, Err(ChannelError::NotBefore { .. })),
            "{refused:?}"
        );
    }
    yank::yank(&node, &id, &version("1")).await.unwrap();
    assert!(matches!(
        roll_back("1").await,
        Err(ChannelError::Yanked { .. })
    ));
    assert!(matches!(
        roll_back("9").await,
        Err(ChannelError::Manifest(ManifestError::Conflict(
            Conflict::NoRelease { .. }
        )))
    ));
    let refused = channel::roll_back(&node, &id, &named("beta"), None).await;
    assert!(matches!(refused, Err(ChannelError::NoChannel { .. })));
    node.shutdown().await;
}

#[tokio::test]
async fn channel_is_set_moved_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = with_releases(dir.path(), 2).await;
    let (id, beta) = (album(), named("beta"));
    let song = "p/album/beta/lyrics/one.txt";
    for number in ["2", "1"] {
        let set = channel::set(&node, &id, &beta, &version(number)).await;
        let said = after(&node, set.unwrap().1, song).await;
        assert_eq!(said, format!("song {number}").into_bytes());
    }
    let (moved, job) = channel::set(&node, &id, &beta, &version("1"))
        .await
        .unwrap();
    assert_eq!((moved.version, job), (moved.before, None), "unchanged");
    yank::yank(&node, &id, &version("2")).await.unwrap();
    let refused = channel::set(&node, &id, &beta, &version("2")).await;
    assert!(matches!(refused, Err(ChannelError::Yanked { .. })));

    let (moved, job) = channel::remove(&node, &id, &beta).await.unwrap();
    assert_eq!((moved.version, moved.before), (None, Some(version("1"))));
    let page = after(&node, job, "products/album/product.json").await;
    let page: serde_json::Value = serde_json::from_slice(&page).unwrap();
    assert_eq!(page["channels"], serde_json::json!({ "stable": "1" }));
    assert!(channel::remove(&node, &id, &beta).await.is_err());
    let absent = channel::set(&node, &"absent".parse().unwrap(), &beta, &version("1")).await;
    assert!(matches!(
        absent,
        Err(ChannelError::Manifest(ManifestError::Conflict(
            Conflict::NoProduct { .. }
        )))
    ));
    node.shutdown().await;
}

#[tokio::test]
async fn publish_moves_the_channel_it_is_told_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = with_releases(dir.path(), 1).await;
    let options = PublishOptions {
        channel: Some(named("beta")),
        ..PublishOptions::new(album())
    };
    let folder = dir.path().join("album");
    write_album(&folder, "song 2");
    publish(&node, &folder, options).await;
    let page = shop_file(&node, 2, "products/album/product.json").await;
    assert_eq!(
        page["channels"],
        serde_json::json!({ "beta": "2", "stable": "1" })
    );
    node.shutdown().await;
}

#[tokio::test]
async fn undone_yank_is_offered_again() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = with_releases(dir.path(), 1).await;
    let (id, one) = (album(), version("1"));
    let yanked = yank::yank(&node, &id, &one).await.unwrap();
    assert!(yanked.product.channels.is_empty());
    assert_eq!(yanked.gone, [named("stable")]);
    let undone = yank::undo(&node, &id, &one).await.unwrap();
    assert_eq!(undone.product.channels.get(&named("stable")), Some(&one));
    assert_eq!(after(&node, undone.job, STABLE_SONG).await, b"song 1");
    assert_eq!(yank::undo(&node, &id, &one).await.unwrap().job, None);
    node.shutdown().await;
}

/// Publishes versions of the album, each on its channel.
async fn publish_all(node: &Node, folder: &Path, versions: &[(&str, &str)]) {
    for (number, channel) in versions {
        write_album(folder, &format!("song {number}"));
        let options = PublishOptions {
            version: Some(version(number)),
            channel: Some(named(channel)),
            ..PublishOptions::new(album())
        };
        publish(node, folder, options).await;
    }
}

fn names(product: &duka_node::manifest::record::Product) -> Vec<(&str, &str)> {
    let channels = product.channels.iter();
    channels.map(|(c, v)| (c.as_str(), v.as_str())).collect()
}

#[tokio::test]
async fn yank_and_rollback_never_lead_a_channel_to_what_was_on_another_one_only() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir.path().join("data")).await;
    let versions = [
        ("1.0", "stable"),
        ("2.0-beta", "beta"),
        ("1.1", "stable"),
        ("2.1-beta", "beta"),
    ];
    publish_all(&node, &dir.path().join("album"), &versions).await;
    let (id, stable, beta) = (album(), named("stable"), named("beta"));
    let (moved, _) = channel::roll_back(&node, &id, &stable, None).await.unwrap();
    assert_eq!(moved.version, Some(version("1.0")));
    let refused = channel::roll_back(&node, &id, &stable, None).await;
    assert!(matches!(refused, Err(ChannelError::NothingBefore { .. })));
    channel::set(&node, &id, &stable, &version("1.1"))
        .await
        .unwrap();

    // What was a beta and then became the stable one is led back to the stable one before it.
    channel::set(&node, &id, &stable, &version("2.0-beta"))
        .await
        .unwrap();
    let yank = async |number: &str| yank::yank(&node, &id, &version(number)).await.unwrap();
    let yanked = yank("2.0-beta").await;
    assert_eq!(
        names(&yanked.product),
        [("beta", "2.1-beta"), ("stable", "1.1")]
    );
    let yanked = yank("1.1").await;
    assert_eq!(
        names(&yanked.product),
        [("beta", "2.1-beta"), ("stable", "1.0")]
    );
    let yanked = yank("1.0").await;
    assert_eq!(
        (names(&yanked.product), yanked.gone),
        (vec![("beta", "2.1-beta")], vec![stable])
    );
    let yanked = yank("2.1-beta").await;
    assert_eq!((names(&yanked.product), yanked.gone), (vec![], vec![beta]));

    // What is offered again comes back to the channels that named it, and to no others.
    let undone = yank::undo(&node, &id, &version("2.1-beta")).await.unwrap();
    assert_eq!(names(&undone.product), [("beta", "2.1-beta")]);
    let undone = yank::undo(&node, &id, &version("1.1")).await.unwrap();
    assert_eq!(
        names(&undone.product),
        [("beta", "2.1-beta"), ("stable", "1.1")]
    );
    node.shutdown().await;
}

#[tokio::test]
async fn what_a_channel_was_rolled_back_from_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = with_releases(dir.path(), 3).await;
    let (id, stable) = (album(), named("stable"));
    let one = version("1");
    channel::roll_back(&node, &id, &stable, Some(&one))
        .await
        .unwrap();
    let yanked = yank::yank(&node, &id, &one).await.unwrap();
    assert_eq!(
        (names(&yanked.product), yanked.gone),
        (vec![], vec![stable.clone()])
    );

    yank::undo(&node, &id, &one).await.unwrap();
    write_album(&dir.path().join("album"), "song 4");
    publish(
        &node,
        &dir.path().join("album"),
        PublishOptions::new(album()),
    )
    .await;
    let (moved, _) = channel::roll_back(&node, &id, &stable, None).await.unwrap();
    assert_eq!(moved.version, Some(one), "2 and 3 were left");
    node.shutdown().await;
}

#[tokio::test]
async fn product_says_what_it_is_told_and_keeps_its_files_from_collection() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = with_releases(dir.path(), 1).await;
    let cover = dir.path().join("front.JPG");
    std::fs::write(&cover, b"\xff\xd8\xffpicture").unwrap();
    let price = Price {
        minor: 950,
        digits: 2,
        currency: "USD".to_owned(),
    };
    let long = "long ".repeat(500);
    let set = async |setting| product::change(&node, &album(), setting).await.unwrap();
    set(Setting::Title("Songs".to_owned())).await;
    set(Setting::Price(Some(price))).await;
    set(Setting::Cover(Some(cover))).await;
    let job = set(Setting::Description(Some(long.clone()))).await;
    let page = after(&node, Some(job), "products/album/product.json").await;
    let page: serde_json::Value = serde_json::from_slice(&page).unwrap();
    assert_eq!(
        (&page["title"], &page["cover"]),
        (&"Songs".into(), &"cover.jpg".into())
    );
    assert_eq!(page["price"]["amount"], "9.50");
    duka_node::gc::collect(&node, gc::FULL_SPEED).await.unwrap();
    assert_whole(&node).await;
    let root = head(&node).1;
    assert_eq!(
        read(&node, root, "products/album/cover.jpg").await,
        b"\xff\xd8\xffpicture"
    );
    assert_eq!(
        read(&node, root, "products/album/description.md").await,
        long.as_bytes()
    );

    for nothing in [
        Setting::Price(None),
        Setting::Cover(None),
        Setting::Description(None),
    ] {
        set(nothing).await;
    }
    let job = set(Setting::Title("Free songs".to_owned())).await;
    let page = after(&node, Some(job), "products/album/product.json").await;
    let page: serde_json::Value = serde_json::from_slice(&page).unwrap();
    assert!(page["price"].is_null() && page["cover"].is_null(), "{page}");
    assert_eq!(page["description"], "");

    let absent = "absent".parse().unwrap();
    let refused = product::change(&node, &absent, Setting::Price(None)).await;
    assert!(matches!(
        refused,
        Err(ProductError::Manifest(ManifestError::Conflict(
            Conflict::NoProduct { .. }
        )))
    ));
    let empty = product::change(&node, &album(), Setting::Title(" ".to_owned())).await;
    assert!(matches!(empty, Err(ProductError::Value(_))));
    node.shutdown().await;
}
