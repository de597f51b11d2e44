//! Root CIDs against golden values that Kubo made from the same inputs (`node/testdata/golden.sh`),
//! and what goes wrong with files.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use globset::{Glob, GlobSetBuilder};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use parking_lot::Mutex;

use super::*;

/// `profile flags input cid`, one golden value a line.
const GOLDEN: &str = include_str!("../../../testdata/golden.txt");

/// The input bytes: 64-bit little-endian words, word `k` is `k` times the golden ratio (mod 2^64),
/// cut to the wanted length. No two chunks are equal.
struct Words {
    at: u64,
    left: u64,
}

fn words(len: u64) -> Words {
    Words { at: 0, left: len }
}

impl Read for Words {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = out.len().min(usize::try_from(self.left).unwrap());
        let (head, tail) = out[..len].as_chunks_mut::<8>();
        if !self.at.is_multiple_of(8) || (head.is_empty() && !tail.is_empty()) {
            for byte in &mut out[..len] {
                let word = (self.at / 8)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_le_bytes();
                *byte = word[usize::try_from(self.at % 8).unwrap()];
                self.at += 1;
            }
            self.left -= len as u64;
            return Ok(len);
        }
        for word in head.iter_mut() {
            *word = (self.at / 8)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes();
            self.at += 8;
        }
        let whole = head.len() * 8;
        self.left -= whole as u64;
        Ok(whole)
    }
}

fn write_words(path: &Path, len: u64) {
    io::copy(&mut words(len), &mut File::create(path).unwrap()).unwrap();
}

/// Files of one chunk more or less, by length.
const SIZES: [u64; 8] = [
    0,
    1,
    (256 << 10) - 1,
    256 << 10,
    (256 << 10) + 1,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
];

/// Files around the shortest and longest chunks of buzhash, by length.
const CONTENT_DEFINED: [u64; 8] = [
    0,
    (128 << 10) - 1,
    128 << 10,
    (128 << 10) + 1,
    (512 << 10) - 1,
    512 << 10,
    (512 << 10) + 1,
    (8 << 20) + 5,
];

/// A tree with everything that names and kinds can do. Modes and times are set, so that they do not
/// depend on who runs this.
fn write_mixed(dir: &Path) {
    for folder in [
        "",
        "sub",
        "sub/deep",
        "sub/deep/deeper",
        "empty",
        ".hidden-folder",
        "a b",
    ] {
        fs::create_dir(dir.join(folder)).unwrap();
    }
    let long = "ü".repeat(127) + "x";
    let files = [
        ("plain.txt", 5),
        ("100%.txt", 6),
        ("%41", 7),
        ("with space", 8),
        ("🦆 duka", 9),
        (&long, 10),
        ("a-b", 11),
        ("a b/c", 12),
        ("sub/z", 1_100_000),
        ("sub/deep/run.sh", 14),
        ("sub/deep/deeper/.hidden", 15),
        (".hidden", 16),
        (".hidden-folder/seen", 17),
        ("none", 18),
    ];
    for (name, len) in files {
        write_words(&dir.join(name), len);
    }
    let links = [
        ("to-file", "plain.txt"),
        ("to-folder", "sub"),
        ("dangling", "/nowhere/at all"),
        ("loop", "loop"),
        ("sub/up", ".."),
    ];
    for (name, target) in links {
        symlink(target, dir.join(name)).unwrap();
        set_mtime(&dir.join(name), 1_700_000_000, 5);
    }
    for (name, _) in files {
        set_mode(&dir.join(name), 0o644);
        set_mtime(&dir.join(name), 1_600_000_000, 0);
    }
    set_mode(&dir.join("sub/deep/run.sh"), 0o4755);
    set_mode(&dir.join("none"), 0o400);
    set_mtime(&dir.join("plain.txt"), 0, 0);
    set_mtime(&dir.join("a-b"), -1, 999_999_999);
    for folder in [
        "a b",
        ".hidden-folder",
        "empty",
        "sub/deep/deeper",
        "sub/deep",
        "sub",
        "",
    ] {
        set_mode(&dir.join(folder), 0o755);
        set_mtime(&dir.join(folder), 1_650_000_000, 123_456_789);
    }
    set_mode(&dir.join("empty"), 0o1777);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn set_mtime(path: &Path, tv_sec: i64, tv_nsec: i64) {
    let time = Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// 6,000 files; each holds its own name.
fn write_many(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for i in 0..6000 {
        let name = format!("file {i}.txt");
        let path = dir.join(&name);
        fs::write(&path, name).unwrap();
        set_mode(&path, 0o644);
        set_mtime(&path, 1_600_000_000, i);
    }
    set_mode(dir, 0o755);
    set_mtime(dir, 1_650_000_000, 0);
}

/// A directory of 1-byte files whose names make its size `full` entries of `len` bytes, and one
/// name of `last` bytes.
fn write_names(dir: &Path, full: usize, len: usize, last: usize) {
    fs::create_dir(dir).unwrap();
    for i in 0..full {
        fs::write(dir.join(format!("{i:0len$}")), "x").unwrap();
    }
    fs::write(dir.join("n".repeat(last)), "x").unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        set_mode(&path, 0o644);
    }
    set_mode(dir, 0o755);
}

/// `(name, full, len, last)` of the directories around the HAMT threshold of 262,144 bytes.
///
/// v1: a link with a raw CID, a name of n < 86 bytes and a one-byte Tsize takes 44 + n bytes (45 + n
/// from 86 on), the data field 4: 4 + 2620 × 100 + 45 + 95 is the threshold. With a mode the leaves
/// are dag-pb, but CIDs and Tsizes have the same length, and the data field is 3 bytes longer.
/// v0: names and CIDs of 34 bytes only: 2621 × 100 + 34 + 10 is the threshold.
const THRESHOLDS: [(&str, usize, usize, usize); 9] = [
    ("v1-below", 2620, 56, 94),
    ("v1-at", 2620, 56, 95),
    ("v1-above", 2620, 56, 96),
    ("v1-mode-below", 2620, 56, 91),
    ("v1-mode-at", 2620, 56, 92),
    ("v1-mode-above", 2620, 56, 93),
    ("v0-below", 2621, 66, 9),
    ("v0-at", 2621, 66, 10),
    ("v0-above", 2621, 66, 11),
];

/// Writes the inputs of all golden values but the two of 1 GiB, which are streamed.
fn write_inputs(dir: &Path) {
    for len in SIZES {
        write_words(&dir.join(format!("size-{len}")), len);
        set_mode(&dir.join(format!("size-{len}")), 0o640);
        set_mtime(&dir.join(format!("size-{len}")), 1_600_000_000, 1);
    }
    for len in CONTENT_DEFINED {
        write_words(&dir.join(format!("buz-{len}")), len);
    }
    // 174 and 175 chunks of unixfs-v0-2015
    write_words(&dir.join("v0-174-chunks"), 174 * (256 << 10));
    write_words(&dir.join("v0-175-chunks"), 175 * (256 << 10));
    write_mixed(&dir.join("mixed"));
    write_many(&dir.join("many"));
    for (name, full, len, last) in THRESHOLDS {
        write_names(&dir.join(name), full, len, last);
    }
}

#[test]
#[ignore = "writes the inputs that testdata/golden.sh gives to Kubo"]
fn write_golden_inputs() {
    let dir = std::env::temp_dir().join("duka-golden");
    fs::create_dir(&dir).unwrap();
    write_inputs(&dir);
    for chunks in [1024, 1025] {
        write_words(&dir.join(format!("v1-{chunks}-chunks")), chunks << 20);
    }
}

fn no_progress() -> OnProgress {
    Arc::new(|_| true)
}

fn import(path: &Path, options: &ImportOptions) -> Result<Imported, ImportError> {
    import_path(&Sink::Discard, path, options, &no_progress())
}

fn import_words(len: u64, profile: Profile) -> Imported {
    let options = ImportOptions {
        profile,
        ..ImportOptions::default()
    };
    import_reader(&Sink::Discard, &mut words(len), &options, &no_progress()).unwrap()
}

fn golden() -> impl Iterator<Item = (Profile, &'static str, &'static str, &'static str)> {
    let lines = GOLDEN.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let mut fields = line.split(' ');
        let mut next = || fields.next().unwrap();
        let profile = match next() {
            "unixfs-v1-2025" => Profile::UnixfsV1_2025,
            "unixfs-v0-2015" => Profile::UnixfsV0_2015,
            other => panic!("no such profile: {other}"),
        };
        (profile, next(), next(), next())
    })
}

fn chunker(flags: &str) -> Option<Chunker> {
    match flags {
        "b" => Some(Chunker::Buzhash),
        "s" => Some(Chunker::Size(100_000)),
        _ => None,
    }
}

#[test]
fn files_and_folders_have_the_cids_of_kubo() {
    let dir = tempfile::tempdir().unwrap();
    write_inputs(dir.path());
    let mut compared = 0;
    let mut different = Vec::new();
    for (profile, flags, input, cid) in
        golden().filter(|(.., input, _)| !input.starts_with("v1-102"))
    {
        let options = ImportOptions {
            profile,
            hidden: flags.contains('h'),
            preserve_mode: flags.contains('m'),
            preserve_mtime: flags.contains('t'),
            chunker: chunker(flags),
            ..ImportOptions::default()
        };
        let imported = import(&dir.path().join(input), &options).unwrap();
        if imported.root.to_string() != cid {
            different.push(format!("{profile:?} {flags} {input}"));
        }
        compared += 1;
    }
    assert_eq!(different, Vec::<String>::new());
    assert!(compared > 50);
}

#[test]
fn streamed_files_have_the_cids_of_kubo() {
    let mut compared = 0;
    for (profile, flags, input, cid) in golden() {
        let len = match input.split('-').collect::<Vec<_>>()[..] {
            ["size", len] => len.parse().unwrap(),
            ["v0", chunks, "chunks"] => chunks.parse::<u64>().unwrap() * (256 << 10),
            ["v1", chunks, "chunks"] => chunks.parse::<u64>().unwrap() << 20,
            _ => continue,
        };
        if flags == "-" {
            let imported = import_words(len, profile);
            assert_eq!(imported.root.to_string(), cid, "{profile:?} {input}");
            assert_eq!(imported.bytes, len);
            compared += 1;
        }
    }
    assert!(compared >= 20);
}

#[test]
fn files_come_in_path_order_with_sizes_and_execute_bits() {
    let dir = tempfile::tempdir().unwrap();
    write_mixed(&dir.path().join("mixed"));
    let imported = import(&dir.path().join("mixed"), &ImportOptions::default()).unwrap();
    let files: Vec<_> = imported
        .files
        .iter()
        .map(|f| (f.path.as_str(), f.size))
        .collect();
    let long = "ü".repeat(127) + "x";
    let wanted = [
        ("%41", 7),
        ("100%.txt", 6),
        ("a b/c", 12),
        ("a-b", 11),
        ("none", 18),
        ("plain.txt", 5),
        ("sub/deep/run.sh", 14),
        ("sub/z", 1_100_000),
        ("with space", 8),
        (&long, 10),
        ("🦆 duka", 9),
    ];
    assert_eq!(files, wanted);
    let executable: Vec<_> = imported.files.iter().filter(|f| f.executable).collect();
    assert_eq!(executable[0].path, "sub/deep/run.sh");
    assert_eq!(executable.len(), 1);
    assert_eq!(imported.bytes, files.iter().map(|f| f.1).sum::<u64>());
}

#[test]
fn ignored_names_are_left_out_with_all_below_them() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("keep/drop")).unwrap();
    for name in ["keep/a.txt", "keep/b.tmp", "keep/drop/c.txt", "d.txt"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let mut ignore = GlobSetBuilder::new();
    ignore.add(Glob::new("**/*.tmp").unwrap());
    ignore.add(Glob::new("keep/drop").unwrap());
    let options = ImportOptions {
        ignore: ignore.build().unwrap(),
        ..ImportOptions::default()
    };
    let imported = import(dir.path(), &options).unwrap();
    let files: Vec<_> = imported.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(files, ["d.txt", "keep/a.txt"]);
}

#[test]
fn socket_and_pipe_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = UnixListener::bind(dir.path().join("sock")).unwrap();
    let err = import(dir.path(), &ImportOptions::default()).unwrap_err();
    assert!(
        err.to_string()
            .ends_with("sock is a socket, which cannot be published")
    );
}

#[test]
fn name_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(dir.path().join(name), "x").unwrap();
    let err = import(dir.path(), &ImportOptions::default()).unwrap_err();
    assert!(matches!(err, ImportError::Name { .. }), "{err}");
}

#[test]
fn missing_file_is_a_read_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("absent");
    let err = import(&path, &ImportOptions::default()).unwrap_err();
    assert!(matches!(err, ImportError::Read { path: p, .. } if p == path));
}

#[test]
fn file_that_grows_while_it_is_read_is_refused() {
    for len in [1000, 5 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("growing");
        write_words(&path, len);
        let file = Mutex::new(File::options().append(true).open(&path).unwrap());
        let progress: OnProgress = Arc::new(move |_| {
            file.lock().write_all(b"more").unwrap();
            true
        });
        let options = ImportOptions::default();
        let err = import_path(&Sink::Discard, &path, &options, &progress).unwrap_err();
        assert!(matches!(err, ImportError::Changed { .. }), "{err}");
    }
}

#[test]
fn file_that_shrinks_while_it_is_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shrinking");
    write_words(&path, 40 << 20);
    let file = File::options().write(true).open(&path).unwrap();
    let progress: OnProgress = Arc::new(move |_| {
        file.set_len(1 << 20).unwrap();
        true
    });
    let err = import_path(&Sink::Discard, &path, &ImportOptions::default(), &progress).unwrap_err();
    assert!(matches!(err, ImportError::Changed { .. }), "{err}");
}

#[test]
fn progress_adds_up_and_can_stop_the_import() {
    let dir = tempfile::tempdir().unwrap();
    write_mixed(&dir.path().join("mixed"));
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    let progress: OnProgress = Arc::new(move |bytes| {
        counter.fetch_add(bytes, Ordering::Relaxed);
        true
    });
    let options = ImportOptions::default();
    let path = dir.path().join("mixed");
    let imported = import_path(&Sink::Discard, &path, &options, &progress).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), imported.bytes);

    let stop: OnProgress = Arc::new(|_| false);
    let err = import_path(&Sink::Discard, &path, &options, &stop).unwrap_err();
    assert!(matches!(err, ImportError::Stopped));
    let err = import_reader(&Sink::Discard, &mut words(9 << 20), &options, &stop).unwrap_err();
    assert!(matches!(err, ImportError::Stopped));
}

#[test]
fn failing_reader_is_a_read_error() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _out: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let mut reader = words(3 << 20).chain(Failing);
    let options = ImportOptions::default();
    let err = import_reader(&Sink::Discard, &mut reader, &options, &no_progress()).unwrap_err();
    assert!(matches!(err, ImportError::Read { .. }));
}

#[tokio::test]
async fn imported_tree_is_in_the_store_and_reads_back() {
    use futures::TryStreamExt;

    use crate::dag::path::resolve;
    use crate::dag::read::read_range;
    use crate::dag::walk::{WalkOptions, walk};
    use crate::source::local::LocalSource;
    use crate::store::StoreOptions;

    let dir = tempfile::tempdir().unwrap();
    write_mixed(&dir.path().join("mixed"));
    let options = StoreOptions {
        reserve: 0,
        ..StoreOptions::default()
    };
    let (store, _) = Store::open(&dir.path().join("blocks"), options).unwrap();
    let sink = Sink::Store(store.clone(), PackKind::Kept);
    let path = dir.path().join("mixed");
    let import = || import_path(&sink, &path, &ImportOptions::default(), &no_progress()).unwrap();
    let imported = import();
    assert!(imported.new_bytes >= 1_100_000);
    assert_eq!(import().new_bytes, 0);

    let source = LocalSource::new(store);
    let walked: Vec<_> = walk(&source, imported.root, WalkOptions::default())
        .try_collect()
        .await
        .unwrap();
    let total: usize = walked.iter().map(|block| block.data().len()).sum();
    assert_eq!(imported.new_bytes, total as u64);
    for file in &imported.files {
        let segments: Vec<String> = file.path.split('/').map(str::to_owned).collect();
        let found = resolve(&source, imported.root, &segments).await.unwrap();
        assert_eq!(found.cid, file.cid);
        let pieces: Vec<_> = read_range(&source, found.cid, 0..file.size)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(pieces.concat(), fs::read(path.join(&file.path)).unwrap());
    }
}
