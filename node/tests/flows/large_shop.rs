//! What one more release costs in a shop of many products.

use futures::{StreamExt, stream};

use super::*;

const PRODUCTS: usize = 300;

async fn publish_file(node: &Node, dir: &Path, product: usize, text: String) {
    let file = dir.join(format!("file-{product}"));
    std::fs::write(&file, text).unwrap();
    let id = format!("product-{product:03}").parse().unwrap();
    publish(node, &file, PublishOptions::new(id)).await;
}

#[tokio::test]
async fn a_release_among_many_products_writes_a_few_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir.path().join("data")).await;
    stream::iter(0..PRODUCTS)
        .for_each_concurrent(16, |product| {
            publish_file(&node, dir.path(), product, format!("first of {product}"))
        })
        .await;
    let count = PRODUCTS as u64;
    shop_file(&node, count, "shop.json").await;
    let blocks = || node.store().stats().unwrap().kept_blocks;
    let before = blocks();
    publish_file(&node, dir.path(), 77, "second".to_owned()).await;
    let page = shop_file(&node, count + 1, "products/product-077/product.json").await;
    assert_eq!(page["channels"]["stable"], "2");
    let written = blocks() - before;
    assert!((5..60).contains(&written), "{written} blocks");
    node.shutdown().await;
}
