//! The index is rebuilt from journal and checkpoint.

use super::*;

#[test]
fn damaged_index_is_set_aside_and_rebuilt() {
    let (dir, _) = three_entries();
    fs::write(index_path(dir.path()).join("conf"), [0xA5; 100]).unwrap();
    let (manifest, recovery) = open(dir.path());
    assert_eq!(states(&manifest).len(), 3);
    let aside = recovery.rebuilt_from.expect("it was rebuilt");
    assert_eq!(
        fs::read(aside.join("conf")).unwrap(),
        [0xA5; 100],
        "kept as it was"
    );
    assert_eq!(recovery.replayed, 3);
}

#[test]
fn overwritten_index_loses_nothing() {
    for garbage in [vec![0xA5; 300_000], vec![0; 300_000], Vec::new()] {
        let (dir, _) = three_entries();
        fs::write(index_path(dir.path()).join("db"), garbage).unwrap();
        let (manifest, _) = open(dir.path());
        assert_eq!(states(&manifest).len(), 3);
    }
}

#[test]
fn record_that_does_not_decode_makes_the_index_be_rebuilt() {
    let (dir, _) = three_entries();
    let (manifest, _) = open(dir.path());
    let root = cid_of(RAW, b"root");
    manifest
        .commit_blocking(change(vec![Op::PutPin(root, pin())]))
        .unwrap();
    let bad = index::Writes::from([(key::pin(&root), Some(b"bad".to_vec()))]);
    manifest.inner.index.apply(bad).unwrap();
    drop(manifest);
    let (manifest, recovery) = open(dir.path());
    assert!(recovery.rebuilt_from.is_some());
    assert_eq!(manifest.pin(&root).unwrap(), Some(pin()));
}

#[test]
fn index_that_lost_a_record_is_rebuilt_after_an_unclean_stop() {
    for stopped_before in [false, true] {
        let (dir, _) = three_entries();
        if stopped_before {
            close(open(dir.path()).0);
        }
        let (manifest, recovery) = open(dir.path());
        assert_eq!(recovery.rebuilt_from, None);
        manifest.inner.index.lose(&key::state("k2"));
        drop(manifest);
        let (manifest, recovery) = open(dir.path());
        assert!(recovery.rebuilt_from.is_some());
        assert_eq!(states(&manifest).len(), 3);
    }
}

#[test]
fn index_that_was_closed_is_not_read_through() {
    let (dir, _) = three_entries();
    close(open(dir.path()).0);
    let index = Index::open(&index_path(dir.path())).unwrap();
    index.lose(&key::state("k2"));
    drop(index);
    // The loss shows that nothing was read; a closed index loses nothing by itself.
    let (manifest, recovery) = open(dir.path());
    assert_eq!(recovery.rebuilt_from, None);
    assert_eq!(states(&manifest).len(), 2);
}

#[test]
fn changes_of_all_kinds_leave_a_whole_index() {
    let (dir, _) = three_entries();
    let (manifest, _) = open(dir.path());
    let root = cid_of(RAW, b"root");
    let changes = [
        vec![
            Op::PutPin(root, pin()),
            Op::PutState("k1".into(), b"other".to_vec()),
        ],
        vec![Op::PutProduct(id("album"), product("Album"))],
        vec![Op::PutRelease(id("album"), version("1"), release(1))],
        vec![Op::DeletePin(root), Op::DeleteState("k2".into())],
        vec![Op::DeleteState("never there".into())],
    ];
    for ops in changes {
        manifest.commit_blocking(change(ops)).unwrap();
        assert!(manifest.inner.index.is_whole().unwrap());
    }
}

#[test]
fn checkpoint_and_journal_rebuild_a_lost_index() {
    let dir = tempfile::tempdir().unwrap();
    let options = ManifestOptions {
        journal_limit: 2_000,
        ..OPTIONS
    };
    let (manifest, _) = Manifest::open_with(dir.path(), options).unwrap();
    let mut expected = States::new();
    for n in 0..100u8 {
        let key = format!("k{}", n % 30);
        manifest
            .commit_blocking(put(key.clone(), &[n; 50]))
            .unwrap();
        expected.insert(key, vec![n; 50]);
    }
    manifest
        .commit_blocking(change(vec![
            Op::PutProduct(id("album"), product("Album")),
            Op::PutRelease(id("album"), version("1"), release(1)),
        ]))
        .unwrap();
    let counts = manifest.counts().unwrap();
    drop(manifest);
    let listing = Listing::read(dir.path()).unwrap();
    assert_eq!((listing.journals.len(), listing.checkpoints.len()), (1, 1));
    assert!(listing.journals[0] > 1, "the journal is bounded");

    fs::remove_dir_all(index_path(dir.path())).unwrap();
    let (manifest, _) = Manifest::open_with(dir.path(), options).unwrap();
    assert_eq!(states(&manifest), expected);
    assert_eq!(manifest.counts().unwrap(), counts);
    drop(manifest);

    fs::remove_dir_all(index_path(dir.path())).unwrap();
    let checkpoint = checkpoint_path(dir.path(), listing.checkpoints[0]);
    let whole = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &whole[..whole.len() - 1]).unwrap();
    let error = Manifest::open_with(dir.path(), options).unwrap_err();
    assert!(matches!(error, ManifestError::Corrupt { .. }), "{error:?}");
}

#[test]
fn index_older_than_the_journal_is_rebuilt_from_the_checkpoint() {
    let (dir, _) = three_entries();
    let old = tempfile::tempdir().unwrap();
    fs::rename(index_path(dir.path()), old.path().join("index")).unwrap();
    let (manifest, _) = open(dir.path());
    for n in 0..1_100u32 {
        manifest
            .commit_blocking(put("n", &n.to_be_bytes()))
            .unwrap();
    }
    close(manifest);
    assert_eq!(Listing::read(dir.path()).unwrap().checkpoints, [1_103]);
    fs::remove_dir_all(index_path(dir.path())).unwrap();
    fs::rename(old.path().join("index"), index_path(dir.path())).unwrap();

    let (manifest, recovery) = open(dir.path());
    assert!(recovery.rebuilt_from.is_some());
    assert_eq!(
        manifest.state("n").unwrap(),
        Some(1_099u32.to_be_bytes().to_vec())
    );
}

/// A manifest with a checkpoint and a journal that goes on after it; what it holds.
fn with_checkpoint(entries_after: u8) -> (TempDir, Manifest, States) {
    let dir = tempfile::tempdir().unwrap();
    let (manifest, _) = open(dir.path());
    for n in 0..1_100u32 {
        let value = n.to_be_bytes();
        let change = put(format!("k{}", n % 7), &value);
        manifest.commit_blocking(change).unwrap();
    }
    close(manifest);
    let (manifest, _) = open(dir.path());
    for n in 0..entries_after {
        manifest.commit_blocking(put("after", &[n])).unwrap();
    }
    let held = states(&manifest);
    (dir, manifest, held)
}

#[test]
fn damaged_journal_or_checkpoint_is_written_anew_from_the_index() {
    for (entries_after, is_checkpoint) in [(0, true), (0, false), (3, true), (3, false)] {
        let (dir, manifest, held) = with_checkpoint(entries_after);
        assert!(manifest.check().unwrap().is_none());
        let listing = Listing::read(dir.path()).unwrap();
        let (damaged, at) = match is_checkpoint {
            true => (checkpoint_path(dir.path(), listing.checkpoints[0]), 40),
            false => (journal_path(dir.path(), listing.journals[0]), 20),
        };
        let mut bytes = fs::read(&damaged).unwrap();
        bytes[at] ^= 1;
        fs::write(&damaged, &bytes).unwrap();
        let renewed = manifest.check().unwrap().unwrap();
        assert_eq!(fs::read(renewed.aside.unwrap()).unwrap(), bytes);
        assert_eq!(renewed.damaged, damaged);
        assert!(manifest.check().unwrap().is_none());
        manifest.commit_blocking(put("later", b"1")).unwrap();
        drop(manifest);
        fs::remove_dir_all(index_path(dir.path())).unwrap();
        let mut found = states(&open(dir.path()).0);
        assert_eq!(found.remove("later"), Some(b"1".to_vec()));
        assert_eq!(found, held);
    }
}

#[test]
fn lost_checkpoint_and_a_cut_journal_are_written_anew_from_the_index() {
    for entries_after in [0, 3] {
        let (dir, manifest, held) = with_checkpoint(entries_after);
        let listing = Listing::read(dir.path()).unwrap();
        fs::remove_file(checkpoint_path(dir.path(), listing.checkpoints[0])).unwrap();
        assert!(
            manifest
                .check()
                .unwrap()
                .unwrap()
                .damaged
                .ends_with(format!("journal-{:020}.log", 1))
        );
        assert!(manifest.check().unwrap().is_none());
        manifest.commit_blocking(put("after", b"more")).unwrap();
        let listing = Listing::read(dir.path()).unwrap();
        let journal = journal_path(dir.path(), listing.journals[0]);
        let whole = fs::read(&journal).unwrap();
        fs::write(&journal, &whole[..whole.len() - 3]).unwrap();
        let renewed = manifest.check().unwrap().unwrap();
        assert_eq!(renewed.damaged, journal);
        drop(manifest);
        fs::remove_dir_all(index_path(dir.path())).unwrap();
        let (manifest, _) = open(dir.path());
        assert_eq!(states(&manifest).len(), held.len().max(8));
        assert_eq!(manifest.state("after").unwrap(), Some(b"more".to_vec()));
    }
}

#[test]
fn damaged_journal_beside_an_index_that_is_not_whole_stays() {
    let (dir, _) = three_entries();
    let (manifest, _) = open(dir.path());
    manifest.inner.index.lose(&key::state("k2"));
    let path = journal_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[60] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = manifest.check().unwrap_err();
    assert!(
        matches!(error, ManifestError::NotRenewed { .. }),
        "{error:?}"
    );
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
