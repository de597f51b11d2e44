//! The limits of the store, and what it says of itself.

use serde_json::Value;

use super::{Home, Output, finish};

fn limited(home: &Home, arguments: &[&str]) -> Output {
    let mut command = home.command();
    command
        .env("DUKA_STORE_MAX_SIZE", "3 MiB")
        .arg("--offline")
        .args(arguments);
    finish(&mut command)
}

#[test]
fn pins_are_direct_or_recursive_and_say_what_they_keep() {
    let home = Home::new();
    let folder = home.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    for name in ["one", "two", "same as two"] {
        let bytes = name.as_bytes()[name.len() - 3..].repeat(1_000);
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let run = |arguments: &[&str]| home.run(&[&["--offline"], arguments].concat());
    let added = run(&["add", "--no-pin", "folder"]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    let cid = added.stdout.trim();
    let refused = run(&["pin", "stat", cid]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("is not pinned"),
        "{}",
        refused.stderr
    );

    let pinned = run(&["pin", "add", "--direct", cid, "--name", "top"]);
    assert_eq!(pinned.code, 0, "{}", pinned.stderr);
    let stat = run(&["--json", "pin", "stat", cid]).last();
    assert_eq!(
        (&stat["blocks"], &stat["recursive"]),
        (&1.into(), &false.into())
    );
    assert_eq!(run(&["pin", "ls", "--type", "recursive"]).stdout, "");
    let listed = run(&["pin", "ls", "--type", "direct"]).stdout;
    assert_eq!(listed.trim_end(), format!("{cid}\tdirect\ttop"));

    // Now the whole tree: a folder, and two different files.
    assert_eq!(run(&["pin", "add", cid]).code, 0);
    let stat = run(&["--json", "pin", "stat", cid]).last();
    assert_eq!(
        (&stat["blocks"], &stat["missing_blocks"]),
        (&3.into(), &0.into())
    );
    assert_eq!(
        (&stat["recursive"], &stat["name"]),
        (&true.into(), &"top".into())
    );
    let bytes = stat["bytes"].as_u64().unwrap();
    assert!((6_000..6_400).contains(&bytes), "{stat}");
    let listed = run(&["pin", "ls", "--size"]).stdout;
    let expected = format!("{cid}\trecursive\ttop\t3\t{bytes}\t0");
    assert_eq!(listed.trim_end(), expected);
    assert_eq!(run(&["pin", "ls", "--type", "direct"]).stdout, "");
}

#[test]
fn a_full_store_is_an_exit_code_and_a_sentence_that_says_what_to_do() {
    let home = Home::new();
    let file = |name: &str, seed: u8| {
        let bytes: Vec<u8> = (0..2_000_000u32)
            .map(|at| seed ^ at.to_le_bytes()[0] ^ at.to_le_bytes()[1].wrapping_mul(31))
            .collect();
        std::fs::write(home.path().join(name), bytes).unwrap();
    };
    file("one", 1);
    file("two", 2);
    let stored = limited(&home, &["add", "one"]);
    assert_eq!(stored.code, 0, "{}", stored.stderr);
    let refused = limited(&home, &["add", "two"]);
    assert_eq!(refused.code, 9, "{}", refused.stderr);
    for part in ["store.max_size", "3.0 MiB", "are kept", "pin rm"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let read = limited(&home, &["get", stored.stdout.trim(), "-o", "again"]);
    assert_eq!(read.code, 0, "{}", read.stderr);

    let stat = limited(&home, &["--json", "stat"]);
    assert_eq!(stat.code, 0, "{}", stat.stderr);
    let stat = stat.last();
    assert_eq!(stat["op"], "stat");
    assert_eq!(stat["limit_bytes"], 3 << 20);
    let kept = stat["kept_bytes"].as_u64().unwrap();
    assert!((2_000_000..3 << 20).contains(&kept), "{stat}");
    assert_eq!(
        (&stat["pins"], &stat["used_bytes"]),
        (&1.into(), &kept.into())
    );
    assert_eq!(stat["last_scrub"], Value::Null);
    let shown = limited(&home, &["stat"]).stdout;
    for part in ["used\t", "of 3.0 MiB", "1 pin", "last scrub\tnever"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
