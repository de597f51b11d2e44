//! The gateway asked by clients nobody here wrote.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use duka_tests::curl::curl;
use duka_tests::duka::Options;
use duka_tests::http::{BadGateway, Fault};
use duka_tests::kubo::{self, Kubo};
use duka_tests::{Duka, files, locate, process};
use serde_json::Value;

use crate::{add, assert_refused};

const MIB: usize = 1 << 20;

/// A node with a folder of a page, a file over several blocks, and a folder without a page.
struct Site {
    duka: Duka,
    node: duka_tests::duka::Serving,
    root: String,
    url: String,
    big: Vec<u8>,
}

impl Site {
    fn start() -> Result<Self> {
        let duka = Duka::new()?;
        let folder = duka.home().join("site");
        fs::create_dir_all(folder.join("music files"))?;
        fs::write(folder.join("index.html"), "<h1>shop</h1>")?;
        let big = files::random_bytes(30, 5 * MIB + 11);
        fs::write(folder.join("music files/big.bin"), &big)?;
        let node = duka.serve()?;
        let root = add(&duka, &folder)?;
        let url = format!("{}/ipfs/{root}", node.gateway()?);
        Ok(Self {
            duka,
            node,
            root,
            url,
            big,
        })
    }
}

#[test]
fn aria2_gets_a_file_from_two_gateways_of_which_one_lies() {
    let Site { duka, url, big, .. } = &Site::start().unwrap();
    let good = url.split("/ipfs/").next().unwrap();
    let lying = BadGateway::start(good, Fault::FlipsABit).unwrap();
    let second = Duka::with(&Options {
        // To aria2 the two are different servers only by their names.
        more: format!(
            "mirrors = [{:?}]",
            lying.url().replace("127.0.0.1", "localhost")
        ),
        ..Options::default()
    });
    let second = second.unwrap();
    let folder = duka.home().join("site");
    let node = second.serve().unwrap();
    let root = add(&second, &folder).unwrap();
    let gateway = node.gateway().unwrap();
    let metalink = format!("{gateway}/ipfs/{root}/music%20files/big.bin?format=meta4");
    let mut aria2 = Command::new(locate::system("aria2c").unwrap());
    aria2
        .args([
            "--no-conf",
            "--console-log-level=info",
            "--follow-metalink=mem",
        ])
        .args([
            "--split=2",
            "--min-split-size=1M",
            "--max-connection-per-server=1",
            "--max-download-limit=3M",
        ])
        .args([
            "--dir",
            duka.home().join("got").to_str().unwrap(),
            &metalink,
        ]);
    let output = process::run(&mut aria2, Duration::from_secs(120)).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.code, Some(0), "{said}");
    let got = fs::read(duka.home().join("got/big.bin")).unwrap();
    assert!(got == *big, "the bytes differ");
    let lies = said.matches("Invalid checksum").count();
    assert!(lies > 0, "the lying gateway was not asked: {said}");
}

#[test]
fn curl_gets_files_pages_listings_and_ranges() {
    let Site { url, root, big, .. } = &Site::start().unwrap();
    let page = curl(&format!("{url}/"), &[]).unwrap();
    assert_eq!(
        (page.status, page.body.as_slice()),
        (200, b"<h1>shop</h1>".as_slice())
    );
    assert!(
        page.header("content-type").starts_with("text/html"),
        "{page:?}"
    );

    let file = format!("{url}/music%20files/big.bin");
    let whole = curl(&file, &[]).unwrap();
    assert_eq!(whole.status, 200);
    assert!(whole.body == *big, "the bytes differ");
    assert_eq!(whole.header("content-length"), big.len().to_string());
    assert!(
        whole.header("cache-control").contains("immutable"),
        "{:?}",
        whole.headers
    );
    assert_eq!(
        whole.header("x-ipfs-path"),
        format!("/ipfs/{root}/music files/big.bin")
    );

    let etag = whole.header("etag");
    let again = curl(&file, &["--header", &format!("If-None-Match: {etag}")]).unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));

    for (range, part) in [
        ("0-0", &big[..1]),
        ("1048570-1048590", &big[1_048_570..=1_048_590]),
        ("-7", &big[big.len() - 7..]),
    ] {
        let answer = curl(&file, &["--range", range]).unwrap();
        assert_eq!(answer.status, 206, "{range}");
        assert!(answer.body == part, "{range}: {} bytes", answer.body.len());
    }
    let past = curl(&file, &["--range", &format!("{}-", big.len())]).unwrap();
    assert_eq!(past.status, 416);

    let head = curl(&file, &["--head"]).unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), big.len().to_string());

    let listing = curl(&format!("{url}/music%20files/"), &[]).unwrap();
    assert_eq!(listing.status, 200);
    assert!(String::from_utf8_lossy(&listing.body).contains("big.bin"));
    assert_eq!(curl(&format!("{url}/absent"), &[]).unwrap().status, 404);
}

#[test]
fn raw_blocks_and_cars_are_what_the_reference_library_accepts() {
    let Site {
        url, root, duka, ..
    } = &Site::start().unwrap();
    let block = curl(url, &["--header", "Accept: application/vnd.ipld.raw"]).unwrap();
    assert_eq!(block.status, 200);
    assert!(
        block
            .header("content-type")
            .starts_with("application/vnd.ipld.raw")
    );
    let car = curl(&format!("{url}?format=car"), &[]).unwrap();
    assert_eq!(car.status, 200);
    let path = duka.home().join("site.car");
    fs::write(&path, &car.body).unwrap();
    let checked = carcheck(path.to_str().unwrap()).unwrap();
    assert!(checked.contains(root.as_str()), "{checked}");
    assert!(
        checked.contains("blocks 10 "),
        "2 directories, a page, a file of 6 chunks: {checked}"
    );

    let exported = duka.home().join("exported.car");
    duka.ok(&["car", "export", root, exported.to_str().unwrap()])
        .unwrap();
    assert!(
        carcheck(exported.to_str().unwrap())
            .unwrap()
            .contains("blocks 10 ")
    );
}

/// Reads a CAR with the reference Go library, which hashes every block.
fn carcheck(path: &str) -> Result<String> {
    let output = process::run(
        Command::new(locate::carcheck()?).arg(path),
        Duration::from_secs(60),
    )?;
    ensure!(output.code == Some(0), "{}", output.stderr);
    Ok(output.text())
}

#[test]
fn verified_fetch_gets_and_verifies() {
    let Site {
        root, node, big, ..
    } = &Site::start().unwrap();
    let file = format!("{root}/music files/big.bin");
    let output = verified_fetch(&node.gateway().unwrap(), &file).unwrap();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["status"], 200);
    assert_eq!(said["bytes"], big.len());
    assert_eq!(said["sha256"], files::sha256(big));
}

#[test]
fn verified_fetch_would_notice_a_wrong_bit() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let file = kubo.repo().join("file");
    fs::write(&file, files::random_bytes(32, 3 * MIB)).unwrap();
    let cid = kubo.add(&file).unwrap();
    let good = kubo.gateway().unwrap();
    assert_eq!(verified_fetch(&good, &cid).unwrap().code, Some(0));
    let bad = BadGateway::start(&good, Fault::FlipsABit).unwrap();
    assert_ne!(verified_fetch(&bad.url(), &cid).unwrap().code, Some(0));
}

/// Fetches a path with `@helia/verified-fetch` from npm.
fn verified_fetch(gateway: &str, path: &str) -> Result<process::Output> {
    let (folder, runtime) = locate::npm()?;
    let mut command = Command::new(runtime);
    command
        .arg(folder.join("verified-get.mjs"))
        .arg(gateway)
        .arg(path);
    process::run(&mut command, Duration::from_secs(120))
}

#[test]
fn health_readiness_and_metrics_are_served() {
    let Site { node, .. } = &Site::start().unwrap();
    let gateway = node.gateway().unwrap();
    assert_eq!(
        curl(&format!("{gateway}/healthz"), &[]).unwrap().status,
        200
    );
    assert_eq!(curl(&format!("{gateway}/readyz"), &[]).unwrap().status, 200);
    let metrics = curl(&format!("{gateway}/metrics"), &[]).unwrap();
    assert_eq!(metrics.status, 200);
    assert!(String::from_utf8_lossy(&metrics.body).contains("# TYPE"));
}

#[test]
fn bad_requests_get_the_right_status() {
    let Site { node, url, .. } = &Site::start().unwrap();
    let gateway = node.gateway().unwrap();
    for (path, status) in [
        ("/ipfs/notacid", 400),
        ("/ipfs/bafkqaaa", 200),
        ("/nothing/here", 404),
        (
            "/ipfs/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
            404,
        ),
    ] {
        let answer = curl(&format!("{gateway}{path}"), &[]).unwrap();
        assert_eq!(
            answer.status,
            status,
            "{path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
    }
    assert_eq!(curl(url, &["--request", "DELETE"]).unwrap().status, 405);
}

#[test]
fn memory_does_not_grow_with_the_file() {
    let site = Site::start().unwrap();
    let file = site.duka.home().join("large");
    files::write_random(&file, 31, 512 * MIB as u64).unwrap();
    let cid = add(&site.duka, &file).unwrap();
    let url = format!("{}/ipfs/{cid}", site.node.gateway().unwrap());
    let output = crate::system(
        "curl",
        &["--silent", "--show-error", "--output", "/dev/null", &url],
    )
    .unwrap();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let pid = site.node.process().pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(
        kib < 300 << 10,
        "adding and serving 512 MiB took {kib} KiB of memory"
    );
}

#[test]
fn a_taken_port_is_one_sentence() {
    let duka = Duka::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let outcome = duka.cmd(&["serve", "--gateway", &address]).unwrap();
    assert_refused(&outcome, 1, &[&address]);
}
