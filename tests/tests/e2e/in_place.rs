//! Files that stay where they are.

use std::fs;

use duka_tests::duka::field;
use duka_tests::{Duka, files};

use crate::{add, assert_refused, cat};

/// Bytes of the data directory's packs.
fn packs(duka: &Duka) -> u64 {
    let entries = fs::read_dir(duka.data_dir().join("blocks/packs")).unwrap();
    entries.map(|e| e.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn a_file_that_is_added_in_place_is_served_from_where_it_is() {
    let duka = Duka::new().unwrap();
    let node = duka.serve().unwrap();
    let file = duka.home().join("film");
    let bytes = files::random_bytes(60, 5_000_000);
    fs::write(&file, &bytes).unwrap();
    let path = file.to_str().unwrap();
    let result = duka.ok(&["add", "--in-place", path]).unwrap();
    let cid = field(&result, "cid").unwrap().to_owned();
    assert!(cat(&duka, &cid).unwrap() == bytes, "other bytes");
    assert!(packs(&duka) < 200_000, "{}", packs(&duka));
    let again = duka.ok(&["add", "--in-place", path]).unwrap();
    assert_eq!(again["new_bytes"], 0);
    duka.ok(&["fsck", "--deep"]).unwrap();
    let backup = duka.home().join("backup");
    let backup = ["backup", backup.to_str().unwrap(), "--without-keys"];
    let said = duka.plain(&backup).unwrap().stderr;
    assert!(said.contains("5 blocks are not in the backup"), "{said}");

    let mut changed = bytes.clone();
    changed[500_000] ^= 1;
    fs::write(&file, &changed).unwrap();
    let said = format!("{path} changed since it was added in place: add it again");
    assert_refused(&duka.cmd(&["cat", &cid]).unwrap(), 4, &[&said]);
    for check in [&["fsck"][..], &["fsck", "--deep"]] {
        let found = duka.cmd(check).unwrap();
        assert_eq!(found.code, 4, "{found:?}");
        let everything = format!("{}{}", found.text(), found.stderr);
        assert!(everything.contains(&said), "{everything}");
    }
    node.stop().unwrap();

    fs::write(&file, &bytes).unwrap();
    assert_eq!(add(&duka, &file).unwrap(), cid);
    fs::remove_file(&file).unwrap();
    assert!(cat(&duka, &cid).unwrap() == bytes, "other bytes");
    let refused = duka
        .cmd(&["add", "--in-place", "-", "--name", "x"])
        .unwrap();
    assert_refused(&refused, 2, &["cannot add in place"]);
}
