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
fn value_that_cannot_be_used_is_refused_in_one_sentence() {
    let home = Home::new();
    ok(&home, &["init"]);
    for (arguments, said) in [
        (&["title", "a", "b"][..], "one value, not 2"),
        (&["title"], "one value, not 0"),
        (&["gateways", "mirror.example"], "not an http or https URL"),
        (&["mirrors", "https://mirror.example"], "no peer address"),
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
        "cannot be read",
    );
    refused(3, &with_secret(&["key", "import", "absent"]), "absent");

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
        3,
        &with_secret(&["key", "export", "--output", "again.age"]),
        "shop.key",
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
