//! `/api/v1/`: what programs ask the node.

use duka_config::HostConfig;
use http::StatusCode;
use serde_json::{Value, json};

use super::caching::named;
use super::*;

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test]
async fn a_search_is_answered_as_json_for_every_origin() {
    let server = TestServer::start().await;
    let reply = server.get("/api/v1/search?q=light+house&limit=5").await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    let hit = json!({"product": "light house", "title": "", "price": null, "path": ""});
    assert_eq!(body(&reply), json!({"results": [hit], "total": 1}));
}

#[tokio::test]
async fn a_wrong_request_gets_problem_details() {
    let server = TestServer::start().await;
    let long = format!("/api/v1/search?q={}", "a".repeat(2000));
    for (target, status, said) in [
        ("/api/v1/search", 400, "q is missing"),
        ("/api/v1/search?q=+", 400, "q is missing"),
        ("/api/v1/search?q=a&limit=0", 400, "limit"),
        ("/api/v1/search?q=a&limit=many", 400, "limit"),
        (long.as_str(), 400, "longer"),
        (
            "/api/v1/search?q=a-b+c+d+e+f+g+h+i",
            400,
            "more than 8 words",
        ),
        ("/api/v1/nothing", 404, "/api/v1/nothing"),
    ] {
        let reply = server.get(target).await;
        assert_eq!(reply.status, status, "{target}");
        assert_eq!(reply.header("content-type"), "application/problem+json");
        let problem = body(&reply);
        assert_eq!(problem["status"], status);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{target}: {detail}");
    }
}

#[tokio::test]
async fn who_searches_while_too_many_do_is_told_when_to_come_again() {
    let server = TestServer::start().await;
    let reply = server.get("/api/v1/search?q=busy").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), "2");
    let problem = body(&reply);
    assert!(problem["detail"].as_str().unwrap().contains("too many"));
}

/// A site may have any path, and its scripts must not be given another one's answers.
#[tokio::test]
async fn a_site_with_a_host_of_its_own_has_its_own_paths() {
    let subdomains = HostConfig {
        subdomains: true,
        ..HostConfig::default()
    };
    let config = GatewayConfig {
        hosts: [("shop.example".to_owned(), subdomains)].into(),
        ..config()
    };
    let server = TestServer::with(config, MemoryBackend::with_test_data()).await;
    let host = format!("{DOCS}.ipfs.shop.example");
    let reply = server
        .get_with("/api/v1/search?q=a", &[("host", host.as_str())])
        .await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert!(!reply.header("content-type").contains("json"));
}

#[tokio::test]
async fn the_record_of_a_name_is_given_as_it_is() {
    let (name, resolved) = named(format!("/ipfs/{HELLO}"), 60);
    let record = resolved.record.bytes.clone();
    let mut backend = MemoryBackend::with_test_data();
    backend.add_name(name.clone(), resolved);
    let server = TestServer::with(config(), backend).await;
    let path = format!("/routing/v1/ipns/{name}");
    for accept in ["application/vnd.ipfs.ipns-record", "text/html, */*;q=0.1"] {
        let reply = server.get_with(&path, &[("accept", accept)]).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(
            reply.header("content-type"),
            "application/vnd.ipfs.ipns-record"
        );
        assert_eq!(reply.header("cache-control"), "public, max-age=60");
        assert_eq!(reply.body, record);
    }
    let head = server.ask("HEAD", &path, &[]).await;
    assert_eq!(head.header("content-length"), record.len().to_string());
    assert!(head.body.is_empty());

    let page = server.get_with(&path, &[("accept", "text/html")]).await;
    assert_eq!(page.status, StatusCode::NOT_ACCEPTABLE);
    let other = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r";
    let unknown = server.get(&format!("/routing/v1/ipns/{other}")).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let wrong = server.get("/routing/v1/ipns/nobody").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
}
