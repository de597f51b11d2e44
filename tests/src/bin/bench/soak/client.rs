//! Clients that check every answer.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use duka_tests::files;
use duka_tests::http1::Connection;
use sha2::{Digest, Sha256};

/// Failures of one client that are told.
const MOST_TOLD: usize = 20;

/// What is to be asked for.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) path: String,
    /// First byte and length.
    pub(super) range: Option<(u64, u64)>,
    pub(super) want: Want,
}

/// What the answer is to be.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl Want {
    pub(super) fn of(status: u16, bytes: &[u8]) -> Self {
        Self {
            status,
            bytes: bytes.len() as u64,
            sha256: files::sha256(bytes),
        }
    }
}

impl Request {
    pub(super) fn whole(path: String, bytes: &[u8]) -> Self {
        Self {
            path,
            range: None,
            want: Want::of(200, bytes),
        }
    }
}

/// What one client saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) longest: Duration,
    pub(super) told: Vec<String>,
}

impl Tally {
    pub(super) fn count(&mut self, answered: Result<Duration>) {
        self.requests += 1;
        match answered {
            Ok(took) => self.longest = self.longest.max(took),
            Err(error) => {
                self.failures += 1;
                if self.told.len() < MOST_TOLD {
                    self.told.push(format!("{error:#}"));
                }
            }
        }
    }
}

/// Whom to ask.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Asks, over the connection that is kept if there is one, and keeps it if the server does. The time
    /// to the first byte of the body, or to its end where it is empty.
    pub(super) fn ask(&self, request: &Request, kept: &mut Option<Connection>) -> Result<Duration> {
        let Request { path, range, want } = request;
        let mut headers = vec![("host".to_owned(), self.address.to_string())];
        if let Some((first, length)) = range {
            let last = first + length - 1;
            headers.push(("range".to_owned(), format!("bytes={first}-{last}")));
        }
        let started = Instant::now();
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(self.address).context("connecting")?,
        };
        let mut body = Checked::default();
        let answer = connection
            .ask_into("GET", path, &headers, &mut body)
            .with_context(|| path.clone())?;
        ensure!(
            answer.status == want.status,
            "{path}: status {}",
            answer.status
        );
        ensure!(
            answer.complete && body.bytes == want.bytes,
            "{path}: {} bytes of {}",
            body.bytes,
            want.bytes
        );
        let sha256 = hex::encode(body.hash.finalize());
        ensure!(sha256 == want.sha256, "{path}: other bytes");
        let ends = answer.header("connection").is_some_and(|it| it == "close");
        *kept = (!ends).then_some(connection);
        let first = body.first.unwrap_or_else(Instant::now);
        Ok(first.duration_since(started))
    }

    /// A request whose answer is to be what it is now.
    pub(super) fn learn(&self, path: String) -> Result<Request> {
        let headers = [("host".to_owned(), self.address.to_string())];
        let answer = Connection::open(self.address)?.ask("GET", &path, &headers)?;
        ensure!(
            answer.status == 200 && answer.complete,
            "{path}: status {}",
            answer.status
        );
        Ok(Request::whole(path, &answer.body))
    }
}

/// Takes a body without keeping it.
#[derive(Default)]
struct Checked {
    first: Option<Instant>,
    bytes: u64,
    hash: Sha256,
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.first.get_or_insert_with(Instant::now);
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
