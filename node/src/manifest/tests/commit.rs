//! What a change does, and when it is refused.

use super::*;

#[test]
fn failed_condition_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (manifest, _) = open(dir.path());
    let publish = |title: &str| Change {
        expect: vec![
            Expect::ReleaseAbsent(id("album"), version("1")),
            Expect::NextRelease(id("album"), 1),
        ],
        ops: vec![
            Op::PutProduct(id("album"), product(title)),
            Op::PutRelease(id("album"), version("1"), release(1)),
        ],
    };
    manifest.commit_blocking(publish("first")).unwrap();
    let error = manifest.commit_blocking(publish("second")).unwrap_err();
    assert!(matches!(
        error,
        ManifestError::Conflict(Conflict::ReleaseExists { .. })
    ));
    assert_eq!(
        manifest.product(&id("album")).unwrap(),
        Some(product("first"))
    );
}

/// What each of these changes is answered when all wait for the writer at the same time.
fn commit_together(dir: &Path, changes: Vec<Change>) -> Vec<Result<u64, ManifestError>> {
    let disk: Arc<dyn Disk> = Arc::new(FileSystem);
    files::make_dir(disk.as_ref(), dir).unwrap();
    let (index, journal, _) = recover::open(&disk, dir, &OPTIONS).unwrap();
    let writer = Writer::new(disk, dir.to_owned(), index, journal, OPTIONS);
    let (requests, receiver) = mpsc::channel(QUEUE);
    let send = |change| {
        let (reply, answer) = oneshot::channel();
        requests.try_send(Request::Commit(change, reply)).unwrap();
        answer
    };
    let answers: Vec<_> = changes.into_iter().map(send).collect();
    drop(requests);
    writer.run(receiver);
    let answers = answers.into_iter();
    answers.map(|a| a.blocking_recv().unwrap()).collect()
}

#[test]
fn changes_that_wait_together_share_one_entry_and_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let publish = || Change {
        expect: vec![Expect::ReleaseAbsent(id("album"), version("1"))],
        ops: vec![Op::PutRelease(id("album"), version("1"), release(1))],
    };
    let changes = vec![put("a", b"1"), publish(), publish(), put("b", b"2")];
    let answers = commit_together(dir.path(), changes).into_iter();
    let sequences: Vec<_> = answers.map(Result::ok).collect();
    assert_eq!(sequences, [Some(1), Some(1), None, Some(1)]);
}

/// A change of `mib` MiB in values that are each short enough.
fn large(key: &str, mib: usize) -> Change {
    let puts = (0..mib * 64).map(|n| Op::PutState(format!("{key}{n}"), vec![7; 16 << 10]));
    change(puts.collect())
}

#[test]
fn oversized_change_is_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let changes = vec![put("a", b"1"), large("x", 65), put("b", b"2")];
    let answers = commit_together(dir.path(), changes);
    assert!(matches!(answers[0], Ok(1)), "{:?}", answers[0]);
    assert!(matches!(answers[1], Err(ManifestError::TooLarge { .. })));
    assert!(matches!(answers[2], Ok(1)), "{:?}", answers[2]);
    let (manifest, _) = open(dir.path());
    assert_eq!(states(&manifest).len(), 2);
}

#[test]
fn large_changes_that_wait_together_get_entries_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let changes = vec![large("x", 30), large("y", 30), large("z", 30)];
    let answers = commit_together(dir.path(), changes).into_iter();
    let sequences: Vec<_> = answers.map(Result::ok).collect();
    assert_eq!(sequences, [Some(1), Some(1), Some(2)]);
}

#[test]
fn full_disk_refuses_changes_and_reads_go_on() {
    let (dir, _) = three_entries();
    let full = ManifestOptions {
        reserve: u64::MAX,
        ..OPTIONS
    };
    let (manifest, _) = Manifest::open_with(dir.path(), full).unwrap();
    for _ in 0..2 {
        let job = vec![Op::PutJob(1, Job::Announce)];
        let error = manifest.commit_blocking(change(job)).unwrap_err();
        assert!(matches!(error, ManifestError::Full { .. }), "{error:?}");
    }
    // What makes room, and a note of it, use the reserve.
    manifest.commit_blocking(put("x", b"y")).unwrap();
    let pin = "bafkqaaa".parse().unwrap();
    manifest
        .commit_blocking(change(vec![Op::DeletePin(pin)]))
        .unwrap();
    assert_eq!(states(&manifest).len(), 4);
}

#[test]
fn oversized_value_changes_nothing() {
    let (dir, _) = three_entries();
    let (manifest, _) = open(dir.path());
    let ops = vec![
        Op::PutState("small".to_owned(), vec![1]),
        Op::PutState("large".to_owned(), vec![0; 100_000]),
    ];
    let error = manifest.commit_blocking(change(ops)).unwrap_err();
    assert!(matches!(error, ManifestError::TooLarge { .. }), "{error:?}");
    assert_eq!(manifest.state("small").unwrap(), None);
}

#[test]
fn second_opener_is_told_that_it_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (_manifest, _) = open(dir.path());
    let error = Manifest::open_with(dir.path(), OPTIONS).unwrap_err();
    assert!(matches!(error, ManifestError::Locked { .. }), "{error:?}");
}

#[test]
fn closed_manifest_refuses_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (manifest, _) = open(dir.path());
    futures::executor::block_on(manifest.close()).unwrap();
    let error = manifest.commit_blocking(put("x", b"y")).unwrap_err();
    assert!(matches!(error, ManifestError::Closed), "{error:?}");
}
