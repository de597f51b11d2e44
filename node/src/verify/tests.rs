//! Folders that duka imported, and what became of them.

use std::fs;
use std::os::unix::fs::symlink;

use globset::{Glob, GlobSet};

use super::*;
use crate::dag::import::{Chunker, ImportOptions, Profile, Sink, import_path};
use crate::fetch::Fetcher;
use crate::store::{PackKind, Store, StoreOptions};

struct Sample {
    _dir: tempfile::TempDir,
    store: Store,
    folder: PathBuf,
}

/// A folder with files of several sizes, a link, and names that begin with a dot.
fn sample() -> Sample {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    fs::create_dir_all(folder.join("sub/.git")).unwrap();
    let long: Vec<u8> = (0..3_000_000_u64)
        .map(|i| ((i * i) >> 7).to_le_bytes()[0])
        .collect();
    fs::write(folder.join("long"), long).unwrap();
    fs::write(folder.join("empty"), "").unwrap();
    fs::write(folder.join("sub/song"), "la la").unwrap();
    fs::write(folder.join("sub/.git/config"), "hidden").unwrap();
    fs::write(folder.join("notes.tmp"), "ignored").unwrap();
    symlink("song", folder.join("sub/link")).unwrap();
    let options = StoreOptions {
        reserve: 0,
        ..StoreOptions::default()
    };
    let (store, _) = Store::open(&dir.path().join("blocks"), options).unwrap();
    Sample {
        _dir: dir,
        store,
        folder,
    }
}

impl Sample {
    fn import(&self, sink: &Sink, options: &ImportOptions) -> Cid {
        let progress = Arc::new(|_| true) as _;
        import_path(sink, &self.folder, options, &progress)
            .unwrap()
            .root
    }

    fn stored(&self, options: &ImportOptions) -> Cid {
        self.import(&Sink::Store(self.store.clone(), PackKind::Kept), options)
    }

    async fn verify(&self, cid: Cid) -> Verdict {
        let source = Fetcher::new(self.store.clone(), PackKind::Cache, None);
        verify(&source, &self.folder, cid, Arc::new(|_| {}))
            .await
            .unwrap()
    }
}

fn every_setting() -> Vec<ImportOptions> {
    let mut all = Vec::new();
    let profiles = [Profile::UnixfsV1_2025, Profile::UnixfsV0_2015];
    for (profile, chunker) in profiles
        .into_iter()
        .flat_map(|p| [(p, None), (p, Some(Chunker::Buzhash))])
    {
        for bits in 0..16 {
            let mut ignore = GlobSet::builder();
            if bits & 8 != 0 {
                ignore.add(Glob::new("*.tmp").unwrap());
            }
            all.push(ImportOptions {
                profile,
                chunker,
                ignore: ignore.build().unwrap(),
                hidden: bits & 1 != 0,
                preserve_mode: bits & 2 != 0,
                preserve_mtime: bits & 4 != 0,
                ..ImportOptions::default()
            });
        }
    }
    all
}

fn difference(path: &str, kind: Kind) -> Difference {
    Difference {
        path: path.to_owned(),
        kind,
    }
}

#[tokio::test]
async fn a_folder_is_as_its_tree_says_whatever_it_was_imported_with() {
    let sample = sample();
    for options in every_setting() {
        let cid = sample.stored(&options);
        let verdict = sample.verify(cid).await;
        assert_eq!(verdict.way, Way::Tree);
        let hidden = (!options.hidden).then(|| difference("sub/.git", Kind::Added));
        let ignored = (!options.ignore.is_empty()).then(|| difference("notes.tmp", Kind::Added));
        let added: Vec<_> = ignored.into_iter().chain(hidden).collect();
        assert_eq!(verdict.differences, added, "{options:?}");
        assert!(verdict.bytes >= 3_000_005);
    }
}

#[tokio::test]
async fn every_difference_is_told() {
    for profile in [Profile::UnixfsV1_2025, Profile::UnixfsV0_2015] {
        let sample = sample();
        let cid = sample.stored(&ImportOptions {
            profile,
            ..ImportOptions::default()
        });
        let mut long = fs::read(sample.folder.join("long")).unwrap();
        long[2_500_000] ^= 1;
        fs::write(sample.folder.join("long"), long).unwrap();
        fs::remove_file(sample.folder.join("empty")).unwrap();
        fs::remove_file(sample.folder.join("sub/link")).unwrap();
        symlink("elsewhere", sample.folder.join("sub/link")).unwrap();
        fs::remove_file(sample.folder.join("sub/song")).unwrap();
        fs::create_dir(sample.folder.join("sub/song")).unwrap();
        fs::write(sample.folder.join("more"), "more").unwrap();
        let found = sample.verify(cid).await.differences;
        let wanted = [
            difference("empty", Kind::Missing),
            difference("long", Kind::Differs),
            difference("more", Kind::Added),
            difference("sub/.git", Kind::Added),
            difference("sub/link", Kind::Differs),
            difference("sub/song", Kind::Differs),
        ];
        assert_eq!(found, wanted);
    }
}

#[tokio::test]
async fn without_its_tree_a_folder_is_imported_again() {
    let sample = sample();
    for options in every_setting() {
        let cid = sample.import(&Sink::Discard, &options);
        let verdict = sample.verify(cid).await;
        let Way::Import { found } = verdict.way else {
            panic!("there is no tree");
        };
        // What was ignored cannot be known.
        assert_eq!(found == cid, options.ignore.is_empty(), "{options:?}");
        let hidden = !options.hidden && found == cid;
        let hidden = hidden.then(|| difference("sub/.git", Kind::Added));
        assert_eq!(verdict.differences, Vec::from_iter(hidden));
    }
}

#[tokio::test]
async fn cids_that_kubo_gives_to_a_file_match() {
    let mut sample = sample();
    sample.folder.push("hello");
    fs::write(&sample.folder, "hello\n").unwrap();
    for cid in [
        "QmZULkCELmmk5XNfCgTnCyFgAVxBRBXyDHGGMVoLFLiXEN",
        "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am",
    ] {
        let cid: Cid = cid.parse().unwrap();
        fs::write(&sample.folder, "hello\n").unwrap();
        let verdict = sample.verify(cid).await;
        let same = match verdict.way {
            Way::Tree => verdict.differences.is_empty(),
            Way::Import { found } => found == cid,
        };
        assert!(same, "{cid}: {verdict:?}");
    }
}
