//! HTTP/1.1 byte by byte: targets and hosts that no HTTP client would send, and bodies that break off.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Time without a byte after which an answer is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest line that is read.
const MAX_LINE: u64 = 64 << 10;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers with lower-case names, in the order they came.
    pub headers: Vec<(String, String)>,
    /// Body, as far as it came, unless it was written elsewhere.
    pub body: Vec<u8>,
    /// It ended as announced.
    pub complete: bool,
}

impl Answer {
    /// All values of a header, joined by commas; `None` if it was not sent.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

/// A connection on which requests follow one another.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request without a body and reads the answer.
    ///
    /// # Errors
    /// If there is no answer, or it is not HTTP. A body that breaks off is no error.
    pub fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
    ) -> Result<Answer> {
        let mut body = Vec::new();
        let answer = self.ask_into(method, target, headers, &mut body)?;
        Ok(Answer { body, ..answer })
    }

    /// The same, but the body is written to `body` as it comes.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn ask_into(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: &mut impl Write,
    ) -> Result<Answer> {
        let mut request = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let status = status.split(' ').nth(1).context("no status")?.parse()?;
        let mut answer = Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            complete: true,
        };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
            answer.headers.push((name, value));
        }
        let no_body = matches!(method, "HEAD" | "CONNECT") || matches!(status, 204 | 304);
        if !no_body {
            let whole = if answer.header("transfer-encoding").is_some() {
                self.chunks(body)
            } else {
                let length = answer.header("content-length").context("no length")?;
                self.bytes(length.parse()?, body)
            };
            answer.complete = whole.is_ok();
        }
        Ok(answer)
    }

    fn chunks(&mut self, body: &mut impl Write) -> Result<()> {
        loop {
            let length = u64::from_str_radix(self.line()?.trim(), 16)?;
            self.bytes(length, body)?;
            ensure!(self.line()?.is_empty(), "a chunk without an end");
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn bytes(&mut self, length: u64, body: &mut impl Write) -> Result<()> {
        let read = std::io::copy(&mut (&mut self.stream).take(length), body)?;
        ensure!(read == length, "the body breaks off");
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        (&mut self.stream)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)?;
        let line = line.strip_suffix(b"\r\n").context("a line breaks off")?;
        Ok(String::from_utf8(line.to_vec())?)
    }
}
