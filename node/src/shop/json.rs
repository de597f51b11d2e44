//! The JSON files of a shop: `shop.json`, `product.json`, `<version>.json`.
