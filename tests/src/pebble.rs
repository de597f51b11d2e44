//! Pebble: a CA that speaks ACME, for tests.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;

use crate::curl::curl;
use crate::locate;
use crate::process::{self, Process};

/// A running CA. It finds every name on this machine.
#[derive(Debug)]
pub struct Pebble {
    process: Process,
    folder: TempDir,
}

impl Pebble {
    /// Starts one that checks names at this port, and whose certificates count for so many seconds.
    ///
    /// # Errors
    /// If it is not built, or does not start.
    pub fn start(tls_port: u16, seconds: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let (cert, key) = (root(folder.path()), folder.path().join("key.pem"));
        fs::write(&cert, pair.cert.pem())?;
        fs::write(&key, pair.key_pair.serialize_pem())?;
        let config = folder.path().join("config.json");
        let settings = json!({ "pebble": {
            "listenAddress": "127.0.0.1:0",
            "managementListenAddress": "127.0.0.1:0",
            "certificate": cert,
            "privateKey": key,
            "httpPort": 1,
            "tlsPort": tls_port,
            "retryAfter": { "authz": 1, "order": 1 },
            "keyAlgorithm": "ecdsa",
            "profiles": { "default": { "description": "the one", "validityPeriod": seconds } },
        }});
        fs::write(&config, settings.to_string())?;
        let dns = everything_is_here()?;
        let mut command = Command::new(locate::pebble()?);
        command
            .args(["-dnsserver", &dns, "-config"])
            .arg(config)
            .env("PEBBLE_VA_NOSLEEP", "1");
        let process = Process::start("pebble", &mut command)?;
        Ok(Self { process, folder })
    }

    /// The URL of its ACME directory.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn directory(&self) -> Result<String> {
        self.answering("/dir")
    }

    /// The file with the certificate of its own HTTPS.
    pub fn root(&self) -> PathBuf {
        root(self.folder.path())
    }

    /// The file with the root of all certificates that it gives.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn issuer(&self) -> Result<PathBuf> {
        let answer = self.ask(&self.answering("/roots/0")?)?;
        let file = self.folder.path().join("issuer.pem");
        fs::write(&file, answer)?;
        Ok(file)
    }

    /// The URL where it answers this path: one of its two ports.
    fn answering(&self, path: &str) -> Result<String> {
        process::wait_until("Pebble to answer", Duration::from_secs(30), || {
            let ports = process::listening_ports(self.process.pid()).ok()?;
            let mut urls = ports
                .iter()
                .map(|port| format!("https://127.0.0.1:{port}{path}"));
            urls.find(|url| self.ask(url).is_ok())
        })
    }

    fn ask(&self, url: &str) -> Result<Vec<u8>> {
        let root = self.root();
        let answer = curl(url, &["--cacert", root.to_str().context("the folder")?])?;
        anyhow::ensure!(answer.status == 200, "{url} is {}", answer.status);
        Ok(answer.body)
    }
}

fn root(folder: &Path) -> PathBuf {
    folder.join("cert.pem")
}

/// A DNS server over TCP, by which Pebble asks: every name leads to this machine.
fn everything_is_here() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer_all(stream));
        }
    });
    Ok(address)
}

/// Answers the questions of one connection. Each message follows its length.
fn answer_all(mut stream: TcpStream) -> Option<()> {
    const IPV4: &[u8] = &[0, 1, 0, 1];
    loop {
        let mut len = [0; 2];
        stream.read_exact(&mut len).ok()?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut query).ok()?;
        // Header, and one question: a name that ends with a zero, type and class.
        let end = query.iter().skip(12).position(|byte| *byte == 0)?;
        let question = query.get(12..12 + end + 5)?;
        let is_ipv4 = question.ends_with(IPV4);
        let counts = [0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0];
        let mut answer = [&query[..2], &counts, question].concat();
        if is_ipv4 {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
        }
        let len = u16::try_from(answer.len()).ok()?.to_be_bytes();
        stream.write_all(&[&len, answer.as_slice()].concat()).ok()?;
    }
}
