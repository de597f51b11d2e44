//! A release whose files stay where they are.

use duka_node::fsck::{self, FsckOptions};
use duka_node::gc::{self, GcOptions};
use duka_node::store::StoreError;

use super::*;

const LEN: usize = 3 << 20;

fn in_place() -> PublishOptions {
    PublishOptions {
        in_place: true,
        ..PublishOptions::new(album())
    }
}

async fn check(node: &Node, deep: bool) -> fsck::Report {
    let options = FsckOptions {
        deep,
        ..FsckOptions::default()
    };
    fsck::run(node, options, |_| {}).await.unwrap()
}

/// A folder with a long file and a short one.
fn write_film(folder: &Path, byte: u8) {
    std::fs::create_dir_all(folder).unwrap();
    let film: Vec<u8> = (0..LEN)
        .map(|at| byte ^ (at / 7).to_le_bytes()[0])
        .collect();
    std::fs::write(folder.join("film"), film).unwrap();
    std::fs::write(folder.join("notes.txt"), "notes").unwrap();
}

#[tokio::test]
async fn a_release_in_place_survives_collection_and_restart_and_tells_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, data) = (dir.path().join("films"), dir.path().join("data"));
    let node = open(&data).await;
    write_film(&folder, 1);
    let copied = publish(
        &node,
        &folder,
        PublishOptions {
            dry_run: true,
            ..PublishOptions::new(album())
        },
    )
    .await;
    let published = publish(&node, &folder, in_place()).await;
    assert_eq!(published.cid, copied.cid);
    assert!(node.store().stats().unwrap().disk_bytes < 200_000);
    let again = PublishOptions {
        if_changed: true,
        ..in_place()
    };
    assert_eq!(publish(&node, &folder, again).await.new_bytes, 0);

    let everything = GcOptions {
        dry_run: false,
        seal: true,
        bytes_per_second: 0,
        spare_recent: false,
    };
    gc::collect(&node, everything).await.unwrap();
    node.shutdown().await;
    drop(node);
    let node = open(&data).await;
    for deep in [false, true] {
        let report = check(&node, deep).await;
        assert!(
            report.is_whole() && report.changed_files.is_empty(),
            "{report:?}"
        );
    }

    write_film(&folder, 2);
    let film = std::fs::canonicalize(folder.join("film")).unwrap();
    for deep in [false, true] {
        let report = check(&node, deep).await;
        assert_eq!(report.damaged.len(), 3, "{report:?}");
        assert_eq!(report.changed_files.iter().collect::<Vec<_>>(), [&film]);
    }
    let lost = check(&node, true).await.damaged[0];
    let got = node.store().get(&lost);
    assert!(matches!(got, Err(StoreError::Changed { path, .. }) if path == film));

    // Who puts the bytes back has the release back.
    write_film(&folder, 1);
    publish(&node, &folder, PublishOptions::new(album())).await;
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(check(&node, true).await.is_whole());
    node.shutdown().await;
}

#[tokio::test]
async fn what_is_no_plain_part_of_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("films");
    let node = open(&dir.path().join("data")).await;
    write_film(&folder, 1);
    for options in [
        PublishOptions {
            preserve_mode: true,
            ..in_place()
        },
        PublishOptions {
            profile: Some(Profile::UnixfsV0_2015),
            ..in_place()
        },
    ] {
        let refused = try_publish(&node, &folder, options).await.unwrap_err();
        assert!(
            refused.to_string().starts_with("cannot add in place: "),
            "{refused}"
        );
    }
    let reader = Source::Reader {
        name: "film".to_owned(),
        reader: Box::new(std::io::empty()),
    };
    let refused = publish::publish(&node, reader, in_place(), Arc::new(|_| true)).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("a stream has no place")
    );
    node.shutdown().await;
}
