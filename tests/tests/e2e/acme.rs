//! Certificates by ACME, from Pebble.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use duka_tests::curl::{Answer, curl};
use duka_tests::duka::Options;
use duka_tests::pebble::Pebble;
use duka_tests::{Duka, process};

use crate::handover::Activated;

const NAME: &str = "gateway.test";
const PATIENCE: Duration = Duration::from_secs(60);

fn options(pebble: &Pebble, settings: &str) -> Result<Options> {
    let (directory, root) = (pebble.directory()?, pebble.root());
    Ok(Options {
        more: format!(
            "{settings}[gateway.tls.acme]\ndomains = [{NAME:?}]\ncontact = \"me@example.org\"\n\
             directory = {directory:?}\nroot = {root:?}\n"
        ),
        ..Options::default()
    })
}

/// A gateway on a socket whose port the CA knows, and the CA.
struct Site {
    pebble: Pebble,
    duka: Duka,
    listener: TcpListener,
    port: u16,
}

impl Site {
    fn new(seconds: u32) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let pebble = Pebble::start(port, seconds)?;
        let duka = Duka::with(&options(&pebble, "")?)?;
        Ok(Self {
            pebble,
            duka,
            listener,
            port,
        })
    }

    fn serve(&self) -> Result<Activated> {
        Activated::start(&self.duka, OwnedFd::from(self.listener.try_clone()?))
    }

    /// Asks for health over HTTPS, and says what certificates were shown.
    fn ask(&self, issuer: &Path) -> Result<Answer> {
        let port = self.port;
        let resolve = format!("{NAME}:{port}:127.0.0.1");
        let issuer = issuer.to_str().context("the folder")?;
        curl(
            &format!("https://{NAME}:{port}/healthz"),
            &[
                "--cacert",
                issuer,
                "--resolve",
                &resolve,
                "--write-out",
                "%{certs}",
            ],
        )
    }
}

/// What anybody but this user may do with what is below a folder.
fn others_may(folder: &Path) -> Result<u32> {
    let mut may = fs::metadata(folder)?.permissions().mode() & 0o077;
    if folder.is_dir() {
        for entry in fs::read_dir(folder)? {
            may |= others_may(&entry?.path())?;
        }
    }
    Ok(may)
}

#[test]
fn certificate_is_got_from_a_ca_and_kept_for_the_next_start() {
    let site = Site::new(3600).unwrap();
    let issuer = site.pebble.issuer().unwrap();
    let node = site.serve().unwrap();
    let certified = || site.ask(&issuer).ok();
    let first = process::wait_until("the certificate", PATIENCE, certified).unwrap();
    assert_eq!(first.status, 200);
    node.stop().unwrap();
    assert_eq!(others_may(&site.duka.data_dir().join("acme")).unwrap(), 0);

    site.duka.configure(&unreachable(&site)).unwrap();
    let node = site.serve().unwrap();
    let again = process::wait_until("the kept certificate", PATIENCE, certified).unwrap();
    assert!(again.body == first.body, "another certificate");
    node.stop().unwrap();
}

/// The same CA, which nobody believes any more.
fn unreachable(site: &Site) -> Options {
    let mut options = options(&site.pebble, "").unwrap();
    options.more = options.more.replace("root = ", "root = \"\" #");
    options
}

#[test]
fn certificate_is_renewed_before_its_time_is_over() {
    let site = Site::new(20).unwrap();
    let issuer = site.pebble.issuer().unwrap();
    let node = site.serve().unwrap();
    let certified = || site.ask(&issuer).ok();
    let first = process::wait_until("the certificate", PATIENCE, certified).unwrap();
    let renewed = || certified().filter(|answer| answer.body != first.body);
    process::wait_until("another certificate", PATIENCE, renewed).unwrap();
    node.stop().unwrap();
}

#[test]
fn that_there_is_no_certificate_is_counted() {
    // Nobody listens where the CA looks.
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port.local_addr().unwrap().port();
    let pebble = Pebble::start(port, 3600).unwrap();
    let duka = Duka::with(&options(&pebble, "admin = \"127.0.0.1:0\"\n").unwrap()).unwrap();
    let node = duka.serve().unwrap();
    let metrics = format!("{}/metrics", node.admin().unwrap());
    let counted = || {
        let page = curl(&metrics, &[]).ok()?;
        let page = String::from_utf8(page.body).ok()?;
        page.contains("duka_gateway_certificate_failures_total 1")
            .then_some(())
    };
    process::wait_until("the failure", PATIENCE, counted).unwrap();
    node.stop().unwrap();
}
