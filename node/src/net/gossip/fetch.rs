//! `/libp2p/fetch/0.0.1`: asks a peer for the record of a name that it has now (libp2p specs, "fetch").

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::{Behaviour, Codec, Config, ProtocolSupport};
use prost::Message;

use crate::ipns::MAX_RECORD_LEN;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/libp2p/fetch/0.0.1");
/// Time for one exchange (Kubo's).
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// Exchanges at once with one peer.
const STREAMS: usize = 16;
/// Largest request: a key.
const REQUEST_LIMIT: usize = 256;
/// Largest answer: a record and its frame.
const ANSWER_LIMIT: usize = MAX_RECORD_LEN + 64;

/// The key that is asked for; a `string` in the specification, but keys are not UTF-8.
#[derive(Clone, PartialEq, Message)]
pub(in crate::net) struct Request {
    #[prost(bytes = "vec", tag = "1")]
    pub(in crate::net) key: Vec<u8>,
}

/// What the peer has.
#[derive(Clone, PartialEq, Message)]
pub(in crate::net) struct Answer {
    /// 0: here it is, 1: not found, 2: error.
    #[prost(int32, tag = "1")]
    status: i32,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

impl Answer {
    pub(in crate::net) fn of(record: Option<Vec<u8>>) -> Self {
        Self {
            status: i32::from(record.is_none()),
            data: record.unwrap_or_default(),
        }
    }

    pub(in crate::net) fn into_record(self) -> Option<Vec<u8>> {
        (self.status == 0 && !self.data.is_empty()).then_some(self.data)
    }
}

/// The protocol, both sides.
pub(in crate::net) type Fetch = Behaviour<Framed>;

pub(in crate::net) fn build() -> Fetch {
    let config = Config::default()
        .with_request_timeout(TIMEOUT)
        .with_max_concurrent_streams(STREAMS);
    Behaviour::new([(PROTOCOL, ProtocolSupport::Full)], config)
}

/// Protobuf messages with their length before them.
#[derive(Clone, Debug, Default)]
pub(in crate::net) struct Framed;

impl Codec for Framed {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Answer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, REQUEST_LIMIT).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, ANSWER_LIMIT).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Request,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&request.encode_length_delimited_to_vec())
            .await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: Answer,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&answer.encode_length_delimited_to_vec()).await
    }
}

/// Reads a message with its length before it.
pub(in crate::net) async fn read<M: Message + Default>(
    io: &mut (impl AsyncRead + Unpin + Send),
    limit: usize,
) -> io::Result<M> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut prefix = Vec::new();
    let len = loop {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        prefix.push(byte[0]);
        match unsigned_varint::decode::usize(&prefix) {
            Ok((len, _)) => break len,
            Err(unsigned_varint::decode::Error::Insufficient) => {}
            Err(_) => return Err(invalid("the length of the message is malformed")),
        }
    };
    if len > limit {
        return Err(invalid("the message is too long"));
    }
    let mut bytes = vec![0; len];
    io.read_exact(&mut bytes).await?;
    M::decode(bytes.as_slice()).map_err(|_| invalid("the message is malformed"))
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn messages_are_those_of_go_libp2p() {
        let mut sent = Vec::new();
        let request = Request {
            key: b"/ipns/\xff".to_vec(),
        };
        Framed
            .write_request(&PROTOCOL, &mut sent, request.clone())
            .await
            .unwrap();
        assert_eq!(sent, b"\x09\x0a\x07/ipns/\xff");
        let read = Framed.read_request(&PROTOCOL, &mut Cursor::new(sent)).await;
        assert_eq!(read.unwrap(), request);

        for record in [Some(vec![1, 2, 3]), None] {
            let mut sent = Vec::new();
            let answer = Answer::of(record.clone());
            Framed
                .write_response(&PROTOCOL, &mut sent, answer)
                .await
                .unwrap();
            let read = Framed
                .read_response(&PROTOCOL, &mut Cursor::new(sent))
                .await;
            assert_eq!(read.unwrap().into_record(), record);
        }
    }

    #[tokio::test]
    async fn a_length_over_the_limit_is_refused_before_it_is_read() {
        let claimed = b"\xff\xff\xff\xff\x0f".to_vec();
        let refused = Framed
            .read_response(&PROTOCOL, &mut Cursor::new(claimed))
            .await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
