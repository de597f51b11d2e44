//! `/duka/census/1.0.0`: proves that a peer has a block now. The question is a fresh nonce and a CID, the
//! answer SHA-256 of the nonce and the block, so it cannot be known before, or without all of the block.
//!
//! Only blocks that this node serves anyway are answered for, from the local store; nothing is fetched.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::request_response::{Behaviour, Codec, Config, ProtocolSupport};
use libp2p::{PeerId, StreamProtocol};
use lru::LruCache;
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::gossip::fetch::read;
use crate::blocking::blocking;
use crate::served::Served;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/duka/census/1.0.0");
/// Length of a nonce, in bytes.
pub(crate) const NONCE_LEN: usize = 32;
/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Questions at once from one peer.
const STREAMS: usize = 4;
/// Blocks that are read for answers at once.
const READS: usize = 4;
/// Questions that are answered to one peer in [`WINDOW`].
const QUESTIONS: u32 = 200;
const WINDOW: Duration = Duration::from_secs(10);
/// Whoever asks one peer no more often than this is always answered.
pub(crate) const PAUSE: Duration = Duration::from_millis(60);
/// Peers whose questions are counted.
const PEERS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// Longest message.
const MESSAGE_LIMIT: usize = 256;

/// A question.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Question {
    #[prost(bytes = "vec", tag = "1")]
    nonce: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    cid: Vec<u8>,
}

impl Question {
    pub(crate) fn new(nonce: [u8; NONCE_LEN], cid: &Cid) -> Self {
        Self {
            nonce: nonce.to_vec(),
            cid: cid.to_bytes(),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Wire {
    /// Empty: the block is not here.
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
}

/// An answer: still to be made, or as it came.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// To this question.
    To(Question),
    /// The block is not here, or too much was asked.
    Nothing,
    /// As it came.
    Digest(Vec<u8>),
}

/// What proves that somebody has the block.
pub(crate) fn proof(nonce: &[u8], block: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(nonce);
    hash.update(block);
    hash.finalize().into()
}

/// The protocol, both sides.
pub(super) type Census = Behaviour<Prover>;

pub(super) fn build(served: Served) -> Census {
    let config = Config::default()
        .with_request_timeout(TIMEOUT)
        .with_max_concurrent_streams(STREAMS);
    let prover = Prover {
        served,
        reads: Arc::new(Semaphore::new(READS)),
    };
    Behaviour::with_codec(prover, [(PROTOCOL, ProtocolSupport::Full)], config)
}

/// Answers questions where they are written, off the event loop.
#[derive(Clone, Debug)]
pub(super) struct Prover {
    served: Served,
    reads: Arc<Semaphore>,
}

impl Prover {
    async fn prove(&self, question: Question) -> Vec<u8> {
        let Ok(cid) = Cid::try_from(question.cid) else {
            return Vec::new();
        };
        let nonce = question.nonce;
        if nonce.len() != NONCE_LEN {
            return Vec::new();
        }
        let Ok(_read) = self.reads.acquire().await else {
            return Vec::new();
        };
        let served = self.served.clone();
        let proved = blocking(move || {
            let block = served.get(&cid).ok().flatten()?;
            Some(proof(&nonce, block.data()).to_vec())
        });
        proved.await.unwrap_or_default()
    }
}

impl Codec for Prover {
    type Protocol = StreamProtocol;
    type Request = Question;
    type Response = Reply;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Question>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, MESSAGE_LIMIT).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Reply>
    where
        T: AsyncRead + Unpin + Send,
    {
        let wire: Wire = read(io, MESSAGE_LIMIT).await?;
        Ok(match wire.digest.is_empty() {
            true => Reply::Nothing,
            false => Reply::Digest(wire.digest),
        })
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        question: Question,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&question.encode_length_delimited_to_vec())
            .await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        reply: Reply,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let digest = match reply {
            Reply::To(question) => self.prove(question).await,
            Reply::Digest(digest) => digest,
            Reply::Nothing => Vec::new(),
        };
        io.write_all(&Wire { digest }.encode_length_delimited_to_vec())
            .await
    }
}

/// How much peers asked lately.
#[derive(Debug)]
pub(super) struct Asked {
    peers: LruCache<PeerId, (Instant, u32)>,
}

impl Asked {
    pub(super) fn new() -> Self {
        Self {
            peers: LruCache::new(PEERS),
        }
    }

    /// Counts a question. Returns whether it is answered.
    pub(super) fn may(&mut self, peer: PeerId, now: Instant) -> bool {
        let (since, count) = self.peers.get_or_insert_mut(peer, || (now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= QUESTIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_is_answered_so_many_times_in_a_window() {
        let (mut asked, now) = (Asked::new(), Instant::now());
        let (one, other) = (PeerId::random(), PeerId::random());
        let answered = (0..300).filter(|_| asked.may(one, now)).count();
        assert_eq!(answered, 200);
        assert!(asked.may(other, now));
        assert!(asked.may(one, now + WINDOW));
    }

    #[test]
    fn who_pauses_between_questions_is_always_answered() {
        let (mut asked, mut now) = (Asked::new(), Instant::now());
        let peer = PeerId::random();
        for _ in 0..1000 {
            assert!(asked.may(peer, now));
            now += PAUSE;
        }
    }

    #[test]
    fn a_proof_needs_nonce_and_block() {
        assert_ne!(proof(b"1", b"block"), proof(b"2", b"block"));
        assert_ne!(proof(b"1", b"block"), proof(b"1", b"black"));
    }
}
