//! `get` from a source in memory: what is written, what is reused, what is refused.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use super::*;
use crate::block::{Block, DAG_PB, cid_of};
use crate::dag::import::{Chunker, ImportOptions, Profile, Sink, import_path};
use crate::dag::unixfs::{encode_directory, encode_file, encode_symlink};
use crate::source::FetchError;
use crate::store::{PackKind, Store, StoreOptions};

/// Blocks of a store or made by hand; stops answering after `most` blocks.
#[derive(Clone, Debug, Default)]
struct Source {
    store: Option<Store>,
    blocks: Arc<HashMap<Cid, Block>>,
    given: Arc<AtomicUsize>,
    most: Option<usize>,
    /// Requests at a time: now, and at most so far.
    asked: Arc<AtomicUsize>,
    most_asked: Arc<AtomicUsize>,
}

impl BlockSource for Source {
    async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        let given = self.given.fetch_add(1, Ordering::Relaxed);
        if self.most.is_some_and(|most| given >= most) {
            std::future::pending::<()>().await;
        }
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_asked.fetch_max(asked, Ordering::Relaxed);
        // The others are asked for meanwhile.
        tokio::task::yield_now().await;
        self.asked.fetch_sub(1, Ordering::Relaxed);
        let stored = match &self.store {
            Some(store) => store.get(cid)?,
            None => None,
        };
        stored
            .or_else(|| self.blocks.get(cid).cloned())
            .ok_or_else(|| FetchError::NotFound {
                cid: *cid,
                tried: "a test".to_owned(),
            })
    }
}

struct Folder {
    _dir: tempfile::TempDir,
    source: Source,
    root: Cid,
    origin: PathBuf,
    out: PathBuf,
}

/// Imports what `fill` makes in a folder.
fn folder(profile: Profile, fill: impl FnOnce(&Path)) -> Folder {
    let dir = tempfile::tempdir().unwrap();
    let origin = dir.path().join("origin");
    fs::create_dir(&origin).unwrap();
    fill(&origin);
    let options = StoreOptions {
        reserve: 0,
        ..StoreOptions::default()
    };
    let (store, _) = Store::open(&dir.path().join("blocks"), options).unwrap();
    let root = import(&store, &origin, profile);
    Folder {
        source: Source {
            store: Some(store),
            ..Source::default()
        },
        root,
        origin,
        out: dir.path().join("out"),
        _dir: dir,
    }
}

fn import(store: &Store, path: &Path, profile: Profile) -> Cid {
    import_cut(store, path, profile, None)
}

fn import_cut(store: &Store, path: &Path, profile: Profile, chunker: Option<Chunker>) -> Cid {
    let options = ImportOptions {
        profile,
        hidden: true,
        preserve_mode: false,
        chunker,
        ..ImportOptions::default()
    };
    let sink = Sink::Store(store.clone(), PackKind::Kept);
    let imported = import_path(&sink, path, &options, &(Arc::new(|_| true) as _)).unwrap();
    imported.root
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed + 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn sample(dir: &Path) {
    fs::write(dir.join("empty"), b"").unwrap();
    fs::write(dir.join("large"), bytes(1, 5_300_000)).unwrap();
    fs::create_dir_all(dir.join("sub/deeper")).unwrap();
    fs::create_dir(dir.join("nothing here")).unwrap();
    fs::write(dir.join("sub/deeper/run"), b"#!/bin/sh\n").unwrap();
    std::os::unix::fs::symlink("../../outside", dir.join("sub/link")).unwrap();
}

/// Every path below a folder with what is there.
fn contents(dir: &Path) -> HashMap<PathBuf, Vec<u8>> {
    fn walk(base: &Path, dir: &Path, found: &mut HashMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let relative = path.strip_prefix(base).unwrap().to_owned();
            if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.insert(relative, target.as_os_str().as_bytes().to_vec());
            } else if kind.is_dir() {
                found.insert(relative, b"a folder".to_vec());
                walk(base, &path, found);
            } else {
                found.insert(relative, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = HashMap::new();
    walk(dir, dir, &mut found);
    found
}

fn options(window: usize) -> GetOptions {
    GetOptions {
        window,
        ..GetOptions::default()
    }
}

async fn run(folder: &Folder, options: &GetOptions) -> Result<Got, GetError> {
    let progress = Arc::new(|_, _| {});
    get(&folder.source, folder.root, &folder.out, options, progress).await
}

#[tokio::test]
async fn a_tree_comes_out_as_it_went_in() {
    for profile in [Profile::UnixfsV1_2025, Profile::UnixfsV0_2015] {
        for window in [1, 64] {
            let folder = folder(profile, sample);
            let got = run(&folder, &options(window)).await.unwrap();
            assert_eq!(contents(&folder.out), contents(&folder.origin));
            assert_eq!((got.files, got.bytes), (3, 5_300_010));
            assert!(!folder.out.with_extension("duka-part").exists());
        }
    }
}

#[tokio::test]
async fn a_large_directory_comes_out_of_its_shards() {
    let folder = folder(Profile::UnixfsV1_2025, |dir| {
        for i in 0..6_000 {
            let name = format!("a file with a name that is long enough for a HAMT {i}");
            fs::write(dir.join(name), i.to_string()).unwrap();
        }
    });
    let got = run(&folder, &options(128)).await.unwrap();
    assert_eq!(got.files, 6_000);
    assert_eq!(contents(&folder.out), contents(&folder.origin));
}

#[tokio::test]
async fn a_single_file_becomes_a_file() {
    let mut folder = folder(Profile::UnixfsV1_2025, sample);
    let store = folder.source.store.clone().unwrap();
    folder.root = import(&store, &folder.origin.join("large"), Profile::UnixfsV1_2025);
    run(&folder, &options(8)).await.unwrap();
    assert_eq!(fs::read(&folder.out).unwrap(), bytes(1, 5_300_000));
}

#[tokio::test]
async fn an_interrupted_run_goes_on_with_what_is_missing() {
    for profile in [Profile::UnixfsV1_2025, Profile::UnixfsV0_2015] {
        let mut folder = folder(profile, |dir| {
            fs::write(dir.join("large"), bytes(1, 8 << 20)).unwrap();
        });
        // The source stops answering half-way and the run is dropped.
        let chunk = if profile == Profile::UnixfsV1_2025 {
            1 << 20
        } else {
            256 << 10
        };
        let half = (4 << 20) / chunk;
        folder.source.most = Some(2 + half);
        {
            let options = options(1);
            let running = run(&folder, &options);
            let stopped = async {
                while folder.source.given.load(Ordering::Relaxed) <= 2 + half {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                _ = running => panic!("it cannot finish"),
                () = stopped => {}
            }
        }
        assert!(!folder.out.exists());
        // Bytes that only look right are not trusted.
        let part = folder.out.with_file_name("out.duka-part");
        let file = fs::OpenOptions::new()
            .write(true)
            .open(part.join("large"))
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 10).unwrap();
        fs::write(part.join("left over"), b"from another tree").unwrap();

        folder.source.most = None;
        let got = run(&folder, &options(16)).await.unwrap();
        assert_eq!(got.reused, (half - 1) as u64 * chunk as u64);
        assert_eq!(got.bytes, 8 << 20);
        assert_eq!(contents(&folder.out), contents(&folder.origin));
    }
}

#[tokio::test]
async fn few_bytes_are_under_way_however_many_blocks_may_be() {
    for (profile, most) in [(Profile::UnixfsV1_2025, 16), (Profile::UnixfsV0_2015, 64)] {
        let folder = folder(profile, |dir| {
            fs::write(dir.join("large"), bytes(1, 40 << 20)).unwrap();
        });
        run(&folder, &options(128)).await.unwrap();
        let asked = folder.source.most_asked.load(Ordering::Relaxed);
        assert!((most / 2..=most + 1).contains(&asked), "{asked}");
    }
    // Small files are not held up.
    let folder = folder(Profile::UnixfsV1_2025, |dir| {
        for number in 0..200 {
            fs::write(dir.join(number.to_string()), bytes(number, 1_000)).unwrap();
        }
    });
    run(&folder, &options(128)).await.unwrap();
    assert_eq!(folder.source.most_asked.load(Ordering::Relaxed), 128);
}

#[tokio::test]
async fn one_download_at_a_time_writes_to_a_target() {
    let mut folder = folder(Profile::UnixfsV1_2025, sample);
    // The first one gets its root and waits for more.
    folder.source.most = Some(1);
    let options = options(1);
    {
        let first = run(&folder, &options);
        let second = async {
            while folder.source.given.load(Ordering::Relaxed) < 2 {
                tokio::task::yield_now().await;
            }
            run(&folder, &options).await
        };
        let refused = tokio::select! {
            _ = first => panic!("it cannot finish"),
            refused = second => refused,
        };
        assert!(
            matches!(refused, Err(GetError::Locked { .. })),
            "{refused:?}"
        );
    }
    // A killed process leaves the file, and no lock.
    fs::write(folder.out.with_file_name("out.duka-lock"), b"").unwrap();
    folder.source.most = None;
    run(&folder, &options).await.unwrap();
    assert_eq!(contents(&folder.out), contents(&folder.origin));
    assert!(!folder.out.with_file_name("out.duka-lock").exists());
}

#[tokio::test]
async fn an_existing_target_is_refused_and_left_alone() {
    let folder = folder(Profile::UnixfsV1_2025, sample);
    fs::create_dir(&folder.out).unwrap();
    fs::write(folder.out.join("mine"), b"mine").unwrap();
    let refused = run(&folder, &options(8)).await;
    assert!(matches!(refused, Err(GetError::Exists { .. })));
    assert_eq!(contents(&folder.out).len(), 1);
}

#[tokio::test]
async fn update_replaces_what_differs_and_keeps_the_rest() {
    let mut folder = folder(Profile::UnixfsV1_2025, sample);
    run(&folder, &options(8)).await.unwrap();
    fs::write(folder.out.join("mine"), b"mine").unwrap();
    let mut changed = bytes(1, 5_300_000);
    changed[2_500_000] ^= 1;
    fs::write(folder.origin.join("large"), changed).unwrap();
    fs::write(folder.origin.join("new"), b"new").unwrap();
    let store = folder.source.store.clone().unwrap();
    folder.root = import(&store, &folder.origin, Profile::UnixfsV1_2025);

    let update = GetOptions {
        update: true,
        ..options(8)
    };
    let got = run(&folder, &update).await.unwrap();
    assert!(got.reused >= 4 << 20, "{got:?}");
    assert!(got.fetched < 2 << 20, "{got:?}");
    let mut wanted = contents(&folder.origin);
    wanted.insert("mine".into(), b"mine".to_vec());
    assert_eq!(contents(&folder.out), wanted);
}

/// Updates a target that `make` filled, which must be refused: nothing large is fetched, nothing is
/// changed, and nothing is left.
async fn assert_conflict(make: impl Fn(&Path)) {
    let folder = folder(Profile::UnixfsV1_2025, |dir| {
        fs::write(dir.join("a large file"), bytes(2, 5 << 20)).unwrap();
        fs::create_dir_all(dir.join("sub/folder")).unwrap();
        fs::write(dir.join("sub/folder/short"), b"short").unwrap();
        fs::write(dir.join("sub/long"), bytes(3, 3 << 20)).unwrap();
    });
    make(&folder.out);
    let before = (!folder.out.is_file()).then(|| contents(&folder.out));
    let update = GetOptions {
        update: true,
        ..options(2)
    };
    let refused = run(&folder, &update).await;
    assert!(
        matches!(refused, Err(GetError::Conflict { .. })),
        "{refused:?}"
    );
    // Three folders, two files of several blocks.
    let given = folder.source.given.load(Ordering::Relaxed);
    assert!(given <= 5, "{given} blocks");
    match before {
        Some(before) => assert_eq!(contents(&folder.out), before),
        None => assert_eq!(fs::read(&folder.out).unwrap(), b"mine"),
    }
    let beside = fs::read_dir(folder.out.parent().unwrap()).unwrap();
    let names = beside.map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["blocks", "origin", "out"]);
}

#[tokio::test]
async fn update_never_puts_a_folder_for_a_file_or_a_file_for_a_folder() {
    let write = |path: PathBuf| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"mine").unwrap();
    };
    assert_conflict(|out| write(out.to_owned())).await;
    assert_conflict(|out| write(out.join("sub"))).await;
    assert_conflict(|out| write(out.join("sub/folder"))).await;
    assert_conflict(|out| write(out.join("sub/folder/short/mine"))).await;
    assert_conflict(|out| write(out.join("sub/long/mine"))).await;
    assert_conflict(|out| {
        fs::create_dir_all(out).unwrap();
        std::os::unix::fs::symlink("elsewhere", out.join("sub")).unwrap();
    })
    .await;

    let mut folder = folder(Profile::UnixfsV1_2025, sample);
    let store = folder.source.store.clone().unwrap();
    folder.root = import(&store, &folder.origin.join("empty"), Profile::UnixfsV1_2025);
    fs::create_dir(&folder.out).unwrap();
    let update = GetOptions {
        update: true,
        ..options(8)
    };
    let refused = run(&folder, &update).await;
    assert!(matches!(refused, Err(GetError::Conflict { .. })));
    assert_eq!(folder.source.given.load(Ordering::Relaxed), 0);
}

/// What a record says of the files of `sample`.
fn record(folder: &Folder) -> Vec<RecordedFile> {
    let files = ["empty", "large", "sub/deeper/run"].map(|path| {
        let bytes = fs::read(folder.origin.join(path)).unwrap();
        RecordedFile {
            path: path.to_owned(),
            size: bytes.len() as u64,
            sha256: Sha256::digest(&bytes).into(),
            executable: path.ends_with("run"),
        }
    });
    files.into()
}

async fn run_with(folder: &Folder, record: Vec<RecordedFile>) -> Result<Got, GetError> {
    let with = GetOptions {
        record: Some(record),
        ..options(8)
    };
    run(folder, &with).await
}

#[tokio::test]
async fn execute_permission_comes_from_the_release() {
    let folder = folder(Profile::UnixfsV1_2025, sample);
    run_with(&folder, record(&folder)).await.unwrap();
    let mode = |path: &str| {
        let found = fs::metadata(folder.out.join(path)).unwrap();
        found.permissions().mode() & 0o111
    };
    assert_ne!(mode("sub/deeper/run"), 0);
    assert_eq!(mode("large"), 0);
}

#[tokio::test]
async fn files_that_differ_from_the_record_are_refused_and_nothing_is_left() {
    type Change = fn(&mut Vec<RecordedFile>);
    let changes: [(&str, Change); 5] = [
        ("has another SHA-256 of large", |files| {
            files[1].sha256[0] ^= 1;
        }),
        ("has another SHA-256 of sub/deeper/run", |files| {
            files[2].sha256[0] ^= 1;
        }),
        ("has another length of large", |files| files[1].size += 1),
        ("does not have empty", |files| drop(files.remove(0))),
        ("only it has other", |files| {
            let path = "other".to_owned();
            files.push(RecordedFile {
                path,
                ..files[0].clone()
            });
        }),
    ];
    for profile in [Profile::UnixfsV1_2025, Profile::UnixfsV0_2015] {
        for (what, change) in changes {
            let folder = folder(profile, sample);
            let mut record = record(&folder);
            change(&mut record);
            let refused = run_with(&folder, record).await.unwrap_err().to_string();
            assert!(refused.ends_with(what), "{refused}");
            let left = fs::read_dir(folder.out.parent().unwrap()).unwrap();
            let left = left.filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().starts_with("out")
            });
            assert_eq!(left.count(), 0, "{what}");
        }
    }
}

#[tokio::test]
async fn what_the_disk_has_no_room_for_is_told_by_the_record_before_anything_comes() {
    let folder = folder(Profile::UnixfsV1_2025, sample);
    let mut record = record(&folder);
    record[1].size = 1 << 60;
    let refused = run_with(&folder, record).await;
    assert!(matches!(refused, Err(GetError::Full { .. })), "{refused:?}");
    assert_eq!(folder.source.given.load(Ordering::Relaxed), 0);
}

fn hand_made(blocks: &[Block], root: &Block) -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let all = blocks.iter().chain([root]);
    let folder = Folder {
        source: Source {
            blocks: Arc::new(all.map(|b| (*b.cid(), b.clone())).collect()),
            ..Source::default()
        },
        root: *root.cid(),
        origin: PathBuf::new(),
        out: dir.path().join("out"),
        _dir: tempfile::tempdir().unwrap(),
    };
    (dir, folder)
}

fn link(name: &[u8], cid: &Cid, tsize: u64) -> Link {
    Link {
        cid: *cid,
        name: name.to_vec(),
        tsize,
    }
}

fn directory(links: &[Link]) -> Block {
    Block::of(DAG_PB, encode_directory(links, Metadata::default()).into())
}

#[tokio::test]
async fn names_that_leave_the_folder_are_refused() {
    let leaf = Block::of(crate::block::RAW, Bytes::from_static(b"bytes"));
    let long = [b'x'; 256];
    for name in [
        &b".."[..],
        b".",
        b"",
        b"a/b",
        b"/etc/passwd",
        b"nul\0",
        &long,
    ] {
        let root = directory(&[link(name, leaf.cid(), 5)]);
        let (dir, folder) = hand_made(std::slice::from_ref(&leaf), &root);
        let refused = run(&folder, &options(8)).await;
        assert!(matches!(refused, Err(GetError::Name { .. })), "{name:?}");
        assert!(!dir.path().join("out").exists());
    }
}

#[tokio::test]
async fn nothing_is_written_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    let target = Bytes::from(outside.path().as_os_str().as_bytes().to_vec());
    let leaf = Block::of(crate::block::RAW, Bytes::from_static(b"bytes"));
    let symlink = encode_symlink(target, Metadata::default());
    let symlink = Block::of(DAG_PB, symlink.into());
    let inner = directory(&[link(b"planted", leaf.cid(), 5)]);
    let root = directory(&[link(b"a", symlink.cid(), 9), link(b"a", inner.cid(), 9)]);
    let (_dir, folder) = hand_made(&[leaf, symlink, inner], &root);
    let refused = run(&folder, &options(8)).await;
    assert!(matches!(
        refused,
        Err(GetError::Twice { .. } | GetError::Dag(_))
    ));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(!folder.out.exists());
}

#[tokio::test]
async fn names_stay_in_their_row_of_a_message() {
    let leaf = Block::of(crate::block::RAW, Bytes::from_static(b"bytes"));
    let name = b"\x1b[31mred\nerror: fake";
    let root = directory(&[link(name, leaf.cid(), 5), link(name, leaf.cid(), 5)]);
    let (_dir, folder) = hand_made(std::slice::from_ref(&leaf), &root);
    let refused = run(&folder, &options(8)).await.unwrap_err();
    assert!(matches!(refused, GetError::Twice { .. }), "{refused:?}");
    let text = refused.to_string();
    assert!(text.ends_with("\\u{1b}[31mred\\nerror: fake"), "{text}");
}

#[tokio::test]
async fn a_child_of_another_size_than_claimed_gives_no_file() {
    let leaf = Block::of(crate::block::RAW, Bytes::from(vec![7; 1000]));
    for claimed in [999, 1001, 0] {
        let links = [link(b"", leaf.cid(), 1000), link(b"", leaf.cid(), 1000)];
        let file = encode_file(&links, vec![1000, claimed], Metadata::default());
        let root = Block::of(DAG_PB, file.into());
        let (_dir, folder) = hand_made(std::slice::from_ref(&leaf), &root);
        let got = run(&folder, &options(8)).await;
        // An empty child adds nothing, so 0 makes a file of 1,000 bytes.
        assert_eq!(got.is_ok(), claimed == 0, "{claimed}: {got:?}");
        assert_eq!(folder.out.exists(), claimed == 0);
    }
}

#[tokio::test]
async fn a_missing_block_leaves_no_output() {
    let absent = cid_of(crate::block::RAW, b"absent");
    let root = directory(&[link(b"file", &absent, 6)]);
    let (_dir, folder) = hand_made(&[], &root);
    let failed = run(&folder, &options(8)).await;
    let not_found = matches!(
        failed,
        Err(GetError::Dag(DagError::Fetch(FetchError::NotFound { cid, .. }))) if cid == absent
    );
    assert!(not_found);
    assert!(!folder.out.exists());
}

#[tokio::test]
async fn a_tree_larger_than_the_disk_is_refused_before_it_is_fetched() {
    let leaf = Block::of(crate::block::RAW, Bytes::from_static(b"bytes"));
    let root = directory(&[link(b"file", leaf.cid(), 1 << 60)]);
    let (_dir, folder) = hand_made(&[leaf], &root);
    let refused = run(&folder, &options(8)).await;
    assert!(matches!(refused, Err(GetError::Full { .. })));
    assert_eq!(folder.source.given.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_update_fetches_no_chunk_that_is_anywhere_in_the_old_files() {
    let old = bytes(3, 8 << 20);
    let mut folder = folder(Profile::UnixfsV1_2025, |dir| {
        // Bytes put in near the beginning move all others; another file has a new name.
        let new = [&old[..100_000], b"put in", &old[100_000..]].concat();
        fs::write(dir.join("moved"), new).unwrap();
        fs::write(dir.join("renamed"), bytes(4, 700_000)).unwrap();
    });
    let store = folder.source.store.clone().unwrap();
    let chunker = Some(Chunker::Buzhash);
    folder.root = import_cut(&store, &folder.origin, Profile::UnixfsV1_2025, chunker);
    fs::create_dir(&folder.out).unwrap();
    fs::write(folder.out.join("moved"), &old).unwrap();
    fs::write(folder.out.join("called otherwise"), bytes(4, 700_000)).unwrap();
    let options = GetOptions {
        update: true,
        ..options(16)
    };
    let got = run(&folder, &options).await.unwrap();
    for name in ["moved", "renamed"] {
        let read = |dir: &Path| fs::read(dir.join(name)).unwrap();
        assert_eq!(read(&folder.out), read(&folder.origin), "{name}");
    }
    assert!(got.fetched < 1_100_000, "{got:?}");
    assert!(got.reused > 7 << 20, "{got:?}");
}

/// A folder with one file as the root, which has a wrong beginning at the target or none.
fn one_file(begun: &[u8]) -> Folder {
    let mut folder = folder(Profile::UnixfsV1_2025, |dir| {
        fs::write(dir.join("file"), bytes(5, 5_300_000)).unwrap();
    });
    let store = folder.source.store.clone().unwrap();
    folder.root = import(&store, &folder.origin.join("file"), Profile::UnixfsV1_2025);
    fs::write(&folder.out, begun).unwrap();
    folder
}

#[tokio::test]
async fn a_download_that_another_program_began_is_finished() {
    let whole = bytes(5, 5_300_000);
    for begun in [0, 700_000, 3_500_000, 5_300_000] {
        let folder = one_file(&whole[..begun]);
        let got = run(&folder, &options(8)).await.unwrap();
        assert_eq!(fs::read(&folder.out).unwrap(), whole, "{begun}");
        let chunks = match begun {
            5_300_000 => begun,
            _ => begun >> 20 << 20,
        };
        assert_eq!(got.reused, chunks as u64);
    }
    // Under another name.
    let folder = one_file(b"");
    let part = folder.origin.join("file.crdownload");
    fs::write(&part, &whole[..3_500_000]).unwrap();
    let options = GetOptions {
        from: vec![part],
        ..options(8)
    };
    let got = run(&folder, &options).await.unwrap();
    assert_eq!(fs::read(&folder.out).unwrap(), whole);
    assert_eq!(got.reused, 3 << 20);
}

#[tokio::test]
async fn a_file_that_is_not_its_beginning_is_left_alone() {
    let whole = bytes(5, 5_300_000);
    let mut other_end = whole.clone();
    other_end[5_200_000] ^= 1;
    let longer = [&whole[..], b"more"].concat();
    for there in [&b"mine"[..], &bytes(6, 2 << 20), &other_end, &longer] {
        let folder = one_file(there);
        let refused = run(&folder, &options(8)).await;
        assert!(
            matches!(refused, Err(GetError::Exists { .. })),
            "{refused:?}"
        );
        assert_eq!(fs::read(&folder.out).unwrap(), there);
    }
    // A folder takes the place of no file.
    let mut folder = one_file(b"");
    let store = folder.source.store.clone().unwrap();
    folder.root = import(&store, &folder.origin, Profile::UnixfsV1_2025);
    let refused = run(&folder, &options(8)).await;
    assert!(
        matches!(refused, Err(GetError::Exists { .. })),
        "{refused:?}"
    );
}
