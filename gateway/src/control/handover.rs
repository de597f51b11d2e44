//! One process takes the place of another on the same data directory, and no request notices.
//!
//! Beside the control socket a node listens on a second one. Whoever connects there, as the same user, is
//! the next process. What they say to each other, each in a byte:
//!
//! - The old one sends the listening sockets of the gateway.
//! - The new one has them. Until then nothing changes for the old one; then requests wait in the queues of
//!   these sockets.
//! - The old one has let go of the data directory. If it ends instead the new one can have that, too.
//! - The new one serves. If it ends instead, or says nothing, the old one takes its place back.

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
/// Longest time until the next process has the sockets, which it has at once.
const TAKING: Duration = Duration::from_secs(5);
/// Longest time until the old process has let go: its commands get five seconds, its tasks eight, and the
/// last who use the node twenty.
const LETTING_GO: Duration = Duration::from_secs(45);
/// Longest time until the next process serves, and until one that went away has ended.
const STARTING: Duration = Duration::from_secs(30);

/// The socket where the next process asks. It goes with this.
#[derive(Debug)]
pub struct Successors {
    listener: UnixListener,
    path: PathBuf,
}

/// The next process.
#[derive(Debug)]
pub struct Successor {
    stream: UnixStream,
    process: OwnedFd,
}

/// The process before, which has let go of the data directory.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    sockets: Vec<OwnedFd>,
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
            let accepted = self.listener.accept().await;
            match accepted.and_then(|(stream, _)| Successor::new(stream)) {
                Ok(successor) => return successor,
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
    fn new(stream: UnixStream) -> io::Result<Self> {
        check_user(&stream)?;
        let process = process_of(&stream)?;
        Ok(Self { stream, process })
    }

    /// Gives it the listening sockets, and waits until it has them.
    ///
    /// # Errors
    /// When it went away, or says nothing for five seconds.
    pub async fn offer(&mut self, sockets: &[OwnedFd]) -> io::Result<()> {
        let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let send = || Ok(send(self.stream.as_fd(), &sockets)?);
        self.stream.async_io(Interest::WRITABLE, send).await?;
        within(TAKING, self.stream.read_u8()).await?;
        Ok(())
    }

    /// Says that the data directory is free, and waits until it serves.
    ///
    /// # Errors
    /// When it has ended, or neither ends nor says anything for half a minute.
    pub async fn release(mut self) -> io::Result<()> {
        let serves = async {
            self.stream.write_u8(0).await?;
            within(STARTING, self.stream.read_u8()).await
        };
        match serves.await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error),
            Err(error) => {
                ended(self.process, STARTING).await?;
                Err(error)
            }
        }
    }
}

impl Predecessor {
    /// Its listening sockets; none when it died before it sent them.
    pub fn take_sockets(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.sockets)
    }

    /// Says that this process serves. Without it the one before takes its place back.
    pub async fn dismiss(mut self) {
        if let Err(error) = self.stream.write_u8(0).await {
            tracing::debug!(%error, "the process before has ended");
        }
    }
}

/// Takes the place of the node that runs in `data_dir`, once it has let go of the directory. `None` when none
/// runs there.
///
/// # Errors
/// When it cannot be asked, or does not let go in time.
///
/// # Cancel safety
/// The other node goes on.
pub async fn take_over(data_dir: &Path) -> io::Result<Option<Predecessor>> {
    let Some(control) = socket::find(data_dir)? else {
        return Ok(None);
    };
    let mut stream = match UnixStream::connect(beside(&control)).await {
        Ok(stream) => stream,
        Err(error) if socket::is_left_behind(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    check_user(&stream)?;
    // Before it can end, so that its number is its own.
    let process = process_of(&stream)?;
    let taken = async {
        let receive = || receive(stream.as_fd());
        let sockets = stream.async_io(Interest::READABLE, receive).await?;
        let free = async {
            stream.write_u8(0).await?;
            stream.read_u8().await
        };
        if free.await.is_err() {
            ended(process, LETTING_GO).await?;
        }
        Ok(sockets)
    };
    let sockets = within(LETTING_GO, taken).await?;
    Ok(Some(Predecessor { stream, sockets }))
}

fn check_user(stream: &UnixStream) -> io::Result<()> {
    match socket::is_same_user(stream) {
        true => Ok(()),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Waits for the end of a process. One that dies closes its files one after the other, a lock not as the last.
async fn ended(process: OwnedFd, limit: Duration) -> io::Result<()> {
    let waiting = tokio::task::spawn_blocking(move || wait_for_end(&process, limit));
    waiting.await.map_err(io::Error::other)?
}

/// Is readable when the process at the other end has ended.
fn process_of(stream: &UnixStream) -> io::Result<OwnedFd> {
    let pid = stream.peer_cred()?.pid().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::Unsupported)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn wait_for_end(process: &OwnedFd, limit: Duration) -> io::Result<()> {
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
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

    use tempfile::TempDir;

    use super::*;

    /// A directory where a node listens for the next one.
    fn node() -> (TempDir, Successors) {
        let dir = tempfile::tempdir().unwrap();
        let control = dir.path().join("control.sock");
        socket::record(dir.path(), &control).unwrap();
        let successors = Successors::bind(&control).unwrap();
        (dir, successors)
    }

    #[tokio::test]
    async fn sockets_arrive_before_the_directory_is_free() {
        let (dir, successors) = node();
        let old = async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let mut successor = successors.next().await;
            successor.offer(&[listener.into()]).await.unwrap();
            // In the queue of a socket that only the new process has.
            let waiting = TcpStream::connect(address).unwrap();
            successor.release().await.unwrap();
            waiting.local_addr().unwrap()
        };
        let new = async {
            let mut taken = take_over(dir.path()).await.unwrap().unwrap();
            let [socket] = <[OwnedFd; 1]>::try_from(taken.take_sockets()).unwrap();
            let (_, peer) = TcpListener::from(socket).accept().unwrap();
            taken.dismiss().await;
            peer
        };
        let (peer, client) = tokio::join!(new, old);
        assert_eq!(peer, client);
    }

    #[tokio::test]
    async fn where_nobody_listens_there_is_no_place_to_take() {
        let dir = tempfile::tempdir().unwrap();
        assert!(take_over(dir.path()).await.unwrap().is_none());
        let (dir, successors) = node();
        drop(successors);
        assert!(take_over(dir.path()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn who_says_nothing_is_not_waited_for_without_end() {
        let (dir, successors) = node();
        let _silent = UnixStream::connect(dir.path().join("control.next")).await;
        let offered = successors.next().await.offer(&[]).await;
        assert_eq!(offered.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_goes_away_has_not_taken_the_place() {
        let (dir, successors) = node();
        drop(UnixStream::connect(dir.path().join("control.next")).await);
        let offered = successors.next().await.offer(&[]).await;
        assert!(offered.is_err(), "{offered:?}");
    }
}
