//! The gateway over TLS, asked by curl.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use duka_tests::curl::{Answer, curl};
use duka_tests::duka::{Options, Serving};
use duka_tests::{Duka, files, process};
use tempfile::TempDir;

use crate::add;

pub(crate) const HOST: &str = "gateway.test";

/// A gateway with a certificate of its own for a host with subdomains.
struct Site {
    duka: Duka,
    node: Serving,
    port: u16,
    certificates: TempDir,
}

impl Site {
    fn start() -> Result<Self> {
        let certificates = tempfile::tempdir()?;
        let (cert, key) = renew(certificates.path())?;
        let options = Options {
            more: format!(
                "[gateway.tls]\ncert = {cert:?}\nkey = {key:?}\n\n\
                 [gateway.hosts.\"{HOST}\"]\nsubdomains = true\n"
            ),
            ..Options::default()
        };
        let duka = Duka::with(&options)?;
        let node = duka.serve()?;
        let url = node.gateway()?;
        let port = url.strip_prefix("https://127.0.0.1:");
        let port = port.with_context(|| url.clone())?.parse()?;
        Ok(Self {
            duka,
            node,
            port,
            certificates,
        })
    }

    /// Asks for a path of a host, and trusts nobody but `cert`.
    fn ask(&self, host: &str, path: &str, cert: &Path, arguments: &[&str]) -> Result<Answer> {
        let port = self.port;
        let resolve = format!("{host}:{port}:127.0.0.1");
        let cert = cert.to_str().context("the path of the certificate")?;
        let mut all = vec!["--cacert", cert, "--resolve", &resolve];
        all.extend(arguments);
        curl(&format!("https://{host}:{port}{path}"), &all)
    }
}

/// Writes a new certificate and its key.
pub(crate) fn renew(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let names = [HOST.to_owned(), format!("*.ipfs.{HOST}")];
    let pair = rcgen::generate_simple_self_signed(names)?;
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert, pair.cert.pem())?;
    fs::write(&key, pair.key_pair.serialize_pem())?;
    Ok((cert, key))
}

#[test]
fn curl_gets_files_over_https_by_both_versions_of_http() {
    let site = Site::start().unwrap();
    let folder = site.duka.home().join("site");
    fs::create_dir_all(&folder).unwrap();
    let big = files::random_bytes(41, 5 << 20);
    fs::write(folder.join("big.bin"), &big).unwrap();
    let root = add(&site.duka, &folder).unwrap();
    let cert = site.certificates.path().join("cert.pem");

    for (argument, version) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2")] {
        let path = format!("/ipfs/{root}/big.bin");
        let moved = site.ask(HOST, &path, &cert, &[argument]).unwrap();
        assert_eq!((moved.version.as_str(), moved.status), (version, 301));
        let host = format!("{root}.ipfs.{HOST}");
        let port = site.port;
        assert_eq!(
            moved.header("location"),
            format!("https://{host}:{port}/big.bin")
        );
        let file = site.ask(&host, "/big.bin", &cert, &[argument]).unwrap();
        assert_eq!((file.version.as_str(), file.status), (version, 200));
        assert!(file.body == big, "the bytes differ over {version}");
        let range = ["--range", "1048570-1048580", argument];
        let part = site.ask(&host, "/big.bin", &cert, &range).unwrap();
        assert_eq!(part.status, 206);
        assert_eq!(part.body, big[1_048_570..=1_048_580]);
    }
    site.node.stop().unwrap();
}

#[test]
fn renewed_certificate_is_shown_without_a_restart() {
    let site = Site::start().unwrap();
    let (cert, _) = renew(site.certificates.path()).unwrap();
    let ask = || site.ask(HOST, "/healthz", &cert, &[]).ok();
    let answer = process::wait_until("the new certificate", Duration::from_secs(30), ask);
    assert_eq!(answer.unwrap().status, 200);
    site.node.stop().unwrap();
}

#[test]
fn curl_gets_files_over_http_2_without_tls() {
    let duka = Duka::new().unwrap();
    let node = duka.serve().unwrap();
    let file = duka.home().join("file.bin");
    let big = files::random_bytes(42, 5 << 20);
    fs::write(&file, &big).unwrap();
    let cid = add(&duka, &file).unwrap();
    let url = format!("{}/ipfs/{cid}", node.gateway().unwrap());
    let answer = curl(&url, &["--http2-prior-knowledge"]).unwrap();
    assert_eq!((answer.version.as_str(), answer.status), ("HTTP/2", 200));
    assert!(answer.body == big, "the bytes differ");
    node.stop().unwrap();
}
