//! The page's downloads from gateways that misbehave, outside of a browser and in no time.

use duka_tests::visitor::download;
use serde_json::json;

/// Blocks of the file.
const LEAVES: u32 = 40;

#[test]
fn gateway_that_is_busy_and_names_no_time_to_come_is_asked_less_and_less_often() {
    let over = "Thu, 01 Jan 1970 00:00:00 GMT";
    for after in ["0", "-5", "soon", over] {
        let busy = json!({ "kind": "refuses", "status": 503, "after": after });
        let ask = json!({ "leaves": LEAVES, "limit": 30_000, "gateways": [busy] });
        let seen = download(&ask).unwrap();
        let asked = seen["asked"][0].as_u64().unwrap();
        assert!((3..=8).contains(&asked), "{after}: {seen}");
    }
}

#[test]
fn gateways_that_drip_bytes_do_not_hold_up_one_that_gives_blocks() {
    let drips = json!({ "kind": "drips", "every": 3000 });
    let gateways = [&drips, &json!({ "kind": "good" }), &drips, &drips];
    let ask = json!({ "leaves": LEAVES, "limit": 600_000, "gateways": gateways });
    let seen = download(&ask).unwrap();
    assert_eq!(seen["isWhole"], true, "{seen}");
    assert!(seen["ms"].as_u64().unwrap() < 20_000, "{seen}");
}

#[test]
fn download_from_gateways_that_only_drip_bytes_ends() {
    let gateways = [json!({ "kind": "drips", "every": 3000 })];
    let ask = json!({ "leaves": LEAVES, "limit": 900_000, "gateways": gateways });
    let seen = download(&ask).unwrap();
    let failed = seen["failed"].as_str().unwrap();
    assert!(failed.contains("nothing came for 10 minutes"), "{seen}");
}

#[test]
fn gateway_that_refuses_is_believed_and_what_it_said_is_told() {
    for status in [400, 401, 403, 406] {
        let refuses = json!({ "kind": "refuses", "status": status });
        let ask = json!({ "leaves": LEAVES, "limit": 900_000, "gateways": [refuses] });
        let seen = download(&ask).unwrap();
        let failed = seen["failed"].as_str().unwrap();
        let said = format!("g0.example answered {status}");
        assert!(failed.contains(&said), "{seen}");
        assert!(seen["ms"].as_u64().unwrap() < 5000, "{seen}");

        let gateways = [refuses, json!({ "kind": "good" })];
        let ask = json!({ "leaves": LEAVES, "limit": 900_000, "gateways": gateways });
        let seen = download(&ask).unwrap();
        assert_eq!(seen["isWhole"], true, "{seen}");
    }
}

#[test]
fn gateway_that_is_asked_too_often_is_asked_again() {
    let busy = json!({ "kind": "refuses", "status": 429, "after": "3" });
    let ask = json!({ "leaves": LEAVES, "limit": 30_000, "gateways": [busy] });
    let seen = download(&ask).unwrap();
    assert_eq!(seen["failed"], json!(null), "{seen}");
    assert!(seen["asked"][0].as_u64().unwrap() > 3, "{seen}");
}
