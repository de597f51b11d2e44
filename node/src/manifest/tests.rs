//! What must survive: crashes, cuts, damage, a lost index.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use tempfile::TempDir;

use super::change::{Conflict, Expect, Op};
use super::files::{Listing, checkpoint_path, index_path, journal_path};
use super::frame::{self, FileKind};
use super::record::{Job, Pin, Text};
use super::*;
use crate::block::{RAW, cid_of};

const EPOCH: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

/// No reserve: the test machine's disk may be nearly full.
const OPTIONS: ManifestOptions = ManifestOptions {
    journal_limit: 64 << 20,
    reserve: 0,
};

type States = BTreeMap<String, Vec<u8>>;

fn open(dir: &Path) -> (Manifest, Recovery) {
    Manifest::open_with(dir, OPTIONS).unwrap()
}

fn put(key: impl Into<String>, value: &[u8]) -> Change {
    change(vec![Op::PutState(key.into(), value.to_vec())])
}

fn change(ops: Vec<Op>) -> Change {
    Change {
        ops,
        ..Change::default()
    }
}

fn states(manifest: &Manifest) -> States {
    let scan = manifest.inner.index.scan(&[key::STATE]);
    scan.map(|item| {
        let (key, value) = item.unwrap();
        (String::from_utf8(key).unwrap(), value.to_vec())
    })
    .collect()
}

fn close(manifest: Manifest) {
    futures::executor::block_on(manifest.close()).unwrap();
}

fn id(word: &str) -> ProductId {
    word.parse().unwrap()
}

fn version(word: &str) -> Version {
    word.parse().unwrap()
}

fn product(title: &str) -> Product {
    Product {
        title: title.to_owned(),
        description: Text::Inline(String::new()),
        price: None,
        cover: None,
        created: EPOCH,
        channels: BTreeMap::new(),
    }
}

fn release(number: u64) -> Release {
    let root = cid_of(RAW, &number.to_be_bytes());
    Release {
        root,
        profile: "unixfs-v1-2025".to_owned(),
        size: 8,
        tsize: 8,
        blocks: 1,
        files: 1,
        file_list: root,
        record: None,
        notes: None,
        issued: EPOCH,
        number,
        yanked: None,
    }
}

fn pin() -> Pin {
    Pin {
        recursive: true,
        name: None,
        created: EPOCH,
    }
}

/// A directory with one journal of three one-value entries, and where each entry ends.
fn three_entries() -> (TempDir, Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let (manifest, _) = open(dir.path());
    let mut ends = vec![frame::HEADER_LEN as u64];
    for n in 1..=3u8 {
        manifest
            .commit_blocking(put(format!("k{n}"), &[n]))
            .unwrap();
        ends.push(journal_path(dir.path(), 1).metadata().unwrap().len());
    }
    drop(manifest);
    (dir, ends)
}

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

#[test]
fn changes_that_wait_together_share_one_entry_and_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    files::make_dir(dir.path()).unwrap();
    let (index, journal, _) = recover::open(dir.path(), &OPTIONS).unwrap();
    let writer = Writer::new(dir.path().to_owned(), index.clone(), journal, OPTIONS);
    let (requests, receiver) = mpsc::channel(QUEUE);
    let publish = || Change {
        expect: vec![Expect::ReleaseAbsent(id("album"), version("1"))],
        ops: vec![Op::PutRelease(id("album"), version("1"), release(1))],
    };
    let mut answers = Vec::new();
    for change in [put("a", b"1"), publish(), publish(), put("b", b"2")] {
        let (reply, answer) = oneshot::channel();
        requests.try_send(Request::Commit(change, reply)).unwrap();
        answers.push(answer);
    }
    drop(requests);
    writer.run(receiver);
    let results: Vec<_> = answers
        .into_iter()
        .map(|a| a.blocking_recv().unwrap().ok())
        .collect();
    assert_eq!(results, [Some(1), Some(1), None, Some(1)]);
}

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

#[test]
fn full_disk_refuses_changes_and_reads_go_on() {
    let (dir, _) = three_entries();
    let full = ManifestOptions {
        reserve: u64::MAX,
        ..OPTIONS
    };
    let (manifest, _) = Manifest::open_with(dir.path(), full).unwrap();
    for _ in 0..2 {
        let error = manifest.commit_blocking(put("x", b"y")).unwrap_err();
        assert!(matches!(error, ManifestError::Full { .. }), "{error:?}");
    }
    assert_eq!(states(&manifest).len(), 3);
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

/// Commits values until it is killed, printing each number once it is acknowledged. Run by
/// `killed_writer_loses_nothing_acknowledged` in a process of its own, directory on stdin.
#[test]
#[ignore = "the child of another test"]
fn crash_child() {
    let mut dir = String::new();
    std::io::stdin().read_to_string(&mut dir).unwrap();
    if dir.is_empty() {
        return;
    }
    let options = ManifestOptions {
        journal_limit: 20_000,
        ..OPTIONS
    };
    let (manifest, _) = Manifest::open_with(Path::new(&dir), options).unwrap();
    let begin = states(&manifest).len();
    for n in begin.. {
        manifest
            .commit_blocking(put(format!("{n:06}"), b"value"))
            .unwrap();
        writeln!(std::io::stdout(), "acked {n}").unwrap();
    }
}

#[test]
fn killed_writer_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "manifest::tests::crash_child",
                "--ignored",
                "--nocapture",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let path = dir.path().to_str().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(path.as_bytes())
            .unwrap();
        let mut acked = None;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            if let Some(n) = line.strip_prefix("acked ") {
                let first = acked.is_none();
                acked = Some(n.parse::<usize>().unwrap());
                if !first && acked.unwrap() % (50 + round * 37) == 0 {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        let (manifest, recovery) = open(dir.path());
        assert_eq!(recovery.rebuilt_from, None);
        let found = states(&manifest);
        let acked = acked.expect("the child acknowledged something");
        assert!(found.len() > acked, "{} of {acked}", found.len());
        assert!(
            found
                .keys()
                .enumerate()
                .all(|(n, key)| *key == format!("{n:06}"))
        );
    }
}

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
