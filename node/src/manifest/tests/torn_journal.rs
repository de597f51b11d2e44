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
    let error = Manifest::open_with(dir.path(), OPTIONS).unwrap_err();
    assert!(matches!(error, ManifestError::Corrupt { .. }), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), bytes, "and nothing was cut");
}

#[test]
fn lost_journal_is_reported_not_replaced_by_an_empty_one() {
    let (dir, _) = three_entries();
    fs::remove_file(journal_path(dir.path(), 1)).unwrap();
    let error = Manifest::open_with(dir.path(), OPTIONS).unwrap_err();
    assert!(matches!(error, ManifestError::Corrupt { .. }), "{error:?}");
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
                known: 1,
                ..
            }
        ),
        "{error:?}"
    );
}
