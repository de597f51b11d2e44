//! Any steps, any bytes.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Vec<u8>),
    Delete(u8),
    Reopen,
    LoseIndex,
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..6u8, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(k, v)| Step::Put(k, v)),
        4 => (0..6u8).prop_map(Step::Delete),
        1 => Just(Step::Reopen),
        1 => Just(Step::LoseIndex),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_map_that_is_never_lost(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let options = ManifestOptions { journal_limit: 600, ..OPTIONS };
        let reopen = || Manifest::open_with(dir.path(), options).unwrap().0;
        let mut manifest = reopen();
        let mut model = States::new();
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    manifest.commit_blocking(put(key.to_string(), &value)).unwrap();
                    model.insert(key.to_string(), value);
                }
                Step::Delete(key) => {
                    let op = Op::DeleteState(key.to_string());
                    manifest.commit_blocking(change(vec![op])).unwrap();
                    model.remove(&key.to_string());
                }
                Step::Reopen => {
                    drop(manifest);
                    manifest = reopen();
                }
                Step::LoseIndex => {
                    drop(manifest);
                    fs::remove_dir_all(index_path(dir.path())).unwrap();
                    manifest = reopen();
                }
                Step::Close => {
                    close(manifest);
                    manifest = reopen();
                }
            }
            prop_assert_eq!(states(&manifest), model.clone());
        }
    }
}

proptest! {
    #[test]
    fn records_round_trip_and_arbitrary_bytes_never_panic(
        title in ".{0,40}",
        minor in any::<u64>(),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut record = product(&title);
        record.price = Some(record::Price { minor, digits: 2, currency: "USD".to_owned() });
        record.channels.insert("stable".parse().unwrap(), version("1.0"));
        prop_assert_eq!(Product::decode(&record.encode().unwrap()).unwrap(), record);
        let name = NameRecord { bytes: bytes.clone(), sequence: minor, seen: EPOCH };
        prop_assert_eq!(NameRecord::decode(&name.encode().unwrap()).unwrap(), name);
        drop(Product::decode(&bytes));
        drop(Release::decode(&bytes));
        drop(journal::decode(&bytes, Path::new("x"), 0));
    }

    #[test]
    fn journal_of_arbitrary_bytes_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut file = frame::encode_header(FileKind::Journal, 1).to_vec();
        file.extend_from_slice(&bytes);
        fs::write(journal_path(dir.path(), 1), file).unwrap();
        prop_assert_eq!(journal::survey(dir.path(), &[1], 0).unwrap().last, 0);
    }
}
