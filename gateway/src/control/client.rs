//! The command line's side of the socket.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::event::Event;
use super::failure::{Code, Failure};
use super::request::Request;
use super::{Events, Input, frame, socket};

/// Bytes of standard input sent at once.
const INPUT_CHUNK: usize = 256 << 10;

/// A connection to the node that owns a data directory.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

/// Why the running node could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The socket does not answer.
    #[error("cannot connect to the node's control socket {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The socket belongs to someone else.
    #[error("the control socket {} is answered by another user", path.display())]
    OtherUser {
        /// The socket.
        path: PathBuf,
    },
}

impl Client {
    /// Connects to the node running in `data_dir`; `None` when none runs there.
    ///
    /// # Errors
    /// [`ClientError`] when there is a socket that cannot be used.
    pub async fn connect(data_dir: &Path) -> Result<Option<Self>, ClientError> {
        let connect = |path: &Path| {
            let path = path.to_owned();
            move |source| ClientError::Connect { path, source }
        };
        let Some(path) = socket::find(data_dir).map_err(connect(data_dir))? else {
            return Ok(None);
        };
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(error) if socket::is_left_behind(&error) => return Ok(None),
            Err(error) => return Err(connect(&path)(error)),
        };
        if !socket::is_same_user(&stream) {
            return Err(ClientError::OtherUser { path });
        }
        Ok(Some(Self { stream }))
    }

    /// Has the node run an operation. `input` is read when there is one, on a thread of its own.
    ///
    /// # Cancel safety
    /// Dropping the events closes the connection, which cancels the operation.
    pub async fn send(self, request: &Request, input: Option<Input>) -> Events {
        match self.exchange(request, input).await {
            Ok(events) => events,
            Err(error) => stream::iter([Event::Error(lost(&error))]).boxed(),
        }
    }

    async fn exchange(
        self,
        request: &Request,
        input: Option<Input>,
    ) -> Result<Events, hyper::Error> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the node ended");
            }
        });
        let mut line = serde_json::to_vec(request).expect("requests have string keys");
        line.push(b'\n');
        let first = stream::iter([Ok(Bytes::from(line))]);
        let body = match input {
            Some(input) => first.chain(chunks(input)).boxed(),
            None => first.boxed(),
        };
        let request = http::Request::post("/control")
            .header(http::header::HOST, "duka")
            .body(StreamBody::new(body.map(|bytes| bytes.map(Frame::data))))
            .expect("the parts of the request are constants");
        let response = sender.send_request(request).await?;
        Ok(events(response.into_body(), driver))
    }
}

/// Reads `input` on a thread of its own, a few chunks ahead.
fn chunks(mut input: Input) -> BoxStream<'static, io::Result<Bytes>> {
    let (sender, mut receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut chunk = vec![0; INPUT_CHUNK];
            let item = match input.read(&mut chunk) {
                Ok(0) => break,
                Ok(len) => {
                    chunk.truncate(len);
                    Ok(Bytes::from(chunk))
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = item.is_err();
            if sender.blocking_send(item).is_err() || failed {
                break;
            }
        }
    });
    stream::poll_fn(move |cx| receiver.poll_recv(cx)).boxed()
}

struct Answer {
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
    /// Ends the connection when the answer is dropped.
    _driver: JoinSet<()>,
}

fn events(body: Incoming, driver: JoinSet<()>) -> Events {
    let answer = Answer {
        body,
        buffer: BytesMut::new(),
        ended: false,
        _driver: driver,
    };
    stream::unfold(answer, |mut answer| async {
        if answer.ended {
            return None;
        }
        let event = next(&mut answer).await;
        answer.ended = matches!(event, Event::Result(_) | Event::Error(_));
        Some((event, answer))
    })
    .boxed()
}

async fn next(answer: &mut Answer) -> Event {
    loop {
        match frame::decode(&mut answer.buffer) {
            Ok(Some(event)) => return event,
            Ok(None) => {}
            Err(error) => return Event::Error(other_version(&error)),
        }
        match answer.body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    answer.buffer.extend_from_slice(&data);
                }
            }
            Some(Err(error)) => return Event::Error(lost(&error)),
            None => {
                let message = "the node stopped before the operation was done";
                return Event::Error(Failure::new(Code::Temporary, message));
            }
        }
    }
}

fn lost(error: &hyper::Error) -> Failure {
    tracing::debug!(%error, "lost the node");
    Failure::new(
        Code::Temporary,
        "the running node stopped answering before the operation was done",
    )
    .hint("see its log; run the command again when it is back")
}

fn other_version(error: &frame::FrameError) -> Failure {
    Failure::of(Code::Other, error)
        .hint("the running node may be of another version: stop it and start this one")
}
