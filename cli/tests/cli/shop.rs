//! What the shop says of itself.

use super::{Home, Output};

fn offline(home: &Home, arguments: &[&str]) -> Output {
    home.run(&[&["--offline", "--data-dir", "data"], arguments].concat())
}

#[track_caller]
fn ok(home: &Home, arguments: &[&str]) -> String {
    let output = offline(home, arguments);
    assert_eq!(output.code, 0, "{arguments:?}: {}", output.stderr);
    output.stdout
}

#[test]
fn shop_says_what_it_is_told_from_arguments_and_files() {
    let home = Home::new();
    ok(&home, &["init"]);
    std::fs::write(home.path().join("about.md"), "*All* songs\n").unwrap();
    std::fs::write(
        home.path().join("mirrors"),
        "/ip4/192.0.2.1/tcp/1\n/ip4/192.0.2.2/tcp/1\n",
    )
    .unwrap();
    ok(&home, &["shop", "set", "title", "Songs"]);
    ok(&home, &["shop", "set", "description", "--file", "about.md"]);
    ok(&home, &["shop", "set", "mirrors", "--file", "mirrors"]);
    ok(
        &home,
        &[
            "shop",
            "set",
            "gateways",
            "https://one.example",
            "https://two.example",
        ],
    );
    ok(&home, &["shop", "set", "expiry", "90d"]);
    let shown = ok(&home, &["shop", "show"]);
    for line in [
        "title\tSongs",
        "gateways\thttps://one.example",
        "gateways\thttps://two.example",
        "mirrors\t/ip4/192.0.2.1/tcp/1",
        "mirrors\t/ip4/192.0.2.2/tcp/1",
        "expiry\t90d",
        "refresh\t1d\t(default)",
        "*All* songs",
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "{line:?}: {shown}"
        );
    }
    assert!(
        shown.contains("head\t5\t"),
        "each change is a head: {shown}"
    );
    ok(&home, &["shop", "set", "gateways"]);
    ok(&home, &["shop", "unset", "title"]);
    let shown = ok(&home, &["--json", "shop", "show"]);
    let shown: serde_json::Value = serde_json::from_str(shown.trim()).unwrap();
    assert_eq!(shown["gateways"], serde_json::json!([]));
    assert_eq!(shown["title"], "");
    let own = ["description", "gateways", "mirrors", "expiry"];
    assert_eq!(shown["own"], serde_json::json!(own));
}

#[test]
fn options_may_come_after_values_and_values_that_begin_with_a_dash_after_two() {
    let home = Home::new();
    ok(&home, &["init"]);
    let title = |title| ok(&home, &["shop", "show"]).contains(&format!("title\t{title}\n"));
    ok(&home, &["shop", "set", "title", "Y", "--timeout", "30s"]);
    assert!(title("Y"));
    ok(&home, &["shop", "set", "title", "--", "--timeout"]);
    assert!(title("--timeout"));
    ok(&home, &["shop", "set", "title", "-5"]);
    assert!(title("-5"));
}

#[test]
fn value_that_cannot_be_used_is_refused_in_one_sentence() {
    let home = Home::new();
    ok(&home, &["init"]);
    for (arguments, said) in [
        (&["title", "a", "b"][..], "one value, not 2"),
        (&["title"], "one value, not 0"),
        (&["gateways", "mirror.example"], "not an http or https URL"),
        (
            &["gateways", "http://user:pw@gw.example/path/"],
            "a user name or a password",
        ),
        (&["gateways", "https://gw.example/?a=b"], "a query"),
        (&["gateways", "https://gw.example/#a"], "a fragment"),
        (&["mirrors", "https://mirror.example"], "no peer address"),
        (
            &["mirrors", "/dns4/user@gw.example/tcp/1"],
            "no peer address",
        ),
        (&["expiry", "99999999d"], "longer than 100 years"),
        (&["expiry", "soon"], "\"soon\" is not a time"),
        (&["expiry", "1h"], "shorter than three times its refresh"),
        (&["price", "1"], "invalid value 'price'"),
    ] {
        let output = offline(&home, &[&["shop", "set"], arguments].concat());
        assert_eq!(output.code, 2, "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(said), "{}", output.stderr);
    }
    let output = offline(&home, &["shop", "set", "description", "--file", "absent"]);
    assert_eq!(output.code, 3, "{}", output.stderr);
}

#[test]
fn channels_are_moved_back_and_forth_and_versions_withdrawn() {
    let home = Home::new();
    std::fs::write(home.path().join("song"), "la").unwrap();
    for version in ["1.0", "1.1", "1.2"] {
        ok(
            &home,
            &["publish", "song", "--product", "p", "--version", version],
        );
    }
    let stable = || ok(&home, &["channel", "list", "p"]);
    assert!(stable().starts_with("stable\t1.2\tbaf"), "{}", stable());
    ok(&home, &["rollback", "p", "stable"]);
    assert!(stable().starts_with("stable\t1.1\t"), "{}", stable());
    let rolled = ok(&home, &["--json", "rollback", "p", "stable", "1.0"]);
    let rolled: serde_json::Value = serde_json::from_str(rolled.lines().last().unwrap()).unwrap();
    assert_eq!(rolled["op"], "rollback");
    assert_eq!(
        (&rolled["version"], &rolled["before"]),
        (&"1.0".into(), &"1.1".into())
    );
    assert_eq!(rolled["signed"], true);
    assert!(
        rolled["cid"].as_str().unwrap().starts_with("baf"),
        "{rolled}"
    );
    ok(&home, &["yank", "p", "1.1"]);
    for (code, command) in [
        (6, &["channel", "set", "p", "beta", "1.1"][..]),
        (3, &["channel", "set", "p", "beta", "9"]),
        (3, &["channel", "set", "q", "beta", "1.1"]),
        (3, &["channel", "list", "q"]),
        (3, &["channel", "remove", "p", "beta"]),
        (3, &["rollback", "p", "stable"]),
        (2, &["rollback", "p", "stable", "1.2"]),
        (3, &["yank", "p", "9"]),
        (2, &["channel", "set", "p", "1x", "1.1"]),
        (2, &["product", "set", "p", "price", "cheap"]),
        (3, &["product", "set", "p", "cover", "absent.jpg"]),
        (3, &["product", "set", "q", "title", "T"]),
        (2, &["product", "unset", "p", "title"]),
    ] {
        let output = offline(&home, command);
        assert_eq!(output.code, code, "{command:?}: {}", output.stderr);
    }
    for command in [
        &["yank", "q", "1.1"][..],
        &["yank", "q", "1.1", "--undo"],
        &["product", "diff", "q", "1.0", "1.1"],
        &["channel", "set", "q", "stable", "1.1"],
        &["channel", "list", "q"],
        &["rollback", "q", "stable"],
        &["rollback", "q", "stable", "1.0"],
        &["product", "show", "q"],
        &["product", "history", "q"],
        &["product", "set", "q", "title", "T"],
    ] {
        let output = offline(&home, command);
        assert_eq!(output.code, 3, "{command:?}: {}", output.stderr);
        for words in ["there is no product q", "duka product list"] {
            assert!(output.stderr.contains(words), "{}", output.stderr);
        }
    }
    ok(&home, &["yank", "p", "1.1", "--undo"]);
    ok(&home, &["channel", "set", "p", "beta", "1.1"]);
    assert_eq!(stable().lines().count(), 2);
    ok(&home, &["channel", "remove", "p", "beta"]);
    ok(&home, &["product", "set", "p", "title", "Songs"]);
    ok(&home, &["product", "set", "p", "price", "9.50USD"]);
    let shown = ok(&home, &["product", "show", "p"]);
    assert!(shown.contains("title\tSongs\nprice\t9.50 USD\n"), "{shown}");
}

#[test]
fn a_cover_that_is_too_large_is_refused_before_anything_is_published() {
    let home = Home::new();
    std::fs::write(home.path().join("song"), "la").unwrap();
    ok(&home, &["publish", "song", "--product", "p"]);
    // A JPEG of 9,000 by 9,000 pixels, as far as it goes, and one that goes on too long.
    let mut jpeg = vec![0xff, 0xd8, 0xff, 0xc0, 0, 17, 8];
    jpeg.extend([0x23, 0x28, 0x23, 0x28, 3]);
    jpeg.extend([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]);
    std::fs::write(home.path().join("wide.jpg"), &jpeg).unwrap();
    jpeg.resize((16 << 20) + 1, 0);
    std::fs::write(home.path().join("long.jpg"), &jpeg).unwrap();
    for (cover, said) in [("wide.jpg", "52 MiB"), ("long.jpg", "16 MiB")] {
        let publish = ["publish", "song", "--product", "q", "--cover", cover];
        for command in [&publish[..], &["product", "set", "p", "cover", cover]] {
            let output = offline(&home, command);
            assert_eq!(output.code, 2, "{}", output.stderr);
            assert!(output.stderr.contains(said), "{}", output.stderr);
            assert!(output.stderr.contains(cover), "{}", output.stderr);
        }
    }
    std::fs::create_dir(home.path().join("folder")).unwrap();
    std::fs::write(home.path().join("noise.png"), [7; 1000]).unwrap();
    for (cover, said) in [
        ("folder", "it is not a file"),
        ("/dev/zero", "it is not a file"),
        ("noise.png", "no picture that browsers show"),
        ("song", "no picture that browsers show"),
    ] {
        let output = offline(&home, &["product", "set", "p", "cover", cover]);
        assert_eq!(output.code, 2, "{cover}: {}", output.stderr);
        assert!(output.stderr.contains(said), "{cover}: {}", output.stderr);
    }
    assert_eq!(ok(&home, &["product", "list"]).lines().count(), 1);
}

#[test]
fn a_publishing_key_that_is_lost_or_damaged_is_told_of_and_replaced() {
    let home = Home::new();
    std::fs::write(home.path().join("song"), "la").unwrap();
    ok(&home, &["publish", "song", "--product", "p"]);
    let file = home.path().join("data/keys/publishing.key");
    for damage in [None, Some("half")] {
        std::fs::remove_file(&file).unwrap();
        if let Some(text) = damage {
            std::fs::write(&file, text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&file, mode).unwrap();
        }
        let listed = offline(&home, &["key", "list"]);
        assert_eq!(listed.code, 0, "{}", listed.stderr);
        assert!(
            listed.stderr.contains("publishing.key is "),
            "{}",
            listed.stderr
        );
        let lines = |text: &str| {
            listed
                .stdout
                .lines()
                .filter(|line| line.contains(text))
                .count()
        };
        assert_eq!(
            (lines("\there\t"), lines("\tlost\t")),
            (2, 1),
            "{}",
            listed.stdout
        );
        for refused in [
            &["publish", "song", "--product", "q"][..],
            &["shop", "set", "title", "Songs"],
            &["yank", "p", "1"],
        ] {
            let output = offline(&home, refused);
            assert_eq!(output.code, 6, "{refused:?}: {}", output.stderr);
            assert!(
                output.stderr.contains("duka key rotate"),
                "{}",
                output.stderr
            );
        }
        ok(&home, &["product", "show", "p"]);
        ok(&home, &["key", "rotate"]);
        let title = format!("after {damage:?}");
        ok(&home, &["shop", "set", "title", &title]);
        let listed = offline(&home, &["key", "list"]);
        assert_eq!(listed.stdout.matches("\there\t").count(), 3);
        assert_eq!(listed.stderr, "");
    }
    ok(&home, &["publish", "song", "--product", "q"]);
}

#[test]
fn a_publishing_key_that_was_replaced_does_not_come_back() {
    let home = Home::new();
    std::fs::write(home.path().join("song"), "la").unwrap();
    std::fs::write(home.path().join("secret"), "a long passphrase\n").unwrap();
    let secret = ["--passphrase-file", "secret"];
    ok(&home, &["publish", "song", "--product", "p"]);
    let export = ["key", "export", "publishing", "--output", "old.age"];
    ok(&home, &[&export[..], &secret].concat());
    let file = home.path().join("data/keys/publishing.key");
    let old = std::fs::read(&file).unwrap();
    ok(&home, &["key", "rotate"]);
    let new = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let import = [&["key", "import", "old.age"][..], &secret].concat();
    let output = offline(&home, &import);
    assert_eq!(output.code, 6, "{}", output.stderr);
    assert!(output.stderr.contains("was replaced"), "{}", output.stderr);
    assert!(!file.exists());

    // The mode stays that of the file.
    std::fs::copy(home.path().join("data/keys/peer.key"), &file).unwrap();
    std::fs::write(&file, old).unwrap();
    for refused in [
        &["publish", "song", "--product", "q"][..],
        &["shop", "set", "title", "Songs"],
    ] {
        let output = offline(&home, refused);
        assert_eq!(output.code, 6, "{refused:?}: {}", output.stderr);
        for said in ["leads to another publishing key", "duka key rotate"] {
            assert!(output.stderr.contains(said), "{}", output.stderr);
        }
    }
    std::fs::write(&file, new).unwrap();
    ok(&home, &["shop", "set", "title", "Songs"]);
}

#[test]
fn shop_key_leaves_comes_back_and_replaces_the_publishing_key() {
    let home = Home::new();
    std::fs::write(home.path().join("song"), "la").unwrap();
    std::fs::write(home.path().join("secret"), "a long passphrase\n").unwrap();
    let secret = ["--passphrase-file", "secret"];
    let with_secret = |command: &[&'static str]| [command, &secret].concat();
    ok(&home, &["publish", "song", "--product", "p"]);
    let keys = || ok(&home, &["key", "list"]);
    assert!(
        keys().lines().all(|line| line.contains("\there\t")),
        "{}",
        keys()
    );
    ok(
        &home,
        &with_secret(&["key", "export", "--output", "shop.age"]),
    );
    ok(
        &home,
        &with_secret(&["key", "export", "peer", "--output", "peer.age"]),
    );
    let refused = |code: i32, command: &[&str], said: &str| {
        let output = offline(&home, command);
        assert_eq!(output.code, code, "{command:?}: {}", output.stderr);
        assert!(
            output.stderr.contains(said),
            "{command:?}: {}",
            output.stderr
        );
    };
    refused(
        6,
        &with_secret(&["key", "export", "--output", "shop.age"]),
        "shop.age",
    );
    refused(
        2,
        &["key", "export", "--output", "more.age"],
        "--passphrase-file",
    );
    refused(
        6,
        &with_secret(&["key", "offline", "peer.age"]),
        "does not hold the shop key",
    );
    refused(
        4,
        &with_secret(&["key", "import", "song"]),
        "holds no exported keys",
    );
    refused(3, &with_secret(&["key", "import", "absent"]), "absent");

    let far = ["key", "offline", "shop.age", "--expiry", "99999999999999d"];
    refused(2, &with_secret(&far), "longer than 100 years");
    let taken = ok(
        &home,
        &[
            &["--json"],
            &with_secret(&["key", "offline", "shop.age"])[..],
        ]
        .concat(),
    );
    assert!(taken.contains("\"valid_until\""), "{taken}");
    assert!(
        keys()
            .lines()
            .any(|line| line.starts_with("shop\t") && line.contains("\toffline\t"))
    );
    ok(&home, &["publish", "song", "--product", "q"]);
    refused(6, &["key", "rotate"], "duka key import");
    refused(
        6,
        &with_secret(&["key", "export", "--output", "again.age"]),
        "not on this machine",
    );
    ok(&home, &with_secret(&["key", "import", "shop.age"]));
    ok(&home, &["key", "rotate"]);
    ok(&home, &["publish", "song", "--product", "r"]);
    let name = |data: &str| {
        let output = home.run(&["--offline", "--data-dir", data, "--json", "init"]);
        output.last()["name"].clone()
    };
    let import = [
        "--offline",
        "--data-dir",
        "new",
        "key",
        "import",
        "shop.age",
    ];
    assert_eq!(home.run(&[&import[..], &secret].concat()).code, 0);
    assert_eq!(name("new"), name("data"));
}

#[test]
fn what_cannot_be_published_is_refused_in_one_sentence_and_nothing_is_there() {
    let home = Home::new();
    ok(&home, &["init"]);
    std::fs::create_dir(home.path().join("album")).unwrap();
    std::fs::write(home.path().join("album/song"), "la").unwrap();
    let long = "title ".repeat(2000);
    for (arguments, said) in [
        (&["--ignore", "*"][..], "has no file that is not left out"),
        (&["--notes", "/dev/zero"], "they are not a file"),
        (&["--notes", "album"], "they are not a file"),
        (&["--title", "a\nb"], "more than one line"),
        (&["--title", &long], "longer than 256 bytes"),
        (&["--price", "0USD"], "a product without a price is free"),
        (&["--price", "1e5USD"], "\"1e5\" is not an amount"),
    ] {
        let publish = [&["publish", "album", "--product", "p"], arguments].concat();
        let output = offline(&home, &publish);
        assert_eq!(output.code, 2, "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(said), "{}", output.stderr);
        assert!(output.stderr.len() < 600, "{}", output.stderr);
        assert!(!output.stderr.contains("leave it out"), "{}", output.stderr);
    }
    assert_eq!(ok(&home, &["product", "list"]), "");
    ok(&home, &["publish", "album", "--product", "p"]);
    for (key, value, said) in [
        ("title", "a\u{1b}[31m", "control character"),
        ("price", "0USD", "a product without a price is free"),
    ] {
        let output = offline(&home, &["product", "set", "p", key, value]);
        assert_eq!(output.code, 2, "{}", output.stderr);
        assert!(output.stderr.contains(said), "{}", output.stderr);
        assert!(!output.stderr.contains("--price"), "{}", output.stderr);
    }
}

#[test]
fn names_that_would_break_a_row_are_shown_as_in_a_program() {
    let home = Home::new();
    std::fs::create_dir(home.path().join("album")).unwrap();
    let publish = ["publish", "album", "--product", "p"];
    std::fs::write(home.path().join("album/song"), "la").unwrap();
    ok(&home, &publish);
    std::fs::write(home.path().join("album/a\nb\tc\u{202e}d"), "la").unwrap();
    let cid = ok(&home, &publish);
    let listed = ok(&home, &["ls", cid.trim()]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains("\ta\\nb\\tc\\u{202e}d\n"), "{listed}");
    let changed = ok(&home, &["product", "diff", "p", "1", "2"]);
    assert!(changed.contains("\ta\\nb\\tc\\u{202e}d\t"), "{changed}");
    let turned = ["product", "set", "p", "title", "Songs \u{202e}sgnoS"];
    let output = offline(&home, &turned);
    assert_eq!(output.code, 2, "{}", output.stderr);
    for said in ["turns the direction", "Songs \\u{202e}sgnoS"] {
        assert!(output.stderr.contains(said), "{}", output.stderr);
    }
}

#[test]
fn a_publish_of_the_same_files_moves_the_channel_and_says_what_it_did() {
    let home = Home::new();
    std::fs::write(home.path().join("song"), "la").unwrap();
    std::fs::write(home.path().join("notes"), "new").unwrap();
    let publish = ["publish", "song", "--product", "p", "--if-changed"];
    ok(&home, &publish);
    let more = ["--channel", "beta", "--title", "Songs", "--notes", "notes"];
    let output = offline(&home, &[&publish[..], &more].concat());
    assert_eq!(output.code, 0, "{}", output.stderr);
    for said in ["no new files", "1 keeps its notes"] {
        assert!(output.stderr.contains(said), "{}", output.stderr);
    }
    let shown = ok(&home, &["shop", "show"]);
    assert!(shown.contains("head\t2\t"), "{shown}");
    let shown = ok(&home, &["product", "show", "p"]);
    assert!(shown.contains("title\tSongs\n"), "{shown}");
    assert!(
        shown.contains("channel\tbeta\t1\nchannel\tstable\t1\n"),
        "{shown}"
    );
    let output = offline(&home, &publish);
    assert!(output.stderr.contains("unchanged"), "{}", output.stderr);

    let output = offline(&home, &["yank", "p", "1"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    for channel in ["beta is gone", "stable is gone"] {
        assert!(output.stderr.contains(channel), "{}", output.stderr);
    }
}

#[test]
fn very_small_chunks_are_warned_of_once() {
    let home = Home::new();
    std::fs::write(home.path().join("song"), "la").unwrap();
    for (chunker, warnings) in [
        ("size-1", 1),
        ("size-4095", 1),
        ("size-4096", 0),
        ("buzhash", 0),
    ] {
        let output = offline(&home, &["add", "song", "--chunker", chunker]);
        assert_eq!(output.code, 0, "{}", output.stderr);
        let warned = output.stderr.matches("make many blocks").count();
        assert_eq!(warned, warnings, "{chunker}: {}", output.stderr);
    }
}
