//! Standard input that can be given up: a plain read of it would hold up the end of the process.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;

use duka_gateway::control::Input;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Standard input of an operation.
pub(crate) struct Stdin {
    /// Reads it.
    pub(crate) input: Input,
    /// Its reads fail from when this is dropped.
    pub(crate) end: PipeWriter,
}

impl Stdin {
    pub(crate) fn open() -> io::Result<Self> {
        let (ended, end) = io::pipe()?;
        let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let input = Box::new(Reader { file, ended });
        Ok(Self { input, end })
    }
}

struct Reader {
    file: File,
    /// Is closed at its other end when nobody wants more.
    ended: PipeReader,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut both = [
            PollFd::new(&self.file, PollFlags::IN),
            PollFd::new(&self.ended, PollFlags::IN),
        ];
        while let Err(error) = poll(&mut both, None) {
            if error != Errno::INTR {
                return Err(error.into());
            }
        }
        if !both[1].revents().is_empty() {
            return Err(io::Error::other("it is not needed any more"));
        }
        self.file.read(buffer)
    }
}
