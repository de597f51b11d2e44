//! The same tree has the same root CID as with Kubo: live, and against values that are checked in.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Result;
use duka_tests::duka::field;
use duka_tests::kubo::{self, Kubo};
use duka_tests::{Duka, files};
use serde_json::json;

use crate::add;

/// Kubo 0.43's roots of [`cases`], by profile and name.
const GOLDEN: &str = include_str!("roots.json");

/// An import profile: its boundaries are where roots go wrong.
#[derive(Clone, Copy)]
struct Profile {
    name: &'static str,
    /// Bytes of a leaf.
    chunk: u64,
    /// Links of a node above the leaves.
    links: u64,
}

const V1_2025: Profile = Profile {
    name: "unixfs-v1-2025",
    chunk: 1 << 20,
    links: 1024,
};
const V0_2015: Profile = Profile {
    name: "unixfs-v0-2015",
    chunk: 256 << 10,
    links: 174,
};

/// Size at which a directory becomes a HAMT, estimated as the size of its block.
const HAMT_THRESHOLD: usize = 256 << 10;

#[test]
fn every_root_is_the_same_as_kubos_with_profile_v1_2025() {
    compare(V1_2025);
}

#[test]
fn every_root_is_the_same_as_kubos_with_profile_v0_2015() {
    compare(V0_2015);
}

#[test]
fn the_cases_meet_the_hamt_threshold_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let kubo = Kubo::init(kubo::Options::default()).unwrap();
    for (extra, is_hamt) in [(-1, false), (0, false), (1, true)] {
        let path = folder.path().join(extra.to_string());
        threshold_directory(&path, extra).unwrap();
        let cid = kubo.add(&path).unwrap();
        let block = kubo.run_ok(&["block", "get", &cid]).unwrap().stdout;
        assert_eq!(
            block.len() < HAMT_THRESHOLD / 2,
            is_hamt,
            "{extra}: {} bytes",
            block.len()
        );
        if !is_hamt {
            assert_eq!(
                block.len(),
                HAMT_THRESHOLD.checked_add_signed(extra).unwrap()
            );
        }
    }
}

#[test]
fn every_root_is_the_same_as_kubos_with_other_chunkers() {
    let folder = tempfile::tempdir().unwrap();
    let cases = lengths(folder.path()).unwrap();
    for profile in [V1_2025, V0_2015] {
        for chunker in ["buzhash", "size-100000"] {
            compare_cases(profile, Some(chunker), &cases);
        }
    }
}

/// Files whose lengths are those at which a chunk of buzhash ends, or by chance, and such without a place
/// to end at.
fn lengths(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    const SHORTEST: u64 = 128 << 10;
    const LONGEST: u64 = 512 << 10;
    let mut cases = Vec::new();
    for size in [0, 1, SHORTEST, LONGEST, 8 << 20] {
        for size in [size.saturating_sub(1), size, size + 1] {
            let path = folder.join(format!("random-{size}"));
            files::write_random(&path, size, size)?;
            cases.push((format!("random-{size}"), path));
        }
    }
    for size in [SHORTEST, LONGEST, 2 * LONGEST, 2 * LONGEST + 1] {
        let path = folder.join(format!("zeros-{size}"));
        File::create(&path)?.set_len(size)?;
        cases.push((format!("zeros-{size}"), path));
    }
    let chance = folder.join("chance");
    fs::create_dir(&chance)?;
    for seed in 0..100 {
        let bytes = files::random_bytes(seed, 4);
        let size = u64::from(u32::from_le_bytes(bytes.try_into().unwrap()) % (3 << 20));
        files::write_random(&chance.join(seed.to_string()), seed, size)?;
    }
    cases.push(("chance".to_owned(), chance));
    cases.sort();
    cases.dedup();
    Ok(cases)
}

fn compare(profile: Profile) {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path(), profile).unwrap();
    compare_cases(profile, None, &cases);
}

/// Compares the roots by Kubo, by duka, and those checked in.
fn compare_cases(profile: Profile, chunker: Option<&str>, cases: &[(String, PathBuf)]) {
    let kubo = Kubo::init(kubo::Options {
        profile: profile.name,
        ..kubo::Options::default()
    })
    .unwrap();
    let name = match chunker {
        Some(chunker) => format!("{}+{chunker}", profile.name),
        None => profile.name.to_owned(),
    };
    let chunker = chunker.map(|chunker| format!("--chunker={chunker}"));
    let golden: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(GOLDEN).unwrap();
    let hashed = [
        "add",
        "--recursive",
        "--quieter",
        "--progress=false",
        "--hidden",
        "--only-hash",
    ];
    let theirs: BTreeMap<String, String> = cases
        .iter()
        .map(|(name, path)| {
            let chunker = chunker.as_deref();
            let further = chunker.into_iter().chain([path.to_str().unwrap()]);
            let arguments: Vec<_> = hashed.into_iter().chain(further).collect();
            (name.clone(), kubo.ok(&arguments).unwrap())
        })
        .collect();
    assert_eq!(
        Some(&theirs),
        golden.get(&name),
        "Kubo's roots are not those checked in"
    );

    let duka = Duka::new().unwrap();
    let ours: BTreeMap<String, String> = cases
        .iter()
        .map(|(name, path)| {
            let plain = ["add", "--hidden", "--profile", profile.name];
            let further = chunker.as_deref().into_iter();
            let arguments = plain.into_iter().chain(further);
            let arguments: Vec<_> = arguments.chain([path.to_str().unwrap()]).collect();
            let result = duka.ok(&arguments).unwrap();
            (name.clone(), field(&result, "cid").unwrap().to_owned())
        })
        .collect();
    assert_eq!(ours, theirs);
}

/// Builds every shape of input below `folder`: name and path.
fn cases(folder: &Path, profile: Profile) -> Result<Vec<(String, PathBuf)>> {
    let Profile { chunk, links, .. } = profile;
    let mut cases = Vec::new();
    let mut case = |name: &str| {
        let path = folder.join(name);
        cases.push((name.to_owned(), path.clone()));
        path
    };
    for size in [0, 1, chunk - 1, chunk, chunk + 1] {
        files::write_random(&case(&format!("file-{size}")), size, size)?;
    }
    for chunks in [links, links + 1] {
        many_chunks(&case(&format!("chunks-{chunks}")), chunks, chunk)?;
    }
    fs::create_dir(case("empty-directory"))?;

    let nested = case("nested");
    fs::create_dir_all(nested.join("a/b/empty"))?;
    files::write_random(&nested.join("a/b/file"), 1, 3 * chunk + 7)?;
    fs::write(nested.join("a/text"), "text")?;
    symlink("a/text", nested.join("link"))?;
    symlink("/nowhere", nested.join("a/broken link"))?;

    let names = case("names");
    fs::create_dir(&names)?;
    let longest = "ü".repeat(127) + "x";
    for name in [
        "with space",
        "100%",
        "%41",
        "a%2Fb",
        "🎵 song",
        "-dash",
        ".hidden",
        &longest,
    ] {
        fs::write(names.join(name), name)?;
    }
    let sorted = case("sorted");
    fs::create_dir(&sorted)?;
    for name in ["a", "B", "b", "aa", "Z", "é", "10", "9"] {
        fs::write(sorted.join(name), name)?;
    }

    let hamt = case("hamt-6000");
    fs::create_dir(&hamt)?;
    for number in 0..6000 {
        fs::write(
            hamt.join(format!("entry number {number}")),
            number.to_string(),
        )?;
    }
    for extra in [-1, 0, 1] {
        threshold_directory(&case(&format!("hamt-threshold{extra:+}")), extra)?;
    }
    Ok(cases)
}

/// A file of so many chunks, all zero but for the first and the last: a store holds three blocks.
fn many_chunks(path: &Path, chunks: u64, chunk: u64) -> Result<()> {
    let file = File::create(path)?;
    file.set_len(chunks * chunk)?;
    file.write_all_at(b"first", 0)?;
    file.write_all_at(b"last!", chunks * chunk - 5)?;
    Ok(())
}

/// A folder of empty files whose block as a plain directory has the threshold's size plus `extra`.
fn threshold_directory(path: &Path, extra: isize) -> Result<()> {
    // A link of a 100-byte name: 1 + 2 for the frame, 38 for a CIDv1, 102 for the name, 2 for the size.
    const NAME: usize = 100;
    const LINK: usize = 145;
    const UNIXFS_DATA: usize = 4;
    let links = (HAMT_THRESHOLD - UNIXFS_DATA) / LINK;
    let missing = HAMT_THRESHOLD - UNIXFS_DATA - links * LINK;
    let longer = missing
        .checked_add_signed(extra)
        .expect("names only get longer");
    fs::create_dir(path)?;
    for number in 0..links {
        let name = format!("{number:0NAME$}{}", if number < longer { "+" } else { "" });
        File::create(path.join(name))?;
    }
    Ok(())
}

#[test]
fn a_name_of_300_bytes_comes_through_a_car() {
    // No file system takes it, so the directory's block is made by hand.
    let kubo = Kubo::init(kubo::Options::default()).unwrap();
    let name = "n".repeat(300);
    let content = tempfile::NamedTempFile::new().unwrap();
    fs::write(content.path(), "long name").unwrap();
    let file = kubo.add(content.path()).unwrap();
    let link = json!({ "Hash": { "/": file }, "Name": name, "Tsize": 9 });
    let directory = json!({ "Data": { "/": { "bytes": "CAE" } }, "Links": [link] });
    fs::write(content.path(), directory.to_string()).unwrap();
    let path = content.path().to_str().unwrap();
    let root = kubo
        .ok(&["dag", "put", "--store-codec=dag-pb", "--pin", path])
        .unwrap();
    let car = kubo
        .run_ok(&["dag", "export", "--progress=false", &root])
        .unwrap()
        .stdout;

    let duka = Duka::new().unwrap();
    let path = duka.home().join("long.car");
    fs::write(&path, car).unwrap();
    duka.ok(&["car", "import", path.to_str().unwrap()]).unwrap();
    assert_eq!(
        crate::cat(&duka, &format!("{root}/{name}")).unwrap(),
        b"long name"
    );
}

#[test]
fn verify_tells_whether_a_folder_has_a_cid() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "a").unwrap();
    let duka = Duka::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let cid = add(&duka, folder.path()).unwrap();
    assert_eq!(duka.cmd(&["verify", path, "--cid", &cid]).unwrap().code, 0);
    fs::write(folder.path().join("a"), "b").unwrap();
    assert_eq!(duka.cmd(&["verify", path, "--cid", &cid]).unwrap().code, 4);
}

#[test]
fn verify_gets_the_tree_from_a_gateway_and_says_what_differs() {
    let seller = Duka::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b", ".hidden"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    let path = folder.path().to_str().unwrap();
    let added = seller.ok(&["add", "--preserve-mtime", path]).unwrap();
    let cid = added["cid"].as_str().unwrap();
    let node = seller.serve().unwrap();
    let gateway = node.gateway().unwrap();
    let buyer = crate::buyer(&duka_tests::duka::Options::default());
    let with_gateway = ["verify", path, "--cid", cid, "--gateway", &gateway];
    for (arguments, way) in [(&with_gateway[..4], "import"), (&with_gateway[..], "tree")] {
        let result = buyer.ok(arguments).unwrap();
        assert_eq!(result["way"], way);
        assert_eq!(result["added"], 1);
    }

    // The time of a file does not count when there is a tree.
    fs::write(folder.path().join("a"), "a").unwrap();
    fs::write(folder.path().join("b"), "B").unwrap();
    let refused = buyer.cmd(&with_gateway).unwrap();
    crate::assert_refused(&refused, 4, &[cid]);
    let differences: Vec<_> = refused.events().unwrap();
    let differences: Vec<_> = differences
        .iter()
        .filter(|event| event["kind"] == "difference")
        .map(|event| {
            (
                event["difference"].as_str().unwrap(),
                event["path"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(differences, [("added", ".hidden"), ("differs", "b")]);
    assert!(!buyer.data_dir().exists(), "a data directory was made");
}
