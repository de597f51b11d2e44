//! Publishes of what is there already, and of what nobody could read.

use duka_node::channel;
use duka_node::ids::Channel;
use duka_node::manifest::record::Price;

use super::*;

fn named(text: &str) -> Channel {
    text.parse().unwrap()
}

fn if_changed() -> PublishOptions {
    PublishOptions {
        if_changed: true,
        ..PublishOptions::new(album())
    }
}

fn offered(node: &Node, channel: &str) -> Option<String> {
    let product = node.manifest().product(&album()).unwrap().unwrap();
    product
        .channels
        .get(&named(channel))
        .map(ToString::to_string)
}

#[tokio::test]
async fn files_that_are_there_make_no_release_but_all_else_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    write_album(&folder, "la");
    publish(&node, &folder, PublishOptions::new(album())).await;
    let notes = dir.path().join("notes.md");
    std::fs::write(&notes, "new").unwrap();
    let price = Price {
        minor: 950,
        digits: 2,
        currency: "USD".to_owned(),
    };
    let options = PublishOptions {
        channel: Some(named("beta")),
        title: Some("Songs".to_owned()),
        description: Some("Of the sea".to_owned()),
        price: Some(price.clone()),
        notes: Some(notes),
        ..if_changed()
    };
    let dry = PublishOptions {
        dry_run: true,
        ..options.clone()
    };
    let done = publish(&node, &folder, dry).await;
    assert!(!done.released && !done.updated);
    assert_eq!(offered(&node, "beta"), None);

    let done = publish(&node, &folder, options.clone()).await;
    assert!(!done.released && done.updated && done.notes_kept && !done.signed);
    assert_eq!(done.version.as_str(), "1");
    assert!(done.wait_until_signed(&node, DEADLINE).await.unwrap());
    let root = node.manifest().head().unwrap().unwrap().root;
    let page = read(&node, root, "products/album/product.json").await;
    let page: serde_json::Value = serde_json::from_slice(&page).unwrap();
    assert_eq!(
        page["channels"],
        serde_json::json!({ "beta": "1", "stable": "1" })
    );
    assert_eq!(page["title"], "Songs");
    assert_eq!(page["description"], "Of the sea");
    assert_eq!(page["price"]["amount"], "9.50");
    assert_eq!(node.manifest().releases(&album()).count(), 1);

    let again = publish(&node, &folder, options).await;
    assert!(!again.updated && again.signed);
    node.shutdown().await;
}

#[tokio::test]
async fn files_of_a_release_that_is_withdrawn_are_published_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    write_album(&folder, "la");
    publish(&node, &folder, PublishOptions::new(album())).await;
    yank::yank(&node, &album(), &"1".parse().unwrap())
        .await
        .unwrap();
    let again = publish(&node, &folder, if_changed()).await;
    assert!(again.released);
    assert_eq!(offered(&node, "stable").as_deref(), Some("2"));
    node.shutdown().await;
}

#[tokio::test]
async fn what_is_compared_is_what_the_channel_names_and_the_newest_release() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    for (lyrics, channel) in [("one", "stable"), ("two", "stable"), ("three", "beta")] {
        write_album(&folder, lyrics);
        let options = PublishOptions {
            channel: Some(named(channel)),
            ..PublishOptions::new(album())
        };
        publish(&node, &folder, options).await;
    }
    write_album(&folder, "two");
    let same = publish(&node, &folder, if_changed()).await;
    assert_eq!((same.released, same.version.as_str()), (false, "2"));

    // What was a beta only becomes stable; what stable was led back from does not come back by itself.
    write_album(&folder, "three");
    let same = publish(&node, &folder, if_changed()).await;
    assert_eq!((same.released, same.updated), (false, true));
    assert_eq!(offered(&node, "stable").as_deref(), Some("3"));
    channel::roll_back(&node, &album(), &named("stable"), None)
        .await
        .unwrap();
    let same = publish(&node, &folder, if_changed()).await;
    assert_eq!((same.released, same.updated), (false, false));
    assert_eq!(offered(&node, "stable").as_deref(), Some("2"));
    let told = PublishOptions {
        channel: Some(named("stable")),
        ..if_changed()
    };
    assert!(publish(&node, &folder, told).await.updated);
    assert_eq!(offered(&node, "stable").as_deref(), Some("3"));
    node.shutdown().await;
}

#[tokio::test]
async fn a_release_without_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    write_album(&folder, "la");
    let mut all = globset::GlobSetBuilder::new();
    all.add(globset::Glob::new("**").unwrap());
    let options = PublishOptions {
        ignore: all.build().unwrap(),
        ..PublishOptions::new(album())
    };
    let refused = try_publish(&node, &folder, options).await;
    assert!(
        matches!(refused, Err(PublishError::Empty { .. })),
        "{refused:?}"
    );
    assert!(node.manifest().product(&album()).unwrap().is_none());
    node.shutdown().await;
}

#[tokio::test]
async fn the_next_number_is_always_free() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    let node = open(&dir.path().join("data")).await;
    let mut versions = Vec::new();
    for (at, version) in [
        Some("18446744073709551615"),
        None,
        Some("999999999999999999"),
        None,
        None,
    ]
    .into_iter()
    .enumerate()
    {
        write_album(&folder, &format!("{at}"));
        let options = PublishOptions {
            version: version.map(|version| version.parse().unwrap()),
            ..PublishOptions::new(album())
        };
        versions.push(publish(&node, &folder, options).await.version.to_string());
    }
    let counted = [
        "1",
        "999999999999999999",
        "1000000000000000000",
        "1000000000000000001",
    ];
    assert_eq!(versions[1..], counted);
    node.shutdown().await;
}
