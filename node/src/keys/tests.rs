use super::*;

#[test]
fn keys_are_made_once_and_loaded_after() {
    let dir = tempfile::tempdir().unwrap();
    let keys_dir = dir.path().join("keys");
    assert!(!exist(&keys_dir));
    let (made, origin) = load_or_make(&keys_dir).unwrap();
    assert_eq!(origin, Origin::Made);
    let (loaded, origin) = load_or_make(&keys_dir).unwrap();
    assert_eq!(origin, Origin::Found);
    assert_eq!(made.shop.name(), loaded.shop.name());
    assert_ne!(made.shop.name(), made.publishing.name().unwrap());
    assert_eq!(made.peer.public(), loaded.peer.public());
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&keys_dir), 0o700);
    assert_eq!(mode(&shop_key_file(&keys_dir)), 0o600);
}

#[test]
fn key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    load_or_make(dir.path()).unwrap();
    let file = shop_key_file(dir.path());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let error = load_or_make(dir.path()).unwrap_err();
    assert!(
        matches!(error, KeyError::Readable { mode: 0o640, .. }),
        "{error}"
    );
}

#[test]
fn missing_key_of_a_shop_with_a_manifest_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    load_or_make(dir.path()).unwrap();
    let lost = |name: &str| {
        let file = dir.path().join(name);
        let kept = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let loaded = load_all(dir.path());
        let error = loaded.and_then(|keys| Ok(keys.publishing.key().map(drop)?));
        let error = error.unwrap_err();
        assert!(!file.exists());
        assert!(error.to_string().contains(name), "{error}");
        fs::write(&file, kept).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        error
    };
    assert!(matches!(lost(SHOP), KeyError::ShopMissing { .. }));
    // The shop key can replace it.
    assert!(matches!(lost(PUBLISHING), KeyError::Lost(_)));
    assert!(matches!(lost(PEER), KeyError::Missing { .. }));
    load_all(dir.path()).unwrap();
}

#[test]
fn shop_key_alone_gets_the_other_keys_and_keeps_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (old, _) = load_or_make(dir.path()).unwrap();
    fs::remove_file(dir.path().join(PUBLISHING)).unwrap();
    fs::remove_file(dir.path().join(PEER)).unwrap();
    let (restored, origin) = load_or_make(dir.path()).unwrap();
    assert_eq!(origin, Origin::Restored);
    assert_eq!(restored.shop.name(), old.shop.name());
    assert_ne!(
        restored.publishing.name().unwrap(),
        old.publishing.name().unwrap()
    );
    load_all(dir.path()).unwrap();
}

#[test]
fn damaged_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    load_or_make(dir.path()).unwrap();
    fs::write(shop_key_file(dir.path()), b"not a key").unwrap();
    assert!(matches!(
        load_or_make(dir.path()),
        Err(KeyError::Invalid { .. })
    ));
}

#[test]
fn names_parse_in_every_form_kubo_prints() {
    // The same key by `ipfs key list --ipns-base=base36|b58mh|base32` (Kubo 0.43).
    let canonical = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam";
    let name: Name = canonical.parse().unwrap();
    assert_eq!(name.to_string(), canonical);
    let peer_id = "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d";
    assert_eq!(peer_id.parse::<Name>().unwrap(), name);
    let base32 = name.cid().to_string();
    assert!(base32.starts_with("bafz"));
    assert_eq!(base32.parse::<Name>().unwrap(), name);
    let rsa: Name = "QmVujd5Vb7moysJj8itnGufN7MEtPRCNHkKpNuA4onsRa3"
        .parse()
        .unwrap();
    let expected = "k2k4r8m7xvggw5pxxk3abrkwyer625hg01hfyggrai7lk1m63fuihi7w";
    assert_eq!(rsa.to_string(), expected);
}

#[test]
fn cid_of_a_file_is_no_name() {
    let file = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    assert!(file.parse::<Name>().is_err());
    assert!("".parse::<Name>().is_err());
    assert!("12".parse::<Name>().is_err());
}
