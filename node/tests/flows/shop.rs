//! What the shop says of itself.

use duka_node::announce;
use duka_node::shop::settings::{self, Setting, SettingError};

use super::*;

async fn set(node: &Node, setting: Setting) -> serde_json::Value {
    let job = settings::change(node, setting).await.unwrap();
    assert!(announce::wait_for_job(node, job, DEADLINE).await.unwrap());
    shop_json(node).await
}

async fn shop_json(node: &Node) -> serde_json::Value {
    let root = node.manifest().head().unwrap().unwrap().root;
    read_json(node, &root, "shop.json").await
}

#[tokio::test]
async fn settings_of_the_shop_go_before_the_file_and_with_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let mut config = offline_config();
    config.shop.title = "From the file".to_owned();
    config.shop.gateways = vec!["https://file.example".to_owned()];
    let node = open_with(&data_dir, &config).await;

    let title = Setting::Title(Some("Songs".to_owned()));
    let head = set(&node, title).await;
    assert_eq!((&head["title"], &head["seq"]), (&"Songs".into(), &1.into()));
    assert_eq!(
        head["gateways"],
        serde_json::json!(["https://file.example"])
    );
    let day = Duration::from_secs(86_400);
    let mirror = "/dns4/mirror.example/tcp/4101".to_owned();
    set(&node, Setting::Description(Some("*All* songs".to_owned()))).await;
    set(&node, Setting::Gateways(Some(Vec::new()))).await;
    set(&node, Setting::Mirrors(Some(vec![mirror.clone()]))).await;
    let head = set(&node, Setting::Expiry(Some(90 * day))).await;
    assert_eq!(head["description"], "*All* songs");
    assert_eq!(head["gateways"], serde_json::json!([]));
    assert_eq!(head["mirrors"], serde_json::json!([mirror]));
    assert_eq!(
        (&head["lifetime"], &head["seq"]),
        (&(90 * 86_400).into(), &5.into())
    );
    node.shutdown().await;
    drop(node);

    let node = open(&data_dir).await;
    let read = settings::read(&node).unwrap();
    assert_eq!((read.title.as_str(), read.lifetime), ("Songs", 90 * day));
    let head = set(&node, Setting::Title(None)).await;
    assert_eq!((&head["title"], &head["seq"]), (&"".into(), &6.into()));
    node.shutdown().await;
}

#[tokio::test]
async fn records_are_valid_for_as_long_as_the_shop_says() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir.path().join("data")).await;
    let day = Duration::from_secs(86_400);
    set(&node, Setting::Expiry(Some(10 * day))).await;
    let resolved = node.resolve_name(&node.shop_name(), &[]).await.unwrap();
    let left = resolved
        .record
        .validity
        .duration_since(jiff::Timestamp::now());
    let days = left.as_secs() / 86_400;
    assert!((9..=10).contains(&days), "{days}");
    node.shutdown().await;
}

#[tokio::test]
async fn shop_without_a_title_has_that_of_its_first_product() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    write_album(&folder, "la");
    let node = open(&dir.path().join("data")).await;
    for (releases, product) in [(1, "songs"), (2, "a-later-one")] {
        publish(
            &node,
            &folder,
            PublishOptions::new(product.parse().unwrap()),
        )
        .await;
        let head = shop_file(&node, releases, "shop.json").await;
        assert_eq!(head["title"], "songs");
    }
    node.shutdown().await;
}

#[tokio::test]
async fn values_that_cannot_be_used_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir.path().join("data")).await;
    let text = |text: &str| Some(text.to_owned());
    let list = |value: &str| Some(vec![value.to_owned()]);
    let hours = |n: u64| Some(Duration::from_secs(n * 3600));
    for setting in [
        Setting::Title(text(" ")),
        Setting::Title(text("two\nlines")),
        Setting::Title(Some("t".repeat(257))),
        Setting::Description(Some("d".repeat(4097))),
        Setting::Gateways(list("mirror.example")),
        Setting::Gateways(list("ftp://mirror.example")),
        Setting::Gateways(Some(vec!["https://one.example".to_owned(); 2])),
        Setting::Gateways(list(&format!("https://one.example/{}", "x".repeat(4096)))),
        Setting::Mirrors(list("https://mirror.example")),
        Setting::Expiry(hours(71)),
        Setting::Expiry(hours(24 * 365 * 101)),
        Setting::Refresh(Some(Duration::from_secs(59))),
        Setting::Refresh(hours(24 * 365)),
    ] {
        let refused = settings::change(&node, setting.clone()).await;
        assert!(
            matches!(refused, Err(SettingError::Value { .. })),
            "{setting:?}: {refused:?}"
        );
    }
    assert_eq!(node.manifest().head().unwrap(), None);
    assert_eq!(node.manifest().jobs().count(), 0);
    node.shutdown().await;
}

#[tokio::test]
async fn who_waits_for_a_release_does_not_wait_for_the_heads_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    write_album(&folder, "la");
    let node = open(&dir.path().join("data")).await;
    let unknown = announce::is_announced(&node, &album(), &"1".parse().unwrap()).await;
    assert!(!unknown.unwrap());
    // There is always another head to be made.
    let (busy, stop) = (node.clone(), tokio_util::sync::CancellationToken::new());
    let stopped = stop.clone();
    let others = tokio::spawn(async move {
        while !stopped.is_cancelled() {
            let job = busy.manifest().new_job_id();
            let change = Change {
                expect: Vec::new(),
                ops: vec![Op::PutJob(job, Job::Announce)],
            };
            busy.manifest().commit(change).await.unwrap();
        }
    });
    let published = publish(&node, &folder, PublishOptions::new(album())).await;
    let waited = announce::wait_for_head(&node, &album(), &published.version, DEADLINE).await;
    assert!(waited.unwrap());
    let root = node.manifest().head().unwrap().unwrap().root;
    assert_eq!(read(&node, root, "p/album/1/lyrics/one.txt").await, b"la");
    stop.cancel();
    others.await.unwrap();
    node.shutdown().await;
}
