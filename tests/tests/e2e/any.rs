//! A gateway for what others have: `serve = "any"`, and what is left of it when it is `local` again.

use std::fs;

use duka_tests::curl::curl;
use duka_tests::duka::Options;
use duka_tests::http::{BadGateway, Fault};
use duka_tests::{Duka, files};

use crate::add;

/// A gateway that asks another one.
fn asking(upstream: &str, more: &str) -> Options {
    Options {
        more: format!(
            "upstreams = [{upstream:?}]\nserve = \"any\"\nretrieval_timeout = \"2s\"\n{more}"
        ),
        ..Options::default()
    }
}

#[test]
fn what_others_have_is_fetched_and_is_not_served_when_only_own_content_is() {
    let source = Duka::new().unwrap();
    let file = source.home().join("file");
    let bytes = files::random_bytes(90, 3_000_000);
    fs::write(&file, &bytes).unwrap();
    let cid = add(&source, &file).unwrap();
    let upstream = source.serve().unwrap();
    let origin = upstream.gateway().unwrap();

    let duka = Duka::with(&asking(&origin, "")).unwrap();
    let node = duka.serve().unwrap();
    let url = format!("{}/ipfs/{cid}", node.gateway().unwrap());
    let answer = curl(&url, &[]).unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body == bytes);
    node.stop().unwrap();
    upstream.stop().unwrap();

    // It is cached now, which is no reason to serve it.
    duka.configure(&Options::default()).unwrap();
    let node = duka.serve().unwrap();
    let url = format!("{}/ipfs/{cid}", node.gateway().unwrap());
    assert_eq!(curl(&url, &[]).unwrap().status, 404);
    duka.ok(&["pin", "add", &cid]).unwrap();
    let answer = curl(&url, &[]).unwrap();
    assert!(answer.status == 200 && answer.body == bytes, "it is pinned");
}

#[test]
fn who_does_not_answer_is_named_and_who_lies_is_not_believed() {
    let source = Duka::new().unwrap();
    let file = source.home().join("file");
    fs::write(&file, files::random_bytes(91, 100_000)).unwrap();
    let cid = add(&source, &file).unwrap();
    let upstream = source.serve().unwrap();
    for (fault, status) in [(Fault::Hangs, 504), (Fault::FlipsABit, 502)] {
        let bad = BadGateway::start(&upstream.gateway().unwrap(), fault).unwrap();
        let duka = Duka::with(&asking(&bad.url(), "")).unwrap();
        let node = duka.serve().unwrap();
        let url = format!("{}/ipfs/{cid}", node.gateway().unwrap());
        let answer = curl(&url, &[]).unwrap();
        assert_eq!(answer.status, status, "{fault:?}");
        assert_eq!(answer.header("retry-after"), "60");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.contains(bad.url().trim_end_matches('/')), "{text}");
    }
}

#[test]
fn denied_content_is_not_fetched_and_a_list_that_cannot_be_used_is_one_sentence() {
    let source = Duka::new().unwrap();
    let file = source.home().join("file");
    fs::write(&file, files::random_bytes(91, 100_000)).unwrap();
    let cid = add(&source, &file).unwrap();
    let upstream = source.serve().unwrap();
    let list = source.home().join("list.deny");
    fs::write(&list, format!("/ipfs/{cid} gateway_status:451\n")).unwrap();
    let lists = format!("denylists = [{:?}]\n", list.display().to_string());
    let duka = Duka::with(&asking(&upstream.gateway().unwrap(), &lists)).unwrap();
    let node = duka.serve().unwrap();
    let url = format!("{}/ipfs/{cid}", node.gateway().unwrap());
    assert_eq!(curl(&url, &[]).unwrap().status, 451);
    node.stop().unwrap();
    let absent = duka.cmd(&["--offline", "cat", &cid]).unwrap();
    assert_eq!(absent.code, 3, "it was fetched: {absent:?}");

    fs::write(&list, "version: 2\n---\n").unwrap();
    let refused = duka.cmd(&["serve"]).unwrap();
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.complaint().contains("list.deny"), "{refused:?}");
}
