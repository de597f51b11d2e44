//! Control: the operations behind the command line, run in this process or, through a Unix socket,
//! by the node that owns the data directory. Both give the same events.
//!
//! A [`Request`] goes in, a stream of [`Event`]s comes out; the last one is
//! [`Event::Result`] or [`Event::Error`]. Dropping the stream cancels the operation.
//!
//! On the socket ([`server`], [`client`]): `POST /control` whose body is the request as one line of
//! JSON, then the bytes of standard input, if the operation reads them. The answer is one JSON line
//! an event; a line of type `data` is followed by as many raw bytes as it says (`frame`). Files
//! travel as absolute paths: client and node run on one machine as one user.
//!
//! A second socket is for a process that takes the place of the node ([`handover`]).

pub mod client;
mod dnslink;
pub mod event;
mod explain;
pub mod failure;
pub mod file;
pub mod following;
mod frame;
pub mod handover;
pub mod ops;
pub mod recorded;
pub mod release;
pub mod request;
pub mod server;
mod sink;
mod socket;

use std::io::Read;
use std::path::PathBuf;

use duka_config::Config;
use duka_node::node::Node;
use duka_node::restore::RestoreOptions;
use futures::stream::{self, BoxStream, StreamExt};

pub use dnslink::dnslink;
use event::{Event, Outcome};
use failure::Failure;
use request::Request;
use sink::EventSink;

/// Events of one operation; the last one is the result or the error.
pub type Events = BoxStream<'static, Event>;

/// Standard input, for the operations that read it.
pub type Input = Box<dyn Read + Send>;

/// Runs an operation on `node`.
///
/// # Cancel safety
/// Dropping the events cancels the operation; what that leaves behind is told by its function in
/// [`ops`].
pub fn run(node: Node, request: Request, input: Option<Input>) -> Events {
    events_of(move |sink| async move { ops::execute(&node, request, input, &sink).await })
}

/// Restores a backup into a data directory that no node has, for there is none.
///
/// # Cancel safety
/// Dropping the events ends it: nothing is restored.
pub fn restore(data_dir: PathBuf, options: RestoreOptions) -> Events {
    events_of(move |sink| async move { ops::restore(data_dir, options, &sink).await })
}

/// Makes anew what follows from journal and packs, in a data directory that no node has open.
///
/// # Cancel safety
/// Dropping the events ends it; it can be begun anew.
pub fn rebuild(data_dir: PathBuf, config: Config) -> Events {
    events_of(move |sink| async move { ops::rebuild(data_dir, config, &sink).await })
}

fn events_of<W>(work: impl FnOnce(EventSink) -> W + Send + 'static) -> Events
where
    W: Future<Output = Result<Outcome, Failure>> + Send + 'static,
{
    let (sink, mut events) = EventSink::new();
    let work = stream::once(async move {
        let last = match work(sink.clone()).await {
            Ok(outcome) => Event::Result(outcome),
            Err(failure) => Event::Error(failure),
        };
        sink.send(last).await;
    });
    // The work is polled here, beside its events: nobody spawns a task, and a drop ends both.
    let work = work.filter_map(|()| async { None });
    let events = stream::poll_fn(move |cx| events.poll_recv(cx));
    stream::select(events, work).boxed()
}
