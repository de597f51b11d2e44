//! Reads messages from the streams that peers open. One task for each stream.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt};
use libp2p::Stream;
use unsigned_varint::decode;

use super::engine::Engine;
use super::message::{MAX_MESSAGE_LEN, MalformedMessage, Message};
use super::peer::{InboundStream, Peer};
use super::writer::transfer_timeout;
use crate::buffer::BufferPool;

/// Bytes that are read ahead, so that small messages take one read each.
const READ_AHEAD: usize = 8 << 10;

/// Why reading a stream ended.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("reading failed")]
    Io(#[from] io::Error),
    #[error("a message of {len} bytes is too long")]
    TooLong { len: usize },
    #[error(transparent)]
    Malformed(#[from] MalformedMessage),
    #[error("a message did not arrive in time")]
    TimedOut,
}

/// Reads and handles messages until the stream ends or breaks the protocol.
pub(super) async fn read_messages(engine: Arc<Engine>, admitted: InboundStream, stream: Stream) {
    let peer = admitted.peer();
    let mut stream = MessageStream::new(stream);
    loop {
        match stream.handle_next(&engine, peer).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(peer = %peer.id, error, "bitswap stream reset");
                return;
            }
        }
    }
}

/// Messages with length prefix on a stream.
struct MessageStream<S> {
    stream: S,
    ahead: Box<[u8]>,
    /// Range of `ahead` that is filled and not taken.
    start: usize,
    end: usize,
}

impl<S: AsyncRead + Unpin> MessageStream<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            ahead: vec![0; READ_AHEAD].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Reads and handles one message. `false` at the end of the stream.
    async fn handle_next(
        &mut self,
        engine: &Arc<Engine>,
        peer: &Arc<Peer>,
    ) -> Result<bool, ReadError> {
        let Some(len) = self.read_len().await? else {
            return Ok(false);
        };
        let admitted = peer.admit_message(len, &engine.strangers).await;
        let body = self.read_body(len, engine.pool_for(peer), peer);
        let body = tokio::time::timeout(transfer_timeout(len), body)
            .await
            .map_err(|_| ReadError::TimedOut)??;
        let message = Message::decode(&body)?;
        drop(body);
        engine.on_message(peer, message).await;
        drop(admitted);
        Ok(true)
    }

    /// Reads a length prefix. `None` at the end of the stream.
    async fn read_len(&mut self) -> Result<Option<usize>, ReadError> {
        loop {
            let filled = &self.ahead[self.start..self.end];
            match decode::usize(filled) {
                Ok((len, rest)) if len <= MAX_MESSAGE_LEN => {
                    self.start = self.end - rest.len();
                    return Ok(Some(len));
                }
                Ok((len, _)) => return Err(ReadError::TooLong { len }),
                Err(decode::Error::Insufficient) => {}
                Err(_) => return Err(MalformedMessage.into()),
            }
            // A prefix is at most ten bytes, so moving what is there is cheap.
            self.ahead.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            match self.stream.read(&mut self.ahead[self.end..]).await? {
                0 if self.end == 0 => return Ok(None),
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                read => self.end += read,
            }
        }
    }

    async fn read_body(
        &mut self,
        len: usize,
        pool: &BufferPool,
        peer: &Peer,
    ) -> Result<Bytes, ReadError> {
        let mut buffer = pool.take(len);
        let body = buffer.as_mut();
        let mut filled = len.min(self.end - self.start);
        body[..filled].copy_from_slice(&self.ahead[self.start..self.start + filled]);
        self.start += filled;
        peer.note_received();
        while filled < len {
            match self.stream.read(&mut body[filled..]).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                read => filled += read,
            }
            peer.note_received();
        }
        Ok(buffer.freeze())
    }
}
