//! Commands that only read: what they print, and that they leave no shop behind.

use super::{Home, Output};

const ABSENT: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
/// `hello\n`, in the CID itself.
const INLINED: &str = "bafkqabtimvwgy3yk";

fn offline(home: &Home, arguments: &[&str]) -> Output {
    home.run(&[&["--offline", "--data-dir", "data"], arguments].concat())
}

/// A home whose shop has a folder with one file; the CIDs of both.
fn with_folder() -> (Home, String, String) {
    let home = Home::new();
    std::fs::create_dir(home.path().join("album")).unwrap();
    std::fs::write(home.path().join("album/song"), "la la la").unwrap();
    let folder = offline(&home, &["add", "album"]);
    let file = offline(&home, &["add", "album/song"]);
    let cid = |output: &Output| output.stdout.trim().to_owned();
    let (folder, file) = (cid(&folder), cid(&file));
    (home, folder, file)
}

#[test]
fn reading_in_an_empty_directory_makes_no_shop() {
    let home = Home::new();
    std::fs::write(home.path().join("song"), "la la la").unwrap();
    let name = "k51qzi5uqu5din1fzgppghdhrbw1ijlkaj8n70ld7z4uh6erh9l2a2e1lg6j64";
    for (code, command) in [
        (0, &["cat", INLINED][..]),
        (0, &["get", INLINED, "-o", "hello"]),
        (0, &["add", "--only-hash", "song"]),
        (0, &["publish", "--dry-run", "song", "--product", "p"]),
        (3, &["cat", ABSENT]),
        (3, &["get", ABSENT]),
        (3, &["ls", ABSENT]),
        (3, &["car", "export", ABSENT, "a.car"]),
        (3, &["name", "resolve", name]),
        (3, &["swarm", "peers"]),
        (3, &["swarm", "connect", "/ip4/127.0.0.1/tcp/1"]),
        (3, &["id"]),
        (3, &["pin", "ls"]),
        (3, &["product", "list"]),
        (3, &["fsck"]),
    ] {
        let output = offline(&home, command);
        assert_eq!(output.code, code, "{command:?}: {}", output.stderr);
        assert!(!output.stderr.contains("made a new shop"), "{command:?}");
        assert!(!home.path().join("data").exists(), "{command:?}");
    }
    let mut left: Vec<_> = std::fs::read_dir(home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["hello", "song"]);
}

#[test]
fn a_bare_name_is_looked_up_as_one() {
    let name = "k51qzi5uqu5din1fzgppghdhrbw1ijlkaj8n70ld7z4uh6erh9l2a2e1lg6j64";
    let output = offline(&Home::new(), &["get", name]);
    assert_eq!(output.code, 3);
    let said = output.stderr;
    assert!(
        said.contains(name) && said.contains("check the name"),
        "{said}"
    );
}

#[test]
fn get_to_standard_output_writes_the_bytes_of_a_file_and_nothing_else() {
    let (home, folder, file) = with_folder();
    let written = offline(&home, &["get", &file, "-o", "-"]);
    assert_eq!((written.code, written.stdout.as_str()), (0, "la la la"));
    let inside = format!("{folder}/song");
    let written = offline(&home, &["--json", "get", &inside, "-o", "-"]);
    assert_eq!((written.code, written.stdout.as_str()), (0, "la la la"));

    let refused = offline(&home, &["get", &folder, "-o", "-"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (6, ""));
    assert!(
        refused.stderr.contains("is a directory"),
        "{}",
        refused.stderr
    );
    assert!(!home.path().join("-").exists());
}

#[test]
fn car_import_takes_the_good_files_and_names_the_bad_one() {
    let (home, folder, _) = with_folder();
    assert_eq!(
        offline(&home, &["car", "export", &folder, "good.car"]).code,
        0
    );
    std::fs::write(
        home.path().join("garbage.car"),
        "this is no CAR file. ".repeat(20),
    )
    .unwrap();
    let import = |files: &[&str]| {
        let other = ["--offline", "--data-dir", "other", "car", "import"];
        home.run(&[other.as_slice(), files].concat())
    };

    let output = import(&["garbage.car"]);
    assert_eq!(output.code, 4, "{}", output.stderr);
    let said = output.stderr.lines().find(|line| line.starts_with("error"));
    let expected = "this is not a CAR file: it does not begin with the header of one";
    assert!(said.unwrap().ends_with(expected), "{}", output.stderr);

    let output = import(&["garbage.car", "good.car"]);
    assert_eq!(output.code, 7, "{}", output.stderr);
    assert_eq!(output.stdout, format!("{folder}\tpinned\n"));
    assert!(
        output
            .stderr
            .contains("garbage.car: this is not a CAR file"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("1 of 2 files"), "{}", output.stderr);
    let pins = home.run(&["--data-dir", "other", "pin", "ls"]).stdout;
    assert!(pins.contains(&folder), "{pins}");

    assert_eq!(import(&["garbage.car", "garbage.car"]).code, 4);
}

#[test]
fn a_tree_in_several_car_files_is_pinned() {
    let (home, folder, _) = with_folder();
    assert_eq!(
        offline(&home, &["car", "export", &folder, "whole.car"]).code,
        0
    );
    let whole = std::fs::read(home.path().join("whole.car")).unwrap();
    // Header and first section of the CAR, then the header and the rest: one-byte lengths both.
    let header = 1 + usize::from(whole[0]);
    let first = header + 1 + usize::from(whole[header]);
    std::fs::write(home.path().join("1.car"), &whole[..first]).unwrap();
    let second = [&whole[..header], &whole[first..]].concat();
    std::fs::write(home.path().join("2.car"), second).unwrap();
    let arguments = [
        "--offline",
        "--data-dir",
        "other",
        "car",
        "import",
        "1.car",
        "2.car",
    ];
    let output = home.run(&arguments);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(output.stdout, format!("{folder}\tpinned\n"));

    let arguments = ["--offline", "--data-dir", "third", "car", "import", "1.car"];
    let output = home.run(&arguments);
    assert_eq!(output.code, 3, "{}", output.stderr);
    assert!(output.stderr.contains("--no-pin"), "{}", output.stderr);
}

#[test]
fn verify_lists_the_files_that_differ_from_a_stored_tree() {
    let home = Home::new();
    let folder = home.path().join("album");
    std::fs::create_dir_all(folder.join("lyrics")).unwrap();
    for file in ["same", "song", "lyrics/one", "lyrics/two"] {
        std::fs::write(folder.join(file), file).unwrap();
    }
    let cid = offline(&home, &["add", "album"]).stdout;
    let verify = || offline(&home, &["verify", "album", "--cid", cid.trim()]);
    assert_eq!(verify().code, 0);
    std::fs::write(folder.join("lyrics/one"), "changed").unwrap();
    std::fs::remove_file(folder.join("lyrics/two")).unwrap();
    std::fs::write(folder.join("new"), "new").unwrap();
    let output = verify();
    assert_eq!(output.code, 4);
    let differences = "differs\tlyrics/one\nmissing\tlyrics/two\nadded\tnew\n";
    assert_eq!(output.stdout, differences);

    // Without the tree there is nothing to compare with, and no shop is made for it.
    let arguments = [
        "--data-dir",
        "other",
        "verify",
        "album",
        "--cid",
        cid.trim(),
    ];
    let output = home.run(&arguments);
    assert_eq!((output.code, output.stdout.as_str()), (4, ""));
    assert!(!home.path().join("other").exists());
}

#[test]
fn a_yanked_newest_version_is_marked() {
    let (home, _, _) = with_folder();
    offline(
        &home,
        &["publish", "album", "--product", "p", "--version", "1"],
    );
    let show = || offline(&home, &["product", "show", "p"]).stdout;
    assert!(!show().contains("yanked"), "{}", show());
    assert_eq!(offline(&home, &["yank", "p", "1"]).code, 0);
    let shown = show();
    let newest = shown.lines().find(|line| line.starts_with("newest\t1\t"));
    assert!(newest.unwrap().contains("\tyanked 2"), "{shown}");
}

#[test]
fn the_pin_of_an_offered_release_stays() {
    let (home, folder, _) = with_folder();
    offline(
        &home,
        &["publish", "album", "--product", "p", "--version", "1.5"],
    );
    offline(&home, &["add", "album"]);
    let refused = offline(&home, &["pin", "rm", &folder]);
    assert_eq!(refused.code, 6);
    assert!(refused.stderr.contains("it is p 1.5"), "{}", refused.stderr);
    let pins = offline(&home, &["pin", "ls"]).stdout;
    assert!(
        pins.contains(&format!("{folder}\trecursive\tp 1.5")),
        "{pins}"
    );
}
