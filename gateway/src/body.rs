//! Response bodies: nothing, bytes at hand, or a stream that is pulled as the client takes it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use duka_node::dag::DagError;
use duka_node::rate::Rate;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use http_body::{Frame, SizeHint};

use crate::server::OpenRequest;

/// What one client gets at a time when the rate is limited.
const PACED: usize = 16 << 10;

/// Why a body broke off. The connection is cut: the response never ends cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BodyError {
    /// Reading the DAG failed.
    #[error(transparent)]
    Dag(#[from] DagError),
    /// The content is shorter than announced.
    #[error("the content ended {missing} bytes early")]
    Short {
        /// Bytes that were announced and did not come.
        missing: u64,
    },
    /// The content is longer than announced.
    #[error("the content is longer than its announced length")]
    Long,
    /// A name fits into no header of a TAR.
    #[error("an entry of the TAR cannot be written")]
    Tar(#[source] io::Error),
    /// A page could not be rendered.
    #[error("rendering the page failed")]
    Render(#[source] askama::Error),
}

/// A response body.
pub(crate) struct Body {
    kind: Kind,
    open: Option<OpenRequest>,
}

enum Kind {
    Empty,
    Bytes(Bytes),
    Stream {
        stream: BoxStream<'static, Result<Bytes, BodyError>>,
        remaining: Option<u64>,
    },
    /// Broken off; told once what was sent before had its chance to leave.
    Failed(BodyError),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Empty => "empty",
            Kind::Bytes(_) => "bytes",
            Kind::Stream { .. } => "stream",
            Kind::Failed(_) => "failed",
        };
        f.debug_struct("Body")
            .field("kind", &kind)
            .finish_non_exhaustive()
    }
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self {
            kind: Kind::Empty,
            open: None,
        }
    }

    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let kind = if bytes.is_empty() {
            Kind::Empty
        } else {
            Kind::Bytes(bytes)
        };
        Self { kind, open: None }
    }

    /// Streams exactly `len` bytes, or of unknown length. Empty chunks are left out.
    pub(crate) fn stream<S, E>(stream: S, len: Option<u64>) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BodyError> + 'static,
    {
        let stream = stream.map(|chunk| chunk.map_err(Into::into)).boxed();
        Self {
            kind: Kind::Stream {
                stream,
                remaining: len,
            },
            open: None,
        }
    }

    /// The same body, no faster than the rate.
    pub(crate) fn paced(self, rate: &Rate) -> Self {
        let (stream, remaining) = match self.kind {
            Kind::Empty | Kind::Failed(_) => return self,
            Kind::Bytes(bytes) => {
                let len = bytes.len() as u64;
                (stream::once(async { Ok(bytes) }).boxed(), Some(len))
            }
            Kind::Stream { stream, remaining } => (stream, remaining),
        };
        let rate = rate.clone();
        let paced = stream
            .flat_map(|chunk| stream::iter(slices(chunk)))
            .then(move |slice| {
                let rate = rate.clone();
                async move {
                    if let Ok(slice) = &slice {
                        rate.take(slice.len() as u64).await;
                    }
                    slice
                }
            });
        Self {
            kind: Kind::Stream {
                stream: paced.boxed(),
                remaining,
            },
            open: self.open,
        }
    }

    /// The same body, keeping `open` until it ends.
    pub(crate) fn guarded(self, open: OpenRequest) -> Self {
        Self {
            open: Some(open),
            ..self
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.kind {
            Kind::Empty => None,
            Kind::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Some(bytes)
            }
            Kind::Stream { stream, remaining } => {
                match ready!(poll_stream(stream, remaining, cx)) {
                    Some(Err(error)) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "a response broke off"
                        );
                        self.kind = Kind::Failed(error);
                        // An error closes the connection at once, so let it be flushed before.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Some(Ok(chunk)) => Some(chunk),
                    None => None,
                }
            }
            Kind::Failed(_) => {
                if let Some(open) = &self.open {
                    open.broke_off();
                }
                let Kind::Failed(error) = std::mem::replace(&mut self.kind, Kind::Empty) else {
                    return Poll::Ready(None);
                };
                return Poll::Ready(Some(Err(error)));
            }
        };
        Poll::Ready(polled.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(
            self.kind,
            Kind::Empty
                | Kind::Stream {
                    remaining: Some(0),
                    ..
                }
        )
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream {
                remaining: Some(len),
                ..
            } => SizeHint::with_exact(*len),
            Kind::Stream {
                remaining: None, ..
            }
            | Kind::Failed(_) => SizeHint::default(),
        }
    }
}

/// A chunk in pieces that are short enough for clients to take turns.
fn slices(chunk: Result<Bytes, BodyError>) -> Vec<Result<Bytes, BodyError>> {
    let mut rest = match chunk {
        Ok(chunk) => chunk,
        Err(error) => return vec![Err(error)],
    };
    let mut slices = Vec::new();
    while !rest.is_empty() {
        slices.push(Ok(rest.split_to(rest.len().min(PACED))));
    }
    slices
}

fn poll_stream(
    stream: &mut BoxStream<'static, Result<Bytes, BodyError>>,
    remaining: &mut Option<u64>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, BodyError>>> {
    loop {
        return Poll::Ready(match ready!(stream.poll_next_unpin(cx)) {
            Some(Ok(chunk)) if chunk.is_empty() => continue,
            Some(Ok(chunk)) => match remaining {
                Some(left) => match left.checked_sub(chunk.len() as u64) {
                    Some(after) => {
                        *left = after;
                        Some(Ok(chunk))
                    }
                    None => Some(Err(BodyError::Long)),
                },
                None => Some(Ok(chunk)),
            },
            Some(Err(error)) => Some(Err(error)),
            None => match *remaining {
                Some(missing) if missing > 0 => Some(Err(BodyError::Short { missing })),
                _ => None,
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn chunks(parts: &'static [&'static str]) -> impl Stream<Item = Result<Bytes, DagError>> {
        stream::iter(
            parts
                .iter()
                .map(|part| Ok(Bytes::from_static(part.as_bytes()))),
        )
    }

    #[tokio::test]
    async fn a_paced_body_is_the_same_and_slower() {
        let whole: Vec<u8> = (0..100_000_u32).map(|n| n.to_be_bytes()[3]).collect();
        let streamed = stream::iter([Ok::<_, DagError>(Bytes::from(whole.clone()))]);
        let bodies = [
            Body::bytes(whole.clone()),
            Body::stream(streamed, Some(whole.len() as u64)),
        ];
        for body in bodies {
            let started = tokio::time::Instant::now();
            let body = body.paced(&Rate::new(200_000));
            assert_eq!(http_body::Body::size_hint(&body).exact(), Some(100_000));
            let read = body.collect().await.unwrap().to_bytes();
            assert_eq!(read, whole);
            let took = started.elapsed();
            assert!(took >= std::time::Duration::from_millis(400), "{took:?}");
        }
    }

    #[tokio::test]
    async fn content_shorter_than_announced_is_an_error() {
        let error = Body::stream(chunks(&["ab", "", "c"]), Some(5))
            .collect()
            .await
            .unwrap_err();
        assert!(matches!(error, BodyError::Short { missing: 2 }));
    }

    #[tokio::test]
    async fn content_longer_than_announced_is_an_error() {
        let error = Body::stream(chunks(&["abc", "def"]), Some(5))
            .collect()
            .await
            .unwrap_err();
        assert!(matches!(error, BodyError::Long));
    }

    #[tokio::test]
    async fn exact_content_passes() {
        let body = Body::stream(chunks(&["abc", "de"]), Some(5))
            .collect()
            .await
            .unwrap();
        assert_eq!(body.to_bytes(), "abcde");
    }
}
