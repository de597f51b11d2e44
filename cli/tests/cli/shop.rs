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
