//! Cuts and damage of the journal.

use super::*;

#[test]
fn journal_cut_at_any_byte_keeps_exactly_the_whole_entries() {
    let (dir, ends) = three_entries();
    let whole = fs::read(journal_path(dir.path(), 1)).unwrap();
    for cut in 0..whole.len() {
        let copy = tempfile::tempdir().unwrap();
        fs::write(journal_path(copy.path(), 1), &whole[..cut]).unwrap();
        let survey = journal::survey(copy.path(), &[1], 0).unwrap();
        let expected = ends
            .iter()
            .skip(1)
            .filter(|end| **end <= cut as u64)
            .count();
        assert_eq!(survey.last, expected as u64, "cut at {cut}");
        let at_end = ends.contains(&(cut as u64));
        assert_eq!(survey.torn.is_none(), at_end, "cut at {cut}");
    }
}

#[test]
fn cut_journal_opens_and_goes_on() {
    let (dir, ends) = three_entries();
    let whole = fs::read(journal_path(dir.path(), 1)).unwrap();
    for cut in [0, 10, ends[0], ends[1] + 5, ends[2], ends[3] - 1] {
        let copy = tempfile::tempdir().unwrap();
        let kept = usize::try_from(cut).unwrap();
        fs::write(journal_path(copy.path(), 1), &whole[..kept]).unwrap();
        let entries = ends.iter().skip(1).filter(|end| **end <= cut).count();

        let (manifest, recovery) = open(copy.path());
        assert_eq!(recovery.replayed, entries as u64);
        assert_eq!(states(&manifest).len(), entries);
        manifest.commit_blocking(put("after", b"cut")).unwrap();
        drop(manifest);
        let (manifest, recovery) = open(copy.path());
        assert_eq!(recovery.truncated_bytes, 0, "the cut is durable");
        assert_eq!(states(&manifest).len(), entries + 1);
    }
}

#[test]
fn any_flipped_byte_before_the_last_entry_is_reported() {
    let (dir, ends) = three_entries();
    let path = journal_path(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    for at in 0..usize::try_from(ends[2]).unwrap() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let result = journal::survey(dir.path(), &[1], 0);
        assert!(
            matches!(result, Err(ManifestError::Corrupt { .. })),
            "byte {at}: {result:?}"
        );
    }
}

#[test]
fn damaged_last_entry_that_was_acknowledged_is_not_dropped() {
    let (dir, _) = three_entries();
    let path = journal_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_cut(dir.path(), 3, 2);
    assert_eq!(fs::read(&path).unwrap(), bytes, "and nothing was cut");
}

/// Neither opening nor a new index goes over what the index knows and the journal does not.
fn assert_cut(dir: &Path, index: u64, journal: u64) {
    match Manifest::open_with(dir, OPTIONS).unwrap_err() {
        ManifestError::JournalCut { applied, last, .. } => {
            assert_eq!((applied, last), (index, journal));
        }
        error => panic!("{error}"),
    }
    match Manifest::rebuild(dir).unwrap_err() {
        RebuildError::Lost(Loss::JournalCut { applied, last, .. }) => {
            assert_eq!((applied, last), (index, journal));
        }
        error => panic!("{error}"),
    }
}

#[test]
fn journal_that_ends_before_the_index_is_refused_and_nothing_rolled_back() {
    for is_closed in [false, true] {
        let (dir, ends) = three_entries();
        if is_closed {
            close(open(dir.path()).0);
        }
        let path = journal_path(dir.path(), 1);
        let whole = fs::read(&path).unwrap();
        for (cut, last) in [(ends[0], 0), (ends[1], 1), (ends[2], 2), (ends[3] - 3, 2)] {
            let cut = usize::try_from(cut).unwrap();
            fs::write(&path, &whole[..cut]).unwrap();
            assert_cut(dir.path(), 3, last);
            let kept = Manifest::forget_index(dir.path()).unwrap_err();
            assert!(matches!(kept, RebuildError::Lost(_)), "{kept}");
            assert_eq!(fs::read(&path).unwrap(), whole[..cut]);
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(states(&open(dir.path()).0).len(), 3);
    }
}

#[test]
fn journal_that_was_emptied_is_no_manifest_to_make_an_index_of() {
    let (dir, _) = three_entries();
    fs::write(journal_path(dir.path(), 1), b"").unwrap();
    let error = Manifest::rebuild(dir.path()).unwrap_err();
    assert!(
        matches!(error, RebuildError::Lost(Loss::All { .. })),
        "{error}"
    );
    assert!(index_path(dir.path()).exists());
    let error = Manifest::open_with(dir.path(), OPTIONS).unwrap_err();
    assert!(
        matches!(error, ManifestError::JournalCut { .. }),
        "{error:?}"
    );
}

#[test]
fn closed_index_tells_that_the_journal_was_cut_when_it_is_itself_lost() {
    let (dir, ends) = three_entries();
    close(open(dir.path()).0);
    fs::remove_dir_all(index_path(dir.path())).unwrap();
    let path = journal_path(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..usize::try_from(ends[2]).unwrap()]).unwrap();
    assert_cut(dir.path(), 3, 2);
}

#[test]
fn index_before_a_rebuild_is_set_aside() {
    let (dir, _) = three_entries();
    let before = fs::read(index_path(dir.path()).join("conf")).unwrap();
    let manifest = Manifest::rebuild(dir.path()).unwrap();
    assert_eq!(states(&manifest).len(), 3);
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut names = entries.map(|entry| entry.unwrap().path());
    let aside = names.find(|path| path.to_str().unwrap().contains("index.broken-"));
    assert_eq!(fs::read(aside.unwrap().join("conf")).unwrap(), before);
}

#[test]
fn lost_journal_is_reported_not_replaced_by_an_empty_one() {
    let (dir, _) = three_entries();
    fs::remove_file(journal_path(dir.path(), 1)).unwrap();
    let error = Manifest::open_with(dir.path(), OPTIONS).unwrap_err();
    assert!(
        matches!(error, ManifestError::JournalCut { .. }),
        "{error:?}"
    );
}

#[test]
fn file_of_a_newer_duka_is_refused() {
    let (dir, _) = three_entries();
    let path = journal_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8..12].copy_from_slice(&9u32.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = Manifest::open_with(dir.path(), OPTIONS).unwrap_err();
    assert!(
        matches!(
            error,
            ManifestError::TooNew {
                found: 9,
                known: 2,
                ..
            }
        ),
        "{error:?}"
    );
}

/// Gives a journal the header of format 1.
fn make_older(path: &std::path::Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

fn format_of(path: &std::path::Path) -> u8 {
    fs::read(path).unwrap()[8]
}

#[test]
fn journal_of_an_older_duka_is_read_and_not_added_to() {
    let (dir, ends) = three_entries();
    let old = journal_path(dir.path(), 1);
    make_older(&old);
    for cut in [ends[3], ends[3] - 1, ends[1] + 5, ends[0]] {
        let copy = tempfile::tempdir().unwrap();
        let path = journal_path(copy.path(), 1);
        let whole = fs::read(&old).unwrap();
        fs::write(&path, &whole[..usize::try_from(cut).unwrap()]).unwrap();
        let entries = ends.iter().skip(1).filter(|end| **end <= cut).count();
        for added in 0..2 {
            let (manifest, _) = open(copy.path());
            assert_eq!(states(&manifest).len(), entries + added, "cut at {cut}");
            let name = format!("after {added}");
            manifest.commit_blocking(put(name, b"x")).unwrap();
        }
        let newest = journal_path(copy.path(), entries as u64 + 1);
        assert_eq!(format_of(&newest), 2, "cut at {cut}");
        if entries > 0 {
            assert_eq!(format_of(&path), 1, "cut at {cut}");
        }
    }
}
