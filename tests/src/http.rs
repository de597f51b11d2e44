//! Gateways that misbehave: one changes bytes, one never answers, one stops half-way, one is slow.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::curl::{Answer, curl};

/// Time that a slow gateway takes for one answer.
const SLOW: Duration = Duration::from_millis(50);

/// How a gateway answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Changes one bit in the middle of every body that is longer than 64 bytes.
    FlipsABit,
    /// The same with one in so many of these bodies.
    FlipsOneIn(u64),
    /// Sends half of every body with the full length announced, then closes.
    Truncates,
    /// Accepts connections and requests, and never answers.
    Hangs,
    /// Answers well, but no more than 20 times a second over all connections.
    IsSlow,
    /// Has one in so many blocks.
    HasOneIn(u64),
    /// Has all others.
    LacksOneIn(u64),
    /// Says to the first so many who ask for a block to come again in a second.
    IsBusyFor(u64),
    /// Answers well.
    Passes,
    /// Gives for every name what is at its upstream, `…/ipns/NAME`.
    Renames,
}

/// A gateway on loopback that stands before a good one. It lives until the test program ends.
#[derive(Debug)]
pub struct BadGateway {
    address: SocketAddr,
}

impl BadGateway {
    /// Starts it; `upstream` is the good gateway's URL.
    ///
    /// # Errors
    /// If no port is free.
    pub fn start(upstream: &str, fault: Fault) -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST, upstream, fault)
    }

    /// The same at another address of this machine.
    ///
    /// # Errors
    /// As [`BadGateway::start`].
    pub fn start_at(address: Ipv4Addr, upstream: &str, fault: Fault) -> Result<Self> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        let upstream: Arc<str> = upstream.trim_end_matches('/').into();
        let answers = Arc::new(Mutex::new(0));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (upstream, answers) = (Arc::clone(&upstream), Arc::clone(&answers));
                thread::spawn(move || serve(stream, &upstream, fault, &answers));
            }
        });
        Ok(Self { address })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn serve(stream: TcpStream, upstream: &str, fault: Fault, answers: &Mutex<u64>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut path = String::new();
        let mut passed_on = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if path.is_empty() {
                path = line.split(' ').nth(1).unwrap_or("/").to_owned();
            } else if line.is_empty() {
                break;
            } else if is_passed_on(line) {
                passed_on.extend(["--header".to_owned(), line.to_owned()]);
            }
        }
        if fault == Fault::Hangs {
            // Until the client gives up and closes.
            let mut line = String::new();
            reader.read_line(&mut line)?;
            return Ok(());
        }
        let Answer {
            status,
            headers,
            mut body,
            ..
        } = curl(
            &upstream_of(&path, upstream, fault),
            &passed_on.iter().map(String::as_str).collect::<Vec<_>>(),
        )?;
        if let Some(refusal) = refusal(&path, fault, answers) {
            write!(
                writer,
                "HTTP/1.1 {refusal}\r\naccess-control-allow-origin: *\r\n\
                 access-control-expose-headers: retry-after\r\ncontent-length: 0\r\n\r\n"
            )?;
            continue;
        }
        let length = body.len();
        let middle = length / 2;
        match fault {
            Fault::FlipsABit if length > 64 => body[middle] ^= 1,
            Fault::FlipsOneIn(count) if length > 64 => {
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                *answers += 1;
                body[middle] ^= u8::from(answers.is_multiple_of(count));
            }
            Fault::Truncates => body.truncate(middle),
            Fault::IsSlow => {
                let _turn = answers.lock();
                thread::sleep(SLOW);
            }
            _ => {}
        }
        let kind = headers
            .get("content-type")
            .map_or("application/octet-stream", String::as_str);
        let range = match headers.get("content-range") {
            Some(range) => format!("content-range: {range}\r\n"),
            None => String::new(),
        };
        write!(
            writer,
            "HTTP/1.1 {status} Given\r\naccess-control-allow-origin: *\r\ncontent-type: {kind}\r\n\
             {range}content-length: {length}\r\n\r\n"
        )?;
        writer.write_all(&body)?;
        if fault == Fault::Truncates {
            return Ok(());
        }
    }
}

/// Status and further lines of an answer without a body.
fn refusal(path: &str, fault: Fault, answers: &Mutex<u64>) -> Option<&'static str> {
    if !path.ends_with("format=raw") {
        return None;
    }
    let sum: u64 = path.bytes().map(u64::from).sum();
    let lacks = "404 Not Found";
    match fault {
        Fault::HasOneIn(count) => (!sum.is_multiple_of(count)).then_some(lacks),
        Fault::LacksOneIn(count) => sum.is_multiple_of(count).then_some(lacks),
        Fault::IsBusyFor(count) => {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            *answers += 1;
            (*answers <= count).then_some("503 Service Unavailable\r\nretry-after: 1")
        }
        _ => None,
    }
}

/// What is asked of the good gateway.
fn upstream_of(path: &str, upstream: &str, fault: Fault) -> String {
    match (upstream.split_once("/ipns/"), path.strip_prefix("/ipns/")) {
        (Some(_), Some(named)) if fault == Fault::Renames => {
            let rest = named.find(['/', '?']).map_or("", |at| &named[at..]);
            format!("{upstream}{rest}")
        }
        (Some((base, _)), None) if fault == Fault::Renames => format!("{base}{path}"),
        _ => format!("{upstream}{path}"),
    }
}

/// Whether a good gateway is told this line of a request's header.
fn is_passed_on(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.starts_with("accept:") || line.starts_with("range:")
}
