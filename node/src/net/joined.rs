//! Short writes go out together with the long one that follows.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};

/// Writes up to this many bytes are held back.
const SHORT: usize = 64;

/// A socket on which yamux, which writes the header of a frame and its body one after the other,
/// makes one write of both, without copying the body. A flush sends what is held back.
#[derive(Debug)]
pub(super) struct Joined<S> {
    socket: S,
    held: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> Joined<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            held: Vec::with_capacity(SHORT),
        }
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.held))?;
            self.take_held(written)?;
        }
        Poll::Ready(Ok(()))
    }

    fn take_held(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held.drain(..written);
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Joined<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_read(cx, bytes)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Joined<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.held.len() + bytes.len() <= SHORT {
            this.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        while !this.held.is_empty() {
            let both = [IoSlice::new(&this.held), IoSlice::new(bytes)];
            let written = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, &both))?;
            let held = this.held.len();
            this.take_held(written.min(held))?;
            if written > held {
                return Poll::Ready(Ok(written - held));
            }
        }
        Pin::new(&mut this.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(cx))?;
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::AsyncWriteExt;
    use proptest::prelude::*;

    use super::*;

    /// Takes a few bytes at a time, and counts the calls.
    #[derive(Default)]
    struct Narrow {
        taken: Vec<u8>,
        width: usize,
        calls: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.width);
            self.taken.extend_from_slice(&bytes[..taken]);
            self.calls += 1;
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn everything_arrives_in_order_however_little_the_socket_takes(
            writes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            width in 1..150_usize,
        ) {
            let sent = futures::executor::block_on(async {
                let mut joined = Joined::new(Narrow { width, ..Narrow::default() });
                for bytes in &writes {
                    joined.write_all(bytes).await.unwrap();
                }
                joined.flush().await.unwrap();
                joined.socket.taken
            });
            prop_assert_eq!(sent, writes.concat());
        }
    }

    #[test]
    fn a_header_and_its_body_are_one_write() {
        let calls = futures::executor::block_on(async {
            let mut joined = Joined::new(Narrow {
                width: usize::MAX,
                ..Narrow::default()
            });
            for _ in 0..3 {
                joined.write_all(&[1; 12]).await.unwrap();
                joined.write_all(&[2; 60_000]).await.unwrap();
            }
            joined.flush().await.unwrap();
            joined.socket.calls
        });
        assert_eq!(calls, 3);
    }
}
