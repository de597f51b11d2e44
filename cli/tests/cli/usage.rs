//! What works without a node: grammar, settings, errors.

use super::{Home, finish};

#[test]
fn wrong_command_lines_exit_with_2_and_suggest_the_right_one() {
    let home = Home::new();
    let output = home.run(&["publsh"]);
    assert_eq!(output.code, 2);
    assert!(output.stderr.contains("publish"), "{}", output.stderr);
    assert_eq!(home.run(&["publish", "x"]).code, 2);
    assert_eq!(home.run(&["publish", "x", "--product", "No"]).code, 2);
    assert_eq!(
        home.run(&["publish", "x", "--product", "p", "--price", "9.50"])
            .code,
        2
    );
    assert_eq!(home.run(&["publish", "-", "--product", "p"]).code, 2);
}

#[test]
fn wrong_command_line_with_json_ends_with_an_error_event() {
    let output = Home::new().run(&["--json", "publsh"]);
    let last = output.last();
    assert_eq!(output.code, 2);
    assert_eq!(last["type"], "error");
    assert_eq!(last["code"], "usage");
    assert!(
        last["message"].as_str().unwrap().contains("publsh"),
        "{last}"
    );
    assert!(last["hints"].is_array());
}

#[test]
fn missing_arguments_are_named_with_json_too() {
    let last = Home::new().run(&["--json", "publish", "x"]).last();
    let message = last["message"].as_str().unwrap();
    assert!(message.contains("--product <ID>"), "{message}");
}

#[test]
fn no_command_is_a_wrong_command_line_whatever_the_environment() {
    let home = Home::new();
    let output = finish(home.command().env("DUKA_DATA_DIR", "data"));
    assert_eq!(output.code, 2);
    assert!(output.stderr.contains("Usage: duka"), "{}", output.stderr);
    assert!(output.stdout.is_empty(), "{}", output.stdout);
    let last = home.run(&["--json"]).last();
    assert_eq!(last["code"], "usage");
}

#[test]
fn unknown_key_to_explain_is_one_sentence_with_the_nearest_one() {
    let output = Home::new().run(&["config", "explain", "network.listne"]);
    assert_eq!(output.code, 3);
    assert_eq!(
        output.stderr.lines().next(),
        Some("error: \"network.listne\" is not a setting; did you mean \"network.listen\"?")
    );
}

#[test]
fn mistyped_paths_make_no_shop_and_store_nothing() {
    let home = Home::new();
    std::fs::write(home.path().join("a"), "a").unwrap();
    for command in [
        &["up", "missing"][..],
        &["publish", "missing", "--product", "p"],
        &["--json", "publish", "./missing/", "--product", "p"],
        &["add", "missing"],
        &["publish", "a", "--product", "p", "--notes", "missing"],
        &["publish", "a", "--product", "p", "--cover", "missing"],
    ] {
        let mut run = home.command();
        let output = finish(run.args(["--data-dir", "data"]).args(command));
        assert_eq!(output.code, 3, "{}", output.stderr);
        let said = output.stdout + &output.stderr;
        assert!(said.contains("missing"), "{said}");
        assert!(!home.path().join("data").exists(), "{command:?}");
    }
}

#[test]
fn publish_that_waits_for_others_makes_no_shop() {
    let home = Home::new();
    std::fs::write(home.path().join("a"), "a").unwrap();
    let publish = ["publish", "a", "--product", "p", "--wait", "mirrors:1"];
    let output = home.run(&[&["--data-dir", "data"], &publish[..]].concat());
    assert_eq!(output.code, 3, "{}", output.stderr);
    assert!(output.stderr.contains("duka init"), "{}", output.stderr);
    assert!(!home.path().join("data").exists());
}

#[test]
fn negative_price_is_an_amount_that_is_refused() {
    let output = Home::new().run(&["publish", "a", "--product", "p", "--price", "-1USD"]);
    assert_eq!(output.code, 2);
    assert!(
        output.stderr.contains("\"-1\" is not an amount"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_file_as_data_directory_is_a_wrong_command_line() {
    let home = Home::new();
    std::fs::write(home.path().join("file"), "x").unwrap();
    for command in [
        &["init"][..],
        &["id"],
        &["add", "file"],
        &["cat", "bafkqabtimvwgy3yk"],
    ] {
        let output = home.run(&[&["--data-dir", "file"], command].concat());
        assert_eq!(output.code, 2, "{command:?}: {}", output.stderr);
        assert!(
            output.stderr.contains("file is a file"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn car_export_into_a_missing_folder_is_not_found() {
    let home = Home::new();
    std::fs::write(home.path().join("a"), "a").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = home.command();
        finish(
            command
                .args(["--data-dir", "data", "--offline"])
                .args(arguments),
        )
    };
    let cid = run(&["add", "a"]).stdout;
    assert_eq!(run(&["car", "export", cid.trim(), "none/a.car"]).code, 3);
}

#[test]
fn version_is_told_to_people_and_to_scripts() {
    let home = Home::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(home.run(&["--version"]).stdout, format!("duka {version}\n"));
    let last = home.run(&["--version", "--json"]).last();
    assert_eq!(
        (&last["type"], &last["version"]),
        (&"result".into(), &version.into())
    );
}

#[test]
fn explain_tells_where_a_value_came_from() {
    let home = Home::new();
    let settings = home.path().join(".config/duka/config.toml");
    std::fs::create_dir_all(settings.parent().unwrap()).unwrap();
    std::fs::write(&settings, "[network]\nmdns = true\nupnp = false\n").unwrap();
    let origin = |key: &str| {
        let mut command = home.command();
        command.args(["--json", "--offline", "config", "explain", key]);
        finish(command.env("DUKA_NETWORK_UPNP", "true")).last()["origin"].clone()
    };
    assert_eq!(origin("network.relay"), "the default");
    assert_eq!(origin("network.mdns"), settings.to_str().unwrap());
    assert_eq!(
        origin("network.upnp"),
        "the environment variable DUKA_NETWORK_UPNP"
    );
    assert_eq!(origin("network.offline"), "the flag --offline");
}

#[test]
fn shown_settings_can_be_used_as_a_settings_file() {
    let home = Home::new();
    let shown = home.run(&["config", "show"]).stdout;
    std::fs::write(home.path().join("all.toml"), &shown).unwrap();
    let again = home.run(&["--config", "all.toml", "config", "show"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(again.stdout, shown);
}

#[test]
fn unknown_setting_is_one_sentence_with_the_nearest_one() {
    let home = Home::new();
    std::fs::write(home.path().join("bad.toml"), "[network]\nlistne = []\n").unwrap();
    let output = home.run(&["--config", "bad.toml", "config", "show"]);
    assert_eq!(output.code, 2);
    assert_eq!(
        output.stderr,
        "error: bad.toml sets \"network.listne\", which is not a setting; did you mean \
         \"network.listen\"?\n"
    );
}

#[test]
fn completion_scripts_exist_for_every_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = home.run(&["completion", shell]);
        assert_eq!(output.code, 0);
        assert!(output.stdout.contains("publish"), "{shell}");
    }
}

#[test]
fn colours_come_only_when_forced() {
    let home = Home::new();
    let plain = home.run(&["config", "explain", "nothing"]).stderr;
    assert!(plain.starts_with("error: "), "{plain}");
    let mut forced = home.command();
    forced
        .args(["config", "explain", "nothing"])
        .env("CLICOLOR_FORCE", "1");
    assert!(finish(&mut forced).stderr.contains('\u{1b}'));
}

#[test]
fn closed_standard_output_is_no_failure() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = home.command();
    let status = command
        .args(["config", "show"])
        .stdout(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}
