//! One process takes the place of another on the same data directory, and no request notices.
//!
//! Beside the control socket a node listens on a second one. Whoever connects there, as the same user, is
//! the next process, and gets one message with the listening sockets of the gateway. From then on
//! requests wait in the queues of these sockets. The old process lets go of the data directory and says so
//! with a second message, or it ends: either way the new one can open it now.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};

use super::socket;

/// Most sockets of one gateway.
const MAX_SOCKETS: usize = 4;
/// Longest time until the old process has let go: its tasks get eight seconds to stop, its commands five.
const PATIENCE: Duration = Duration::from_secs(30);

/// The socket where the next process asks. It goes with this.
#[derive(Debug)]
pub struct Successors {
    listener: UnixListener,
    path: PathBuf,
}

/// The next process. It waits until [`Successor::release`], or until this process ends.
#[derive(Debug)]
pub struct Successor {
    stream: UnixStream,
}

impl Successors {
    /// Listens beside the control socket `control`.
    pub(super) fn bind(control: &Path) -> io::Result<Self> {
        let path = beside(control);
        let listener = socket::listen(&path)?;
        Ok(Self { listener, path })
    }

    /// Waits for a process that wants to be the next.
    pub async fn next(&self) -> Successor {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if socket::is_same_user(&stream) => return Successor { stream },
                Ok(_) => tracing::warn!("another user tried to take this node's place"),
                Err(error) => {
                    tracing::warn!(%error, "accepting a successor failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

impl Drop for Successors {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the socket for successors could not be removed");
        }
    }
}

impl Successor {
    /// Gives it the listening sockets.
    ///
    /// # Errors
    /// When it went away; it has none of them then.
    pub async fn send(&self, sockets: &[OwnedFd]) -> io::Result<()> {
        let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let send = || Ok(send(self.stream.as_fd(), &sockets)?);
        self.stream.async_io(Interest::WRITABLE, send).await
    }

    /// Says that the data directory is free.
    pub async fn release(mut self) {
        if let Err(error) = self.stream.write_all(&[0]).await {
            tracing::warn!(%error, "the next process went away");
        }
    }
}

/// Takes the place of the node that runs in `data_dir`: its listening sockets, once it has let go of the
/// directory. `None` when none runs there.
///
/// # Errors
/// When it cannot be asked, or does not let go in time.
///
/// # Cancel safety
/// The other node stops all the same, once it was asked.
pub async fn take_over(data_dir: &Path) -> io::Result<Option<Vec<OwnedFd>>> {
    let Some(control) = socket::find(data_dir)? else {
        return Ok(None);
    };
    let mut stream = match UnixStream::connect(beside(&control)).await {
        Ok(stream) => stream,
        Err(error) if socket::is_left_behind(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    if !socket::is_same_user(&stream) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // Before it can end, so that its number is its own.
    let predecessor = process_of(&stream)?;
    let taken = async {
        let receive = || receive(stream.as_fd());
        let sockets = stream.async_io(Interest::READABLE, receive).await?;
        if stream.read(&mut [0]).await.unwrap_or(0) == 0 {
            // A process that dies closes its files one after the other, the lock not as the last.
            let ended = tokio::task::spawn_blocking(move || wait_for_end(&predecessor));
            ended.await.map_err(io::Error::other)??;
        }
        Ok(Some(sockets))
    };
    tokio::time::timeout(PATIENCE, taken)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Is readable when the process at the other end has ended.
fn process_of(stream: &UnixStream) -> io::Result<OwnedFd> {
    let pid = stream.peer_cred()?.pid().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::Unsupported)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn wait_for_end(process: &OwnedFd) -> io::Result<()> {
    let limit = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

fn beside(control: &Path) -> PathBuf {
    control.with_extension("next")
}

fn send(stream: BorrowedFd<'_>, sockets: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(rustix::io::Errno::TOOBIG);
    }
    let byte = [IoSlice::new(&[0])];
    sendmsg(stream, &byte, &mut ancillary, SendFlags::NOSIGNAL).map(|_| ())
}

/// The sockets; none when the other process died before it sent them.
fn receive(stream: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    recvmsg(stream, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let sockets = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    Ok(sockets.flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn sockets_arrive_before_the_directory_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let control = dir.path().join("control.sock");
        socket::record(dir.path(), &control).unwrap();
        assert!(take_over(dir.path()).await.unwrap().is_none());

        let successors = Successors::bind(&control).unwrap();
        let old = async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let successor = successors.next().await;
            successor.send(&[listener.into()]).await.unwrap();
            // In the queue of a socket that only the new process has.
            let waiting = TcpStream::connect(address).unwrap();
            successor.release().await;
            waiting.local_addr().unwrap()
        };
        let (taken, client) = tokio::join!(take_over(dir.path()), old);
        let [socket] = <[OwnedFd; 1]>::try_from(taken.unwrap().unwrap()).unwrap();
        let (_, peer) = TcpListener::from(socket).accept().unwrap();
        assert_eq!(peer, client);
    }
}
