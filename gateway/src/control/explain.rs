//! Errors of the node as failures: what kind each is, and what to do about it.

mod backup;
mod content;
mod network;
mod node;
mod shop;
mod store;

use std::io;

use super::failure::{Code, Failure};

/// An error that has a kind and, for some, advice. Wrapping errors have those of what they wrap.
pub(super) trait Explain {
    /// Kind and advice.
    fn explain(&self) -> (Code, Option<&'static str>);
}

impl<E: Explain + std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let (code, hint) = error.explain();
        let failure = Self::of(code, &error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

const TRY_AGAIN: Option<&str> = Some("try again, or from another place: `duka get --mirror URL`");
const USE_NEWER: Option<&str> = Some("use the newer duka");
const NOTHING_CHANGED: Option<&str> = Some(
    "nothing was changed: put a newer copy of the folder `manifest` back, or make a new data directory \
     from a backup with `duka restore`",
);
const RUN_FSCK: Option<&str> = Some("run `duka fsck` to see what is damaged");

/// The kind of an operating system error.
pub(super) fn of_io(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::NoSpace,
        io::ErrorKind::PermissionDenied => Code::Permanent,
        io::ErrorKind::TimedOut => Code::Temporary,
        _ => Code::Other,
    }
}
