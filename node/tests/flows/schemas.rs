//! What a shop's directory holds is what `node/schemas` say.

use std::os::unix::fs::PermissionsExt;

use duka_node::manifest::record::Price;
use serde_json::{Value, json};

use super::*;

const SHOP: &str = include_str!("../../schemas/shop.schema.json");
const PRODUCT: &str = include_str!("../../schemas/product.schema.json");
const SEARCH: &str = include_str!("../../schemas/search.schema.json");
const LISTS: &str = include_str!("../../schemas/lists.schema.json");
const RELEASE: &str = include_str!("../../schemas/release.schema.json");

/// The schema with no keys allowed but its own: readers ignore others, but none are undocumented.
fn closed(schema: &str) -> Value {
    fn close(schema: &mut Value) {
        if let Value::Object(object) = schema {
            if object.contains_key("properties") && !object.contains_key("additionalProperties") {
                object.insert("additionalProperties".to_owned(), json!(false));
            }
            object.values_mut().for_each(close);
        } else if let Value::Array(list) = schema {
            list.iter_mut().for_each(close);
        }
    }
    let mut schema = serde_json::from_str(schema).unwrap();
    close(&mut schema);
    schema
}

/// Checks the document, and that the schema notices each required key that is taken away.
#[track_caller]
fn assert_valid(schema: &str, document: &Value) {
    let schema = closed(schema);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = validator
        .iter_errors(document)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?} in {document}");
    for key in schema["required"].as_array().unwrap() {
        let mut without = document.clone();
        without
            .as_object_mut()
            .unwrap()
            .remove(key.as_str().unwrap());
        assert!(!validator.is_valid(&without), "{key} is not needed");
    }
}

#[tokio::test]
async fn a_plain_release_follows_the_schemas() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    write_album(&folder, "la");
    let node = open(&dir.path().join("data")).await;
    publish(&node, &folder, PublishOptions::new(album())).await;
    let record = shop_file(&node, 1, "products/album/1.json").await;
    assert_valid(RELEASE, &record);
    assert_valid(
        PRODUCT,
        &shop_file(&node, 1, "products/album/product.json").await,
    );
    assert_valid(SHOP, &shop_file(&node, 1, "shop.json").await);
    assert_valid(SEARCH, &shop_file(&node, 1, "search/from-album.json").await);
    let index = shop_file(&node, 1, "search/index.json").await;
    assert_valid(LISTS, &index);
    assert_eq!(index["pieces"][0]["file"], "from-album.json");
    node.shutdown().await;
}

#[tokio::test]
async fn a_release_with_everything_follows_the_schemas() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("album");
    write_album(&folder, "la");
    let script = folder.join("play");
    std::fs::write(&script, "#!/bin/sh").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (notes, cover) = (dir.path().join("notes.md"), dir.path().join("cover.png"));
    std::fs::write(&notes, "# New").unwrap();
    std::fs::write(&cover, b"\x89PNG\r\n\x1a\n").unwrap();
    let mut config = offline_config();
    config.shop.gateways = vec!["https://gateway.example".to_owned()];
    config.shop.mirrors = vec!["/dns4/mirror.example/tcp/4101".to_owned()];
    let node = open_with(&dir.path().join("data"), &config).await;
    for (version, description) in [
        ("1.0", "short".to_owned()),
        ("1.1-rc.2", "long ".repeat(500)),
    ] {
        let options = PublishOptions {
            version: Some(version.parse().unwrap()),
            title: Some("Ünïcode “title”".to_owned()),
            description: Some(description),
            price: Some(Price {
                minor: 950,
                digits: 2,
                currency: "USD".to_owned(),
            }),
            notes: Some(notes.clone()),
            cover: Some(cover.clone()),
            ..PublishOptions::new(album())
        };
        publish(&node, &folder, options).await;
    }
    shop_file(&node, 2, "shop.json").await;
    let seq = node.manifest().head().unwrap().unwrap().seq;
    yank::yank(&node, &album(), &"1.0".parse().unwrap())
        .await
        .unwrap();
    let mut heads = node.heads();
    heads
        .wait_for(|head| head.as_ref().is_some_and(|head| head.seq > seq))
        .await
        .unwrap();

    for version in ["1.0", "1.1-rc.2"] {
        let path = format!("products/album/{version}.json");
        assert_valid(RELEASE, &shop_file(&node, 2, &path).await);
    }
    let product = shop_file(&node, 2, "products/album/product.json").await;
    assert_valid(PRODUCT, &product);
    assert!(product.to_string().contains("yanked"), "{product}");
    assert_valid(SHOP, &shop_file(&node, 2, "shop.json").await);
    assert_valid(SEARCH, &shop_file(&node, 2, "search/from-album.json").await);
    node.shutdown().await;
}
