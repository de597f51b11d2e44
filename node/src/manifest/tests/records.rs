//! Records read back as they were committed.

use super::*;

#[test]
fn committed_records_are_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (manifest, _) = open(dir.path());
    let root = cid_of(RAW, b"root");
    let job = manifest.new_job_id();
    manifest
        .commit_blocking(change(vec![
            Op::PutProduct(id("album"), product("Album")),
            Op::PutRelease(id("album"), version("1.10"), release(2)),
            Op::PutRelease(id("album"), version("1.9"), release(1)),
            Op::PutPin(root, pin()),
            Op::PutJob(job, Job::Announce),
        ]))
        .unwrap();
    drop(manifest);

    let (manifest, recovery) = open(dir.path());
    assert_eq!(recovery.rebuilt_from, None);
    assert_eq!(
        manifest.product(&id("album")).unwrap(),
        Some(product("Album"))
    );
    let order: Vec<_> = manifest
        .releases(&id("album"))
        .map(|r| r.unwrap().0)
        .collect();
    assert_eq!(
        order,
        [version("1.9"), version("1.10")],
        "by number, not by label"
    );
    assert_eq!(manifest.next_release_number(&id("album")).unwrap(), 3);
    assert_eq!(manifest.pin(&root).unwrap(), Some(pin()));
    assert_eq!(
        manifest.jobs().map(|j| j.unwrap().0).collect::<Vec<_>>(),
        [job]
    );
    assert!(manifest.new_job_id() > job);
    let counts = manifest.counts().unwrap();
    assert_eq!(
        (counts.products, counts.releases, counts.pins, counts.jobs),
        (1, 2, 1, 1)
    );
}

#[test]
fn releases_of_a_product_whose_id_begins_like_another_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (manifest, _) = open(dir.path());
    manifest
        .commit_blocking(change(vec![
            Op::PutRelease(id("a"), version("1"), release(1)),
            Op::PutRelease(id("a-b"), version("2"), release(7)),
        ]))
        .unwrap();
    assert_eq!(manifest.next_release_number(&id("a")).unwrap(), 2);
    assert_eq!(manifest.releases(&id("a")).count(), 1);
}

#[test]
fn revision_grows_with_every_change_of_a_product() {
    let dir = tempfile::tempdir().unwrap();
    let (manifest, _) = open(dir.path());
    let revision = |manifest: &Manifest| manifest.shop_entries().next().unwrap().unwrap().1;
    manifest
        .commit_blocking(change(vec![Op::PutProduct(id("a"), product("A"))]))
        .unwrap();
    let first = revision(&manifest);
    manifest
        .commit_blocking(change(vec![Op::PutRelease(
            id("a"),
            version("1"),
            release(1),
        )]))
        .unwrap();
    assert!(revision(&manifest) > first);
}

#[test]
fn what_the_shop_says_outlives_journal_and_index() {
    let dir = tempfile::tempdir().unwrap();
    let options = ManifestOptions {
        journal_limit: 1,
        ..OPTIONS
    };
    let (manifest, _) = Manifest::open_with(dir.path(), options).unwrap();
    assert_eq!(manifest.shop().unwrap(), record::Shop::default());
    let shop = record::Shop {
        title: Some("Songs".to_owned()),
        first_product: Some(id("album")),
        ..record::Shop::default()
    };
    manifest
        .commit_blocking(change(vec![Op::PutShop(shop.clone())]))
        .unwrap();
    close(manifest);
    let checkpoints = fs::read_dir(dir.path()).unwrap().flatten();
    let names: Vec<_> = checkpoints.map(|entry| entry.file_name()).collect();
    assert!(
        names
            .iter()
            .any(|n| n.to_string_lossy().contains("checkpoint")),
        "{names:?}"
    );
    fs::remove_dir_all(index_path(dir.path())).unwrap();
    assert_eq!(open(dir.path()).0.shop().unwrap(), shop);
}
