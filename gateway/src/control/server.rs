//! The node's side of the socket. Only processes of the same user are answered.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use duka_node::node::Node;
use futures::stream::{self, BoxStream, StreamExt};
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyDataStream, BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use super::event::Event;
use super::failure::{Code, Failure};
use super::handover::Successors;
use super::request::Request;
use super::{Events, Input, frame, socket};

/// Commands that may run at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 64;
/// Events that go in one frame at most: bounds the bytes of a file that wait here.
const EVENTS_PER_FRAME: usize = 16;
/// Time that running commands get to finish on shutdown.
const DRAIN: Duration = Duration::from_secs(5);

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// The control socket of a running node.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    node: Node,
    path: PathBuf,
}

impl ControlServer {
    /// Listens for commands to `node`, in its data directory or, when that path is too long for a
    /// socket, in `runtime_dir`.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(node: Node, runtime_dir: Option<&Path>) -> io::Result<Self> {
        let path = socket::choose(node.data_dir(), runtime_dir)?;
        let listener = socket::listen(&path)?;
        socket::record(node.data_dir(), &path)?;
        Ok(Self {
            listener,
            node,
            path,
        })
    }

    /// Listens for a process that wants to take this node's place.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn successors(&self) -> io::Result<Successors> {
        Successors::bind(&self.path)
    }

    /// Answers commands until `stop` is cancelled, then lets those under way finish, for at most
    /// five seconds.
    pub async fn run(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) if socket::is_same_user(&stream) => {
                            connections.spawn(serve(stream, self.node.clone(), stop.clone()));
                        }
                        Ok(_) => tracing::warn!("another user tried to use the control socket"),
                        Err(error) => {
                            tracing::warn!(%error, "accepting a command failed");
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
            }
        }
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("commands that did not finish in time are cancelled");
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket could not be removed");
        }
    }
}

async fn serve(stream: UnixStream, node: Node, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let node = node.clone();
        async move { Ok::<_, Infallible>(answer(node, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a command went away");
    }
}

async fn answer(node: Node, request: http::Request<Incoming>) -> Response<Body> {
    if request.method() != Method::POST || request.uri().path() != "/control" {
        let unknown = Failure::new(Code::Usage, "the control socket takes POST /control");
        return respond(StatusCode::NOT_FOUND, failed(unknown));
    }
    match read_request(request.into_body()).await {
        Ok((request, input)) => respond(StatusCode::OK, super::run(node, request, Some(input))),
        Err(failure) => respond(StatusCode::BAD_REQUEST, failed(failure)),
    }
}

fn failed(failure: Failure) -> Events {
    stream::iter([Event::Error(failure)]).boxed()
}

/// The first line of the body, and a reader of what follows it.
async fn read_request(body: Incoming) -> Result<(Request, Input), Failure> {
    let mut body = body.into_data_stream();
    let mut line = BytesMut::new();
    let end = loop {
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            break end;
        }
        let more = body.next().await.and_then(Result::ok);
        match more {
            Some(more) if line.len() < frame::MAX_LINE => line.extend_from_slice(&more),
            _ => {
                return Err(Failure::new(
                    Code::Usage,
                    "the request is not one line of JSON",
                ));
            }
        }
    };
    let rest = line.split_off(end).freeze();
    let request = serde_json::from_slice(&line).map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("the request is not understood: {error}"),
        )
        .hint("the node may be of another version: stop it and start this one")
    })?;
    Ok((request, reader(rest.slice(1..), body)))
}

fn reader(first: Bytes, body: BodyDataStream<Incoming>) -> Input {
    let body = body.map(|bytes| bytes.map_err(io::Error::other));
    let all = stream::iter([Ok(first)]).chain(body).boxed();
    Box::new(SyncIoBridge::new(StreamReader::new(all)))
}

fn respond(status: StatusCode, events: Events) -> Response<Body> {
    // What is ready goes in one frame: a list of 100,000 is no 100,000 frames.
    let frames = events.ready_chunks(EVENTS_PER_FRAME).flat_map(|events| {
        let mut parts = Vec::new();
        let mut lines = BytesMut::new();
        for event in events {
            let (line, data) = frame::encode(&event);
            lines.extend_from_slice(&line);
            if let Some(data) = data {
                parts.extend([lines.split().freeze(), data]);
            }
        }
        parts.push(lines.freeze());
        parts.retain(|part| !part.is_empty());
        stream::iter(parts).map(|bytes| Ok(Frame::data(bytes)))
    });
    let mut response = Response::new(StreamBody::new(frames.boxed()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt;

    use super::*;
    use crate::control::event::{Item, Outcome};

    #[tokio::test]
    async fn a_long_list_goes_in_few_frames_and_in_order() {
        let item = |number: usize| {
            Event::Item(Item::Root {
                cid: number.to_string(),
                pinned: true,
            })
        };
        let mut sent: Vec<_> = (0..1_000).map(item).collect();
        sent.insert(500, Event::Data(Bytes::from_static(b"\n{}\n")));
        sent.push(Event::Result(Outcome::List { count: 1_000 }));
        let mut body = respond(StatusCode::OK, stream::iter(sent.clone()).boxed()).into_body();
        let (mut wire, mut frames) = (BytesMut::new(), 0);
        while let Some(frame) = body.frame().await {
            wire.extend_from_slice(&frame.unwrap().into_data().unwrap());
            frames += 1;
        }
        assert!(frames < 70, "{frames}");
        let received = std::iter::from_fn(|| frame::decode(&mut wire).unwrap());
        assert_eq!(received.collect::<Vec<_>>(), sent);
    }
}
