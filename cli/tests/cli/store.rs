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
