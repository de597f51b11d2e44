//! Each limit of the section `[dag]` is one that can be chosen.

use std::fs;

use super::{Home, finish};

/// Whether the command is refused under `setting` with a message that has `said`, and done without it.
fn is_limited(home: &Home, setting: (&str, &str), arguments: &[&str], said: &str) {
    let refused = finish(home.command().env(setting.0, setting.1).args(arguments));
    assert_ne!(refused.code, 0, "{arguments:?}: {}", refused.stdout);
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
    let done = home.run(arguments);
    assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
}

#[test]
fn limits_of_dags_are_those_of_the_settings() {
    let home = Home::new();
    let deep = home.path().join("deep/a/b/c");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "text").unwrap();
    let wide = home.path().join("wide");
    fs::create_dir(&wide).unwrap();
    for number in 0..3000 {
        fs::write(wide.join(format!("{number:0100}")), "").unwrap();
    }
    let root = |output: super::Output| {
        assert_eq!(output.code, 0, "{}", output.stderr);
        let line: serde_json::Value =
            serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
        line["cid"].as_str().unwrap().to_owned()
    };
    let deep = root(home.run(&["--json", "add", "deep"]));
    let wide = root(home.run(&["--json", "add", "wide"]));
    let exported = home.run(&["car", "export", &deep, "deep.car"]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);

    let path = format!("{deep}/a/b/c/file");
    is_limited(
        &home,
        ("DUKA_DAG_PATH_SEGMENTS", "3"),
        &["cat", &path],
        "3 segments",
    );
    is_limited(
        &home,
        ("DUKA_DAG_HAMT_WIDTH", "128"),
        &["ls", &wide],
        "at most 128",
    );
    is_limited(
        &home,
        ("DUKA_DAG_DEPTH", "2"),
        &["car", "export", &deep, "again.car"],
        "2 levels",
    );
    let car = ["car", "import", "deep.car"];
    is_limited(
        &home,
        ("DUKA_DAG_CAR_SECTION", "40 B"),
        &car,
        "more than a section may have",
    );
    let inlined = ["cat", "bafkqac3imvwgy3zao5xxe3de"];
    is_limited(&home, ("DUKA_DAG_IDENTITY", "4 B"), &inlined, "");
}
