use super::*;
use crate::Namespace;

fn env(vars: &[(&str, &str)]) -> Environment {
    vars.iter().copied().collect()
}

fn settings_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn defaults_have_exactly_the_keys_of_the_structs() {
    let loaded = load(None, &env(&[]), &[]).unwrap();
    let structs = Table::try_from(&loaded.config).unwrap();
    let mut expected = keys(&structs);
    let mut found = loaded.keys();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn every_key_is_documented() {
    let loaded = load(None, &env(&[]), &[]).unwrap();
    for key in loaded.keys() {
        let meaning = loaded.explain(&key).unwrap().meaning;
        assert!(meaning.len() > 20, "{key} has no comment in default.toml");
    }
}

#[test]
fn no_two_keys_share_a_variable() {
    let mut variables: Vec<_> = keys(&defaults()).iter().map(|k| variable_of(k)).collect();
    let all = variables.len();
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), all);
}

#[test]
fn later_layers_win_and_origins_are_kept() {
    let file = settings_file("[network]\nmdns = true\nupnp = false\noffline = true\n");
    let env = env(&[
        ("DUKA_NETWORK_UPNP", "true"),
        ("DUKA_NETWORK_OFFLINE", "false"),
    ]);
    let flags = [Flag {
        flag: "--offline",
        key: "network.offline",
        value: true.into(),
    }];
    let loaded = load(Some(file.path()), &env, &flags).unwrap();
    let origin = |key| loaded.explain(key).unwrap().origin;
    assert_eq!(origin("network.relay"), Origin::Default);
    assert_eq!(origin("network.mdns"), Origin::File(file.path().into()));
    assert_eq!(
        origin("network.upnp"),
        Origin::Env("DUKA_NETWORK_UPNP".into())
    );
    assert_eq!(origin("network.offline"), Origin::Flag("--offline".into()));
    let network = &loaded.config.network;
    assert!(network.mdns && network.upnp && network.offline);
    assert_eq!(loaded.effective()["network"]["mdns"], Value::Boolean(true));
}

#[test]
fn lists_in_the_environment_are_separated_by_commas() {
    let env = env(&[(
        "DUKA_NETWORK_LISTEN",
        "/ip4/127.0.0.1/tcp/0, /ip6/::1/tcp/0",
    )]);
    let loaded = load(None, &env, &[]).unwrap();
    assert_eq!(
        loaded.config.network.listen,
        ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"]
    );
    assert!(loaded.config.network.listen_is_chosen);
}

#[test]
fn tables_of_all_layers_are_joined_and_later_names_win() {
    let file = settings_file(
        "[gateway.dnslink]\n\"a.example\" = \"/ipfs/a\"\n\"b.example\" = \"/ipfs/b\"\n\
         [gateway.hosts.\"*.example\"]\nsubdomains = true\n",
    );
    let variable = "DUKA_GATEWAY_DNSLINK";
    let env = env(&[(variable, "{ \"b.example\" = \"/ipfs/c\" }")]);
    let loaded = load(Some(file.path()), &env, &[]).unwrap();
    let joined = [("a.example", "/ipfs/a"), ("b.example", "/ipfs/c")];
    let joined = joined.map(|(name, path)| (name.to_owned(), path.to_owned()));
    assert_eq!(loaded.config.gateway.dnslink, joined.into());
    let host = &loaded.config.gateway.hosts["*.example"];
    assert!(host.subdomains && !host.inline_dnslink && !host.trustless_only);
    assert_eq!(host.paths, [Namespace::Ipfs, Namespace::Ipns]);
    let explained = loaded.explain("gateway.dnslink").unwrap();
    assert_eq!(explained.origin, Origin::Env(variable.to_owned()));
    assert_eq!(explained.value["a.example"].as_str(), Some("/ipfs/a"));
    assert!(loaded.explain("gateway.dnslink.a").is_err());
}

#[test]
fn wrong_values_in_tables_name_key_and_origin() {
    for wrong in ["subdomains = 1", "subdomain = true", "paths = [\"/x\"]"] {
        let text = format!("[gateway.hosts.\"a.example\"]\n{wrong}\n");
        let file = settings_file(&text);
        let error = load(Some(file.path()), &env(&[]), &[]).unwrap_err();
        assert!(
            matches!(&error, ConfigError::Value { key, origin: Origin::File(_), .. }
                if key.starts_with("gateway.hosts.a.example")),
            "{wrong}: {error}"
        );
    }
    let env = env(&[("DUKA_GATEWAY_HOSTS", "a.example")]);
    assert!(matches!(
        load(None, &env, &[]),
        Err(ConfigError::Value { .. })
    ));
}

#[test]
fn hosts_that_no_request_can_name_are_refused() {
    let set = |table: &str, name: &str, value: &str| {
        let file = settings_file(&format!("[gateway.{table}]\n\"{name}\" = {value}\n"));
        load(Some(file.path()), &env(&[]), &[]).map_err(|error| error.to_string())
    };
    let hosts = [
        "",
        "*",
        "*.*.x.example",
        "a*.example",
        "http://x.example",
        "x.example/",
        "a b",
        ".example",
        "x.example.",
        "x.example:99999",
        "x.example:",
        "ż.example",
    ];
    for name in hosts {
        let error = set("hosts", name, "{}").unwrap_err();
        let said = format!("\"gateway.hosts\" to a value that is not valid: {name:?} is no name");
        assert!(error.contains(&said), "{name:?}: {error}");
    }
    for name in ["*.x.example", "x.example:80"] {
        let error = set("dnslink", name, "\"/ipfs/bafkqaaa\"").unwrap_err();
        assert!(error.contains("\"shop.example\""), "{name:?}: {error}");
    }
    for name in [
        "localhost",
        "X_y.example:80",
        "*.x-y.example",
        "*.example:80",
        "127.0.0.1",
    ] {
        assert!(set("hosts", name, "{}").is_ok(), "{name:?}");
    }
}

#[test]
fn addresses_that_are_chosen_as_the_default_are_chosen() {
    let default = Config::default().network;
    assert!(!default.listen_is_chosen);
    let flags = [Flag {
        flag: "--listen",
        key: "network.listen",
        value: default.listen.clone().into(),
    }];
    let chosen = load(None, &env(&[]), &flags).unwrap().config.network;
    assert_eq!(chosen.listen, default.listen);
    assert!(chosen.listen_is_chosen);
}

#[test]
fn unknown_key_names_key_file_and_the_nearest_one() {
    let file = settings_file("[gateway]\nlisten_on = \"127.0.0.1:1\"\n");
    let error = load(Some(file.path()), &env(&[]), &[]).unwrap_err();
    let expected = format!(
        "{} sets \"gateway.listen_on\", which is not a setting; did you mean \"gateway.listen\"?",
        file.path().display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn key_in_the_wrong_section_is_suggested_in_the_right_one() {
    let file = settings_file("mdns = true\n");
    let error = load(Some(file.path()), &env(&[]), &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("did you mean \"network.mdns\"?")
    );
}

#[test]
fn wrong_values_name_key_and_origin() {
    let file = settings_file("[gateway]\nidle_timeout = \"soon\"\n");
    let error = load(Some(file.path()), &env(&[]), &[]).unwrap_err();
    assert!(
        matches!(&error, ConfigError::Value { key, origin: Origin::File(_), .. } if key == "gateway.idle_timeout"),
        "{error}"
    );
    let error = load(None, &env(&[("DUKA_NETWORK_MDNS", "maybe")]), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the environment variable DUKA_NETWORK_MDNS sets \"network.mdns\" to a value that is \
         not valid: \"maybe\" is not true or false"
    );
}

#[test]
fn address_may_be_left_out_and_a_wrong_one_is_named() {
    let admin = |value| {
        let env = env(&[("DUKA_GATEWAY_ADMIN", value)]);
        load(None, &env, &[]).map(|loaded| loaded.config.gateway.admin)
    };
    assert_eq!(Config::default().gateway.admin, None);
    let chosen = "127.0.0.1:8898";
    assert_eq!(admin(chosen).unwrap(), Some(chosen.parse().unwrap()));
    let error = admin("here").unwrap_err().to_string();
    assert!(
        error.contains("gateway.admin") && error.contains("\"here\""),
        "{error}"
    );
}

#[test]
fn bad_toml_names_the_line() {
    let file = settings_file("[gateway]\n\nlisten = \n");
    let error = load(Some(file.path()), &env(&[]), &[]).unwrap_err();
    assert!(
        matches!(error, ConfigError::Syntax { line: 3, .. }),
        "{error}"
    );
}

#[test]
fn variable_that_is_no_setting_is_reported() {
    let env = env(&[("DUKA_NETWORK_MDSN", "true"), ("DUKA_DATA_DIR", "/x")]);
    let warnings = load(None, &env, &[]).unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "the environment variable DUKA_NETWORK_MDSN is not a setting; did you mean \
          \"DUKA_NETWORK_MDNS\"?"
        ]
    );
}
