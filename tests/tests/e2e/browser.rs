//! The gateway in headless Chromium.

use std::fs;
use std::process::Command;
use std::time::Duration;

use duka_tests::duka::Options;
use duka_tests::process::Process;
use duka_tests::{Duka, locate, webm};
use serde_json::{Value, json};

use crate::add;

/// Frames of the video: 60 s.
const FRAMES: u32 = 600;
/// Bytes between frames, so that the video does not fit into what a browser loads ahead.
const PADDING: usize = 100 << 10;

/// What the page at `url` writes to the console behind `RESULT`.
fn result_of_page(duka: &Duka, url: &str) -> Value {
    let profile = duka.home().join("chromium");
    let mut command = Command::new(locate::system("chromium").unwrap());
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--enable-logging=stderr",
            "--autoplay-policy=no-user-gesture-required",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url);
    let chromium = Process::start("chromium", &mut command).unwrap();
    let logged = |line: &str| {
        let (_, logged) = line.split_once("RESULT ")?;
        let (json, _) = logged.rsplit_once("\", source:")?;
        Some(json.replace("\\\"", "\""))
    };
    let json = chromium.wait_for(Duration::from_secs(120), logged).unwrap();
    serde_json::from_str(&json).unwrap()
}

#[test]
fn site_on_a_subdomain_has_routes_a_video_that_seeks_and_a_service_worker() {
    let duka = Duka::with(&Options {
        more: "hosts = { localhost = { subdomains = true } }\n".to_owned(),
        ..Options::default()
    })
    .unwrap();
    let site = duka.home().join("site");
    fs::create_dir(&site).unwrap();
    fs::write(site.join("app.html"), include_str!("browser/app.html")).unwrap();
    fs::write(site.join("worker.js"), include_str!("browser/worker.js")).unwrap();
    fs::write(site.join("gone.txt"), "it was sold").unwrap();
    let rules = "/old/* /new/:splat 302\n/gone/* /gone.txt 410\n/* /app.html 200\n";
    fs::write(site.join("_redirects"), rules).unwrap();
    let video = webm::video(FRAMES, PADDING);
    let video_size = video.len();
    fs::write(site.join("video.webm"), video).unwrap();
    let node = duka.serve().unwrap();
    let root = add(&duka, &site).unwrap();
    let gateway = node.gateway().unwrap();
    let port = gateway.rsplit(':').next().unwrap();

    let url = format!("http://{root}.ipfs.localhost:{port}/shop/album");
    let result = result_of_page(&duka, &url);
    assert_eq!(result["path"], "/shop/album", "{result}");
    assert_eq!(result["gone"], json!([410, "it was sold"]), "{result}");
    assert_eq!(result["moved"], "/new/page?a=b", "{result}");
    assert_eq!(result["worker"], "answered by the worker", "{result}");
    let video = &result["video"];
    assert_eq!(video["duration"], 60.0, "{result}");
    assert_eq!(video["seekable"], 60.0, "{result}");
    assert_eq!(video["at"], 55.0, "{result}");
    let loaded = video["loaded"].as_u64().unwrap();
    assert!(
        loaded < video_size as u64 / 2,
        "all was loaded to seek: {result}"
    );
}
